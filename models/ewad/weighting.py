"""How much reconstruction and critic count: alpha and beta of eq. 13, learnt without a label.

The paper leaves both open. Here the weights are chosen that best tell normal validation rows from the same
rows with a tenth of their values swapped in from other rows: every value is usual then, only not beside the
others.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from cellwatch.models.types import F32, F64, Bool

SWAPPED = 0.1  # of the columns of a row
STEPS = 20  # alpha is a multiple of 1 / STEPS, beta the rest
ALIKE = 0.002  # AUCs closer than this say the same


def swapped(x: F32, seed: int) -> F32:
    """Each row with SWAPPED of its columns, at least one, taken from another row."""
    rng = np.random.default_rng(seed)
    n, f = x.shape
    rank = rng.random((n, f)).argsort(axis=1).argsort(axis=1)
    donor = (np.arange(n)[:, None] + rng.integers(1, max(n, 2), (n, f))) % n
    return np.where(rank < max(1, round(SWAPPED * f)), np.take_along_axis(x, donor, axis=0), x)


def alpha(normal: F64, odd: F64) -> float:
    """Weight of the reconstruction, 0..1, from the two terms (2, n, I) of normal and of swapped rows.

    Of the weights that do about as well as the best one, the middle one.
    """
    weights = np.linspace(0, 1, STEPS + 1)
    auc = np.array(
        [_auc(*((w * t[0] + (1 - w) * t[1]).mean(axis=1) for t in (normal, odd))) for w in weights]
    )
    good: Bool = auc >= auc.max() - ALIKE
    return float(np.median(weights[good]))


def _auc(low: F64, high: F64) -> float:
    """Share of pairs in which the second is the higher one."""
    ranks = rankdata(np.concatenate([low, high]))[len(low) :]
    return float((ranks.mean() - (len(high) + 1) / 2) / len(low))
