"""Ensembles as rows of a boolean matrix, and what the paper's fitness says of all of them at once."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

from cellwatch.models.types import F64, Bool

DIGITS = 12  # sums in another order must not make equal ensembles differ


def count(models: int, sizes: tuple[int, int]) -> int:
    """Number of subsets of `models` with sizes[0]..sizes[1] members.

    >>> count(22, (1, 5))
    35442
    """
    return sum(comb(models, size) for size in range(sizes[0], sizes[1] + 1))


def enumerate_all(models: int, sizes: tuple[int, int]) -> Bool:
    """Every subset with sizes[0]..sizes[1] members, small ones first, shape (B, models)."""
    parts = []
    for size in range(sizes[0], min(sizes[1], models) + 1):
        members = np.array([*combinations(range(models), size)], dtype=np.intp)
        z = np.zeros((len(members), models), dtype=np.bool_)
        np.put_along_axis(z, members, True, axis=1)
        parts.append(z)
    return np.concatenate(parts)


def top_k_means(z: Bool, values: F64, k: int) -> F64:
    """Fitness f_k (DeepSense, section 4.8.2): the mean of an ensemble's k best scores in each dimension.

    All members count where there are fewer than k. `z` (B, N) are ensembles of at least one member, `values`
    (N, d) their scores; the result is (B, d).

    >>> top_k_means(np.array([[True, True, False]]), np.array([[0.9], [0.5], [1.0]]), 3).tolist()
    [[0.7]]
    """
    found = np.empty((len(z), values.shape[1]))
    for d, column in enumerate(values.T):
        best_first = np.argsort(-column, kind="stable")
        members = z[:, best_first]
        counted = members & (members.cumsum(axis=1, dtype=np.uint16) <= k)
        found[:, d] = counted @ column[best_first] / counted.sum(axis=1)
    return found.round(DIGITS)
