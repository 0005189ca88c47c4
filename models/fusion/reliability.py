"""How far probabilities can be believed: reliability diagram and expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cellwatch.models.types import F64, I64, Bool


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram (DeGroot and Fienberg 1983) of b bins of equal width; empty bins are NaN."""

    edges: F64  # (b + 1,)
    said: F64  # (b,) mean probability
    happened: F64  # (b,) share of true ones
    count: I64  # (b,)
    brier: float  # mean squared error of the probabilities

    @property
    def ece(self) -> float:
        """Expected calibration error: mean of |said - happened| over the windows (Naeini et al. 2015)."""
        seen = self.count > 0
        gap = np.abs(self.said - self.happened)[seen]
        return float(np.average(gap, weights=self.count[seen])) if seen.any() else 0.0


def reliability(probability: F64, truth: Bool, bins: int = 15) -> Reliability:
    """The diagram of probabilities (n,) against what was true (n,); NaN is left out."""
    heard = np.isfinite(probability)
    p, y = np.asarray(probability, float)[heard], np.asarray(truth, bool)[heard]
    edges = np.linspace(0, 1, bins + 1)
    at = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, bins - 1)
    count = np.bincount(at, minlength=bins)
    whole = np.where(count, count, np.nan)
    return Reliability(
        edges,
        np.bincount(at, weights=p, minlength=bins) / whole,
        np.bincount(at, weights=y, minlength=bins) / whole,
        count,
        float(np.mean((p - y) ** 2)) if len(p) else 0.0,
    )
