"""EtherNet/IP and CIP (ODVA: EtherNet/IP Adaptation of CIP, 2-3; CIP Volume 1, 2-4).

`kind` is the encapsulation command, -1 for implicit I/O on UDP; `function` the CIP service without its
response bit; `status` the general status of a response. Of Unconnected_Send the request inside is reported,
of a Multiple_Service_Packet the packet.
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import CONTROL, EXCEPTION, READ, REQUEST, RESPONSE, WRITE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import be32, le16, le32, u8
from cellwatch.models.types import U8

NAME = "enip"
TCP_PORTS = (44818,)
UDP_PORTS = (44818, 2222)
STRONG = False

_COMMANDS = (0x00, 0x01, 0x04, 0x63, 0x64, 0x65, 0x66, 0x6F, 0x70, 0x72, 0x73)
_IMPLICIT = 0x02000280  # two items, the first a sequenced address


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if be32(m, 0) == _IMPLICIT:
        return 18 + le16(m, 16) if len(m) >= 18 else 0
    if len(m) >= 2 and le16(m, 0) not in _COMMANDS:
        return -1
    if len(m) < 24:
        return 0
    return 24 + le16(m, 2) if le32(m, 20) == 0 else -1  # options must be 0


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol: a command that is no NOP, with its fixed length."""
    if len(m) < 24 or size(m) <= 24 or be32(m, 0) == _IMPLICIT:
        return False
    command = le16(m, 0)
    return (command == 0x65 and le16(m, 2) == 4) or (command in (0x6F, 0x70) and le32(m, 24) == 0)


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:
    """Fill the row."""
    if be32(m, 0) == _IMPLICIT:
        return memory
    command = le16(m, 0)
    out.kind = command
    out.flags = RESPONSE if server else REQUEST
    if command not in (0x6F, 0x70):
        out.status = le32(m, 8)
        if out.status:
            out.flags |= EXCEPTION
        return memory
    at = 32
    for _ in range(min(le16(m, 30), 8)):  # items: address, then data
        kind, length = le16(m, at), le16(m, at + 2)
        if kind == 0xB2 and length >= 2:
            _cip(m, at + 4, out)
        elif kind == 0xB1 and length >= 4:
            _cip(m, at + 6, out)
        at += 4 + length
    return memory


@compiled
def _cip(m: U8, at: int, out: Any) -> None:
    if at + 2 > len(m):
        return
    code = u8(m, at)
    path = at + 2
    if code == 0x52 and be32(m, path) == 0x20062401:  # Unconnected_Send to the Connection Manager
        inner = path + 2 * u8(m, at + 1) + 4
        if inner + 2 <= len(m):
            code = u8(m, inner)
    flags = RESPONSE if code & 0x80 else REQUEST
    service = code & 0x7F
    if code & 0x80:
        out.status = u8(m, at + 2)
        if out.status:
            flags |= EXCEPTION
    if service in (0x01, 0x03, 0x0E, 0x4C, 0x52):
        flags |= READ
    elif service in (0x02, 0x04, 0x10, 0x4D, 0x53):
        flags |= WRITE
    elif service in (0x05, 0x06, 0x07):  # reset, start, stop
        flags |= CONTROL
    out.function = service
    out.flags = flags
