"""Change detectors that watch a loss sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import DDM

from cellwatch.models.drift.losses import MOST
from cellwatch.models.types import F64

# All of river's that are used here; DDM is fed errors, the others a loss.
DETECTORS: Mapping[str, Callable[..., Any]] = {
    "ADWIN": ADWIN,
    "DDM": DDM,
    "Page-Hinkley": PageHinkley,
    "KSWIN": KSWIN,
}
NAMES = ("ADWIN", "Page-Hinkley", "KSWIN")
BATCH = 25  # losses whose mean is one value for KSWIN: its test costs some hundred times the others


class Sequential:
    """river's ADWIN, Page-Hinkley and KSWIN, at river's own defaults, on the loss as a share of the greatest.

    ADWIN: Bifet and Gavalda 2007. Page-Hinkley: Page 1954. KSWIN: Raab, Heusinger and Schleif 2020; it sees
    means of BATCH losses.
    """

    def __init__(self, seed: int = 0) -> None:
        self._each = {name: DETECTORS[name]() for name in ("ADWIN", "Page-Hinkley")}
        self._kswin = DETECTORS["KSWIN"](seed=seed)
        self._batch: list[float] = []

    def step(self, loss: F64) -> frozenset[str]:
        """Names of those that saw a change in these losses (n,), upwards or downwards; NaN is left out."""
        found = set()
        for value in (loss[np.isfinite(loss)] / MOST).tolist():
            for name, detector in self._each.items():
                detector.update(value)
                if detector.drift_detected:
                    found.add(name)
            self._batch.append(value)
            if len(self._batch) == BATCH:
                self._kswin.update(sum(self._batch) / BATCH)
                self._batch.clear()
                if self._kswin.drift_detected:
                    found.add("KSWIN")
        return frozenset(found)
