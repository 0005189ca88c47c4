"""Whether a difference between two models is more than chance, and how sure a figure is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2, norm, rankdata

from cellwatch.models.types import F64, I64, Bool

_FEW = 25  # rows that differ, below which McNemar's test is exact


@dataclass(frozen=True, slots=True)
class Difference:
    """`value` of the first model less that of the second, and the two-sided p-value of no difference."""

    value: float
    p: float


def mcnemar(right_a: Bool, right_b: Bool) -> Difference:
    """Accuracy of two models on the same rows (n,); exact where they differ on fewer than 25 rows.

    Else chi-square with the correction of Edwards (1948). p is 1 where they never differ.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    differ = only_a + only_b
    value = (only_a - only_b) / len(right_a)
    if differ < _FEW:
        return Difference(value, float(binomtest(only_a, differ).pvalue) if differ else 1.0)
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / differ
    return Difference(value, float(chi2.sf(statistic, 1)))


def delong(attacked: Bool, score_a: F64, score_b: F64) -> Difference:
    """Areas under two ROC curves on the same rows (n,) (DeLong et al. 1988, by mid-ranks as Sun and Xu 2014).

    p is 1 where the scores order the rows alike; NaN without both kinds of rows.
    """
    if attacked.all() or not attacked.any():
        return Difference(float("nan"), float("nan"))
    parts = [_placements(attacked, score) for score in (score_a, score_b)]
    value = float(parts[0][0].mean() - parts[1][0].mean())
    variance = sum(
        float(np.var(parts[0][side] - parts[1][side], ddof=1)) / len(parts[0][side])
        if len(parts[0][side]) > 1
        else 0.0
        for side in (0, 1)
    )
    if variance <= 0:
        return Difference(value, 1.0 if value == 0 else float("nan"))
    return Difference(value, float(2 * norm.sf(abs(value) / np.sqrt(variance))))


def _placements(attacked: Bool, score: F64) -> tuple[F64, F64]:
    """Share of benign rows below each attacked one, and of attacked rows above each benign one; ties half."""
    high, low = score[attacked], score[~attacked]
    joint = rankdata(np.concatenate([high, low]))
    above = (joint[: len(high)] - rankdata(high)) / len(low)
    below = 1.0 - (joint[len(high) :] - rankdata(low)) / len(high)
    return above, below


def bootstrap(
    figure: Callable[[I64], float],
    group: NDArray[Any],
    *,
    seed: int,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a figure, drawn by groups: rows of one session are not independent.

    `figure` gets the places of the drawn rows (with repeats) among the n rows whose group (n,) is given;
    draws for which it is NaN are passed over, (NaN, NaN) if all are. Give each row a group of its own where
    rows are independent.
    """
    rng = np.random.default_rng(seed)
    _, place = np.unique(group, return_inverse=True)
    rows = np.argsort(place, kind="stable")
    members = np.split(rows, np.cumsum(np.bincount(place))[:-1])
    found = np.array(
        [
            figure(np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))]))
            for _ in range(draws)
        ]
    )
    return interval(found, level)


def drawn_confusions(m: I64, *, seed: int, draws: int = 1000) -> I64:
    """Confusion matrices (draws, c, c) of a bootstrap, from those of each group (g, c, c).

    Whole groups are drawn, as in `bootstrap`; of a single group its rows are, as if they were independent.
    """
    rng = np.random.default_rng(seed)
    groups, c = len(m), m.shape[1]
    if groups > 1:
        times = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws)
        drawn = (times @ m.reshape(groups, c * c).astype(np.float64)).round().astype(np.int64)
    else:
        cells = m[0].ravel()
        drawn = rng.multinomial(cells.sum(), cells / cells.sum(), size=draws)
    return np.asarray(drawn).reshape(draws, c, c)


def interval(figures: F64, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of figures (draws,); those that are NaN are passed over, (NaN, NaN) if all are."""
    known = figures[np.isfinite(figures)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
