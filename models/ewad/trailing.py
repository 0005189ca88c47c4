"""Rows in the order of time, each number told by its place among the last ones of its column.

Machines drift, and a limit learnt in summer is wrong in autumn. The place among the last rows, 0 the lowest
and 1 the highest, does not drift: it needs neither labels nor a single later row.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cellwatch.models.ewad.method import Method
from cellwatch.models.ewad.report import Report
from cellwatch.models.types import F32, F64, Bool

WINDOW = 60  # rows, the judged one included
LEAST = 10  # known numbers among them, else the place is not known


def places(x: F32, window: int = WINDOW) -> F32:
    """For rows (n, f) in their order the share of the known earlier numbers of the window that lie below.

    Equal ones count half. NaN where the number is missing or fewer than LEAST of the others are known.

    >>> places(np.arange(30, dtype=np.float32)[:, None])[[5, 29], 0]
    array([nan,  1.], dtype=float32)
    """
    below, known = np.zeros(x.shape, dtype=np.float32), np.zeros(x.shape, dtype=np.float32)
    for lag in range(1, min(window, len(x))):
        now, then = x[lag:], x[:-lag]
        below[lag:] += (then < now) + np.float32(0.5) * (then == now)
        known[lag:] += ~np.isnan(then)
    told = (known >= LEAST) & ~np.isnan(x)
    return np.where(told, below / np.maximum(known, 1), np.float32(np.nan)).astype(np.float32)


class InTime:
    """A `Method` on the places of its rows. The rows to score follow, in order, those it was fitted on."""

    NEEDS_LABELS: ClassVar[bool] = False

    def __init__(self, method: Method) -> None:
        self._method = method
        self.report: Report | None = None
        self.threshold = 0.0

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """As `Method.fit`, rows in the order of time. ValueError for fewer rows than a window needs."""
        if len(x) <= LEAST:
            raise ValueError(f"{len(x)} rows have no place among {LEAST} earlier ones")
        self._past = x[-(WINDOW - 1) :]
        self._method.fit(places(x)[LEAST:], None if y is None else y[LEAST:], columns)
        self.threshold, self.report = self._method.threshold, self._method.report

    def score(self, x: F32) -> F64:
        """As `Method.score`, rows in the order of time."""
        return self._method.score(places(np.concatenate([self._past, x]))[len(self._past) :])
