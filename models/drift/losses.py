"""Proper scoring rules of single samples (DeepSense, 3.3.5)."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F64, I64, Bool

FLOOR = 0.01  # probabilities count as at least this: one sure mistake must not stand for a whole window
MOST = float(-np.log(FLOOR))  # the greatest loss


def log_loss(probability: F64, attack: Bool) -> F64:
    """Loss (n,) in nats, 0..MOST, of P(attack) (n,) against what was true (n,), level 1; NaN stays NaN.

    >>> log_loss(np.array([0.5, 0.9, 0.0]), np.array([True, False, True])).round(3).tolist()
    [0.693, 2.303, 4.605]
    """
    p = np.asarray(probability, dtype=np.float64)
    return _loss(np.where(attack, p, 1 - p))


def cross_entropy(probabilities: F64, y: I64) -> F64:
    """Loss (n,) in nats, 0..MOST, of probabilities (n, c) against class indices (n,), levels 2 and 3."""
    return _loss(np.asarray(probabilities, dtype=np.float64)[np.arange(len(y)), y])


def _loss(right: F64) -> F64:
    """Loss of the probability that was given to what is true."""
    return np.asarray(-np.log(np.clip(right, FLOOR, 1.0)), dtype=np.float64)


def by_window(windows: I64, values: F64 | Bool) -> F64:
    """Means of the values (n,) of samples that follow each other and are of one window.

    The devices of a window live in one plant: as many samples, they would pass for as many witnesses.

    >>> by_window(np.array([1, 1, 2]), np.array([0.0, 1.0, 3.0])).tolist()
    [0.5, 3.0]
    """
    if not len(windows):
        return np.zeros(0)
    starts = np.flatnonzero(np.diff(windows, prepend=windows[0] - 1))
    return np.asarray(
        np.add.reduceat(values.astype(np.float64), starts) / np.diff(starts, append=len(windows))
    )
