"""Fewer rows, drawn with a seed, that stand for all."""

from __future__ import annotations

import numpy as np

from cellwatch.models.detectors.weights import class_weights
from cellwatch.models.types import F64, I64


def subsample(y: I64, rows: int, seed: int) -> I64:
    """Ascending indices of at most `rows` rows: half drawn from all, half as many of each class as there are.

    >>> 9 in subsample(np.array([0] * 9 + [1]), 4, seed=0)
    True
    """
    if len(y) <= rows:
        return np.arange(len(y))
    shuffled = np.random.default_rng(seed).permutation(len(y))
    drawn = shuffled[: rows // 2]
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    counts = np.bincount(y)
    turn = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.union1d(drawn, by_class[np.argsort(turn, kind="stable")[: rows - len(drawn)]])


def worth(y: I64, chosen: I64, classes: int) -> F64:
    """Weight per class of the chosen rows: they count for all rows of their class, times its class weight."""
    every, here = (np.bincount(part, minlength=classes) for part in (y, y[chosen]))
    return class_weights(y, classes) * every / np.maximum(here, 1)
