"""Tests that may be looked at after each window: false rejections stay below alpha however often one looks.

Both are mixtures of likelihood ratios against the edge of the null hypothesis (Robbins 1970; Howard et al.
2021): under it their mean never exceeds 1, so they reach 1 / alpha with probability alpha at most (Ville).
"""

from __future__ import annotations

import math

from scipy import special


def more_often(one: int, other: int) -> float:
    """Evidence that of pairs that differ, `one` is more frequent than `other`; the sign test of McNemar.

    The share of `one` is taken as uniform above a half: 2^(n+1) times the integral of p^one (1-p)^other.

    >>> round(more_often(9, 0), 1)  # 2 ** 10 * (1 - 2 ** -10) / 10
    102.3
    """
    a, b = one + 1, other + 1
    log = (one + other + 1) * math.log(2) + special.betaln(a, b)
    return _exp(log + _log(special.betaincc(a, b, 0.5)))


def above_rate(seen: int, expected: float) -> float:
    """Evidence that events come more often than expected; `expected`, a mean of Poisson, >= 0.

    By how many times more is taken as 1 + an exponential variable of mean 1.

    >>> round(above_rate(1, 0.0), 6)  # none is expected, so one says nothing by itself
    2.0
    """
    x = expected + 1.0
    log = x + special.gammaln(seen + 1) - (seen + 1) * math.log(x)
    return _exp(log + _log(special.gammaincc(seen + 1, x)))


def _log(p: float) -> float:
    return math.log(p) if p > 0 else -math.inf


def _exp(log: float) -> float:
    return math.exp(min(log, 700.0))
