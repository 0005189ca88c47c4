"""HTTP/1.1 messages (RFC 9112)."""

from __future__ import annotations


def request(method: str, host: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    """A request; with a body, its type and length."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: cell/1.0\r\nAccept: */*\r\n"
    if body or method == "POST":
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def response(body: bytes = b"", kind: str = "application/json", status: str = "200 OK") -> bytes:
    """A response with its length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def json_of(size: int) -> bytes:
    """JSON text of exactly `size` bytes, at least 10.

    >>> json_of(12)
    b'{"log":"00"}'
    """
    return b'{"log":"' + b"0" * (size - 10) + b'"}'
