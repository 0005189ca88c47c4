"""The limits of many devices as arrays, so that windows are judged by the thousand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cellwatch.models.rules.evidence import Evidence
from cellwatch.models.rules.limits import Limits
from cellwatch.models.types import F32, F64, I64, Bool

CHUNK = 1024  # rows at once: their limits stay in the processor's cache
CAP = 2.5  # points of one group at most: BLOCK takes three groups, one wild feature stays SUSPICIOUS
UNKNOWN = -1


class LimitTable:
    """Limits of r keys over c columns, each column with its `Evidence`."""

    def __init__(
        self, columns: Sequence[str], evidence: Sequence[Evidence], limits: Mapping[tuple[str, int], Limits]
    ) -> None:
        """`limits` by (name, mode)."""
        self.columns = tuple(columns)
        self.evidence = tuple(evidence)
        c = len(self.columns)
        blank = Limits(*np.full((3, c), np.nan))
        parts = [*limits.values(), blank]
        self.low = np.stack([p.low for p in parts]).astype(np.float32)
        self.high = np.stack([p.high for p in parts]).astype(np.float32)
        self._per_scale = np.stack([1.0 / p.scale for p in parts]).astype(np.float32)
        self.index = {key: i for i, key in enumerate(limits)}
        groups = sorted({e.group for e in self.evidence})
        place = np.array([groups.index(e.group) for e in self.evidence], dtype=np.int64)
        self._order = np.argsort(place, kind="stable")
        self._starts = np.searchsorted(place[self._order], np.arange(len(groups)))

    def row(self, name: str, mode: int) -> int:
        """Row of a key, UNKNOWN if there is none."""
        return self.index.get((name, mode), UNKNOWN)

    def points(self, values: F32, rows: I64, few: Bool | None = None, unjudged: Bool | None = None) -> F64:
        """Points (n,) of `values` (n, c), each against the limits of its row; 0 in row UNKNOWN.

        Columns `unjudged` (c,) do not count in windows where `few` (n,) holds.
        """
        out = np.zeros(len(values))
        for first in range(0, len(values), CHUNK):
            part = slice(first, first + CHUNK)
            v, r = values[part], rows[part]
            broken = v < self.low[r]
            broken |= v > self.high[r]
            hit = np.flatnonzero(broken.any(axis=1))
            if not len(hit):
                continue
            excess = self.excess(v[hit], r[hit])
            if few is not None and unjudged is not None and few[part][hit].any():
                excess[few[part][hit][:, None] & unjudged] = 0.0
            np.minimum(excess, CAP, out=excess)
            out[first + hit] = np.maximum.reduceat(excess[:, self._order], self._starts, axis=1).sum(axis=1)
        return out

    def excess(self, values: F32, rows: I64) -> F32:
        """How far (n, c) each value lies outside, in units of the column's scale; 0 inside and for NaN."""
        far = np.maximum(self.low[rows] - values, values - self.high[rows])
        far *= self._per_scale[rows]
        out: F32 = np.fmax(far, np.float32(0))
        return out
