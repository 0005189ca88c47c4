"""The recent past of many tags: least and greatest value of each half second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cellwatch.models.types import F64, I64, U32

STEP_NS = 500_000_000
SLOTS = 1200  # of STEP_NS: ten minutes


class TrendRing:
    """`n` tags over the last ten minutes, 2 x 8 bytes a tag and half second (19 kB a tag)."""

    def __init__(self, n: int) -> None:
        self._low, self._high = np.full((n, SLOTS), np.nan), np.full((n, SLOTS), np.nan)
        self._head = 0  # number of the newest half second since the epoch

    def add(self, tag: U32, value: F64, time_ns: I64, now_ns: int) -> None:
        """Samples in any order, shapes (k,); NaN, the older than the ring and what lies ahead are left out.

        `now_ns` may be set back: by more than the ring is long, and the ring begins anew.
        """
        self._advance(now_ns // STEP_NS)
        bucket = time_ns // STEP_NS
        fits = np.isfinite(value) & (tag < len(self._low))
        fits &= (bucket > self._head - SLOTS) & (bucket <= self._head)
        place = tag[fits].astype(np.int64) * SLOTS + bucket[fits] % SLOTS
        np.fmin.at(self._low.reshape(-1), place, value[fits])
        np.fmax.at(self._high.reshape(-1), place, value[fits])

    def read(self, rows: I64, end_ns: int, span_s: float, points: int) -> tuple[F64, F64, F64]:
        """The span before `end_ns` in at most about `points` stretches: times (p,), low and high (rows, p).

        Times are the middles of the stretches in s since the epoch, NaN = no sample. Stretches lie on a grid
        since the epoch, so that a trend that moves on does not flicker.
        """
        wanted = min(max(int(np.ceil(span_s * 1e9 / STEP_NS)), 1), SLOTS)
        group = -(-wanted // max(points, 1))
        last = end_ns // STEP_NS // group
        first = last - -(-wanted // group) + 1
        buckets = np.arange(first * group, (last + 1) * group)
        empty = (buckets > self._head) | (buckets <= self._head - SLOTS)
        shape = (len(rows), last - first + 1, group)
        low, high = (
            np.where(empty, np.nan, ring[np.ix_(rows, buckets % SLOTS)]).reshape(shape)
            for ring in (self._low, self._high)
        )
        times = np.asarray((np.arange(first, last + 1) + 0.5) * (group * STEP_NS / 1e9), np.float64)
        return times, np.fmin.reduce(low, axis=2), np.fmax.reduce(high, axis=2)

    def _advance(self, newest: int) -> None:
        new = newest - self._head
        if new >= SLOTS or new <= -SLOTS:
            stale: slice | I64 = slice(None)
        elif new > 0:
            stale = np.arange(self._head + 1, newest + 1) % SLOTS
        else:
            return
        self._low[:, stale] = self._high[:, stale] = np.nan
        self._head = newest
