"""The last T windows of every device, for detectors that see a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cellwatch.models.detectors.scaler import Scaler
    from cellwatch.models.types import F32


class Sequences:
    """Scaled windows, (n, T, f), oldest first.

    A device with fewer than T windows has its first one repeated on the left, as in training. A missing
    window, or one without the device, ends its sequence: the next window is again its first.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._devices: tuple[str, ...] = ()
        self._raw: F32 = np.zeros((0, length, 0), np.float32)
        self._scaled: F32 = np.zeros((0, length, 0), np.float32)
        self._last_id = -1

    def push(self, window_id: int, devices: tuple[str, ...], raw: F32, scaled: F32) -> F32:
        """Take in one window, (n, f) each; returns (n, T, f) for these devices."""
        if window_id != self._last_id + 1:
            self._devices = ()
        self._last_id = window_id
        self._raw = self._shifted(self._raw, devices, raw)
        self._scaled = self._shifted(self._scaled, devices, scaled)
        self._devices = devices
        return self._scaled

    def of(self, device: str) -> F32:
        """(T, f) of one device of the last window. KeyError if it was not there."""
        if device not in self._devices:
            raise KeyError(device)
        rows: F32 = self._scaled[self._devices.index(device)]
        return rows

    def _shifted(self, before: F32, devices: tuple[str, ...], now: F32) -> F32:
        out: F32 = np.repeat(now[:, None], self.length, axis=1)
        if devices == self._devices:
            out[:, :-1] = before[:, 1:]
        elif self._devices:
            row = {d: i for i, d in enumerate(self._devices)}
            known = [i for i, d in enumerate(devices) if d in row]
            out[known, :-1] = before[[row[devices[i]] for i in known], 1:]
        return out

    def take_over(self, other: Sequences, scaler: Scaler) -> None:
        """Go on from another's windows, scaled anew: what a model that is swapped in needs."""
        self._devices, self._last_id = other._devices, other._last_id
        if not other._devices:  # no window yet
            return
        n, length, f = other._raw.shape
        keep = other._raw[:, -self.length :]
        if length < self.length:
            keep = np.concatenate([np.repeat(keep[:, :1], self.length - length, axis=1), keep], axis=1)
        self._raw = keep
        self._scaled = scaler.transform(keep.reshape(n * self.length, f)).reshape(keep.shape)
