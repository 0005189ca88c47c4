"""Ethernet frames as bytes: building, checksums, merging in time.

`Frames` are n frames in a row with offsets and times. What comes in twos and threes is built one by one
(`tcp_frame` ... and `merge`'s singles); what comes in thousands as a `Block`, copies of one template with
patched fields. Frames are built with checksums 0; `merge` fills them in (RFC 791, 793, 768, 792, 4443, 1071).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
Single = tuple[int, bytes]  # time (ns), frame

MIN_FRAME = 60  # bytes without FCS (IEEE 802.3)
ETHER_IPV4, ETHER_ARP, ETHER_IPV6, ETHER_LLDP = b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x88\xcc"
BROADCAST = b"\xff" * 6
ICMP, IGMP, TCP, UDP, ICMPV6 = 1, 2, 6, 17, 58

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
MSS_OPTION = b"\x02\x04\x05\xb4"  # 1460
SEQ, ACKNO, SPORT, DPORT, IDENT = 38, 42, 34, 36, 18  # byte offsets in an Ethernet + IPv4 + TCP frame

_IP = struct.Struct(">BBHHHBBH4s4s")
_TCP = struct.Struct(">BBHHHBBH4s4sHHIIBBHHH")
_UDP = struct.Struct(">BBHHHBBH4s4sHHHH")
_ARP = struct.Struct(">HHBBH6s4s6s4s")
_IP6 = struct.Struct(">IHBB16s16s")


@dataclass(frozen=True, slots=True)
class Frames:
    """n frames in order of time; frame i is `data[offset[i]:offset[i + 1]]`."""

    data: U8
    offset: I64  # (n + 1,)
    time_ns: I64  # (n,)

    def __len__(self) -> int:
        return len(self.time_ns)


EMPTY = Frames(np.zeros(0, np.uint8), np.zeros(1, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class Block:
    """n frames of one width each, at least 60 bytes; checksums still 0, IPv4 headers without options.

    IPv4 frames shorter than 60 bytes are padded with zeros; `merge` cuts the padding off.
    """

    time_ns: I64  # (n,)
    rows: U8  # (n, width)


@dataclass(slots=True)
class Traffic:
    """Frames to be merged into a tick, in any order; checksums still 0."""

    blocks: list[Block] = field(default_factory=list)
    singles: list[Single] = field(default_factory=list)


@dataclass(slots=True)
class Host:
    """One network interface; `ident` counts its IPv4 packets."""

    name: str
    mac: bytes
    ip: bytes
    ttl: int = 64
    window: int = 64240
    ident: int = field(default=0)
    fragile: bool = True  # sends TCP with don't-fragment, as path MTU discovery asks for (RFC 1191)

    def next_ident(self, n: int = 1) -> int:
        """First of the next n IPv4 identifications."""
        first = self.ident
        self.ident = (self.ident + n) & 0xFFFF
        return first

    @property
    def ip6(self) -> bytes:
        """Link-local address from the MAC (RFC 4291, appendix A)."""
        mac = self.mac
        return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:6]


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


def group(ip: str) -> Host:
    """Make the receiver of a multicast or the limited broadcast, its MAC from the address (RFC 1112)."""
    raw = bytes(int(part) for part in ip.split("."))
    mac = BROADCAST if raw == b"\xff" * 4 else b"\x01\x00\x5e" + bytes([raw[1] & 0x7F]) + raw[2:]
    return Host(ip, mac, raw)


def tcp_frame(
    src: Host,
    dst: Host,
    ports: tuple[int, int],
    seq: int,
    ack: int,
    flags: int,
    payload: bytes = b"",
    options: bytes = b"",
    window: int | None = None,
) -> bytes:
    """One TCP segment."""
    header = 20 + len(options)
    head = _TCP.pack(
        0x45, 0, 20 + header + len(payload), src.next_ident(), 0x4000 if src.fragile else 0, src.ttl, TCP, 0,
        src.ip, dst.ip, ports[0], ports[1], seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, header << 2, flags,
        src.window if window is None else window, 0, 0,
    )  # fmt: skip
    return dst.mac + src.mac + ETHER_IPV4 + head + options + payload


def udp_frame(
    src: Host, dst: Host, ports: tuple[int, int], payload: bytes, ttl: int | None = None, df: bool = False
) -> bytes:
    """One UDP datagram; `df` sets don't-fragment."""
    size = 8 + len(payload)
    head = _UDP.pack(
        0x45, 0, 20 + size, src.next_ident(), 0x4000 if df else 0, src.ttl if ttl is None else ttl, UDP, 0,
        src.ip, dst.ip, ports[0], ports[1], size, 0,
    )  # fmt: skip
    return dst.mac + src.mac + ETHER_IPV4 + head + payload


def icmp_echo(src: Host, dst: Host, reply: bool, ident: int, seq: int, payload: bytes) -> bytes:
    """One ICMP echo request or reply."""
    return icmp_frame(src, dst, 0 if reply else 8, 0, struct.pack(">HH", ident, seq) + payload)


