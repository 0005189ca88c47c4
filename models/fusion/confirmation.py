"""How often a device must look bad in a row before it is BLOCKed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cellwatch.models.types import Bool


class Confirmation:
    """Counts windows in a row, for each device.

    Two things confirm: the rules and the models agree (`together` windows), or the rules or the limits say
    BLOCK whatever the models say (`alone` windows). The models alone never do.

    A window that does not name the device, or whose sources are too late to say, neither counts nor breaks a
    row: an attack that slows a source down must not hide by it. After `FORGET` such windows the row is over.
    """

    FORGET = 8

    def __init__(self, together: int, alone: int) -> None:
        self._needed = (together, alone)
        self._rows: tuple[dict[str, tuple[int, int]], ...] = ({}, {})  # length, and its last window

    def clear(self) -> None:
        """Forget all rows."""
        for counts in self._rows:
            counts.clear()

    def step(
        self, window_id: int, devices: tuple[str, ...], bad: tuple[Bool, Bool], calm: tuple[Bool, Bool]
    ) -> Bool:
        """(n,): BLOCK now. `bad` and `calm`: for `together` and `alone` what counts and what breaks, (n,)."""
        block = np.zeros(len(devices), bool)
        for counts, needed, yes, no in zip(self._rows, self._needed, bad, calm, strict=True):
            if counts:
                for device in [d for d, (_, last) in counts.items() if window_id - last > self.FORGET]:
                    del counts[device]
                for i in np.flatnonzero(no).tolist():
                    counts.pop(devices[i], None)
            for i in np.flatnonzero(yes).tolist():
                count = counts.get(devices[i], (0, 0))[0] + 1
                counts[devices[i]] = (count, window_id)
                block[i] |= count >= needed
        return block
