"""EWAD beside the ensemble: one verdict a window, or an abstention that says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cellwatch.models.ewad.watch import EWAD, Watch
from cellwatch.models.features.schema import default_schema
from cellwatch.models.registry.ewad_bundle import read
from cellwatch.models.registry.keys import Keys
from cellwatch.models.types import FeatureWindow, Verdicts, abstention
from cellwatch.nodes.ewad_bundling import watch_of

SMOOTH = 0.2  # weight of a new time in the mean
FADE = 0.9  # of the mean when a window was left out: it gets another chance


class EwadService:
    """Serves the EWAD in a folder. What is wrong with it is `trouble`: the cell goes on without.

    `budget_s` is the time for one window; an EWAD that is slower on average leaves windows out. `clock` gives
    seconds.
    """

    def __init__(
        self,
        folder: Path,
        keys: Keys | None,
        window_s: float,
        false_alarms_per_hour: float,
        budget_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.trouble = self.version = ""
        self.scored = self.late = 0
        self._budget_s, self._clock, self._cost_s = budget_s, clock, 0.0
        self._watch: Watch | None = None
        try:
            held = read(folder, keys, schema_id=default_schema().schema_id, window_s=window_s)
            self._watch = watch_of(held, false_alarms_per_hour)
            self.version = held.version
        except (ValueError, OSError) as error:
            self.trouble = str(error)

    def judge(self, window: FeatureWindow, rows: Sequence[int] | None = None) -> Verdicts:
        """Its verdicts on the devices of `rows`, all if None."""
        if self._watch is None:
            return abstention(EWAD, window, self.trouble, rows=rows)
        if window.commissioning:
            return abstention(EWAD, window, "commissioning", rows=rows)
        if self._cost_s > self._budget_s:
            self._cost_s *= FADE
            self.late += 1
            self.trouble = f"no time within {self._budget_s:g} s: {self.late} windows left out"
            return abstention(EWAD, window, "no time", rows=rows)
        begun = self._clock()
        try:
            verdicts = self._watch.judge(window, rows)
        except Exception as error:  # whatever fails in it: the others go on
            self.trouble = " ".join(str(error).split())[:300] or type(error).__name__
            return abstention(EWAD, window, self.trouble, rows=rows)
        self.trouble = ""
        self.scored += 1
        self._cost_s += SMOOTH * (self._clock() - begun - self._cost_s)
        return verdicts