def icmp_frame(src: Host, dst: Host, kind: int, code: int, body: bytes, ttl: int | None = None) -> bytes:
    """One ICMP message; `body` is what follows the checksum (RFC 792)."""
    head = _IP.pack(
        0x45, 0, 24 + len(body), src.next_ident(), 0, src.ttl if ttl is None else ttl, ICMP, 0, src.ip, dst.ip
    )
    return dst.mac + src.mac + ETHER_IPV4 + head + bytes([kind, code, 0, 0]) + body


def icmp_unreachable(src: Host, dst: Host, cause: bytes, whole: bool = False) -> bytes:
    """Answer port unreachable to the UDP datagram `cause`, quoting 28 bytes of it (RFC 792) or all."""
    quoted = seal(cause)[14:]
    return icmp_frame(src, dst, 3, 3, bytes(4) + (quoted if whole else quoted[:28]))


def igmp_query(src: Host, to: Host) -> bytes:
    """IGMPv2 general query, answers within 10 s (RFC 2236)."""
    return _igmp(src, to, b"\x11\x64\x00\x00" + bytes(4))


def igmp_report(src: Host, to: Host) -> bytes:
    """IGMPv2 membership report (RFC 2236)."""
    return _igmp(src, to, b"\x16\x00\x00\x00" + to.ip)


def _igmp(src: Host, to: Host, message: bytes) -> bytes:
    """With the Router Alert option (RFC 2113)."""
    head = _IP.pack(0x46, 0xC0, 32, src.next_ident(), 0x4000, 1, IGMP, 0, src.ip, to.ip) + b"\x94\x04\x00\x00"
    return to.mac + src.mac + ETHER_IPV4 + head + message


def arp_frame(src: Host, dst: Host, reply: bool, broadcast: bool = True) -> bytes:
    """ARP request or reply; a cached neighbour is asked without broadcast (RFC 1122, 2.3.2.1)."""
    body = _ARP.pack(
        1, 0x0800, 6, 4, 2 if reply else 1, src.mac, src.ip, dst.mac if reply else bytes(6), dst.ip
    )
    return (BROADCAST if broadcast and not reply else dst.mac) + src.mac + ETHER_ARP + body


def ipv6_frame(src: Host, to: bytes, mac: bytes, proto: int, body: bytes, hops: int = 255) -> bytes:
    """IPv6 datagram from the link-local address of `src`; `body` is a UDP datagram or an ICMPv6 message."""
    return mac + src.mac + ETHER_IPV6 + _IP6.pack(6 << 28, len(body), proto, hops, src.ip6, to) + body


def group6(src: Host, to: bytes, proto: int, body: bytes, hops: int = 255) -> bytes:
    """Send IPv6 to a multicast group; its MAC follows from the address (RFC 2464)."""
    return ipv6_frame(src, to, b"\x33\x33" + to[12:], proto, body, hops)


def udp_body(ports: tuple[int, int], payload: bytes) -> bytes:
    """UDP datagram for `ipv6_frame`."""
    return struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload


def seal(frame: bytes) -> bytes:
    """One frame with its checksums; what is not IP is padded to the least length of a frame.

    IP frames are not: they look as the sending host captures them, and as DataSense's captures show them (TCP
    acknowledgements of 54 bytes, ARP of 60). A one's-complement sum is the whole number modulo 65535. Of a
    fragment only the IP header is summed.
    """
    kind = frame[12:14]
    if kind == ETHER_IPV4:
        header = 14 + ((frame[14] & 15) << 2)
        end = 14 + (frame[16] << 8 | frame[17])
        proto = frame[23]
        raw = bytearray(frame)
        raw[24:26] = (-int.from_bytes(frame[14:24] + frame[26:header], "big") % 0xFFFF).to_bytes(2, "big")
        if not (frame[20] & 0x3F or frame[21]):
            place = _CHECKSUM_AT.get(proto)
            if place is not None:
                at = header + place
                raw[at] = raw[at + 1] = 0
                total = int.from_bytes(raw[header:end], "big") << ((end - header & 1) << 3)
                if proto in (TCP, UDP):
                    total += int.from_bytes(frame[26:34], "big") + proto + end - header
                check = -total % 0xFFFF
                if proto == UDP and check == 0:
                    check = 0xFFFF  # RFC 768: 0 means none
                raw[at : at + 2] = check.to_bytes(2, "big")
        return bytes(raw)
    if kind == ETHER_IPV6 and frame[20] in (ICMPV6, UDP, TCP):
        raw = bytearray(frame)
        at = 54 + {ICMPV6: 2, UDP: 6, TCP: 16}[frame[20]]
        raw[at : at + 2] = b"\0\0"
        total = int.from_bytes(raw[54:], "big") << ((len(raw) & 1) << 3)
        total += int.from_bytes(frame[22:54], "big") + frame[20] + len(raw) - 54
        raw[at : at + 2] = ((-total % 0xFFFF) or 0xFFFF).to_bytes(2, "big")
        return bytes(raw)
    return frame.ljust(MIN_FRAME, b"\0")


