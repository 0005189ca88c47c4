"""What detectors do with classes and scores."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F32, F64, I64

ABSENT = -30.0  # log-odds of a class that training did not show


def present(y: I64) -> tuple[I64, I64]:
    """The classes that occur, and `y` as indices into them. ValueError if there are fewer than two."""
    known, target = np.unique(y, return_inverse=True)
    if len(known) < 2:
        raise ValueError(f"{len(known)} class in the labels; a detector needs two")
    return known.astype(np.int64), target.astype(np.int64)


def softmax(scores: F32 | F64) -> F32:
    """Along the last axis."""
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out: F32 = (e / e.sum(axis=-1, keepdims=True)).astype(np.float32)
    return out


def normalised(scores: F32 | F64) -> F32:
    """Rows of non-negative scores as probabilities."""
    out: F32 = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    return out
