"""Raw bytes to packet columns, all packets at once.

Headers are gathered as rows of fixed width (one fancy index over overlapping windows of the buffer) and
read as structured views; only what is rare (VLAN tags, extension headers, TCP options) loops, over layers,
never over packets. Whatever does not fit in the captured bytes leaves the packet `malformed`; nothing
outside the buffer is ever read. Tunnels (GRE, VXLAN, IP in IP, MPLS, PPPoE) are not entered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.types import BLOCK_PADDING, I64, U8, U32, Bool, PacketBlock

U16 = NDArray[np.uint16]
U64 = NDArray[np.uint64]

# Highest protocol of a packet; the place in this tuple is its code in `Packets.app`.
PROTOCOLS = (
    "eth", "llc", "arp", "lldp", "profinet", "goose", "eapol", "ip", "icmp", "igmp", "icmpv6", "tcp",
    "udp", "sctp", "data", "json", "http", "tls", "ssh", "telnet", "ftp", "smtp", "dns", "mdns", "llmnr",
    "nbns", "ntp", "dhcp", "dhcpv6", "ssdp", "snmp", "syslog", "tftp", "rtsp", "quic", "mqtt", "mbtcp",
    "opcua", "tpkt", "enip", "dnp3", "bacnet", "iec104", "ads", "hartip", "synphasor", "smb", "influxdb",
)  # fmt: skip
CODE = {name: i for i, name in enumerate(PROTOCOLS)}

TCP_PORTS = {
    20: "ftp", 21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 53: "dns", 80: "http",
    102: "tpkt", 443: "tls", 445: "smb", 502: "mbtcp", 554: "rtsp", 1883: "mqtt", 2404: "iec104",
    4712: "synphasor", 4840: "opcua", 5094: "hartip", 8080: "http", 8086: "influxdb", 8883: "tls",
    20000: "dnp3", 44818: "enip", 48898: "ads",
}  # fmt: skip
UDP_PORTS = {
    53: "dns", 67: "dhcp", 68: "dhcp", 69: "tftp", 123: "ntp",
    137: "nbns", 161: "snmp", 162: "snmp", 443: "quic", 514: "syslog", 546: "dhcpv6", 547: "dhcpv6",
    1900: "ssdp", 2222: "enip", 4713: "synphasor", 5094: "hartip", 5353: "mdns", 5355: "llmnr",
    20000: "dnp3", 44818: "enip", 47808: "bacnet",
}  # fmt: skip

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
TCP, UDP, ICMP, IGMP, ICMPV6, SCTP = 6, 17, 1, 2, 58, 132
_VLAN = (0x8100, 0x88A8, 0x9100)
_EXTENSIONS = (0, 43, 60, 135, 139, 140)  # IPv6 headers of the common form (RFC 6564)


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


def _layout(size: int, **fields: tuple[str, int]) -> np.dtype[Any]:
    return np.dtype(
        {
            "names": list(fields),
            "formats": [kind for kind, _ in fields.values()],
            "offsets": [at for _, at in fields.values()],
            "itemsize": size,
        }
    )


_ETHERNET = _layout(24, dst=(">u8", 0), src=(">u8", 6), type=(">u2", 12), tci=(">u2", 14), inner=(">u2", 16))
_ARP = _layout(
    28,
    hard=(">u2", 0),
    proto=(">u2", 2),
    hlen=("u1", 4),
    plen=("u1", 5),
    op=(">u2", 6),
    spa=(">u4", 14),
    tpa=(">u4", 24),
)
_IPV4 = _layout(
    20,
    vihl=("u1", 0),
    length=(">u2", 2),
    frag=(">u2", 6),
    ttl=("u1", 8),
    proto=("u1", 9),
    src=(">u4", 12),
    dst=(">u4", 16),
)
_IPV6 = _layout(
    40, ver=("u1", 0), length=(">u2", 4), next=("u1", 6), hop=("u1", 7),
    sh=(">u8", 8), sl=(">u8", 16), dh=(">u8", 24), dl=(">u8", 32),
)  # fmt: skip
_L4 = _layout(
    20, sport=(">u2", 0), dport=(">u2", 2), seq=(">u4", 4), ack=(">u4", 8), doff=("u1", 12), flags=("u1", 13),
    window=(">u2", 14), udp=(">u2", 4), type=("u1", 0), code=("u1", 1),
)  # fmt: skip
_MAPPED = np.uint64(0xFFFF << 32)  # ::ffff:0:0/96


class _Reader:
    """Bounded gathers from one buffer; a place outside reads from the spare bytes at the end."""

    def __init__(self, block: PacketBlock) -> None:
        data = np.ascontiguousarray(block.data)
        end = int((block.offset + block.length).max()) if len(block.offset) else 0
        if end + BLOCK_PADDING > len(data):
            data = np.concatenate([data, np.zeros(BLOCK_PADDING, dtype=np.uint8)])
        self.data = data

    def rows(self, at: I64, layout: np.dtype[Any]) -> NDArray[Any]:
        """Structured records at the byte places `at`, shape (n,)."""
        size = layout.itemsize
        places = len(self.data) - size + 1
        spread: NDArray[Any] = np.ndarray((places,), f"V{size}", buffer=self.data.data, strides=(1,))
        return spread[np.minimum(at, places - 1)].view(layout)

    def byte(self, at: I64) -> U8:
        """Single bytes, shape (n,)."""
        return self.data[np.minimum(at, len(self.data) - 1)]


def parse(block: PacketBlock) -> Packets:
    """Columns of all packets of `block`.

    Raises ValueError when `block` points outside its own data or has a link type that is not supported.
    """
    n = len(block.offset)
    start = block.offset
    end = start + block.length
    if n and (int(start.min()) < 0 or int(end.max()) > len(block.data)):
        raise ValueError(f"packet block points outside its {len(block.data)} bytes of data")
    wire_end = start + np.maximum(block.wire_length, block.length)
    read = _Reader(block)

    def column(kind: str) -> NDArray[Any]:
        return np.zeros(n, dtype=kind)

    malformed = column("?")
    src_mac, dst_mac, vlan = column("u8"), column("u8"), column("u2")
    ip_version, ip_header, ip_length, ip_flags = column("u1"), column("u1"), column("u4"), column("u1")
    fragment, fragment_offset, ttl, protocol = column("?"), column("u2"), column("u1"), column("u1")
    src_hi, src_lo, dst_hi, dst_lo = column("u8"), column("u8"), column("u8"), column("u8")
    arp, l4, src_port, dst_port = column("u2"), column("u1"), column("u2"), column("u2")
    tcp_flags, window, mss, seq, ack = column("u2"), column("u2"), column("u2"), column("u4"), column("u4")
    icmp_type, icmp_code = column("u1"), column("u1")
    app = column("u1")

    # --- link layer: where layer 3 begins, and what it is
    link = block.link_type
    if link == 1:
        frame = read.rows(start, _ETHERNET)
        l3 = start + 14
        ok = l3 <= end
        ethertype = np.where(ok, frame["type"], 0).astype(np.uint16)
        dst_mac = np.where(ok, frame["dst"] >> np.uint64(16), 0).astype(np.uint64)
        src_mac = np.where(ok, frame["src"] >> np.uint64(16), 0).astype(np.uint64)
        malformed |= ~ok
        tagged = np.flatnonzero((ethertype == _VLAN[0]) | (ethertype == _VLAN[1]) | (ethertype == _VLAN[2]))
        for depth in range(4):  # QinQ has two; more is somebody playing
            if not len(tagged):
                break
            at = l3[tagged]
            whole = at + 4 <= end[tagged]
            malformed[tagged[~whole]] = True
            ethertype[tagged[~whole]] = 0
            tagged, at = tagged[whole], at[whole]
            tag = read.rows(at - 14, _ETHERNET)
            if depth == 0:
                vlan[tagged] = tag["tci"] & 0x0FFF
            ethertype[tagged] = tag["inner"]
            l3[tagged] += 4
            tagged = tagged[np.isin(ethertype[tagged], _VLAN)]
    elif link in (113, 276):  # Linux cooked v1, v2: the sender's address only
        head, type_at, length_at, address_at = (16, 14, 4, 6) if link == 113 else (20, 0, 11, 12)
        l3 = start + head
        ok = l3 <= end
        malformed |= ~ok
        kind = read.rows(start + type_at, _layout(2, v=(">u2", 0)))["v"]
        ethertype = np.where(ok, kind, 0).astype(np.uint16)
        if link == 113:
            size = read.rows(start + length_at, _layout(2, v=(">u2", 0)))["v"].astype(np.int64)
        else:
            size = read.byte(start + length_at).astype(np.int64)
        address = read.rows(start + address_at, _layout(8, v=(">u8", 0)))["v"] >> np.uint64(16)
        src_mac = np.where(ok & (size == 6), address, 0).astype(np.uint64)
    elif link in (101, 12, 14, 228, 229, 0, 108):  # raw IP, and BSD loopback with 4 bytes before it
        l3 = start + (4 if link in (0, 108) else 0)
        ok = l3 < end
        malformed |= ~ok
        version = read.byte(l3) >> 4
        ethertype = np.select([ok & (version == 4), ok & (version == 6)], [0x0800, 0x86DD], 0).astype(
            np.uint16
        )
    else:
        raise ValueError(
            f"link type {link} is not supported; have Ethernet (1), raw IP (101), loopback (0), "
            "SLL (113), SLL2 (276)"
        )

    app[:] = CODE["eth"]
    rare = np.flatnonzero((ethertype != 0x0800) & (ethertype != 0x86DD))
    if len(rare):
        kinds = ethertype[rare]
        app[rare[(kinds < 1536) & ~malformed[rare]]] = CODE["llc"]
        for number, name in ((0x88CC, "lldp"), (0x8892, "profinet"), (0x88B8, "goose"), (0x888E, "eapol")):
            app[rare[kinds == number]] = CODE[name]
        asks = rare[kinds == 0x0806]
        if len(asks):
            app[asks] = CODE["arp"]
            fits = l3[asks] + 8 <= end[asks]
            malformed[asks[~fits]] = True
            asks = asks[fits]
            row = read.rows(l3[asks], _ARP)
            usual = (row["hlen"] == 6) & (row["plen"] == 4)
            fits = l3[asks] + 8 + 2 * (row["hlen"].astype(np.int64) + row["plen"]) <= end[asks]
            malformed[asks[~fits]] = True
            arp[asks[fits]] = row["op"][fits]
            pick = asks[fits & usual]
            row = row[fits & usual]
            src_lo[pick] = _MAPPED | row["spa"].astype(np.uint64)
            dst_lo[pick] = _MAPPED | row["tpa"].astype(np.uint64)

    # --- network layer: `l4_at` where layer 4 begins, `l4_end` where the datagram says it ends
    l4_at = end.copy()
    l4_end = end.copy()
    has_l4 = column("?")
    v4 = np.flatnonzero(ethertype == 0x0800)
    if len(v4):
        at, stop = l3[v4], end[v4]
        row = read.rows(at, _IPV4)
        header = (row["vihl"] & 15).astype(np.int64) * 4
        length = row["length"].astype(np.int64)
        length = np.where(length == 0, stop - at, length)  # TCP segmentation offload writes 0
        good = (
            (at + 20 <= stop)
            & (row["vihl"] >> 4 == 4)
            & (header >= 20)
            & (at + header <= stop)
            & (length >= header)
        )
        malformed[v4[~good]] = True
        if not good.all():
            v4, at, row, header, length = v4[good], at[good], row[good], header[good], length[good]
        flags = row["frag"]
        part = flags & 0x3FFF != 0
        ip_version[v4] = 4
        ip_header[v4] = header
        ip_length[v4] = length
        ip_flags[v4] = flags >> 13
        fragment[v4] = part
        fragment_offset[v4] = (flags & 0x1FFF) << 3
        ttl[v4] = row["ttl"]
        protocol[v4] = row["proto"]
        src_lo[v4] = _MAPPED | row["src"].astype(np.uint64)
        dst_lo[v4] = _MAPPED | row["dst"].astype(np.uint64)
        l4_at[v4] = at + header
        l4_end[v4] = np.minimum(at + length, wire_end[v4])  # nothing lies behind the end of the frame
        malformed[v4] |= at + length > wire_end[v4]
        has_l4[v4] = flags & 0x1FFF == 0
    v6 = np.flatnonzero(ethertype == 0x86DD)
    if len(v6):
        at, stop = l3[v6], end[v6]
        row = read.rows(at, _IPV6)
        good = (at + 40 <= stop) & (row["ver"] >> 4 == 6)
        malformed[v6[~good]] = True
        v6, at, row = v6[good], at[good], row[good]
        length = row["length"].astype(np.int64) + 40
        ip_version[v6] = 6
        ip_header[v6] = 40
        ip_length[v6] = length
        ttl[v6] = row["hop"]
        src_hi[v6], src_lo[v6], dst_hi[v6], dst_lo[v6] = row["sh"], row["sl"], row["dh"], row["dl"]
        l4_at[v6] = at + 40
        l4_end[v6] = np.minimum(at + length, wire_end[v6])
        malformed[v6] |= at + length > wire_end[v6]
        protocol[v6] = row["next"]
        has_l4[v6] = True
        chain = v6[np.isin(protocol[v6], (*_EXTENSIONS, 44, 51))]
        for _ in range(8):
            if not len(chain):
                break
            here = l4_at[chain]
            fits = here + 8 <= np.minimum(end[chain], l4_end[chain])
            malformed[chain[~fits]] = True
            has_l4[chain[~fits]] = False
            chain, here = chain[fits], here[fits]
            kind = protocol[chain]
            step = read.byte(here + 1).astype(np.int64)
            size = np.where(kind == 44, 8, np.where(kind == 51, (step + 2) * 4, (step + 1) * 8))
            cut = kind == 44
            info = read.rows(here + 2, _layout(2, v=(">u2", 0)))["v"]
            fragment[chain] |= cut & (info & 0xFFF9 != 0)
            fragment_offset[chain] = np.where(cut, info & 0xFFF8, fragment_offset[chain])
            has_l4[chain] &= ~cut | (info & 0xFFF8 == 0)
            protocol[chain] = read.byte(here)
            l4_at[chain] = here + size
            chain = chain[np.isin(protocol[chain], (*_EXTENSIONS, 44, 51)) & has_l4[chain]]
        if len(chain):  # a chain without end is an attack on parsers
            malformed[chain] = True
            has_l4[chain] = False

    # --- transport layer
    payload = np.minimum(l4_at, end)
    is_ip = ip_version > 0
    payload_length = np.where(is_ip, np.maximum(l4_end - l4_at, 0), 0)
    app[is_ip] = CODE["ip"]
    limit = np.minimum(end, l4_end)
    for number, name in (
        (ICMP, "icmp"),
        (IGMP, "igmp"),
        (ICMPV6, "icmpv6"),
        (SCTP, "sctp"),
        (UDP, "udp"),
        (TCP, "tcp"),
    ):
        pick = np.flatnonzero((protocol == number) & is_ip)
        if not len(pick):
            continue
        app[pick] = CODE[name]
        need = {TCP: 20, UDP: 8, SCTP: 12}.get(number, 4)
        first = has_l4[pick]
        fits = l4_at[pick] + need <= limit[pick]
        malformed[pick[first & ~fits]] = True
        if not (first & fits).all():
            pick = pick[first & fits]
        at = l4_at[pick]
        row = read.rows(at, _L4)
        if number == TCP:
            header = (row["doff"] >> 4).astype(np.int64) * 4
            good = (header >= 20) & (at + header <= l4_end[pick])
            malformed[pick[~good | (at + header > end[pick])]] = True
            if not good.all():
                pick, at, row, header = pick[good], at[good], row[good], header[good]
            src_port[pick], dst_port[pick] = row["sport"], row["dport"]
            tcp_flags[pick], window[pick] = row["flags"], row["window"]
            seq[pick], ack[pick] = row["seq"], row["ack"]
            payload[pick] = at + header
            payload_length[pick] = l4_end[pick] - at - header
            _mss(read, pick, at, header, end, tcp_flags, mss)
        elif number in (UDP, SCTP):
            src_port[pick], dst_port[pick] = row["sport"], row["dport"]
            if number == UDP:
                # IPv6 jumbograms and offload write 0; a length that lies is cut to the datagram, unless it
                # is a fragment
                stated = row["udp"].astype(np.int64)
                room = l4_end[pick] - at
                lies = (stated != 0) & ((stated < 8) | ((stated > room) & ~fragment[pick]))
                malformed[pick[lies]] = True
                size = np.where((stated < 8) | (stated > room), room, stated)
                payload[pick] = at + 8
                payload_length[pick] = size - 8
            else:
                payload[pick] = at + 12
                payload_length[pick] -= 12
        else:
            icmp_type[pick], icmp_code[pick] = row["type"], row["code"]
        l4[pick] = number

    payload = np.minimum(payload, end)
    payload_length = np.maximum(payload_length, 0).astype(np.uint32)
    _application(read, app, l4, src_port, dst_port, payload, payload_length, end)
    return Packets(
        block.time_ns, block.wire_length, malformed, src_mac, dst_mac, vlan, ethertype, ip_version,
        ip_header, ip_length, ip_flags, fragment, fragment_offset, ttl, protocol, src_hi, src_lo, dst_hi,
        dst_lo, arp, l4, src_port, dst_port, tcp_flags, window, mss, seq, ack, icmp_type, icmp_code,
        payload, payload_length, app, block,
    )  # fmt: skip


def _mss(read: _Reader, pick: I64, at: I64, header: I64, end: I64, flags: U16, mss: U16) -> None:
    """MSS option; only SYN segments may carry it (RFC 9293, 3.7.1)."""
    chosen = np.flatnonzero((flags[pick] & SYN != 0) & (header > 20))
    who = pick[chosen]
    here = at[chosen] + 20
    stop = np.minimum(at[chosen] + header[chosen], end[who])
    for _ in range(40):  # options are at most 40 bytes
        if not len(who):
            return
        kind = read.byte(here).astype(np.int64)
        size = np.where(kind == 1, 1, read.byte(here + 1))
        found = (kind == 2) & (size == 4) & (here + 4 <= stop)
        if found.any():
            mss[who[found]] = read.rows(here[found] + 2, _layout(2, v=(">u2", 0)))["v"]
        here = here + size
        on = (kind != 0) & (size > 0) & (here < stop) & ~found
        who, here, stop = who[on], here[on], stop[on]


def _table(ports: dict[int, str]) -> U8:
    table = np.zeros(65536, dtype=np.uint8)
    for port, name in ports.items():
        table[port] = CODE[name]
    return table


_TCP_TABLE, _UDP_TABLE = _table(TCP_PORTS), _table(UDP_PORTS)
_HEAD = _layout(
    8, b0=("u1", 0), b1=("u1", 1), b2=("u1", 2), b7=("u1", 7), w0=(">u2", 0), w2=(">u2", 2), w4=(">u2", 4),
    d0=(">u4", 0),
)  # fmt: skip


def _word(text: str) -> int:
    return int.from_bytes(text.encode(), "big")


_OPCUA = np.array(
    [_word(m) for m in ("HELF", "ACKF", "OPNF", "MSGF", "MSGC", "MSGA", "CLOF", "ERRF", "RHEF")]
)
_HTTP = np.array([_word(m) for m in ("GET ", "POST", "PUT ", "HEAD", "HTTP", "DELE", "OPTI", "PATC", "TRAC")])


def _application(
    read: _Reader, app: U8, l4: U8, src_port: U16, dst_port: U16, payload: I64, payload_length: U32, end: I64
) -> None:
    """Name the protocol above TCP or UDP: by port, else by content, else `data`."""
    stream = np.flatnonzero((l4 == TCP) & (payload_length > 0))
    packet = np.flatnonzero((l4 == UDP) & (payload_length > 0))
    for pick, table in ((stream, _TCP_TABLE), (packet, _UDP_TABLE)):
        if not len(pick):
            continue
        by_dst = table[dst_port[pick]]
        app[pick] = np.where(by_dst > 0, by_dst, table[src_port[pick]])
    unknown = np.concatenate([stream[_named(app, stream)], packet[_named(app, packet)]])
    app[unknown] = CODE["data"]
    unknown = unknown[end[unknown] - payload[unknown] >= 4]
    if not len(unknown):
        return
    # Only bytes of the packet itself may decide: those behind its end are the neighbour's.
    head = read.rows(payload[unknown], np.dtype("V8")).view(np.uint8).reshape(-1, 8)
    own = payload[unknown][:, None] + np.arange(8) < end[unknown][:, None]
    row = (head * own).view(_HEAD).reshape(-1)
    size = payload_length[unknown].astype(np.int64)
    tcp = l4[unknown] == TCP
    b0, b1 = row["b0"], row["b1"]
    tests = (
        ("opcua", tcp & np.isin(row["d0"], _OPCUA) & (size >= 8)),
        ("http", tcp & np.isin(row["d0"], _HTTP)),
        ("ssh", tcp & (row["d0"] == _word("SSH-"))),
        ("tls", tcp & (b0 >= 0x14) & (b0 <= 0x17) & (b1 == 3) & (row["b2"] <= 4)),
        ("json", ((b0 == 0x7B) & np.isin(b1, (0x22, 0x0A, 0x20, 0x7D))) | (row["w0"] == 0x5B7B)),
        ("tpkt", tcp & (row["w0"] == 0x0300) & (row["w2"] == size) & (size >= 7)),
        ("iec104", tcp & (b0 == 0x68) & (b1 + np.int64(2) == size) & (size >= 6)),
        ("dnp3", (row["w0"] == 0x0564) & (size >= 10)),
        ("bacnet", ~tcp & (b0 == 0x81) & (row["w2"] == size)),
        (
            "mbtcp",
            tcp & (row["w2"] == 0) & (row["w4"] + np.int64(6) == size) & (size >= 8)
            & ((row["b7"] & 0x7F) <= 43) & ((row["b7"] & 0x7F) > 0),
        ),
    )  # fmt: skip
    left = np.ones(len(unknown), dtype=bool)
    for name, hit in tests:
        app[unknown[hit & left]] = CODE[name]
        left &= ~hit


def _named(app: U8, pick: I64) -> Bool:
    return np.asarray(app[pick] == 0)


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
