"""Names and time: DNS (RFC 1035), multicast DNS (RFC 6762), NetBIOS name query (RFC 1002), NTP (RFC 5905)."""

from __future__ import annotations

import struct

_HEAD = struct.Struct(">HHHHHH")
_S = 1_000_000_000


def question(name: bytes, kind: int = 1) -> bytes:
    """One question of class IN; kind 1 = A, 12 = PTR, 28 = AAAA."""
    return encoded(name) + struct.pack(">HH", kind, 1)


def encoded(name: bytes) -> bytes:
    """Labels of a name."""
    return b"".join(bytes([len(label)]) + label for label in name.split(b".")) + b"\0"


def query(ident: int, name: bytes) -> bytes:
    """DNS query for an IPv4 address."""
    return _HEAD.pack(ident, 0x0100, 1, 0, 0, 0) + question(name)


def reply(ident: int, name: bytes, address: bytes, ttl_s: int = 150) -> bytes:
    """DNS answer with one address."""
    answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, ttl_s, 4) + address
    return _HEAD.pack(ident, 0x8180, 1, 1, 0, 0) + question(name) + answer


def mdns_query(*names: bytes) -> bytes:
    """Multicast question for services."""
    return _HEAD.pack(0, 0, len(names), 0, 0, 0) + b"".join(question(name, 12) for name in names)


def netbios_status(ident: int) -> bytes:
    """NetBIOS node status query for any name, `nbtstat -A` (RFC 1002, 4.2.17)."""
    return _HEAD.pack(ident, 0, 1, 0, 0, 0) + b"\x20CK" + b"A" * 30 + b"\0" + struct.pack(">HH", 33, 1)


def ntp_request(time_ns: int) -> bytes:
    """Client, version 4."""
    return b"\x23" + bytes(39) + ntp_time(time_ns)


def ntp_reply(asked_ns: int, time_ns: int) -> bytes:
    """Server, stratum 2."""
    asked, now = ntp_time(asked_ns), ntp_time(time_ns)
    return b"\x24\x02\x06\xe9" + bytes(8) + b"\x0a\x00\x00\x01" + now + asked + now + now


def ntp_time(time_ns: int) -> bytes:
    """Seconds since 1900 and a binary fraction."""
    seconds, rest = divmod(time_ns, _S)
    return struct.pack(">II", (seconds + 2_208_988_800) & 0xFFFFFFFF, (rest << 32) // _S)