_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, IGMP: 2}


def fill_checksums(rows: U8) -> None:
    """Set the IPv4 and TCP/UDP/ICMP checksums in place; of fragments only that of the IP header.

    `rows` is (n, even width), each frame padded with zeros; headers without IP options. Words are summed as
    they lie in memory: one's-complement sums do not depend on byte order (RFC 1071).
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
    whole = (rows[:, 20] & 0x3F | rows[:, 21]) == 0
    protocol = rows[:, 23]
    tcp, udp = (protocol == TCP) & whole, (protocol == UDP) & whole
    icmp = ((protocol == ICMP) | (protocol == IGMP)) & whole
    words[:, 12] = 0
    words[tcp, 25] = 0
    words[udp, 20] = 0
    words[icmp, 18] = 0
    words[:, 12] = _fold(_sum(words[:, 7:17]))
    length = (rows[:, 16].astype(np.uint32) << 8 | rows[:, 17]) - 20
    pseudo = _sum(words[:, 13:17]) + (protocol.astype(np.uint32) << 8) + ((length & 0xFF) << 8 | length >> 8)
    check = _fold(_sum(words[:, 17:]) + np.where(icmp, np.uint32(0), pseudo))
    words[tcp, 25] = check[tcp]
    words[icmp, 18] = check[icmp]
    words[udp, 20] = np.where(check[udp] == 0, np.uint16(0xFFFF), check[udp])


def _sum(words: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Sum of each row; at most 2^15 words a row."""
    if words.shape[1] > len(words):
        flat: NDArray[np.uint32] = words.sum(axis=1, dtype=np.uint32)
        return flat
    total = np.zeros(len(words), np.uint32)
    for column in words.T:  # adding columns is twice as fast as numpy's sum over short rows
        total += column
    return total


def _fold(total: NDArray[np.uint32]) -> NDArray[np.uint16]:
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).astype(np.uint16)


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


def part(block: Block, chosen: NDArray[np.bool_]) -> Block:
    """Keep the chosen frames of a block."""
    return block if chosen.all() else Block(block.time_ns[chosen], block.rows[chosen])


def merge(singles: Iterable[Single], blocks: Iterable[Block]) -> Frames:
    """All frames in order of time (at equal times singles first), with checksums."""
    ones = sorted(singles, key=lambda item: item[0])
    sealed = [seal(frame) for _, frame in ones]
    lengths = np.array([len(frame) for frame in sealed], np.int64)
    times = np.array([time for time, _ in ones], np.int64)
    raw = np.frombuffer(b"".join(sealed), np.uint8)
    full = [block for block in blocks if len(block.time_ns)]
    if not full:
        offset = np.zeros(len(ones) + 1, np.int64)
        np.cumsum(lengths, out=offset[1:])
        return Frames(raw, offset, times) if ones else EMPTY
    parts = [_sealed_rows(block.rows) for block in full]
    sizes = [lengths, *(np.full(len(rows), rows.shape[1], np.int64) for rows in parts)]
    times = np.concatenate([times, *(block.time_ns for block in full)])
    lengths = np.concatenate(sizes)
    order = np.argsort(times, kind="stable")
    offset = np.zeros(len(times) + 1, np.int64)
    np.cumsum(lengths[order], out=offset[1:])
    place = np.empty(len(times), np.int64)
    place[order] = offset[:-1]  # where each frame begins
    data = np.empty(int(offset[-1]), np.uint8)
    n = len(ones)
    if n:
        starts = np.cumsum(sizes[0]) - sizes[0]
        data[np.repeat(place[:n] - starts, sizes[0]) + np.arange(len(raw))] = raw
    for rows in parts:
        put_rows(data, rows, place[n : n + len(rows)])
        n += len(rows)
    return Frames(data, offset, times[order])


def _sealed_rows(rows: U8) -> U8:
    """Rows with checksums, cut to the IP length where they are padded."""
    width = rows.shape[1]
    even = rows if width % 2 == 0 else np.pad(rows, ((0, 0), (0, 1)))
    fill_checksums(even)
    first = even[0]
    if width == MIN_FRAME and first[12:14].tobytes() == ETHER_IPV4:
        width = min(width, 14 + (int(first[16]) << 8 | int(first[17])))
    return even[:, :width]


def put_rows(data: U8, rows: U8, place: I64) -> None:
    """Copy row i to `data[place[i]:]`, all of one width: one assignment of n records."""
    width = rows.shape[1]
    spread = np.ndarray((len(data) - width + 1,), f"V{width}", buffer=data.data, strides=(1,))
    spread[place] = np.ascontiguousarray(rows).view(f"V{width}").ravel()


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
