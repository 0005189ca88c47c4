"""OPC UA binary messages as an HMI and a PLC exchange them, without security (OPC UA Part 6, 5 and 6.7).

Only what the simulated traffic shows: Hello, Acknowledge, OpenSecureChannel, Read, CloseSecureChannel.
"""

from __future__ import annotations

import struct

_POLICY_NONE = b"http://opcfoundation.org/UA/SecurityPolicy#None"
_NULL = b"\xff\xff\xff\xff"
_EPOCH_100NS = 116_444_736_000_000_000  # 1601-01-01 to 1970-01-01 in 100 ns
_REQUEST_TAIL = struct.Struct("<IIiIBBB")


def datetime_100ns(time_ns: int) -> int:
    """OPC UA DateTime (Part 6, 5.2.2.5)."""
    return time_ns // 100 + _EPOCH_100NS


def hello(url: bytes) -> bytes:
    """HEL."""
    return _framed(b"HELF", struct.pack("<IIIIIi", 0, 65535, 65535, 0, 0, len(url)) + url)


def acknowledge() -> bytes:
    """ACK."""
    return _framed(b"ACKF", struct.pack("<IIIII", 0, 65535, 65535, 0, 0))


def open_channel_request(time_ns: int) -> bytes:
    """OPN request: issue a token, security mode None, one hour."""
    body = b"\x01\x00\xbe\x01" + _request_header(time_ns, 0, 1) + struct.pack("<III", 0, 0, 1) + _NULL
    return _open(0, 1, 1, body + struct.pack("<I", 3_600_000))


def open_channel_response(time_ns: int, channel: int) -> bytes:
    """OPN response."""
    body = b"\x01\x00\xc1\x01" + _response_header(time_ns, 1)
    token = struct.pack("<IIIqI", 0, channel, 1, datetime_100ns(time_ns), 3_600_000)
    return _open(channel, 1, 1, body + token + struct.pack("<i", 0))


def close_channel(time_ns: int, channel: int, sequence: int) -> bytes:
    """CLO."""
    return _symmetric(b"CLOF", channel, sequence, b"\x01\x00\xc4\x01" + _request_header(time_ns, 0, sequence))


def read_request(time_ns: int, channel: int, sequence: int, names: tuple[bytes, ...]) -> bytes:
    """Read of the values of string node ids in namespace 2."""
    nodes = b"".join(
        b"\x03\x02\x00"
        + struct.pack("<i", len(name))
        + name
        + struct.pack("<I", 13)
        + _NULL
        + b"\0\0"
        + _NULL
        for name in names
    )
    body = b"\x01\x00\x77\x02" + _request_header(time_ns, 4096 + channel, sequence)
    return _symmetric(
        b"MSGF", channel, sequence, body + struct.pack("<dIi", 0.0, 2, len(names)) + nodes
    )  # fmt: skip


def read_response(time_ns: int, channel: int, sequence: int, values: tuple[float, ...]) -> bytes:
    """Doubles with their source time."""
    stamp = datetime_100ns(time_ns)
    cells = b"".join([struct.pack("<BBdq", 0x05, 0x0B, value, stamp) for value in values])
    body = b"\x01\x00\x7a\x02" + _response_header(time_ns, sequence)
    return _symmetric(b"MSGF", channel, sequence, body + struct.pack("<i", len(values)) + cells + _NULL)


def _request_header(time_ns: int, token: int, handle: int) -> bytes:
    auth = b"\x00\x00" if token == 0 else b"\x02\x00\x00" + struct.pack("<I", token)
    tail = _REQUEST_TAIL.pack(handle, 0, -1, 4000, 0, 0, 0)
    return auth + struct.pack("<q", datetime_100ns(time_ns)) + tail


def _response_header(time_ns: int, handle: int) -> bytes:
    return struct.pack("<qIIBiBBB", datetime_100ns(time_ns), handle, 0, 0, 0, 0, 0, 0)


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", 8 + len(body)) + body


def _open(channel: int, sequence: int, request: int, body: bytes) -> bytes:
    security = struct.pack("<Ii", channel, len(_POLICY_NONE)) + _POLICY_NONE + _NULL + _NULL
    return _framed(b"OPNF", security + struct.pack("<II", sequence, request) + body)


def _symmetric(kind: bytes, channel: int, sequence: int, body: bytes) -> bytes:
    return _framed(kind, struct.pack("<IIII", channel, 1, sequence, sequence) + body)
