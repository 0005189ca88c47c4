"""MQTT 3.1.1 control packets (OASIS standard, section 3)."""

from __future__ import annotations

import struct

PING_REQUEST, PING_RESPONSE, DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"
CONNECTED = b"\x20\x02\x00\x00"


def connect(client: bytes, keep_alive_s: int = 60, user: bytes = b"", password: bytes = b"") -> bytes:
    """CONNECT with a clean session."""
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + struct.pack(">H", keep_alive_s) + _text(client)
    body += (_text(user) if user else b"") + (_text(password) if password else b"")
    return _packet(0x10, body)


def publish(topic: bytes, payload: bytes, qos: int = 0, ident: int = 0) -> bytes:
    """PUBLISH; `ident` is sent with QoS 1 and 2."""
    return _packet(0x30 | qos << 1, _text(topic) + (struct.pack(">H", ident) if qos else b"") + payload)


def published(ident: int) -> bytes:
    """PUBACK."""
    return struct.pack(">BBH", 0x40, 2, ident)


def subscribe(ident: int, topic: bytes, qos: int = 0) -> bytes:
    """SUBSCRIBE to one filter."""
    return _packet(0x82, struct.pack(">H", ident) + _text(topic) + bytes([qos]))


def subscribed(ident: int, qos: int = 0) -> bytes:
    """SUBACK."""
    return struct.pack(">BBHB", 0x90, 3, ident, qos)


def _text(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def _packet(head: int, body: bytes) -> bytes:
    size, length = len(body), b""
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([head]) + length + body
