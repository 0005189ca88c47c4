"""Gaussian noise on rows that are judged, in the units of the training rows (EWAD-IIoT, 4.3 and 4.3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cellwatch.models.types import F32, F64

Unit = Literal["sigma", "snr_db"]


@dataclass(frozen=True, slots=True)
class Noise:
    """How much: `sigma` in shares of each column's range in training (as after min-max), or an SNR in dB.

    The signal of an SNR is the variance of the column in training, not its mean square with the offset.
    """

    unit: Unit
    value: float

    def __str__(self) -> str:
        return f"sigma {self.value:g}" if self.unit == "sigma" else f"SNR {self.value:g} dB"

    def add(self, x: F32, train: F32, seed: int) -> F32:
        """Noisy rows (n, f); what was missing stays missing."""
        draw = np.random.default_rng(seed).standard_normal(x.shape, dtype=np.float32)
        out: F32 = (x + draw * self._deviation(train).astype(np.float32)).astype(np.float32)
        return out

    def _deviation(self, train: F32) -> F64:
        known = np.isfinite(train)
        values = np.where(known, train.astype(np.float64), np.nan)
        some = known.any(axis=0)
        out = np.zeros(train.shape[1])
        if self.unit == "sigma":
            out[some] = self.value * np.ptp(_filled(values[:, some]), axis=0)
        else:
            out[some] = np.nanstd(values[:, some], axis=0) / 10 ** (self.value / 20)
        return out


def _filled(values: F64) -> F64:
    """With the mean of the column for what is missing: the range stays as it is."""
    return np.where(np.isnan(values), np.nanmean(values, axis=0), values)
