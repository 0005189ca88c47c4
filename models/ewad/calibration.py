"""From a score to the share of normal rows that score as high."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from cellwatch.models.types import F32, F64

KNOTS = 64
BODY = 0.9  # of the normal scores: up to here their empirical distribution counts, beyond it the tail
SHAPE = (1e-3, 0.5)  # of the tail: never with an end, so that no p-value is 0, and with a finite variance

TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Calibration:
    """p-value of a score: empirical up to the 90 % quantile, beyond it a generalised Pareto tail.

    Peaks over threshold (Pickands, Ann. Stat. 1975) with moments (Hosking and Wallis, Technometrics 1987).
    `knots` (k,): ascending scores; `shares` (k,) of normal rows at or above; `tail` (2,): shape and scale.
    """

    knots: F32
    shares: F32
    tail: F32

    @classmethod
    def fit(cls, scores: F64) -> Self:
        """From the scores (m,) of normal rows that nothing was trained on, m at least 2."""
        scores = scores.astype(np.float32).astype(np.float64)  # as the knots: a tie with one is not beyond it
        knots = np.unique(np.quantile(scores, np.linspace(0, BODY, KNOTS)).astype(np.float32))
        shares = (1 + (scores[:, None] >= knots).sum(axis=0)) / (len(scores) + 1)
        over = scores[scores > knots[-1]] - knots[-1]
        mean = float(over.mean()) if len(over) else max(float(scores.std()), TINY)
        spread = float(over.var()) if len(over) > 1 else mean**2
        shape = float(np.clip(0.5 * (1 - mean**2 / max(spread, TINY**2)), *SHAPE))
        tail = np.array([shape, mean * (1 - shape)])
        return cls(knots, shares.astype(np.float32), tail.astype(np.float32))

    def p_value(self, scores: F64) -> F64:
        """float64 (n,) in 0..1, NaN where the score is."""
        return np.asarray(p_value(scores, self.knots, self.shares, self.tail), dtype=np.float64)

    def score(self, share: float) -> float:
        """The score that this share of normal rows reaches; the inverse of `p_value`."""
        if share >= self.shares[-1]:
            return float(np.interp(share, self.shares[::-1], self.knots[::-1]))
        shape, scale = self.tail.tolist()
        return float(self.knots[-1] + scale / shape * ((share / self.shares[-1]) ** -shape - 1))


def p_value(scores: Any, knots: Any, shares: Any, tail: Any) -> Any:
    """The p-values (n,) of scores (n,), arrays or tensors alike."""
    widths = knots[1:] - knots[:-1]
    slopes = (shares[1:] - shares[:-1]) / widths
    ahead = widths - (scores[:, None] - knots[:-1]).clip(0)
    body = shares[0] + ((widths - ahead.clip(0)) * slopes).sum(1)
    over = (scores - knots[-1]).clip(0)
    return body * (1 + tail[0] * over / tail[1]) ** (-1 / tail[0])
