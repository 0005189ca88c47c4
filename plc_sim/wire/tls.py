"""The shape of TLS 1.2 (RFC 5246): the handshake in the clear, then sealed records of given sizes."""

from __future__ import annotations

import struct

_CIPHER = b"\xc0\x2f"  # TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
RECORD = 5  # bytes of a record's header


def client_hello(random: bytes, name: bytes) -> bytes:
    """ClientHello with the server's name (RFC 6066); `random` is 32 bytes."""
    listed = b"\0" + struct.pack(">H", len(name)) + name
    names = struct.pack(">HH", 0, len(listed) + 2) + struct.pack(">H", len(listed)) + listed
    body = b"\x03\x03" + random + b"\0" + b"\x00\x02" + _CIPHER + b"\x01\0" + struct.pack(">H", len(names))
    return _record(22, _message(1, body + names))


def server_hello(random: bytes, certificate: bytes) -> bytes:
    """ServerHello, Certificate, ServerKeyExchange and ServerHelloDone in one record each."""
    chosen = _message(2, b"\x03\x03" + random + b"\0" + _CIPHER + b"\0")
    chain = len(certificate).to_bytes(3, "big") + certificate
    certificates = _message(11, len(chain).to_bytes(3, "big") + chain)
    curve = b"\x03\x00\x17\x41\x04" + random + random  # named curve secp256r1, a point of 65 bytes
    key = _message(12, curve + b"\x04\x01\x01\x00" + (random * 8)[:256])
    return b"".join(_record(22, message) for message in (chosen, certificates, key, _message(14, b"")))


def client_finished(random: bytes) -> bytes:
    """ClientKeyExchange, ChangeCipherSpec and the sealed Finished."""
    key = _message(16, b"\x41\x04" + random + random)
    return _record(22, key) + _record(20, b"\x01") + _record(22, (random * 2)[:40])


def server_finished(random: bytes) -> bytes:
    """ChangeCipherSpec and the sealed Finished."""
    return _record(20, b"\x01") + _record(22, (random * 2)[:40])


def data(sealed: bytes) -> bytes:
    """One record of application data."""
    return _record(23, sealed)


def certificate(name: bytes, key: bytes) -> bytes:
    """X.509 certificate in DER (RFC 5280) for `name`, with made-up `key` and signature (256 bytes)."""
    rsa, sha256 = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
    signed_by = _der(0x30, _der(6, sha256) + b"\x05\x00")
    common = _der(0x30, _der(0x31, _der(0x30, _der(6, b"\x55\x04\x03") + _der(0x0C, name))))
    valid = _der(0x30, _der(0x17, b"250101000000Z") + _der(0x17, b"350101000000Z"))
    public = _der(0x30, _der(2, b"\0" + key) + _der(2, b"\x01\x00\x01"))
    info = _der(0x30, _der(0x30, _der(6, rsa) + b"\x05\x00") + _der(3, b"\0" + public))
    body = _der(0xA0, b"\x02\x01\x02") + b"\x02\x01\x01" + signed_by + common + valid + common + info
    return _der(0x30, _der(0x30, body) + signed_by + _der(3, b"\0" + key))


def _der(tag: int, body: bytes) -> bytes:
    n = len(body)
    size = bytes([n]) if n < 128 else (b"\x81" + bytes([n]) if n < 256 else b"\x82" + struct.pack(">H", n))
    return bytes([tag]) + size + body


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def _record(kind: int, body: bytes) -> bytes:
    return struct.pack(">BHH", kind, 0x0303, len(body)) + body
