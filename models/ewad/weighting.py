"""How much reconstruction and critic count: alpha and beta of eq. 13, learnt without a label.

The paper leaves both open. Here the weights are chosen that best tell normal validation rows from the same
rows with noise of one normal deviation on every number. The critic never counts more than the
reconstruction: it was trained to tell real rows from made ones, and is erratic about all others.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from cellwatch.models.ewad.settings import Combination
from cellwatch.models.types import F32, F64, Bool

LEAST = 0.5  # of alpha
STEPS = 10  # from there to 1
ALIKE = 0.002  # AUCs closer than this say the same


def noisy(x: F32, seed: int) -> F32:
    """Rows (n, f) with Gaussian noise as large as the deviation of each column; NaN stays NaN."""
    rng = np.random.default_rng(seed)
    known = ~np.isnan(x)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, x, 0.0).sum(axis=0, dtype=np.float64) / count
    deviation = np.sqrt((np.where(known, x - mean, 0.0) ** 2).sum(axis=0) / count)
    return np.asarray(x + deviation * rng.normal(size=x.shape), dtype=np.float32)


def alpha(normal: F64, odd: F64, combination: Combination = "mean") -> float:
    """Weight of the reconstruction, LEAST..1, from the two terms (2, n, I) of normal and of noisy rows.

    Of the weights that do about as well as the best one, the middle one.
    """
    weights = np.linspace(LEAST, 1, STEPS + 1)
    joined = np.mean if combination == "mean" else np.min
    auc = np.array(
        [_auc(*(joined(w * t[0] + (1 - w) * t[1], axis=1) for t in (normal, odd))) for w in weights]
    )
    good: Bool = auc >= auc.max() - ALIKE
    return float(np.median(weights[good]))


def _auc(low: F64, high: F64) -> float:
    """Share of pairs in which the second is the higher one."""
    ranks = rankdata(np.concatenate([low, high]))[len(low) :]
    return float((ranks.mean() - (len(high) + 1) / 2) / len(low))
