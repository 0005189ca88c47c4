"""The shapes of SSH (RFC 4253) and Telnet (RFC 854)."""

from __future__ import annotations

import struct

SSH_CLIENT = b"SSH-2.0-OpenSSH_9.2\r\n"
SSH_SERVER = b"SSH-2.0-OpenSSH_8.4p1 Debian-5\r\n"
_IAC, _DO, _WILL = 255, 253, 251


def ssh_kexinit(cookie: bytes) -> bytes:
    """SSH_MSG_KEXINIT with one algorithm each; `cookie` is 16 bytes."""
    lists = (
        b"curve25519-sha256", b"ssh-ed25519", b"aes128-ctr", b"aes128-ctr", b"hmac-sha2-256",
        b"hmac-sha2-256", b"none", b"none", b"", b"",
    )  # fmt: skip
    body = b"\x14" + cookie + b"".join(struct.pack(">I", len(names)) + names for names in lists) + bytes(5)
    return _packet(body)


def ssh_key_exchange(message: int, key: bytes) -> bytes:
    """Elliptic curve Diffie-Hellman, 30 init or 31 reply (RFC 5656), with 32 bytes of key."""
    value = struct.pack(">I", len(key)) + key
    if message == 31:
        hostkey = struct.pack(">I", 11) + b"ssh-ed25519" + value
        signature = struct.pack(">I", 11) + b"ssh-ed25519" + struct.pack(">I", 64) + key * 2
        value = (
            struct.pack(">I", len(hostkey)) + hostkey + value + struct.pack(">I", len(signature)) + signature
        )
    return _packet(bytes([message]) + value)


def ssh_new_keys() -> bytes:
    """SSH_MSG_NEWKEYS: what follows is sealed."""
    return _packet(b"\x15")


def _packet(body: bytes) -> bytes:
    padding = 8 - (5 + len(body)) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", 1 + len(body) + padding, padding) + body + bytes(padding)


def telnet_options(offer: bool, *options: int) -> bytes:
    """Negotiate options: WILL if offered, DO if asked for."""
    return b"".join(bytes([_IAC, _WILL if offer else _DO, option]) for option in options)


def telnet_line(text: str) -> bytes:
    """One line."""
    return text.encode() + b"\r\n"
