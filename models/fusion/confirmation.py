"""How often a device must look bad in a row before it is BLOCKed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cellwatch.models.types import Bool


class Confirmation:
    """Counts windows in a row; a window in which a device does not appear neither counts nor breaks a row.

    Two things confirm: the rules and the models agree (`together` windows), or the rules or the limits say
    BLOCK whatever the models say (`alone` windows). The models alone never do.
    """

    def __init__(self, together: int, alone: int) -> None:
        self._needed = (together, alone)
        self._rows: tuple[dict[str, int], dict[str, int]] = ({}, {})

    def step(self, devices: tuple[str, ...], agreed: Bool, alone: Bool) -> Bool:
        """(n,): BLOCK now. `agreed` and `alone` are (n,)."""
        block = np.zeros(len(devices), bool)
        for counts, needed, bad in zip(self._rows, self._needed, (agreed, alone), strict=True):
            if counts:
                for i in np.flatnonzero(~bad):
                    counts.pop(devices[i], None)
            for i in np.flatnonzero(bad):
                count = counts[devices[i]] = counts.get(devices[i], 0) + 1
                block[i] |= count >= needed
        return block
