"""DNP3 (IEEE 1815: 9.2 data link frames, 8.2 transport, 4.2 application).

`kind` is the link function, `function` the application function of a frame that begins a fragment, `unit` the
destination address, `status` the internal indications of a response.
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import CONTROL, EXCEPTION, READ, REQUEST, RESPONSE, WRITE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import be16, le16, u8
from cellwatch.models.types import U8

NAME = "dnp3"
TCP_PORTS = (20000,)
UDP_PORTS = (20000,)
STRONG = False


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if u8(m, 0) != 0x05 or (len(m) > 1 and u8(m, 1) != 0x64):
        return -1
    if len(m) < 3:
        return 0
    user = u8(m, 2) - 5  # octets behind the header, without their CRCs: two for each 16
    return 10 + user + 2 * ((user + 15) // 16) if user >= 0 else -1


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol."""
    return len(m) >= 10 and size(m) > 0


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:  # noqa: ARG001
    """Fill the row."""
    control = u8(m, 3)
    from_master = control & 0x80 != 0
    out.kind = control & 15
    out.unit = le16(m, 4)
    out.flags = REQUEST if from_master else RESPONSE
    if len(m) < 13 or not u8(m, 10) & 0x40:  # no user data, or not the first of its fragment
        return memory
    code = u8(m, 12)
    out.function = code
    flags = REQUEST if code < 129 else RESPONSE
    if code == 1:
        flags |= READ
    elif code == 2:
        flags |= WRITE
    elif 3 <= code <= 6 or code in (13, 14, 17, 18, 20, 21):  # operate, restart, start and stop, unsolicited
        flags |= CONTROL
    elif code >= 129:
        out.status = be16(m, 13)
        if u8(m, 14) & 7:  # no such function, object unknown, parameter error
            flags |= EXCEPTION
    out.flags = flags
    return memory
