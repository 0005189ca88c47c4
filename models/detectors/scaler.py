"""Robust scaling of feature windows, with missing numbers filled in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellwatch.models.types import F32, F64

BOUND = 10.0  # scaled values beyond say "far out" as well at the bound
STILL = 0.02  # standard deviation (compressed) below which a column told nothing in training


@dataclass(frozen=True, slots=True)
class Scaler:
    """log-compressed, centred on the median, in units of the 5-95 % spread; NaN becomes the median.

    A column that stood still in training becomes 0: what it would say of a new value, nobody has learnt.
    """

    centre: F64  # (c,)
    scale: F64  # (c,), 0 = dropped

    @classmethod
    def fit(cls, x: F32) -> Scaler:
        z = _compress(x)
        z[:, ~np.isfinite(z).any(axis=0)] = 0.0
        low, centre, high = np.nanpercentile(z, [5, 50, 95], axis=0)
        spread = high - low
        std = np.nanstd(z, axis=0)
        return cls(centre, np.where(std < STILL, 0.0, np.where(spread > STILL, spread, std)))

    def transform(self, x: F32) -> F32:
        """(n, c) float32 without NaN, within -BOUND..BOUND."""
        moving = self.scale > 0
        z = np.where(moving, (_compress(x) - self.centre) / np.where(moving, self.scale, 1.0), 0.0)
        out: F32 = np.clip(np.nan_to_num(z, nan=0.0), -BOUND, BOUND).astype(np.float32)
        return out

    def to_dict(self) -> dict[str, list[float]]:
        return {"centre": self.centre.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, data: dict[str, list[float]]) -> Scaler:
        return cls(np.array(data["centre"]), np.array(data["scale"]))


def _compress(x: F32) -> F64:
    z = np.asarray(x, dtype=np.float64)
    return np.sign(z) * np.log1p(np.abs(z))
