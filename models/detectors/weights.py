"""Class weights against imbalance."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F64, I64


def class_weights(y: I64, classes: int | None = None) -> F64:
    """n / (k * n_c) for each class, square-rooted so that rare classes do not take over; absent classes 0.

    >>> class_weights(np.array([0, 0, 0, 1])).round(3).tolist()
    [0.816, 1.414]
    """
    counts = np.bincount(y, minlength=classes or 0).astype(np.float64)
    with np.errstate(divide="ignore"):
        weight = np.sqrt(len(y) / (len(counts) * counts))
    return np.where(counts > 0, weight, 0.0)
