"""Beckhoff ADS over AMS/TCP (TE1000 AMS/ADS specification), and the discovery of routes on UDP.

`function` is the ADS command, on UDP the service of the datagram; `status` the AMS error code.
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import CONTROL, EXCEPTION, READ, REQUEST, RESPONSE, WRITE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import be32, le16, le32, u8
from cellwatch.models.types import U8

NAME = "ads"
TCP_PORTS = (48898,)
UDP_PORTS = (48899,)
STRONG = False

_DISCOVERY = 0x03661471
_LARGEST = 1 << 26


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if be32(m, 0) == _DISCOVERY:
        return len(m) if len(m) >= 12 else -1
    if u8(m, 0) or u8(m, 1):
        return -1
    if len(m) < 6:
        return 0
    return 6 + le32(m, 2) if 32 <= le32(m, 2) <= _LARGEST else -1


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol: both lengths agree."""
    if be32(m, 0) == _DISCOVERY:
        return len(m) >= 12
    return len(m) >= 38 and size(m) > 0 and le32(m, 26) + 32 == le32(m, 2) and 1 <= le16(m, 22) <= 9


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:  # noqa: ARG001
    """Fill the row."""
    if be32(m, 0) == _DISCOVERY:
        out.function = le32(m, 8) & 0x7FFFFFFF
        out.flags = RESPONSE if u8(m, 11) & 0x80 else REQUEST
        return memory
    if len(m) < 38:
        return memory
    code = le16(m, 22)
    out.function, out.status = code, le32(m, 30)
    flags = RESPONSE if le16(m, 24) & 1 else REQUEST
    if code in (2, 4, 9):
        flags |= READ
    if code in (3, 9):  # 9 writes, then reads
        flags |= WRITE
    if code == 5:  # write control: start and stop
        flags |= CONTROL
    if out.status:
        flags |= EXCEPTION
    out.flags = flags
    return memory
