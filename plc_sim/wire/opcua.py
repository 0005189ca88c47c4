"""OPC UA binary messages as clients and PLCs exchange them, without security (OPC UA Part 4, Part 6).

A message of a service carries its node id in namespace 0 (Part 6, A.3) and the header of the request or
response.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_POLICY_NONE = b"http://opcfoundation.org/UA/SecurityPolicy#None"
_NULL = b"\xff\xff\xff\xff"
_EPOCH_100NS = 116_444_736_000_000_000  # 1601-01-01 to 1970-01-01 in 100 ns
_REQUEST_TAIL = struct.Struct("<IIiIBBB")

# Node ids of the encodings (Part 6, A.3)
CREATE_SESSION, ACTIVATE_SESSION, CLOSE_SESSION = (461, 464), (467, 470), (473, 476)
BROWSE, READ, WRITE, CALL, FAULT = (527, 530), (631, 634), (673, 676), (712, 715), 397

GOOD, BAD_NODE_ID_UNKNOWN, BAD_NOT_WRITABLE = 0, 0x80340000, 0x803B0000
BAD_USER_ACCESS_DENIED = 0x801F0000


def datetime_100ns(time_ns: int) -> int:
    """OPC UA DateTime (Part 6, 5.2.2.5)."""
    return time_ns // 100 + _EPOCH_100NS


def hello(url: bytes) -> bytes:
    """HEL."""
    return _framed(b"HELF", struct.pack("<IIIII", 0, 65535, 65535, 0, 0) + _string(url))


def acknowledge() -> bytes:
    """ACK."""
    return _framed(b"ACKF", struct.pack("<IIIII", 0, 65535, 65535, 0, 0))


def error(status: int, reason: bytes) -> bytes:
    """ERR, with which a server ends a connection."""
    return _framed(b"ERRF", struct.pack("<I", status) + _string(reason))


def open_channel_request(time_ns: int) -> bytes:
    """OPN request: issue a token, security mode None, one hour."""
    body = _node(446) + _request_header(time_ns, 0, 1) + struct.pack("<III", 0, 0, 1) + _NULL
    return _open(0, 1, 1, body + struct.pack("<I", 3_600_000))


def open_channel_response(time_ns: int, channel: int) -> bytes:
    """OPN response."""
    token = struct.pack("<IIIqI", 0, channel, 1, datetime_100ns(time_ns), 3_600_000)
    return _open(channel, 1, 1, _node(449) + _response_header(time_ns, 1) + token + struct.pack("<i", 0))


def close_channel(time_ns: int, channel: int, sequence: int) -> bytes:
    """CLO."""
    return _symmetric(b"CLOF", channel, sequence, _node(452) + _request_header(time_ns, 0, sequence))


def create_session_request(time_ns: int, channel: int, sequence: int, url: bytes, name: bytes) -> bytes:
    """Ask for a session; `name` is that of the client application."""
    application = _string(b"urn:" + name) + _string(b"urn:" + name) + b"\x02" + _string(name)
    application += struct.pack("<I", 1) + _NULL + _NULL + struct.pack("<i", -1)  # type: client
    nonce = _string(bytes(32))
    tail = _NULL + _string(url) + _string(name) + nonce + _NULL + struct.pack("<dI", 3_600_000.0, 0)
    return _request(CREATE_SESSION[0], time_ns, channel, sequence, application + tail, token=0)


def create_session_response(time_ns: int, channel: int, sequence: int) -> bytes:
    """Session id and authentication token of the channel, no endpoints listed."""
    body = b"\x02\x00\x00" + struct.pack("<I", channel) + _token(4096 + channel)
    body += struct.pack("<d", 3_600_000.0) + _string(bytes(32)) + _NULL + struct.pack("<ii", 0, 0)
    return _response(
        CREATE_SESSION[1], time_ns, channel, sequence, body + _NULL + _NULL + struct.pack("<I", 0)
    )


def activate_session_request(time_ns: int, channel: int, sequence: int) -> bytes:
    """Activate the session as an anonymous user."""
    identity = b"\x01\x00" + struct.pack("<H", 321) + b"\x01" + struct.pack("<i", 13) + _string(b"anonymous")
    body = _NULL + _NULL + struct.pack("<ii", 0, 0) + identity + _NULL + _NULL
    return _request(ACTIVATE_SESSION[0], time_ns, channel, sequence, body)


def activate_session_response(time_ns: int, channel: int, sequence: int) -> bytes:
    """Session activated."""
    body = _string(bytes(32)) + struct.pack("<ii", 0, 0)
    return _response(ACTIVATE_SESSION[1], time_ns, channel, sequence, body)


def read_request(time_ns: int, channel: int, sequence: int, names: Sequence[bytes]) -> bytes:
    """Read of the values of string node ids in namespace 2."""
    nodes = b"".join([_name(name) + b"\x0d\0\0\0" + _NULL + b"\0\0" + _NULL for name in names])
    body = struct.pack("<dIi", 0.0, 2, len(names)) + nodes
    return _request(READ[0], time_ns, channel, sequence, body)


def read_response(time_ns: int, channel: int, sequence: int, values: Sequence[float]) -> bytes:
    """Doubles with their source time."""
    stamp = datetime_100ns(time_ns)
    cells = b"".join([_CELL.pack(0x05, 0x0B, value, stamp) for value in values])
    return _response(READ[1], time_ns, channel, sequence, struct.pack("<i", len(values)) + cells + _NULL)


_CELL = struct.Struct("<BBdq")


def write_request(time_ns: int, channel: int, sequence: int, items: Sequence[tuple[bytes, float]]) -> bytes:
    """Write of doubles to string node ids in namespace 2."""
    nodes = b"".join(
        _name(name) + b"\x0d\0\0\0" + _NULL + struct.pack("<BBd", 0x01, 0x0B, value) for name, value in items
    )
    return _request(WRITE[0], time_ns, channel, sequence, struct.pack("<i", len(items)) + nodes)


def write_response(time_ns: int, channel: int, sequence: int, statuses: Sequence[int]) -> bytes:
    """One StatusCode an item."""
    body = struct.pack(f"<i{len(statuses)}I", len(statuses), *statuses) + _NULL
    return _response(WRITE[1], time_ns, channel, sequence, body)


def call_request(time_ns: int, channel: int, sequence: int, on: bytes, method: bytes) -> bytes:
    """Call a method without arguments."""
    body = struct.pack("<i", 1) + _name(on) + _name(method) + struct.pack("<i", 0)
    return _request(CALL[0], time_ns, channel, sequence, body)


def call_response(time_ns: int, channel: int, sequence: int, status: int = GOOD) -> bytes:
    """Result of one call, without outputs."""
    result = struct.pack("<iIiii", 1, status, 0, 0, 0)
    return _response(CALL[1], time_ns, channel, sequence, result + _NULL)


def browse_request(time_ns: int, channel: int, sequence: int, node: bytes) -> bytes:
    """Browse the hierarchical references of a string node id (`b""`: the Objects folder)."""
    start = _name(node) if node else b"\x00\x55"
    head = b"\x00\x00" + struct.pack("<qI", 0, 0) + struct.pack("<Ii", 0, 1)
    body = head + start + struct.pack("<I", 0) + b"\x00\x21" + b"\x01" + struct.pack("<II", 0, 0x3F)
    return _request(BROWSE[0], time_ns, channel, sequence, body)


def browse_response(time_ns: int, channel: int, sequence: int, names: Sequence[bytes]) -> bytes:
    """Variables named `names` as components of the node that was asked for."""
    found = b"".join(
        b"\x00\x2f\x01" + _name(name) + b"\x02\x00" + _string(name) + b"\x02" + _string(name)
        + struct.pack("<I", 2) + b"\x00\x3f"
        for name in names
    )  # fmt: skip
    body = struct.pack("<iI", 1, GOOD) + _NULL + struct.pack("<i", len(names)) + found + _NULL
    return _response(BROWSE[1], time_ns, channel, sequence, body)


def fault(time_ns: int, channel: int, sequence: int, status: int) -> bytes:
    """ServiceFault."""
    body = _node(FAULT) + _response_header(time_ns, sequence, status)
    return _symmetric(b"MSGF", channel, sequence, body)


def _node(number: int) -> bytes:
    return b"\x01\x00" + struct.pack("<H", number)


def _name(name: bytes) -> bytes:
    """String node id in namespace 2."""
    return b"\x03\x02\x00" + _string(name)


def _string(text: bytes) -> bytes:
    return struct.pack("<i", len(text)) + text


def _token(token: int) -> bytes:
    return b"\x02\x00\x00" + struct.pack("<I", token) if token else b"\x00\x00"


def _request_header(time_ns: int, token: int, handle: int) -> bytes:
    tail = _REQUEST_TAIL.pack(handle, 0, -1, 4000, 0, 0, 0)
    return _token(token) + struct.pack("<q", datetime_100ns(time_ns)) + tail


def _response_header(time_ns: int, handle: int, status: int = GOOD) -> bytes:
    return struct.pack("<qIIBiBBB", datetime_100ns(time_ns), handle, status, 0, 0, 0, 0, 0)


def _request(
    node: int, time_ns: int, channel: int, sequence: int, body: bytes, token: int | None = None
) -> bytes:
    header = _request_header(time_ns, 4096 + channel if token is None else token, sequence)
    return _symmetric(b"MSGF", channel, sequence, _node(node) + header + body)


def _response(node: int, time_ns: int, channel: int, sequence: int, body: bytes) -> bytes:
    return _symmetric(b"MSGF", channel, sequence, _node(node) + _response_header(time_ns, sequence) + body)


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", 8 + len(body)) + body


def _open(channel: int, sequence: int, request: int, body: bytes) -> bytes:
    security = struct.pack("<I", channel) + _string(_POLICY_NONE) + _NULL + _NULL
    return _framed(b"OPNF", security + struct.pack("<II", sequence, request) + body)


def _symmetric(kind: bytes, channel: int, sequence: int, body: bytes) -> bytes:
    return _framed(kind, struct.pack("<IIII", channel, 1, sequence, sequence) + body)
