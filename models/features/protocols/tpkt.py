"""TPKT (RFC 1006), COTP (X.224) and what lies on them: S7comm, S7comm-plus, MMS (IEC 61850-8-1).

`kind` is the COTP PDU type where nothing lies on it, the ROSCTR of S7comm (1 job, 2 ack, 3 ack with data, 7
user data), the opcode of S7comm-plus (0x31 request, 0x32 response, 0x33 notification). `function` is the S7
function; of user data it is 256 + function group. Siemens publishes neither: the layout is Wireshark's.
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import (
    CODE,
    CONTROL,
    EXCEPTION,
    READ,
    REQUEST,
    RESPONSE,
    WRITE,
)
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import be16, be32, u8
from cellwatch.models.types import U8

NAME = "tpkt"
TCP_PORTS = (102,)
UDP_PORTS = ()
STRONG = False

_S7, _S7_PLUS, _MMS = CODE["s7comm"], CODE["s7comm-plus"], CODE["mms"]
_DATA = 0xF0


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if u8(m, 0) != 3 or u8(m, 1) != 0:
        return -1
    if len(m) < 4:
        return 0
    return be16(m, 2) if be16(m, 2) >= 7 else -1


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol: the COTP header fits."""
    return len(m) >= 7 and size(m) > 0 and 2 <= u8(m, 4) < 0xFF and u8(m, 5) & 0xF0 >= 0x10


@compiled
def upper(m: U8) -> int:
    """Code of the protocol inside, 0 = COTP alone."""
    at = 5 + u8(m, 4)
    if u8(m, 5) & 0xF0 != _DATA or at >= len(m):
        return 0
    first = u8(m, at)
    if first == 0x32:
        return _S7
    if first == 0x72:
        return _S7_PLUS
    # ISO 8327 session: connect, accept, or give-tokens with data; or an MMS PDU without session layer
    if first in (0x0D, 0x0E, 0x8B, 0x8C) or 0xA0 <= first <= 0xAD or be32(m, at) == 0x01000100:
        return _MMS
    return 0


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:
    """Fill the row."""
    inside, at = upper(m), 5 + u8(m, 4)
    out.flags = RESPONSE if server else REQUEST
    if inside == 0:
        out.kind = u8(m, 5) & 0xF0
    else:
        out.protocol = inside
    if inside == _S7:
        _s7(m, at, out)
    elif inside == _S7_PLUS:
        _s7_plus(m, at, out)
    return memory


@compiled
def _s7(m: U8, at: int, out: Any) -> None:
    kind = u8(m, at + 1)
    out.kind = kind
    head = at + (12 if kind in (2, 3) else 10)
    out.flags = RESPONSE if kind in (2, 3) else REQUEST
    if kind in (2, 3):
        out.status = be16(m, at + 10)
        if out.status:
            out.flags |= EXCEPTION
    if be16(m, at + 6) == 0 or head >= len(m):
        return
    if kind == 7:
        out.function = 256 + (u8(m, head + 5) & 15)
        if u8(m, head + 5) >> 4 == 8:
            out.flags = RESPONSE
        return
    code = u8(m, head)
    out.function = code
    if code == 4:
        out.flags |= READ
    elif code == 5:
        out.flags |= WRITE
    elif 0x1A <= code <= 0x1F or code in (0x28, 0x29):  # block transfer, PI service, PLC stop
        out.flags |= CONTROL


@compiled
def _s7_plus(m: U8, at: int, out: Any) -> None:
    start = at + 4
    if u8(m, at + 1) == 3:  # an integrity part lies in between: its length, then a digest
        start += 1 + u8(m, at + 4)
    code = u8(m, start)
    if code in (0x31, 0x32, 0x33):
        out.kind = code
        out.flags = REQUEST if code == 0x31 else RESPONSE
        if code != 0x33:
            out.function = be16(m, start + 3)
