"""What may say that a model must learn anew: Cellwatch's monitors, one detector alone, never, always."""

from __future__ import annotations

from cellwatch.models.drift.label_free import MONITORS
from cellwatch.models.drift.losses import MOST
from cellwatch.models.drift.prequential import STEP, Judged
from cellwatch.models.drift.sequential import DETECTORS
from cellwatch.models.drift.watch import DriftSettings, DriftWatch


class Monitors:
    """Cellwatch's: all monitors, one decision."""

    latest = False

    def __init__(self, settings: DriftSettings | None = None, seed: int = 0) -> None:
        self._settings = settings or DriftSettings()
        self._watch = DriftWatch(self._settings, seed=seed)
        self.reasons: list[tuple[str, ...]] = []  # of each alarm
        self.blocks = 0  # of the label-free monitors
        self.over = dict.fromkeys(MONITORS, 0)  # blocks in which each was over its limit

    def restart(self) -> None:
        self._watch.restart()

    def step(self, rows: Judged) -> int | None:
        size = self._settings.block  # in turn, so that no monitor is ahead of the others
        for first in range(0, len(rows.loss), size):
            part = slice(first, first + size)
            self._watch.unlabelled(rows.x[part, None], rows.scores[part, None])
            self.blocks += len(self._watch.blocks)
            for block in self._watch.blocks:
                for shift in block.shifts:
                    self.over[shift.monitor] += shift.over
            taken = self._watch.labelled(rows.loss[part], rows.wrong[part])
            if taken is not None:
                self.reasons.append(self._watch.reasons)
                return first + taken
        return None


class Alone:
    """One of river's detectors at river's defaults, sample by sample.

    DDM (Gama et al. 2004) counts errors; the others see the loss as a share of the greatest.
    """

    latest = False

    def __init__(self, name: str, seed: int = 0) -> None:
        """`name`: of DETECTORS."""
        self._make = DETECTORS[name]
        self._seed = {"seed": seed} if name == "KSWIN" else {}
        self._errors = name == "DDM"
        self.restart()

    def restart(self) -> None:
        self._detector = self._make(**self._seed)

    def step(self, rows: Judged) -> int | None:
        values = rows.wrong if self._errors else rows.loss / MOST
        for i, value in enumerate(values.tolist(), 1):
            self._detector.update(value)
            if self._detector.drift_detected:
                return i
        return None


class Never:
    """The first model stays."""

    latest = False

    def restart(self) -> None:
        pass

    def step(self, rows: Judged) -> int | None:
        del rows
        return None


class Always:
    """A new model every STEP rows, of the last LEARN rows."""

    latest = True

    def restart(self) -> None:
        self._left = STEP

    def step(self, rows: Judged) -> int | None:
        if len(rows.loss) < self._left:
            self._left -= len(rows.loss)
            return None
        return self._left
