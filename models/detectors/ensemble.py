"""NeuroSense at run time: every model of a bundle on one window, within a time budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.detectors.history import Sequences
from cellwatch.models.detectors.serving import Stage
from cellwatch.models.types import Level, LevelScores, Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cellwatch.models.detectors.merged import ServedGraph
    from cellwatch.models.detectors.scaler import Scaler
    from cellwatch.models.types import F32, FeatureWindow

SUSPECT = 0.25  # mean P(attack) from which a device is named (L2, L3) before the others


class Ensemble:
    """Scores windows: L1 for all devices, then L2 and L3, suspicious devices first.

    What there is no time for stays NaN, and so does a model that fails: it is taken out and named in
    `failed`, the others go on. `clock` gives seconds; `budget_s` is the time for one window.
    """

    def __init__(
        self,
        schema_id: str,
        classes: dict[int, tuple[str, ...]],
        scaler: Scaler,
        graphs: Sequence[ServedGraph],
        *,
        clock: Callable[[], float],
        length: int = 8,
        budget_s: float = 0.2,
    ) -> None:
        self.schema_id = schema_id
        self.classes = classes
        self.failed: dict[str, str] = {}
        self.budget_s = budget_s
        self._scaler = scaler
        self._clock = clock
        self._history = Sequences(length)
        width, sizes = len(scaler.centre), {level: len(names) for level, names in classes.items()}
        self._first, self._second = (
            Stage(part, sizes, width, length, budget_s, clock, self.failed)
            for part in ([g for g in graphs if g.level == 1], [g for g in graphs if g.level > 1])
        )
        self._levels = sorted({g.level for g in graphs})

    @property
    def late(self) -> int:
        """How often models were left out because a window had no time left for them."""
        return self._first.late + self._second.late

    def take_over(self, other: Ensemble) -> None:
        """Go on where another one stops: sequences are not begun anew."""
        self._history.take_over(other._history, self._scaler)

    def sequence(self, device: str) -> F32:
        """The last windows of a device, (T, f), scaled as the models see them. KeyError if it has none."""
        return self._history.of(device)

    def judge(self, window: FeatureWindow, rows: Sequence[int] | None = None) -> Verdicts:
        """Scores for the devices of `rows`, all of them if None. ValueError if the schema is another.

        Every device is kept in mind, so that a replica can take any of them over at once.
        """
        if window.schema_id != self.schema_id:
            raise ValueError(f"models have schema {self.schema_id}, the window {window.schema_id}")
        until = self._clock() + self.budget_s
        x = self._scaler.transform(window.values)
        s = self._history.push(window.window_id, window.devices, window.values, x)
        devices, partial = window.devices, rows is not None
        if rows is not None:
            x, s, devices = x[rows], s[rows], tuple(devices[i] for i in rows)
        n = len(devices)
        names = {v: (self._first if v == 1 else self._second).detectors(v) for v in self._levels}
        scores = {
            v: np.full((n, len(names[v]), len(self.classes[v])), np.nan, np.float32) for v in self._levels
        }
        self._first.run(x, s, until, scores, list(range(n)))
        for part in self._in_order(scores.get(1), n):
            self._second.run(x, s, until, scores, part)
        return Verdicts(
            "ensemble",
            window.window_id,
            window.end_ns,
            window.closed_ns,
            devices,
            np.zeros(n, np.uint8),
            np.zeros(n, np.float32),
            tuple(LevelScores(Level(v), tuple(names[v]), self.classes[v], scores[v]) for v in self._levels),
            partial=partial,
        )

    @staticmethod
    def _in_order(binary: F32 | None, n: int) -> tuple[list[int], list[int]]:
        """Rows of the suspicious devices, and of the others."""
        if binary is None or not n:
            return [], list(range(n))
        attack = np.nan_to_num(binary[:, :, 1], nan=0.0).mean(axis=1)
        return np.flatnonzero(attack >= SUSPECT).tolist(), np.flatnonzero(attack < SUSPECT).tolist()
