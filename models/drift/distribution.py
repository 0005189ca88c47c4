"""How far the values of each column are from their profile."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F32, F64, I64

_QUANTILES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
LEAST = 30  # windows of a device; fewer have no distance


class Distribution:
    """Histograms of every column of every device, compared by Hellinger's distance.

    After HDDDM (Ditzler and Polikar 2011), with bins at quantiles of a profile, and one more for a missing
    number. All numbers missing: the device was not there, and the window does not count.
    """

    def __init__(self, profile: F32) -> None:
        """Bins and shares of the windows (w, d, c), NaN = missing."""
        self._edges = _edges(profile)
        self._roots = self._shares(profile)

    def distance(self, values: F32) -> F64:
        """Hellinger's distance (d, c), 0..1, of windows (w, d, c) to the profile.

        NaN for devices with fewer than LEAST windows, here or in the profile.
        """
        shared = (self._roots * self._shares(values)).sum(axis=0)
        return np.asarray(np.sqrt(np.maximum(1 - shared, 0)))  # NaN stays NaN

    def _shares(self, values: F32) -> F64:
        """Square roots of the shares (7, d, c) of the bins."""
        finite = np.isfinite(values)
        seen: I64 = finite.sum(axis=0)
        windows: I64 = finite.any(axis=2).sum(axis=0)
        with np.errstate(invalid="ignore"):
            above = [(values > edge).sum(axis=0) for edge in self._edges]
        ladder = np.stack([seen, *above, np.zeros_like(seen)])
        counts = np.concatenate([ladder[:-1] - ladder[1:], (windows[:, None] - seen)[None]])
        return np.asarray(np.sqrt(counts / np.where(windows < LEAST, np.nan, windows)[:, None]))


def _edges(values: F32) -> F32:
    """Bounds of the bins (5, d, c) at quantiles over the windows (w, d, c); NaN where nothing was seen.

    The lowest is moved down by the least step, so that a column that never moved has a bin on either side.
    """
    ordered = np.sort(values, axis=0)  # NaN last
    seen: I64 = np.isfinite(values).sum(axis=0)
    at = (_QUANTILES[:, None, None] * np.maximum(seen - 1, 0)).astype(np.int64)
    edges = np.take_along_axis(ordered, at, axis=0)
    edges[0] = np.nextafter(edges[0], np.float32(-np.inf))
    return np.asarray(edges, dtype=np.float32)
