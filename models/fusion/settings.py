"""How verdicts become a decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellwatch.models.fusion.calibration import Calibration

if TYPE_CHECKING:
    from cellwatch.models.types import F64, Level

RULESENSE = "rulesense"  # the detector of the rules
EWAD = "ewad"  # the source, and its detector
# Who learnt from normal data alone knows no attack: it objects by itself, and moves no mean before a fit has
# given it a weight.
UNFITTED = {EWAD: 0.0}
FUSED, MODELS = "L1/fused", "L1/models"  # calibrators of L1's mean with the rules and without them


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """Settings of the fusion; weights and calibration come from validation data, see `fit`."""

    sources: tuple[str, ...] = ("rules", "ensemble")  # that a window waits for
    threshold: float = 0.5  # tau, 0..1
    budget_s: float = 0.25  # how long a window waits for a late source
    confirm_windows: int = 2  # windows in a row before BLOCK when the rules and the models agree
    confirm_alone: int = 4  # the same when the rules or the limits say BLOCK alone
    # "XGB" or "L2/XGB" -> weight >= 0; absent: 1, of EWAD 0
    weights: dict[str, float] = field(default_factory=dict)
    vote: Literal["weighted", "posterior"] = "weighted"  # L2 and L3: weighted vote, or weighted posteriors
    calibration: Calibration = field(default_factory=Calibration)

    _weights: dict[tuple[Level, tuple[str, ...]], F64] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )

    def weight(self, level: Level, detectors: tuple[str, ...]) -> F64:
        """Weights (m,) of the detectors of one level."""
        found = self._weights.get((level, detectors))
        if found is None:
            known = {**UNFITTED, **self.weights}
            found = np.array([known.get(f"L{level}/{d}", known.get(d, 1.0)) for d in detectors])
            self._weights[level, detectors] = found
        return found
