"""Synchrophasors (IEEE C37.118.2, 6.2).

`kind` is the frame type (0 data, 1 header, 2 and 3 configuration, 4 command, 5 configuration 3), `function`
the command word of a command frame, `unit` the id code.
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import CONTROL, REQUEST, RESPONSE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import be16, u8
from cellwatch.models.types import U8

NAME = "synphasor"
TCP_PORTS = (4712,)
UDP_PORTS = (4713,)
STRONG = False


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if u8(m, 0) != 0xAA or u8(m, 1) & 0x80 or u8(m, 1) >> 4 > 5:
        return -1
    if len(m) < 4:
        return 0
    return be16(m, 2) if be16(m, 2) >= 16 else -1


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol."""
    return len(m) >= 16 and size(m) > 0 and 1 <= u8(m, 1) & 15 <= 3


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:  # noqa: ARG001
    """Fill the row."""
    out.kind, out.unit = u8(m, 1) >> 4 & 7, be16(m, 4)
    if out.kind == 4:
        out.function = be16(m, 14)
        out.flags = REQUEST | CONTROL
    else:
        out.flags = RESPONSE
    return memory
