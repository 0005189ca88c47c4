"""Weights on a grid of 8 bits, so that a graph takes a quarter of the room.

Symmetric, one scale per output (Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, CVPR 2018); here only the storage is small, the arithmetic stays float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.types import F32

LEVELS = 127


def to_grid(weights: F32, over: tuple[int, ...]) -> tuple[NDArray[np.int8], F32]:
    """Integers -127..127 and the scale that weights along the axes `over` share."""
    top = np.abs(weights).max(axis=over, keepdims=True, initial=0.0)
    scale = (np.where(top > 0, top, 1.0) / LEVELS).astype(np.float32)
    return np.rint(weights / scale).astype(np.int8), scale


def on_grid(weights: F32, over: tuple[int, ...]) -> F32:
    """The weights rounded to what `to_grid` stores.

    >>> float(np.abs(on_grid(np.array([[0.5, 0.1]], np.float32), (1,)) - [[0.5, 0.1]]).max()) < 0.002
    True
    """
    integers, scale = to_grid(weights, over)
    out: F32 = integers.astype(np.float32) * scale
    return out
