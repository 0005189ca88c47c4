"""Headers of all packets of a block in one compiled pass: link, network and transport layer.

A field is read only where the captured bytes of its own packet hold it. What does not fit, or lies about its
length, leaves the packet malformed, with the fields that could be read. Tunnels are not entered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features.protocols.application import name
from cellwatch.models.features.protocols.codes import CODE
from cellwatch.models.features.protocols.compiled import compiled, entry, fingerprint
from cellwatch.models.features.protocols.reading import be16, be32, u8
from cellwatch.models.types import I64, U8, U32

U16 = NDArray[np.uint16]
U64 = NDArray[np.uint64]

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
TCP, UDP, ICMP, IGMP, ICMPV6, SCTP = 6, 17, 1, 2, 58, 132

ETHERNET, LINUX_SLL, LINUX_SLL2 = 1, 113, 276
RAW_IP, LOOPBACK = (101, 12, 14, 228, 229), (0, 108)

_ETH, _LLC, _ARP, _LLDP, _PROFINET = (CODE[n] for n in ("eth", "llc", "arp", "lldp", "profinet"))
_GOOSE, _SV, _EAPOL, _IP = (CODE[n] for n in ("goose", "sv", "eapol", "ip"))
_A_TCP, _A_UDP, _A_ICMP, _A_IGMP, _A_ICMPV6, _A_SCTP = (
    CODE[n] for n in ("tcp", "udp", "icmp", "igmp", "icmpv6", "sctp")
)
_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96
_DEPTH = 4  # QinQ has two; more is somebody playing
_CHAIN = 8  # IPv6 extension headers


# What the parser fills of `packets.Packets`, one record a packet: numba hands a record on as one pointer.
PACKET = np.dtype(
    [
        ("src_mac", "u8"),
        ("dst_mac", "u8"),
        ("src_hi", "u8"),
        ("src_lo", "u8"),
        ("dst_hi", "u8"),
        ("dst_lo", "u8"),
        ("payload", "i8"),
        ("ip_length", "u4"),
        ("seq", "u4"),
        ("ack", "u4"),
        ("payload_length", "u4"),
        ("vlan", "u2"),
        ("ethertype", "u2"),
        ("fragment_offset", "u2"),
        ("arp", "u2"),
        ("src_port", "u2"),
        ("dst_port", "u2"),
        ("tcp_flags", "u2"),
        ("window", "u2"),
        ("mss", "u2"),
        ("ip_version", "u1"),
        ("ip_header", "u1"),
        ("ip_flags", "u1"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("l4", "u1"),
        ("icmp_type", "u1"),
        ("icmp_code", "u1"),
        ("app", "u1"),
        ("malformed", "?"),
        ("fragment", "?"),
    ],
    align=True,
)


@compiled
def _mac(p: U8, at: int) -> int:
    return be32(p, at) << 16 | be16(p, at + 4)


@compiled
def _half(p: U8, at: int) -> int:
    """64 bits; the top bit makes it negative, its place in a uint64 column is right again."""
    return be32(p, at) << 32 | be32(p, at + 4)


@compiled
def _tags(p: U8, kind: int, at: int, out: Any) -> tuple[int, int]:
    """EtherType behind the VLAN tags, and the place of what follows; EtherType -1 = they are cut."""
    for depth in range(_DEPTH):
        if kind not in (0x8100, 0x88A8, 0x9100):
            break
        if at + 4 > len(p):
            out.malformed = True
            return -1, len(p)
        if depth == 0:
            out.vlan = be16(p, at) & 0x0FFF
        kind, at = be16(p, at + 2), at + 4
    return kind, at


@compiled
def _link(p: U8, link: int, out: Any) -> tuple[int, int]:
    """EtherType and the place of what follows; EtherType -1 = no layer 3."""
    if link == ETHERNET:
        if len(p) < 14:
            out.malformed = True
            return -1, len(p)
        out.dst_mac, out.src_mac = _mac(p, 0), _mac(p, 6)
        return _tags(p, be16(p, 12), 14, out)
    if link in (LINUX_SLL, LINUX_SLL2):  # the sender's address only
        head = 16 if link == LINUX_SLL else 20
        if len(p) < head:
            out.malformed = True
            return -1, len(p)
        if (be16(p, 4) if link == LINUX_SLL else u8(p, 11)) == 6:
            out.src_mac = _mac(p, 6 if link == LINUX_SLL else 12)
        return _tags(p, be16(p, 14 if link == LINUX_SLL else 0), head, out)
    at = 4 if link in LOOPBACK else 0  # the family in front has the byte order of whoever wrote it
    if at >= len(p):
        out.malformed = True
        return -1, len(p)
    version = u8(p, at) >> 4
    return 0x0800 if version == 4 else 0x86DD if version == 6 else 0, at


@compiled
def _arp(p: U8, at: int, out: Any) -> None:
    hardware, address = u8(p, at + 4), u8(p, at + 5)
    if at + 8 + 2 * (hardware + address) > len(p) or at + 8 > len(p):
        out.malformed = True
        return
    out.arp = be16(p, at + 6)
    if hardware == 6 and address == 4:
        out.src_lo = _MAPPED | be32(p, at + 14)
        out.dst_lo = _MAPPED | be32(p, at + 24)


@compiled
def _ipv4(p: U8, at: int, wire: int, out: Any) -> tuple[int, int, bool]:
    """Where layer 4 begins and ends, and whether its header is here; -1 = no IPv4."""
    header, length = (u8(p, at) & 15) * 4, be16(p, at + 2)
    if length == 0:
        length = wire - at  # TCP segmentation offload writes 0
    if (
        at + 20 > len(p)
        or u8(p, at) >> 4 != 4
        or header < 20
        or at + header > len(p)
        or length < header
    ):  # fmt: skip
        out.malformed = True
        return -1, -1, False
    word = be16(p, at + 6)
    out.ip_version, out.ip_header, out.ip_length = 4, header, length
    out.ip_flags, out.fragment, out.fragment_offset = word >> 13, word & 0x3FFF != 0, (word & 0x1FFF) << 3
    out.ttl, out.protocol = u8(p, at + 8), u8(p, at + 9)
    out.src_lo, out.dst_lo = _MAPPED | be32(p, at + 12), _MAPPED | be32(p, at + 16)
    if at + length > wire:  # nothing lies behind the end of the frame
        out.malformed = True
    return at + header, min(at + length, wire), word & 0x1FFF == 0


@compiled
def _extension(kind: int) -> bool:
    return kind in (0, 43, 44, 51, 60, 135, 139, 140)  # RFC 6564, and fragment and AH


@compiled
def _ipv6(p: U8, at: int, wire: int, out: Any) -> tuple[int, int, bool]:
    """As for IPv4, behind the extension headers."""
    if at + 40 > len(p) or u8(p, at) >> 4 != 6:
        out.malformed = True
        return -1, -1, False
    length = be16(p, at + 4) + 40
    out.ip_version, out.ip_header, out.ip_length, out.ttl = 6, 40, length, u8(p, at + 7)
    out.src_hi, out.src_lo = _half(p, at + 8), _half(p, at + 16)
    out.dst_hi, out.dst_lo = _half(p, at + 24), _half(p, at + 32)
    end = min(at + length, wire)
    if at + length > wire:
        out.malformed = True
    kind, first, here = u8(p, at + 6), True, at + 40
    for _ in range(_CHAIN):
        if not _extension(kind) or not first:
            break
        if here + 8 > min(len(p), end):
            out.malformed = True
            first = False
            break
        step = (u8(p, here + 1) + 1) * 8
        if kind == 44:
            step, word = 8, be16(p, here + 2)
            out.fragment = out.fragment or word & 0xFFF9 != 0
            out.fragment_offset = word & 0xFFF8
            first = word & 0xFFF8 == 0
        elif kind == 51:
            step = (u8(p, here + 1) + 2) * 4
        kind, here = u8(p, here), here + step
    if first and _extension(kind):  # a chain without end is an attack on parsers
        out.malformed = True
        first = False
    out.protocol = kind
    return here, end, first


@compiled
def _mss(p: U8, at: int, end: int) -> int:
    """MSS option within [at, end), 0 = none."""
    end = min(end, len(p))
    for _ in range(40):
        if at >= end:
            break
        kind, length = u8(p, at), u8(p, at + 1) if at + 1 < end else 0
        if kind == 2 and length == 4 and at + 4 <= end:
            return be16(p, at + 2)
        if kind == 0 or (kind != 1 and length == 0):
            break
        at += 1 if kind == 1 else length
    return 0


@compiled
def _transport(p: U8, at: int, end: int, out: Any) -> tuple[int, int]:
    """Place and length of the payload, for a first fragment whose IP header says protocol TCP, UDP, ..."""
    kind, limit = out.protocol, min(end, len(p))
    room = max(end - at, 0)
    need = 20 if kind == TCP else 8 if kind == UDP else 12 if kind == SCTP else 4
    if at + need > limit:
        out.malformed = True
        return at, room
    if kind == TCP:
        header = (u8(p, at + 12) >> 4) * 4
        if header < 20 or at + header > limit:
            out.malformed = True
            if header < 20 or at + header > end:
                return at, room
        out.tcp_flags, out.window = u8(p, at + 13), be16(p, at + 14)
        out.seq, out.ack = be32(p, at + 4), be32(p, at + 8)
        if u8(p, at + 13) & SYN and header > 20:  # only SYN segments may carry it (RFC 9293, 3.7.1)
            out.mss = _mss(p, at + 20, at + header)
        at, room = at + header, room - header
        out.src_port, out.dst_port = be16(p, at - header), be16(p, at - header + 2)
    elif kind in (UDP, SCTP):
        out.src_port, out.dst_port = be16(p, at), be16(p, at + 2)
        if kind == UDP:
            # IPv6 jumbograms and offload write 0; a length that lies is cut to the datagram; a first fragment
            # states that of the whole.
            stated = be16(p, at + 4)
            fits = stated >= 8 and (stated <= room or out.fragment)
            if fits:
                room = stated
            elif stated:
                out.malformed = True
        at, room = at + need, room - need
    else:
        out.icmp_type, out.icmp_code = u8(p, at), u8(p, at + 1)
    out.l4 = kind
    return at, room


@compiled
def _other(kind: int) -> int:
    """Name of what is not IP."""
    if kind == 0x0806:
        return _ARP
    if kind == 0x88CC:
        return _LLDP
    if kind == 0x8892:
        return _PROFINET
    if kind == 0x88B8:
        return _GOOSE
    if kind == 0x88BA:
        return _SV
    if kind == 0x888E:
        return _EAPOL
    return _LLC if kind < 1536 else _ETH


@compiled
def _above(kind: int) -> int:
    """Name of an IP protocol."""
    if kind == TCP:
        return _A_TCP
    if kind == UDP:
        return _A_UDP
    if kind == ICMP:
        return _A_ICMP
    if kind == ICMPV6:
        return _A_ICMPV6
    if kind == IGMP:
        return _A_IGMP
    return _A_SCTP if kind == SCTP else _IP


@compiled
def _packet(p: U8, wire: int, link: int, out: Any) -> tuple[int, int]:
    """All fields of one packet; returns place and length of its payload."""
    kind, at = _link(p, link, out)
    if kind < 0:
        out.app = _ETH
        return len(p), 0
    out.ethertype = kind
    if kind == 0x0800:
        at, end, first = _ipv4(p, at, wire, out)
    elif kind == 0x86DD:
        at, end, first = _ipv6(p, at, wire, out)
    else:
        out.app = _other(kind)
        if kind == 0x0806:
            _arp(p, at, out)
        return len(p), 0
    if at < 0:
        out.app = _ETH
        return len(p), 0
    upper = int(np.int64(out.protocol))
    out.app = _above(upper)
    if not first or out.app == _IP:
        return at, max(end - at, 0)
    at, length = _transport(p, at, end, out)
    length = max(length, 0)
    if length and out.l4 in (TCP, UDP):
        out.app = name(
            p[min(at, len(p)) : min(at + length, len(p))],
            length,
            out.l4 == TCP,
            int(np.int64(out.src_port)),
            int(np.int64(out.dst_port)),
        )
    return at, length


def _build(version: str) -> Callable[..., None]:
    @entry
    def parse_block(data: U8, offset: I64, length: U32, wire: U32, link: int, out: NDArray[Any]) -> None:
        """Fill the records of all packets of a block, all zero before."""
        version  # noqa: B018
        for i in range(len(offset)):
            start, size = offset[i], int(np.int64(length[i]))
            p = data[start : start + size]
            at, payload = _packet(p, max(int(np.int64(wire[i])), size), link, out[i])
            out[i].payload = start + min(at, size)
            out[i].payload_length = payload

    return parse_block


parse_block = _build(fingerprint())
