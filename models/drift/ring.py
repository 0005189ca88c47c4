"""Windows in a ring, found by their id."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import I64


def slots_of(windows: I64, ids: I64, seen: int) -> I64:
    """Slots (k,) of windows (k,), -1 = not kept; `ids` (n,) holds the last of `seen` ascending ones."""
    n = len(ids)
    used = min(seen, n)
    cut = seen % n if used == n else 0  # the ring is two stretches of ascending ids
    slots = np.full(len(windows), -1, np.int64)
    for first, last in ((cut, used), (0, cut)):
        part = ids[first:last]
        at = np.searchsorted(part, windows)
        hit = at < len(part)
        hit[hit] = part[at[hit]] == windows[hit]
        slots[hit] = first + at[hit]
    return slots
