"""HART-IP (FieldComm TS20085): sessions, and HART commands passed through.

`kind` is the message id (0 session, 1 close, 2 keep alive, 3 token passing PDU), `function` the HART command.
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import EXCEPTION, REQUEST, RESPONSE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import be16, u8
from cellwatch.models.types import U8

NAME = "hartip"
TCP_PORTS = (5094,)
UDP_PORTS = (5094,)
STRONG = False


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if u8(m, 0) not in (1, 2) or u8(m, 1) & 15 > 2:
        return -1
    if len(m) < 8:
        return 0
    return be16(m, 6) if be16(m, 6) >= 8 else -1


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol; commands go to ports that the session agrees on."""
    if len(m) < 8 or size(m) <= 0:
        return False
    if u8(m, 2) == 3:
        return len(m) > 8 and u8(m, 8) & 7 in (1, 2, 6)  # burst, request, response (HART delimiters)
    return u8(m, 2) < 3 and be16(m, 6) <= 13


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:  # noqa: ARG001
    """Fill the row."""
    out.kind, out.status = u8(m, 2), u8(m, 3)
    out.flags = REQUEST if u8(m, 1) & 15 == 0 else RESPONSE
    if u8(m, 1) & 15 and out.status:
        out.flags |= EXCEPTION
    if u8(m, 2) == 3:
        at = 9 + (5 if u8(m, 8) & 0x80 else 1) + (u8(m, 8) >> 5 & 3)  # delimiter, address, expansion
        if at < len(m):
            out.function = u8(m, at)
    return memory
