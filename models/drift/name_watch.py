"""Levels 2 and 3: whether the models still name attacks rightly (DeepSense, 3.3.5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellwatch.models.drift.history import History
from cellwatch.models.drift.labels import Labelled
from cellwatch.models.drift.live_rows import at_level
from cellwatch.models.drift.loss_monitor import OPEN, LossWindow
from cellwatch.models.drift.losses import by_window, cross_entropy
from cellwatch.models.drift.ring import slots_of
from cellwatch.models.drift.watch import DriftSettings, DriftWatch
from cellwatch.models.types import F32, I64, DriftState, Level

KEPT = 20_000  # samples whose names wait for their label


class NameWatch:
    """Cross-entropy of what the models of one level call the samples that the cell objected to.

    A sample counts once a label names its class; of a window that names several the mean does, as at level 1.
    Their posteriors are averaged with equal weights, for how fusion weighs them is not said.
    """

    def __init__(
        self,
        level: Level,
        classes: Sequence[str],
        devices: int,
        settings: DriftSettings,
        *,
        ceiling: tuple[float, float] = OPEN,
        kept: int = KEPT,
    ) -> None:
        """`classes` of the level, the first is benign; `ceiling`: of the limits, see `Chart`."""
        self.level, self._classes = level, tuple(classes)
        self._devices = devices
        self._keys = np.zeros(kept, np.int64)  # window * devices + device, ascending
        self._posterior = np.zeros((kept, len(self._classes)), np.float32)
        self._seen = 0
        self._watch = DriftWatch(settings, devices=devices, ceiling=ceiling)
        self._history = History()
        self.windows: list[LossWindow] = []  # of the last `labelled`

    @property
    def state(self) -> DriftState:
        """What its loss comes to."""
        return self._watch.state

    @property
    def onset_ns(self) -> int:
        """End of the window with which the drift began, as estimated."""
        return self._history.origin()[0]

    def see(self, window_id: int, rows: I64, posteriors: F32) -> None:
        """What the models said in a window, rising, of devices (k,), rising: (k, m, c), NaN = abstained.

        A window that does not rise says that the clock was set back: what was kept before is forgotten.
        """
        with np.errstate(invalid="ignore"):
            known = np.isfinite(posteriors)
            total = np.where(known, posteriors, 0.0).sum(axis=1)
            mean = total / np.maximum(known.sum(axis=1), 1)
        said = known.any(axis=(1, 2))
        keys = window_id * self._devices + rows[said]
        n = len(self._keys)
        if not len(keys):
            return
        if self._seen and keys[0] <= self._keys[(self._seen - 1) % n]:
            self._seen = 0
        at = np.arange(self._seen, self._seen + len(keys)) % n
        self._keys[at], self._posterior[at] = keys, mean[said]
        self._seen += len(keys)

    def labelled(self, found: Labelled, names: Sequence[str]) -> bool:
        """Labels that have settled; `names` of their classes. True if they raise the alarm."""
        self.windows = []
        y = at_level(names, int(self.level), self._classes)[found.label]
        slots = slots_of(found.windows * self._devices + found.devices, self._keys, self._seen)
        mine = np.flatnonzero((y > 0) & (slots >= 0))
        if not len(mine):
            return False
        p, y = self._posterior[slots[mine]].astype(np.float64), y[mine]
        each, misnamed = cross_entropy(p, y), p.argmax(axis=1) != y
        if self.state != DriftState.DRIFT:
            self._history.add(found.end_ns[mine], each, misnamed, np.ones(len(mine), np.bool_))
        windows = found.windows[mine]
        loss, wrong = by_window(windows, each), by_window(windows, misnamed)
        raised, done = False, 0
        while done < len(loss):
            taken = self._watch.labelled(loss[done:], wrong[done:])
            self.windows += self._watch.windows
            if taken is None:
                break
            raised, done = True, done + taken
        return raised

    @property
    def limits(self) -> tuple[float, float]:
        """Of loss and errors, infinite while the reference is too short."""
        return self._watch.limits
