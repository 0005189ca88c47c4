"""Rows that are images, seen by their strokes: upright, and as histograms of the directions of their edges.

The distance between two rows of pixels is large as soon as a stroke is shifted or leans a little. So an image
is centred and sheared upright by its moments, and then described by how much edge of which direction there is
around each point of a grid (Dalal and Triggs, CVPR 2005). Nothing is learnt here, so there is nothing to fit.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cellwatch.models.ewad.method import Method
from cellwatch.models.ewad.report import Report
from cellwatch.models.types import F32, F64, Bool

DIRECTIONS = 8
CELL = 4  # pixels between the points of the grid
BLUR = 0.7  # pixels, before edges are looked for
STEEPEST = 1.0  # shear, pixels a line
CHUNK = 1024  # images at once
TINY = 1e-6


def strokes(x: F32, shape: tuple[int, int]) -> F32:
    """Images (n, height * width), 0 = empty, as (n, DIRECTIONS * points); a missing pixel is empty.

    Their root mean square is 1 in each row, 0 in an empty image: thick and thin lines count alike, and
    columns keep their relative weight, so they need no further scaling.

    >>> strokes(np.zeros((2, 784), dtype=np.float32), (28, 28)).shape
    (2, 392)
    """
    images = np.nan_to_num(x).reshape(-1, *shape)
    parts = np.array_split(images, max(1, -(-len(images) // CHUNK)))
    found = np.concatenate([_histograms(upright(part / _brightest(part))) for part in parts])
    length = np.sqrt(np.mean(found**2, axis=1, keepdims=True))
    return np.asarray(found / np.maximum(length, TINY), dtype=np.float32)


def upright(images: F32) -> F32:
    """Images (n, height, width) with their centre of mass in the middle and their main axis vertical."""
    height, width = images.shape[1:]
    row, column = np.mgrid[:height, :width].astype(np.float32)
    mass = np.maximum(images.sum(axis=(1, 2)), TINY)
    middle = (height - 1) / 2, (width - 1) / 2
    centre = [(images * grid).sum(axis=(1, 2)) / mass for grid in (row, column)]
    dy, dx = row - centre[0][:, None, None], column - centre[1][:, None, None]
    shear = (images * dx * dy).sum(axis=(1, 2)) / np.maximum((images * dy * dy).sum(axis=(1, 2)), TINY)
    shear = np.clip(shear, -STEEPEST, STEEPEST)[:, None, None]
    v = np.broadcast_to(row - middle[0], images.shape) + centre[0][:, None, None]
    u = column - middle[1] + centre[1][:, None, None] + shear * (row - middle[0])
    return _interpolated(images, v, u)


class OfImages:
    """A `Method` that gets the strokes of its rows instead of their pixels."""

    NEEDS_LABELS: ClassVar[bool] = False

    def __init__(self, method: Method, shape: tuple[int, int]) -> None:
        self._method, self._shape = method, shape
        self.report: Report | None = None
        self.threshold = 0.0

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """As `Method.fit`; rows (n, height * width), whose names say nothing about strokes."""
        del columns
        seen = strokes(x, self._shape)
        self._method.fit(seen, y, tuple(f"stroke{k:03d}" for k in range(seen.shape[1])))
        self.threshold, self.report = self._method.threshold, self._method.report

    def score(self, x: F32) -> F64:
        """As `Method.score`."""
        return self._method.score(strokes(x, self._shape))


def _brightest(images: F32) -> F32:
    return np.asarray(np.maximum(images.max(axis=(1, 2), keepdims=True), TINY))


def _interpolated(images: F32, v: NDArray[np.float32], u: NDArray[np.float32]) -> F32:
    """Bilinear values at rows v and columns u, (n, height, width); empty outside."""
    n, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    v, u = np.clip(v + 1, 0, height), np.clip(u + 1, 0, width)
    top, left = v.astype(np.intp), u.astype(np.intp)
    down, right = v - top, u - left
    each = np.arange(n)[:, None, None]
    upper = (1 - right) * padded[each, top, left] + right * padded[each, top, left + 1]
    lower = (1 - right) * padded[each, top + 1, left] + right * padded[each, top + 1, left + 1]
    return np.asarray((1 - down) * upper + down * lower, dtype=np.float32)


def _histograms(images: F32) -> F32:
    """Strength of edges by direction (shared by the two next ones) around the points, as its square root."""
    n, height, width = images.shape
    dy, dx = np.gradient(gaussian_filter(images, (0, BLUR, BLUR)), axis=(1, 2))
    turn = np.mod(np.arctan2(dy, dx) / (2 * np.pi) * DIRECTIONS, DIRECTIONS)
    low = turn.astype(np.intp) % DIRECTIONS
    share, strength = turn - np.floor(turn), np.hypot(dy, dx)
    found = np.zeros((n, DIRECTIONS, height, width), dtype=np.float32)
    np.put_along_axis(found, low[:, None], (strength * (1 - share))[:, None], axis=1)
    np.put_along_axis(found, ((low + 1) % DIRECTIONS)[:, None], (strength * share)[:, None], axis=1)
    wide = gaussian_filter(found, (0, 0, CELL / 2, CELL / 2))
    points = wide[:, :, CELL // 2 :: CELL, CELL // 2 :: CELL].reshape(n, -1)
    return np.asarray(np.sqrt(np.maximum(points, 0)), dtype=np.float32)
