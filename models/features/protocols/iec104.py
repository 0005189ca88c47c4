"""IEC 60870-5-104 (section 5 APCI) and the ASDUs of IEC 60870-5-101.

`kind` is the frame format: 0 I, 1 S, 3 U. Of an I frame: `function` the type identification, `status` the
cause of transmission, `unit` the common address, `address` the first information object, `count` how many.
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import CONTROL, EXCEPTION, READ, REQUEST, RESPONSE, WRITE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import le16, u8
from cellwatch.models.types import U8

NAME = "iec104"
TCP_PORTS = (2404,)
UDP_PORTS = ()
STRONG = False


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if u8(m, 0) != 0x68:
        return -1
    if len(m) < 3:
        return 0
    length, form = u8(m, 1), u8(m, 2) & 3
    if length < 4 or length > 253 or (form & 1 and length != 4):
        return -1
    return 2 + length


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol: the low bits of the counters are as they must be."""
    if len(m) < 6 or size(m) <= 0 or u8(m, 4) & 1:
        return False
    return u8(m, 2) & 1 == 0 or u8(m, 3) == 0


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:
    """Fill the row."""
    form = u8(m, 2) & 3
    out.kind = form if form & 1 else 0
    flags = RESPONSE if server else REQUEST
    if form & 1 == 0 and len(m) >= 12:
        code = u8(m, 6)
        out.function, out.count = code, u8(m, 7) & 127
        out.status, out.unit = u8(m, 8) & 63, le16(m, 10)
        if len(m) >= 15:
            out.address = le16(m, 12) | u8(m, 14) << 16
        if u8(m, 8) & 64:  # negative confirmation
            flags |= EXCEPTION
        if 48 <= code <= 51 or 61 <= code <= 64:  # set points and bit strings
            flags |= WRITE
        elif 45 <= code <= 47 or 58 <= code <= 60 or code == 105:  # commands, reset process
            flags |= CONTROL
        elif 100 <= code <= 102:  # interrogation, counters, read
            flags |= READ
    out.flags = flags
    return memory
