"""Ethernet frames as numpy byte blocks: building, checksums, merging in time.

A block of n frames is `Frames`: all bytes in a row, the offset of each frame, the time of each frame.
Checksums (RFC 791, 793, 768, 792) are computed for the whole block at once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

MIN_FRAME = 60  # bytes without FCS (IEEE 802.3)
ETHER_IPV4 = b"\x08\x00"
ETHER_ARP = b"\x08\x06"
ICMP, TCP, UDP = 1, 6, 17

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
MSS_OPTION = b"\x02\x04\x05\xb4"  # 1460

_IP = struct.Struct(">BBHHHBBH4s4s")
_TCP = struct.Struct(">BBHHHBBH4s4sHHIIBBHHH")
_UDP = struct.Struct(">BBHHHBBH4s4sHHHH")
_ARP = struct.Struct(">HHBBH6s4s6s4s")


@dataclass(frozen=True, slots=True)
class Frames:
    """n frames in order of time; frame i is `data[offset[i]:offset[i + 1]]`."""

    data: U8
    offset: I64  # (n + 1,)
    time_ns: I64  # (n,)

    def __len__(self) -> int:
        return len(self.time_ns)


EMPTY = Frames(np.zeros(0, np.uint8), np.zeros(1, np.int64), np.zeros(0, np.int64))


@dataclass(slots=True)
class Host:
    """One network interface; `ident` counts its IPv4 packets."""

    name: str
    mac: bytes
    ip: bytes
    ttl: int = 64
    window: int = 64240
    ident: int = field(default=0)

    def next_ident(self, n: int = 1) -> int:
        """First of the next n IPv4 identifications."""
        first = self.ident
        self.ident = (self.ident + n) & 0xFFFF
        return first


def mac_text(mac: bytes) -> str:
    """Write a MAC address.

    >>> mac_text(bytes([2, 0, 0, 0, 1, 255]))
    '02:00:00:00:01:ff'
    """
    return mac.hex(":")


def host(name: str, mac: str, ip: str, ttl: int = 64, window: int = 64240) -> Host:
    """Make a host from its addresses in text."""
    return Host(
        name, bytes.fromhex(mac.replace(":", "")), bytes(int(part) for part in ip.split(".")), ttl, window
    )


def tcp_frame(
    src: Host,
    dst: Host,
    ports: tuple[int, int],
    seq: int,
    ack: int,
    flags: int,
    payload: bytes = b"",
    options: bytes = b"",
) -> bytes:
    """One TCP segment, its checksums still 0."""
    header = 20 + len(options)
    head = _TCP.pack(
        0x45, 0, 20 + header + len(payload), src.next_ident(), 0x4000, src.ttl, TCP, 0, src.ip, dst.ip,
        ports[0], ports[1], seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, header << 2, flags, src.window, 0, 0,
    )  # fmt: skip
    return dst.mac + src.mac + ETHER_IPV4 + head + options + payload


def udp_frame(src: Host, dst: Host, ports: tuple[int, int], payload: bytes) -> bytes:
    """One UDP datagram, its checksums still 0."""
    size = 8 + len(payload)
    head = _UDP.pack(
        0x45, 0, 20 + size, src.next_ident(), 0, src.ttl, UDP, 0, src.ip, dst.ip, ports[0], ports[1], size, 0
    )
    return dst.mac + src.mac + ETHER_IPV4 + head + payload


def icmp_echo(src: Host, dst: Host, reply: bool, ident: int, seq: int, payload: bytes) -> bytes:
    """One ICMP echo request or reply, its checksums still 0."""
    head = _IP.pack(0x45, 0, 28 + len(payload), src.next_ident(), 0, src.ttl, ICMP, 0, src.ip, dst.ip)
    echo = struct.pack(">BBHHH", 0 if reply else 8, 0, 0, ident, seq)
    return dst.mac + src.mac + ETHER_IPV4 + head + echo + payload


def arp_frame(src: Host, dst: Host, reply: bool) -> bytes:
    """Make an ARP request (broadcast) or reply."""
    body = _ARP.pack(
        1, 0x0800, 6, 4, 2 if reply else 1, src.mac, src.ip, dst.mac if reply else bytes(6), dst.ip
    )
    return (dst.mac if reply else b"\xff" * 6) + src.mac + ETHER_ARP + body


def fill_checksums(rows: U8) -> None:
    """Set the IPv4 and TCP/UDP/ICMP checksums of unfragmented frames in place.

    `rows` is (n, even width), each frame padded with zeros. One's-complement sums do not depend on byte order
    (RFC 1071), so the words are summed as they lie in memory.
    """
    if rows.shape[1] < MIN_FRAME or not len(rows):
        return
    is_ip = (rows[:, 12] == 0x08) & (rows[:, 13] == 0x00)
    if not is_ip.all():
        ip_rows = rows[is_ip]
        if len(ip_rows):
            fill_checksums(ip_rows)
            rows[is_ip] = ip_rows
        return
    words = rows.view(np.uint16)  # word k = bytes 2k, 2k+1
    protocol = rows[:, 23]
    tcp, udp, icmp = protocol == TCP, protocol == UDP, protocol == ICMP
    words[:, 12] = 0
    words[tcp, 25] = 0
    words[udp, 20] = 0
    words[icmp, 18] = 0
    words[:, 12] = _fold(words[:, 7:17].sum(axis=1, dtype=np.uint32))
    length = (rows[:, 16].astype(np.uint32) << 8 | rows[:, 17]) - 20
    pseudo = (
        words[:, 13:17].sum(axis=1, dtype=np.uint32)
        + (protocol.astype(np.uint32) << 8)
        + ((length & 0xFF) << 8 | length >> 8)
    )
    total = words[:, 17:].sum(axis=1, dtype=np.uint32) + np.where(icmp, np.uint32(0), pseudo)
    check = _fold(total)
    words[tcp, 25] = check[tcp]
    words[icmp, 18] = check[icmp]
    words[udp, 20] = np.where(check[udp] == 0, np.uint16(0xFFFF), check[udp])  # RFC 768: 0 means none


def _fold(total: NDArray[np.uint32]) -> NDArray[np.uint16]:
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Block:
    """n frames of one width each; checksums still 0."""

    time_ns: I64  # (n,)
    rows: U8  # (n, width)


def stamp(template: bytes, time_ns: I64) -> Block:
    """N copies of one frame, to be patched."""
    padded = template.ljust(MIN_FRAME, b"\0")
    return Block(time_ns, np.tile(np.frombuffer(padded, np.uint8), (len(time_ns), 1)))


def put16(rows: U8, at: int, value: NDArray[np.int64]) -> None:
    """Write big-endian 16-bit fields at byte `at`; value (n,) is taken modulo 2^16."""
    rows[:, at] = (value >> 8) & 0xFF
    rows[:, at + 1] = value & 0xFF


def put32(rows: U8, at: int, value: NDArray[np.int64]) -> None:
    """Write big-endian 32-bit fields at byte `at`; value (n,) is taken modulo 2^32."""
    put16(rows, at, value >> 16)
    put16(rows, at + 2, value)


def merge(singles: list[tuple[int, bytes]], blocks: list[Block]) -> Frames:
    """All frames in order of time, with checksums; `singles` are (time_ns, frame)."""
    parts: list[tuple[I64, U8, I64]] = []  # time, rows, length
    if singles:
        lengths = np.array([max(len(frame), MIN_FRAME) for _, frame in singles], np.int64)
        width = int(lengths.max() + 1) & ~1
        raw = bytearray(b"".join([frame.ljust(width, b"\0") for _, frame in singles]))
        rows = np.frombuffer(raw, np.uint8).reshape(len(singles), width)
        parts.append((np.array([time for time, _ in singles], np.int64), rows, lengths))
    for block in blocks:
        if len(block.time_ns):
            size = block.rows.shape[1]
            rows = block.rows if size % 2 == 0 else np.pad(block.rows, ((0, 0), (0, 1)))
            parts.append((block.time_ns, rows, np.full(len(rows), size, np.int64)))
    if not parts:
        return EMPTY
    for _, rows, _ in parts:
        fill_checksums(rows)
    times = np.concatenate([part[0] for part in parts])
    lengths = np.concatenate([part[2] for part in parts])
    order = np.argsort(times, kind="stable")
    offset = np.zeros(len(times) + 1, np.int64)
    np.cumsum(lengths[order], out=offset[1:])
    place = np.empty(len(times), np.int64)
    place[order] = offset[:-1]  # where each frame of `parts` begins
    data = np.empty(int(offset[-1]), np.uint8)
    first = 0
    for _, rows, length in parts:
        scatter(data, rows, length, place[first : first + len(rows)])
        first += len(rows)
    return Frames(data, offset, times[order])


def scatter(data: U8, rows: U8, length: I64, place: I64) -> None:
    """Copy row i, cut to length[i] bytes, to data[place[i]:]; one copy per distinct length."""
    for size in np.unique(length).tolist():
        chosen = np.flatnonzero(length == size)
        data[place[chosen][:, None] + np.arange(size)] = rows[chosen, :size]


def concat(blocks: list[Frames]) -> Frames:
    """Blocks one after another."""
    if not blocks:
        return EMPTY
    sizes = np.concatenate([np.diff(block.offset) for block in blocks])
    return Frames(
        np.concatenate([block.data for block in blocks]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
        np.concatenate([block.time_ns for block in blocks]),
    )
