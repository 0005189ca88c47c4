"""Percentiles of latencies in constant memory."""

from __future__ import annotations

import numpy as np

BINS_PER_DECADE = 100  # a relative error of about 1 %
DECADES = 9  # 1 microsecond ... 1000 s


class LatencyHistogram:
    """Logarithmic histogram of times in seconds."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS_PER_DECADE * DECADES + 1, dtype=np.int64)

    def add(self, seconds: float) -> None:
        place = int(BINS_PER_DECADE * (np.log10(max(seconds, 1e-6)) + 6))
        self._counts[min(place, len(self._counts) - 1)] += 1

    def percentile_ms(self, q: float) -> float | None:
        """The q-th percentile in milliseconds; None if nothing was added.

        >>> h = LatencyHistogram(); [h.add(s) for s in (0.001, 0.001, 0.1)] and round(h.percentile_ms(50), 1)
        1.0
        """
        total = self._counts.sum()
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), total * q / 100))
        return round(float(10 ** ((place + 0.5) / BINS_PER_DECADE - 6) * 1000), 3)

    def summary(self) -> dict[str, float | None]:
        return {"p50": self.percentile_ms(50), "p99": self.percentile_ms(99)}
