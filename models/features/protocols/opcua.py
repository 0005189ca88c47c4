"""OPC UA Connection Protocol and Secure Conversation, binary encoding (OPC UA Part 6, 6.7 and 7.1).

`kind` is one of HEL .. MSG below; `function` the numeric TypeId of the request or response (Part 6, 5.2.2.9:
631 ReadRequest, 634 ReadResponse); `status` the ServiceResult of a response. The TypeId of a message in
several chunks stands in its first chunk and is reported with its last; the chunks before have function -1,
and so has a message whose body is encrypted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cellwatch.models.features.protocols.codes import CONTROL, EXCEPTION, READ, REQUEST, RESPONSE, WRITE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import be32, le16, le32, u8
from cellwatch.models.types import U8

NAME = "opcua"
TCP_PORTS = (4840,)
UDP_PORTS = ()
STRONG = True  # four letters and a length: no other protocol looks like it

HEL, ACK, ERR, RHE, OPN, CLO, MSG = 1, 2, 3, 4, 5, 6, 7  # Messages.kind
_LETTERS = np.array([int.from_bytes(name, "big") for name in
                     (b"HEL", b"ACK", b"ERR", b"RHE", b"OPN", b"CLO", b"MSG")])  # fmt: skip
_LARGEST = 1 << 26  # bytes of a chunk; servers allow 64 KiB to some MiB

# TypeIds of the requests; a response is 3 above its request, or 1 above the two of Part 4, 5.5.3 and 5.5.6.
_PAIRS = (
    422, 428, 437, 446, 452, 461, 467, 473, 479, 488, 494, 500, 506, 527, 533, 554, 560, 566, 615, 621, 631,
    664, 673, 700, 712, 751, 763, 769, 775, 781, 787, 793, 799, 826, 832, 841, 847,
)  # fmt: skip
_FLAGS = np.zeros(12213, dtype=np.uint8)
for _request in _PAIRS:
    _FLAGS[_request], _FLAGS[_request + 3] = REQUEST, RESPONSE
for _request in (12208, 12211):
    _FLAGS[_request], _FLAGS[_request + 1] = REQUEST, RESPONSE
_FLAGS[397] = RESPONSE  # ServiceFault
for _service, _flag in ((631, READ), (664, READ), (673, WRITE), (700, WRITE), (712, CONTROL)):
    _FLAGS[[_service, _service + 3]] |= _flag


@compiled
def _kind(m: U8) -> int:
    word = be32(m, 0) >> 8
    for i in range(len(_LETTERS)):
        if word == _LETTERS[i]:
            return i + 1
    return 0


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    if len(m) < 8:
        return 0 if len(m) < 4 or _kind(m) > 0 else -1
    kind, chunk, length = _kind(m), u8(m, 3), le32(m, 4)
    if kind == 0 or (chunk != 70 and (kind != MSG or chunk not in (65, 67))):  # F, C, A
        return -1
    return length if 8 <= length <= _LARGEST else -1


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol and of no other."""
    return len(m) >= 8 and size(m) > 0


@compiled
def _skip_bytes(m: U8, at: int) -> int:
    """Place behind a ByteString; far outside when its length lies."""
    length = le32(m, at)
    if length == 0xFFFFFFFF:
        return at + 4
    return at + 4 + length


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:  # noqa: ARG001
    """Fill the row; `memory` is the TypeId of the chunks before, 0 = none."""
    kind, chunk = _kind(m), u8(m, 3)
    out.kind = kind
    if kind == HEL:
        out.flags = REQUEST
    elif kind in (ACK, RHE):
        out.flags = RESPONSE
    elif kind == ERR:
        out.flags = RESPONSE | EXCEPTION
        out.status = le32(m, 8)
    if kind < OPN:
        return 0
    if memory != 0:  # a later chunk
        if chunk == 67:
            return memory
        if memory > 0:
            out.function = memory
            out.flags = _FLAGS[memory]
        if chunk == 65:
            out.flags |= EXCEPTION
            out.status = le32(m, 24)
        return 0
    body = 24
    if kind == OPN:
        body = _skip_bytes(m, _skip_bytes(m, _skip_bytes(m, 12))) + 8
    encoding = u8(m, body)
    node, rest = 0, 0
    if encoding == 0 and body + 2 <= len(m):
        node, rest = u8(m, body + 1), body + 2
    elif encoding == 1 and u8(m, body + 1) == 0 and body + 4 <= len(m):
        node, rest = le16(m, body + 2), body + 4
    elif encoding == 2 and le16(m, body + 1) == 0 and body + 7 <= len(m):
        node, rest = le32(m, body + 3), body + 7
    known = 0 < node < len(_FLAGS) and _FLAGS[node] != 0  # else the body is encrypted
    if chunk == 67:
        return node if known else -1
    if known:
        out.function = node
        out.flags = _FLAGS[node]
        if _FLAGS[node] & RESPONSE:
            out.status = le32(m, rest + 12)  # behind timestamp and request handle
            if out.status >> 31:
                out.flags |= EXCEPTION
    return 0
