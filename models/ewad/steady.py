"""Rows of a machine that should stand still: the mean of the last ones, without what drifts anyway.

A fault lasts for many rows and noise does not. A column whose level moved already while all was well, such
as a tank that warms up, goes on moving, and says nothing about faults.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.ewad.method import Method
from cellwatch.models.ewad.report import Report
from cellwatch.models.types import F32, F64, Bool

WINDOW = 10  # rows, the judged one included
SHIFT = 1.0  # standard deviations between the means of both halves of the training rows: more is drift


def trailing_mean(x: F32, window: int = WINDOW) -> F32:
    """For rows (n, f) in their order the mean of the known numbers of the last ones, NaN where none is.

    >>> trailing_mean(np.array([[1.0], [3.0], [np.nan], [9.0]], np.float32), 2)[:, 0].tolist()
    [1.0, 2.0, 3.0, 9.0]
    """
    known = ~np.isnan(x)
    total, count = (
        np.cumsum(np.concatenate([np.zeros((1, x.shape[1])), part]), axis=0)
        for part in (np.where(known, x, 0.0), known)
    )
    first = np.maximum(np.arange(1, len(x) + 1) - window, 0)
    n = count[1:] - count[first]
    mean = np.divide(total[1:] - total[first], n, out=np.full(x.shape, np.nan), where=n > 0)
    return np.asarray(mean, dtype=np.float32)


def steady_columns(x: F32) -> Bool:
    """Which columns (f,) of training rows (n, f) keep their level; all of them if none does."""
    halves = x[: len(x) // 2], x[len(x) // 2 :]
    shift = _mean(halves[0]) - _mean(halves[1])
    steady = ~(shift**2 > SHIFT**2 * _mean((x - _mean(x)) ** 2))
    return np.asarray(steady if steady.any() else np.ones(x.shape[1], dtype=np.bool_))


def _mean(x: NDArray[np.floating]) -> F64:
    """Of the known numbers of each column (f,), NaN where there is none."""
    known = ~np.isnan(x)
    total, count = np.where(known, x, 0.0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(x.shape[1], np.nan), where=count > 0))


class Steady:
    """A `Method` on such rows. The rows to score follow, in order, those it was fitted on."""

    NEEDS_LABELS: ClassVar[bool] = False

    def __init__(self, method: Method) -> None:
        self._method = method
        self.report: Report | None = None
        self.threshold = 0.0

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """As `Method.fit`, rows in the order of time."""
        self._kept = steady_columns(x)
        self._past = x[-(WINDOW - 1) :]
        names = tuple(name for name, kept in zip(columns, self._kept, strict=True) if kept)
        self._method.fit(trailing_mean(x[:, self._kept]), y, names)
        self.threshold, self.report = self._method.threshold, self._method.report

    def score(self, x: F32) -> F64:
        """As `Method.score`, rows in the order of time."""
        rows = np.concatenate([self._past, x])[:, self._kept]
        return self._method.score(trailing_mean(rows)[len(self._past) :])
