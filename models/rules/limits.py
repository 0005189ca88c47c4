"""The normal range of columns, learned from benign windows, and how far a value lies outside."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from cellwatch.models.types import F32, F64, Bool

FEW = 20  # numbers; with as many the margin is twice that of many
LEAST_SCALE = 0.05  # in the unit of the column
STALENESS = frozenset({"staleness", "sensor_staleness_max"})  # columns that say how long nothing came


@dataclass(frozen=True, slots=True)
class Limits:
    """Normal range of c columns. `scale` (> 0) is the unit in which an excess is counted.

    A column without any finite value in the benign period is NaN in all three: it is never judged. An open
    side is infinite.
    """

    low: F64  # (c,)
    high: F64  # (c,)
    scale: F64  # (c,)

    @classmethod
    def learn(cls, values: F32 | F64, margin: float, floor: float = 0.05) -> Limits:
        """Range of `values` (windows, c), widened by `margin` times its spread on both sides.

        The range of n numbers is left by the next one with probability 2 / (n + 1), so the margin grows by
        1 + FEW / n where there was little to learn from; n counts the finite numbers of each column. The
        spread is the range, at least `floor` (> 0) of the largest magnitude and LEAST_SCALE, so that a column
        that never moved does not turn its first move into an alarm.
        """
        x = np.asarray(values, dtype=np.float64)
        finite = np.isfinite(x)
        n = finite.sum(axis=0)
        low = np.min(x, axis=0, where=finite, initial=np.inf)
        high = np.max(x, axis=0, where=finite, initial=-np.inf)
        low[n == 0] = high[n == 0] = np.nan
        size = np.maximum(np.abs(low), np.abs(high))
        scale = np.maximum(high - low, np.maximum(floor * size, LEAST_SCALE))
        room = margin * (1 + FEW / np.maximum(n, 1)) * scale
        return cls(low - room, high + room, scale)

    @classmethod
    def union(cls, parts: list[Limits]) -> Limits:
        """The range that holds all of `parts` (at least one)."""
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # columns that all lack
            return cls(
                np.nanmin([p.low for p in parts], axis=0),
                np.nanmax([p.high for p in parts], axis=0),
                np.nanmax([p.scale for p in parts], axis=0),
            )

    def widened(self, other: Limits, silent: Bool) -> Limits:
        """The range that holds both, where this one judges; a column of `silent` (c,) where both do.

        What is silent for longer than is worth judging has no limit; then it has none in both together.
        """
        both = Limits.union([self, other])
        off = np.isnan(self.scale) | (silent & np.isnan(other.scale))
        return Limits(*(np.where(off, np.nan, part) for part in (both.low, both.high, both.scale)))

    def excess(self, values: F32 | F64) -> F64:
        """Distance outside the range in units of `scale`, >= 0; 0 where either side is NaN."""
        out = np.maximum(self.low - values, values - self.high) / self.scale
        return np.where(out > 0, out, 0.0)

    def to_dict(self, columns: tuple[str, ...]) -> dict[str, list[float | None]]:
        """Column -> [low, high, scale] of those that are judged; None = open."""
        rows = zip(columns, self.low.tolist(), self.high.tolist(), self.scale.tolist(), strict=True)
        return {
            name: [_short(low), _short(high), _short(scale)]
            for name, low, high, scale in rows
            if math.isfinite(scale)
        }

    @classmethod
    def from_dict(cls, data: dict[str, list[float | None]], columns: tuple[str, ...], where: str) -> Limits:
        """Inverse of `to_dict`. ValueError names `where`, the column and what is wrong."""
        out = np.full((3, len(columns)), np.nan)
        index = {name: i for i, name in enumerate(columns)}
        for name, row in data.items():
            if name not in index:
                raise ValueError(f"{where}: unknown column {name!r}")
            if not isinstance(row, list) or len(row) != 3:
                raise ValueError(f"{where}: {name}: need [low, high, scale], found {row!r}")
            try:
                low, high, scale = (None if v is None else float(v) for v in row)
            except (TypeError, ValueError):
                raise ValueError(f"{where}: {name}: {row!r} holds something that is no number") from None
            low, high = -math.inf if low is None else low, math.inf if high is None else high
            if scale is None or not (scale > 0 and math.isfinite(scale)):
                raise ValueError(f"{where}: {name}: scale must be a number above 0, found {scale}")
            if not low <= high:
                raise ValueError(f"{where}: {name}: low {low:g} is above high {high:g}")
            out[:, index[name]] = low, high, scale
        return cls(out[0], out[1], out[2])


def _short(value: float) -> float | None:
    """Seven digits are more than a limit needs; None for an open side."""
    return float(f"{value:.7g}") if math.isfinite(value) else None
