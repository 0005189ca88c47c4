"""Raw bytes to packet columns, all packets of a block in one compiled pass.

The headers are read by `protocols.headers`, the protocol above them is named by `protocols.application`.
Whatever does not fit in the captured bytes leaves the packet `malformed`; nothing outside of a packet's own
bytes is ever read. Tunnels (GRE, VXLAN, IP in IP, MPLS, PPPoE) are not entered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellwatch.models.features.protocols.codes import CODE, PROTOCOLS
from cellwatch.models.features.protocols.compiled import frozen
from cellwatch.models.features.protocols.headers import (
    ACK,
    ETHERNET,
    FIN,
    ICMP,
    ICMPV6,
    IGMP,
    LINUX_SLL,
    LINUX_SLL2,
    LOOPBACK,
    PACKET,
    PSH,
    RAW_IP,
    RST,
    SCTP,
    SYN,
    TCP,
    U16,
    U64,
    UDP,
    URG,
    parse_block,
)
from cellwatch.models.types import I64, U8, U32, Bool, PacketBlock

__all__ = [
    "ACK", "CODE", "FIN", "ICMP", "ICMPV6", "IGMP", "PROTOCOLS", "PSH", "RST", "SCTP", "SYN", "TCP", "U16",
    "U64", "UDP", "URG", "Packets", "address", "mac", "parse",
]  # fmt: skip
_LINKS = (ETHERNET, LINUX_SLL, LINUX_SLL2, *RAW_IP, *LOOPBACK)


@dataclass(frozen=True, slots=True)
class Packets:
    """n packets; every array has shape (n,). A field that a packet lacks is 0; see the masks."""

    time_ns: I64
    wire_length: U32  # bytes
    malformed: Bool
    src_mac: U64  # 48 bits, 0 = none
    dst_mac: U64
    vlan: U16  # id of the outer tag, 0 = none
    ethertype: U16  # of the innermost layer; 802.3 length below 1536
    ip_version: U8  # 4, 6, or 0 = not IP
    ip_header: U8  # bytes; 40 for IPv6
    ip_length: U32  # bytes, header included
    ip_flags: U8  # 3 bits: 2 = don't fragment, 1 = more fragments
    fragment: Bool  # part of a fragmented datagram
    fragment_offset: U16  # bytes
    ttl: U8  # hop limit
    protocol: U8  # IP protocol, behind the extension headers
    src_hi: U64  # 128-bit address; IPv4 (and ARP) as ::ffff:a.b.c.d
    src_lo: U64
    dst_hi: U64
    dst_lo: U64
    arp: U16  # ARP operation: 1 request, 2 reply, 0 = not ARP
    l4: U8  # TCP, UDP, ICMP... where its header is whole, else 0
    src_port: U16
    dst_port: U16
    tcp_flags: U16  # 8 bits CWR..FIN
    window: U16  # as sent, not scaled
    mss: U16  # option of SYN segments, 0 = none
    seq: U32
    ack: U32
    icmp_type: U8
    icmp_code: U8
    payload: I64  # place of the payload in the block's data
    payload_length: U32  # by the headers, so that a short snap length does not hide it
    app: U8  # PROTOCOLS code
    block: PacketBlock

    def __len__(self) -> int:
        return len(self.time_ns)


def parse(block: PacketBlock) -> Packets:
    """Columns of all packets of `block`.

    Raises ValueError when `block` points outside its own data or has a link type that is not supported.
    """
    n = len(block.offset)
    if not n == len(block.length) == len(block.wire_length) == len(block.time_ns):
        raise ValueError(f"packet block with {n} offsets has columns of another length")
    if n and (
        int(block.offset.min()) < 0 or int((block.offset + block.length).max()) > len(block.data)
    ):  # fmt: skip
        raise ValueError(f"packet block points outside its {len(block.data)} bytes of data")
    if block.link_type not in _LINKS:
        raise ValueError(
            f"link type {block.link_type} is not supported; have Ethernet (1), raw IP (101), loopback (0), "
            "SLL (113), SLL2 (276)"
        )
    rows = np.zeros(n, dtype=PACKET)
    parse_block(
        frozen(block.data, np.uint8), frozen(block.offset, np.int64), frozen(block.length, np.uint32),
        frozen(block.wire_length, np.uint32), block.link_type, rows,
    )  # fmt: skip
    columns = {name: rows[name].copy() for name in PACKET.names or ()}
    return Packets(time_ns=block.time_ns, wire_length=block.wire_length, block=block, **columns)


def address(hi: int, lo: int) -> str:
    """Text of a 128-bit address; IPv4 in dotted form.

    >>> address(0, 0xFFFF0A000001)
    '10.0.0.1'
    """
    from ipaddress import IPv6Address

    if hi == 0 and lo >> 32 == 0xFFFF:
        return ".".join(str(lo >> shift & 255) for shift in (24, 16, 8, 0))
    return str(IPv6Address(hi << 64 | lo))


def mac(value: int) -> str:
    """Text of a MAC address.

    >>> mac(0x020000000001)
    '02:00:00:00:00:01'
    """
    return value.to_bytes(6, "big").hex(":")
