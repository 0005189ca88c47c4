"""Modbus TCP (Modbus Application Protocol V1.1b3; Modbus Messaging on TCP/IP V1.0b, 3.1.3).

`function` is the function code without its exception bit, `unit` the unit identifier, `address` and `count`
the registers or coils of a request (of a write's answer too; those that function 23 writes, not those that it
reads), `status` the exception code.
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import CONTROL, EXCEPTION, READ, REQUEST, RESPONSE, WRITE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import be16, u8
from cellwatch.models.types import U8

NAME = "mbtcp"
TCP_PORTS = (502,)
UDP_PORTS = ()
STRONG = False

_LARGEST = 1024  # the length field is at most 254 by the standard, more with function 90


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if be16(m, 2) != 0:
        return -1
    if len(m) < 8:
        return 0
    length = be16(m, 4)
    return 6 + length if 2 <= length <= _LARGEST else -1


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol: the length fits the function."""
    if len(m) < 8 or size(m) <= 0:
        return False
    length, code = be16(m, 4), u8(m, 7)
    if code & 0x80:
        return length == 3 and 1 <= code & 0x7F <= 43
    if 1 <= code <= 4:
        return length in (6, 3 + u8(m, 8))
    if code in (5, 6):
        return length == 6
    if code in (15, 16):
        return length in (6, 7 + u8(m, 12))
    return 0 < code <= 43 or code == 90


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:  # noqa: ARG001
    """Fill the row."""
    code = u8(m, 7) & 0x7F
    out.kind = code
    out.function = code
    out.unit = u8(m, 6)
    flags = RESPONSE if server else REQUEST
    if u8(m, 7) & 0x80:
        flags = RESPONSE | EXCEPTION
        out.status = u8(m, 8)
    if code in (1, 2, 3, 4, 20, 23, 24):
        flags |= READ
    if code in (5, 6, 15, 16, 21, 22, 23):
        flags |= WRITE
    if code in (8, 90):  # diagnostics can silence a device; 90 programs Schneider PLCs
        flags |= CONTROL
    out.flags = flags
    if not flags & EXCEPTION and len(m) >= 12:
        asked = not flags & RESPONSE
        if (asked and code in (1, 2, 3, 4)) or code in (15, 16):
            out.address, out.count = be16(m, 8), be16(m, 10)
        elif asked and code == 23 and len(m) >= 16:
            out.address, out.count = be16(m, 12), be16(m, 14)
        elif code in (5, 6, 22):
            out.address, out.count = be16(m, 8), 1
    return 0
