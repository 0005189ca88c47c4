"""What is normal for each device: their rows lie far apart, an EWAD wants them on one scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cellwatch.models.types import F32, I64

BOUND = 10.0  # centred values beyond say "far out" as well at the bound
STILL = 0.1  # least spread (compressed): below it a column stands still
SHARE = 0.3  # of the widest spread of a column at any device: the least that it has at each
MIN_WINDOWS = 20  # of a device; fewer say next to nothing about what is normal


@dataclass(frozen=True, slots=True)
class Devices:
    """Centre and spread of every column of d devices, log-compressed, and the range that was seen.

    A column that hardly moved at one device is measured by `SHARE` of its spread at the device where it moves
    most, so that it may move a little. NaN: the device never had a number there, and none that comes later is
    judged.
    """

    names: tuple[str, ...]  # d
    centre: F32  # (d, f) median
    spread: F32  # (d, f) 5-95 %, > 0
    low: F32  # (d, f) least seen, not compressed
    high: F32  # (d, f)

    @classmethod
    def fit(cls, values: F32, device: Sequence[str]) -> Self:
        """Learn from benign rows (n, f) of `device` (n,). ValueError if no device has `MIN_WINDOWS`."""
        names, which, counts = np.unique(np.asarray(device, str), return_inverse=True, return_counts=True)
        enough = np.flatnonzero(counts >= MIN_WINDOWS)
        if not len(enough):
            raise ValueError(
                f"no device has {MIN_WINDOWS} benign windows: nothing to learn what is normal from"
            )
        z = _compress(values)
        parts = [which == k for k in enough]
        own = np.stack([_spread(z[rows]) for rows in parts])
        floor = np.fmax(SHARE * _extreme(np.fmax, own), STILL)
        return cls(
            tuple(names[enough].tolist()),
            np.stack([_quantile(z[rows], 0.5) for rows in parts]),
            np.fmax(own, floor).astype(np.float32),
            np.stack([_extreme(np.fmin, values[rows]) for rows in parts]),
            np.stack([_extreme(np.fmax, values[rows]) for rows in parts]),
        )

    def places(self, devices: Sequence[str]) -> I64:
        """Place of each device here, -1 for one that was never learnt."""
        at = {name: i for i, name in enumerate(self.names)}
        return np.array([at.get(name, -1) for name in devices], np.int64)

    def centred(self, values: F32, places: I64) -> F32:
        """Rows (n, f) of known devices on the common scale, within -BOUND..BOUND; NaN stays NaN."""
        z = (_compress(values) - self.centre[places]) / self.spread[places]
        out: F32 = np.clip(z, -BOUND, BOUND).astype(np.float32)
        return out

    def tensors(self) -> dict[str, F32]:
        """The arrays, for safetensors."""
        return {"centre": self.centre, "spread": self.spread, "low": self.low, "high": self.high}

    @classmethod
    def from_tensors(cls, names: Sequence[str], tensors: Mapping[str, F32]) -> Self:
        """What `tensors` gave. ValueError if the arrays do not fit together."""
        try:
            arrays = [tensors[key] for key in ("centre", "spread", "low", "high")]
        except KeyError as error:
            raise ValueError(f"devices: {error} is missing") from None
        shape = arrays[0].shape
        if len(shape) != 2 or any(a.shape != shape for a in arrays) or shape[0] != len(names):
            raise ValueError(f"devices: {len(names)} names do not fit arrays of {[a.shape for a in arrays]}")
        if not (arrays[1] > 0).all():
            raise ValueError("devices: every spread must be above 0")
        return cls(tuple(names), *arrays)


def _compress(x: F32) -> F32:
    """sign(x) log(1 + |x|): counts and sizes span orders of magnitude."""
    z: F32 = np.sign(x) * np.log1p(np.abs(x))
    return z


def _spread(z: F32) -> F32:
    return _quantile(z, 0.95) - _quantile(z, 0.05)


def _quantile(z: F32, q: float) -> F32:
    """Of each column (f,), NaN where it has no number."""
    out = np.full(z.shape[1], np.nan, np.float32)
    some = np.isfinite(z).any(axis=0)
    out[some] = np.nanquantile(z[:, some], q, axis=0)
    return out


def _extreme(which: np.ufunc, x: F32) -> F32:
    out: F32 = which.reduce(x, axis=0)
    return out
