"""Who is there: SSDP (UPnP 1.1), LLDP (IEEE 802.1AB), IEEE 1905.1, DHCP (RFC 2131, 8415)."""

from __future__ import annotations

import struct


def ssdp_search(target: bytes = b"ssdp:all") -> bytes:
    """M-SEARCH."""
    return (
        b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"
        b'MAN: "ssdp:discover"\r\nMX: 2\r\nST: ' + target + b"\r\n\r\n"
    )


def ssdp_answer(location: bytes, size: int) -> bytes:
    """Answer to a search, padded to `size` bytes by its server name."""
    return _filled(
        b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\nLOCATION: " + location
        + b"\r\nST: upnp:rootdevice\r\nUSN: uuid:0::upnp:rootdevice\r\nSERVER: ",
        size,
    )  # fmt: skip


def ssdp_notify(location: bytes, size: int) -> bytes:
    """Announcement, padded to `size` bytes by its server name."""
    return _filled(
        b"NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nCACHE-CONTROL: max-age=1800\r\nLOCATION: "
        + location + b"\r\nNT: upnp:rootdevice\r\nNTS: ssdp:alive\r\nUSN: uuid:0\r\nSERVER: ",
        size,
    )  # fmt: skip


def _filled(head: bytes, size: int) -> bytes:
    return head + b"x" * max(size - len(head) - 4, 1) + b"\r\n\r\n"


def lldp(mac: bytes, name: bytes, size: int = 0) -> bytes:
    """LLDP data unit: chassis, port, time to live, system name, and a description that fills up to `size`."""
    body = _tlv(1, b"\x04" + mac) + _tlv(2, b"\x03" + mac) + _tlv(3, b"\x00\x78") + _tlv(5, name)
    room = size - len(body) - 4
    return body + (_tlv(6, b"d" * room) if room > 0 else b"") + b"\0\0"


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">H", kind << 9 | len(value)) + value


def topology_discovery(mac: bytes, ident: int) -> bytes:
    """IEEE 1905.1 topology discovery (6.3.1)."""
    head = struct.pack(">BBHHBB", 0, 0, 0, ident, 0, 0x80)
    address = struct.pack(">BH", 1, 6) + mac
    interface = struct.pack(">BH", 2, 6) + mac
    vendor = struct.pack(">BH", 11, 16) + mac[:3] + bytes(13)  # keeps the frame from being padded
    return head + address + interface + vendor + b"\0\0\0"


def dhcp(kind: int, mac: bytes, ident: int, yours: bytes = bytes(4), server: bytes = bytes(4)) -> bytes:
    """DHCP: 1 discover, 2 offer, 3 request, 5 acknowledge."""
    op = 2 if kind in {2, 5} else 1
    head = struct.pack(">BBBBIHH", op, 1, 6, 0, ident, 0, 0x8000 if op == 1 else 0)
    body = head + bytes(4) + yours + server + bytes(4) + mac + bytes(10 + 64 + 128) + b"\x63\x82\x53\x63"
    options = bytes([53, 1, kind]) + (b"\x36\x04" + server + b"\x33\x04\x00\x01\x51\x80" if op == 2 else b"")
    return (body + options + b"\xff").ljust(300, b"\0")


def dhcpv6_solicit(mac: bytes, ident: int, size: int) -> bytes:
    """DHCPv6 solicit with a client identifier, filled to `size` by the user class (RFC 8415)."""
    client = struct.pack(">HHHH", 1, 10, 3, 1) + mac
    association = struct.pack(">HHIII", 3, 12, 1, 0, 0)
    body = bytes([1]) + ident.to_bytes(3, "big") + client + association + struct.pack(">HHH", 8, 2, 0)
    room = size - len(body) - 6
    return body + struct.pack(">HHH", 15, 2 + room, room) + b"u" * room
