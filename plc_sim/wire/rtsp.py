"""RTSP (RFC 2326) and the RTP packets it asks for (RFC 3550, H.264 as in RFC 6184)."""

from __future__ import annotations

import struct


def request(method: str, url: str, sequence: int, *headers: str) -> bytes:
    """A request."""
    lines = (f"{method} {url} RTSP/1.0", f"CSeq: {sequence}", "User-Agent: cell", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def response(sequence: int, *headers: str, body: str = "") -> bytes:
    """200 OK."""
    lines = ("RTSP/1.0 200 OK", f"CSeq: {sequence}", *headers)
    if body:
        lines += ("Content-Type: application/sdp", f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def description(ip: str) -> str:
    """One H.264 video track (RFC 4566)."""
    return (
        f"v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=live\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
    )


def rtp(sequence: int, timestamp: int, source: int, payload: bytes, marker: bool = False) -> bytes:
    """One RTP packet of payload type 96."""
    return struct.pack(">BBHII", 0x80, 96 | marker << 7, sequence & 0xFFFF, timestamp, source) + payload
