"""Numbers out of bytes, for compiled code. What does not lie wholly inside `m` reads as 0."""

from __future__ import annotations

import numpy as np

from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.types import U8

# Places are unsigned once they are checked (a signed one would be tried from the end of the array too);
# values are signed, because numba makes a float of an unsigned minus a signed number.


@compiled
def u8(m: U8, at: int) -> int:
    """Byte at `at`."""
    return int(np.int64(m[np.uint64(at)])) if 0 <= at < len(m) else 0


@compiled
def be16(m: U8, at: int) -> int:
    """16 bits, most significant byte first."""
    if not 0 <= at <= len(m) - 2:
        return 0
    i = np.uint64(at)
    return int(np.int64(m[i]) << 8 | np.int64(m[i + np.uint64(1)]))


@compiled
def be32(m: U8, at: int) -> int:
    """32 bits, most significant byte first."""
    if not 0 <= at <= len(m) - 4:
        return 0
    i = np.uint64(at)
    high = np.int64(m[i]) << 24 | np.int64(m[i + np.uint64(1)]) << 16
    return int(high | np.int64(m[i + np.uint64(2)]) << 8 | np.int64(m[i + np.uint64(3)]))


@compiled
def le16(m: U8, at: int) -> int:
    """16 bits, least significant byte first."""
    word = be16(m, at)
    return (word & 0xFF) << 8 | word >> 8


@compiled
def le32(m: U8, at: int) -> int:
    """32 bits, least significant byte first."""
    return le16(m, at) | le16(m, at + 2) << 16 if at <= len(m) - 4 else 0
