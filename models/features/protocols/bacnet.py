"""BACnet/IP (ASHRAE 135: annex J link layer, 6.2 network layer, 20.1 application layer).

`kind` is the APDU type, `function` the service choice (of confirmed services for the types 0, 2, 3 and 5, of
unconfirmed for 1).
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import CONTROL, EXCEPTION, READ, REQUEST, RESPONSE, WRITE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import be16, u8
from cellwatch.models.types import U8

NAME = "bacnet"
TCP_PORTS = ()
UDP_PORTS = (47808,)
STRONG = False


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if u8(m, 0) != 0x81 or u8(m, 1) > 12:
        return -1
    if len(m) < 4:
        return 0
    return be16(m, 2) if be16(m, 2) >= 4 else -1


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol."""
    return len(m) >= 4 and size(m) > 0


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:  # noqa: ARG001
    """Fill the row."""
    link = u8(m, 1)
    if link not in (4, 9, 10, 11):  # forwarded, distribute, unicast, broadcast NPDU
        return memory
    at = 10 if link == 4 else 4
    control = u8(m, at + 1)
    if u8(m, at) != 1 or control & 0x80:  # a message of the network layer
        return memory
    at += 2
    if control & 0x20:
        at += 3 + u8(m, at + 2)
    if control & 0x08:
        at += 3 + u8(m, at + 2)
    if control & 0x20:
        at += 1  # hop count
    if at + 2 > len(m):
        return memory
    kind, segmented = u8(m, at) >> 4, u8(m, at) & 8 != 0
    out.kind = kind
    out.flags = REQUEST if kind <= 1 else RESPONSE
    if kind == 0:
        out.function = u8(m, at + (5 if segmented else 3))
    elif kind == 1:
        out.function = u8(m, at + 1)
    elif kind in (2, 5):
        out.function = u8(m, at + 2)
    elif kind == 3:
        out.function = u8(m, at + (4 if segmented else 2))
    if kind in (5, 6, 7):  # error, reject, abort
        out.flags |= EXCEPTION
        out.status = u8(m, at + 2) if kind > 5 else 0
    if kind in (0, 2, 3, 5):
        if out.function in (12, 14, 26):
            out.flags |= READ
        elif out.function in (15, 16):
            out.flags |= WRITE
        elif out.function in (17, 20):  # device communication control, reinitialise
            out.flags |= CONTROL
    return memory
