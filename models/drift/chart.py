"""A limit for the next value, from those before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from cellwatch.models.types import F64, I64, Bool


class Chart:
    """A self-starting control chart for s series at once, upper side (Hawkins 1987).

    The limit is Student's prediction limit of one more value (Hahn and Meeker 1991),

        mean + t(1 - alpha / s, n - 1) * sd * sqrt(1 + 1 / n)

    with mean and deviation of the first `reference` values of the series. The spread between windows, not the
    one within, says how far windows lie apart when samples follow each other closely; t with the root pays
    for knowing mean and spread from few windows only, so that the chart may start with `least` of them.
    `alpha` is the chance of a false signal at one value in any of the series, where these are normal.
    """

    def __init__(
        self,
        series: int = 1,
        *,
        reference: int,
        alpha: float,
        least: int = 5,
        floor: float | Sequence[float] = 0.0,
        ceiling: float | Sequence[float] = np.inf,
    ) -> None:
        """`floor`: least deviation, of all series or of each, in the unit of the values. ValueError.

        `ceiling`: the limit is never above it, and holds from the first value on.
        """
        if not (2 <= least <= reference and 0 < alpha < 1 and series > 0):
            raise ValueError("a chart needs 2 <= least <= reference, alpha within 0..1, and a series")
        self._least, self._reference = least, reference
        self._floor = np.asarray(floor, dtype=np.float64)
        self._ceiling = np.asarray(ceiling, dtype=np.float64)
        n = np.arange(reference + 1)
        self._factor = np.zeros(reference + 1)  # of the deviation, by the number of values seen
        self._factor[least:] = -special.stdtrit(n[least:] - 1, alpha / series) * np.sqrt(1 + 1 / n[least:])
        self._n: I64 = np.zeros(series, dtype=np.int64)
        self._mean, self._squares = np.zeros(series), np.zeros(series)

    @property
    def limit(self) -> F64:
        """(s,), the ceiling as long as too few values were seen."""
        deviation = np.sqrt(self._squares / np.maximum(self._n - 1, 1))
        limit = self._mean + self._factor[self._n] * np.maximum(deviation, self._floor)
        return np.minimum(np.where(self._n < self._least, np.inf, limit), self._ceiling)

    @property
    def learning(self) -> Bool:
        """(s,) the reference is not complete."""
        return np.asarray(self._n < self._reference)

    def step(self, values: F64) -> Bool:
        """Which of the values (s,) lie over their limit; the others may join the reference. NaN: neither."""
        with np.errstate(invalid="ignore"):
            over = np.asarray(values > self.limit)
        joins = self.learning & ~over & np.isfinite(values)
        self._n = self._n + joins
        step = np.where(joins, values - self._mean, 0.0)
        self._mean = self._mean + step / np.maximum(self._n, 1)  # Welford 1962
        self._squares = self._squares + step * np.where(joins, values - self._mean, 0.0)
        return over
