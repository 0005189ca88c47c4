"""From many metrics to one score: TOPSIS, VIKOR and augmented Chebyshev (DeepSense, section 4.7).

`x` (N, m) holds N models in m metrics, after `min_max`: 0..1, high is good. `weights` (m,) sum to 1. Scores
(N,) lie in 0..1, high is good. Models that cannot be told apart all score 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cellwatch.models.types import F64, Bool

COMPROMISE = (
    0.5  # v of VIKOR: group utility against individual regret; the usual middle, the paper names none
)
AUGMENTATION = 0.05  # rho of Chebyshev, "a small augmentation coefficient"


def min_max(x: F64, cost: Bool) -> F64:
    """Each column of (N, m) to 0..1, turned where `cost` (m,) says that low is good.

    1 for all where the greatest is the least: no model falls short of another. NaN stays NaN and does not
    count.

    >>> min_max(np.array([[1.0, 5.0, 7.0], [3.0, 5.0, 9.0]]), np.array([False, True, True])).tolist()
    [[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    """
    known = np.isfinite(x)
    least = np.where(known, x, np.inf).min(axis=0)
    greatest = np.where(known, x, -np.inf).max(axis=0)
    span = greatest - least
    shortfall = np.where(cost, x - least, greatest - x)
    return np.where(
        known, 1.0 - np.divide(shortfall, span, out=np.zeros_like(x), where=known & (span > 0)), np.nan
    )


def topsis(x: F64, weights: F64) -> F64:
    """d- / (d+ + d-), Euclidean distances of the weighted matrix to its worst and best corner."""
    v = x * weights
    return closeness(
        np.linalg.norm(v - v.max(axis=0), axis=1),
        np.linalg.norm(v - v.min(axis=0), axis=1),
    )


def closeness(to_best: F64, to_worst: F64) -> F64:
    """d- / (d+ + d-) of distances (N,); 1 where both are 0: the worst is the best."""
    both = to_best + to_worst
    return np.divide(to_worst, both, out=np.ones_like(both), where=both > 0)


def vikor(x: F64, weights: F64, v: float = COMPROMISE) -> F64:
    """1 - [v (S - S*) / (S- - S*) + (1 - v) (R - R*) / (R- - R*)], S group utility, R individual regret.

    A term whose denominator is 0 is 0.
    """
    shortfall = weights * (1.0 - min_max(x, np.zeros(x.shape[1], dtype=np.bool_)))
    both = np.stack([shortfall.sum(axis=1), shortfall.max(axis=1)], axis=1)  # S, R
    good = min_max(both, np.ones(2, dtype=np.bool_))
    return np.asarray(v * good[:, 0] + (1.0 - v) * good[:, 1])


def chebyshev(x: F64, weights: F64, rho: float = AUGMENTATION) -> F64:
    """1 - (max_j w_j D_j + rho sum_j w_j D_j) with the deficits D = 1 - x."""
    deficit = weights * (1.0 - x)
    return np.asarray(1.0 - (deficit.max(axis=1) + rho * deficit.sum(axis=1)))


METHODS: Mapping[str, Callable[[F64, F64], F64]] = {
    "TOPSIS": topsis,
    "VIKOR": vikor,
    "Chebyshev": chebyshev,
}


def weights_of(parts: F64) -> F64:
    """Weights that sum to 1, from numbers >= 0 of which one is greater."""
    total = float(parts.sum())
    if not np.isfinite(total) or total <= 0 or bool((parts < 0).any()):
        raise ValueError("weights are numbers >= 0, not all 0")
    return np.asarray(parts / total)
