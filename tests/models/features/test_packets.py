"""The parser against tshark, against broken bytes, and on each link type."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.models.features import packets as pk
from cellwatch.models.features.packets import PROTOCOLS, Packets, address, mac, parse
from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers.capture import read_all

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[4] / "shared" / "data"))
CAPTURES = ("lemay_modbus/*.pcap", "pcaps/*/*.pcap", "pcaps/*/*.pcapng")
NUMBERS = {
    "frame.len": "wire_length",
    "ip.len": "ip_length",
    "ip.ttl": "ttl",
    "ip.hdr_len": "ip_header",
    "ip.frag_offset": "fragment_offset",
    "ip.proto": "protocol",
    "tcp.srcport": "src_port",
    "tcp.dstport": "dst_port",
    "udp.srcport": "src_port",
    "udp.dstport": "dst_port",
    "tcp.window_size_value": "window",
    "tcp.len": "payload_length",
    "tcp.seq_raw": "seq",
    "tcp.ack_raw": "ack",
    "tcp.options.mss_val": "mss",
    "icmp.type": "icmp_type",
    "icmp.code": "icmp_code",
    "arp.opcode": "arp",
    "ipv6.hlim": "ttl",
    "ip.version": "ip_version",
    "icmpv6.type": "icmp_type",
    "icmpv6.code": "icmp_code",
    "ipv6.fraghdr.offset": "fragment_offset",
}
OTHERS = [
    "tcp.flags",
    "eth.src",
    "eth.dst",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "arp.src.proto_ipv4",
    "frame.time_epoch",
    "ip.flags",
    "vlan.id",
    "ieee8021ad.id",
    "udp.length",
    "ipv6.plen",
    "sll.src.eth",
    "frame.protocols",
]


def block(*frames: bytes, link_type: int = 1, padding: int = 0) -> PacketBlock:
    """A block of whole frames, one behind the other, with no byte to spare unless asked."""
    size = [len(f) for f in frames]
    data = np.frombuffer(b"".join(frames) + bytes(padding), dtype=np.uint8)
    offset = np.array([0, *np.cumsum(size)[:-1]][: len(size)], dtype=np.int64)
    length = np.array(size, dtype=np.uint32)
    return PacketBlock(data, offset, length, length, np.arange(len(frames), dtype=np.int64), link_type)


def ipv4(payload: bytes, protocol: int, *, flags: int = 0x4000, options: bytes = b"", ttl: int = 64) -> bytes:
    ihl = 5 + len(options) // 4
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | ihl,
        0,
        ihl * 4 + len(payload),
        1,
        flags,
        ttl,
        protocol,
        0,
        bytes([10, 0, 0, 1]),
        bytes([10, 0, 0, 2]),
    )
    return head + options + payload


def tcp(
    payload: bytes = b"", flags: int = 0x18, options: bytes = b"", sport: int = 40000, dport: int = 502
) -> bytes:
    doff = 5 + len(options) // 4
    return struct.pack(">HHIIBBHHH", sport, dport, 7, 9, doff << 4, flags, 4096, 0, 0) + options + payload


def ethernet(payload: bytes, kind: int = 0x0800, tags: bytes = b"") -> bytes:
    return bytes.fromhex("020000000002020000000001") + tags + struct.pack(">H", kind) + payload


def tshark_rows(path: Path) -> list[dict[str, str]]:
    names = [*NUMBERS, *OTHERS]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "occurrence=f", "-E", "separator=|"]
    for option in ("tcp.desegment_tcp_streams", "ip.defragment", "ipv6.defragment"):
        command += ["-o", f"{option}:FALSE"]
    command += [word for name in names for word in ("-e", name)]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [dict(zip(names, line.split("|"), strict=True)) for line in text.splitlines()]


def compare(path: Path) -> Counter[str]:
    """Check every packet of a capture; counts how often each field was compared."""
    rows = tshark_rows(path)
    compared: Counter[str] = Counter()
    at = 0
    for raw in read_all(path):
        packets = parse(raw)
        check(packets, rows[at : at + len(packets)], path.name, at, compared)
        at += len(packets)
    assert at == len(rows) > 0, path
    return compared


@pytest.fixture(scope="module")
def captures() -> list[Path]:
    if shutil.which("tshark") is None or shutil.which("mergecap") is None:
        pytest.skip("tshark is not installed (apt-get install tshark)")
    files = [path for pattern in CAPTURES for path in sorted(DATA.glob(pattern))]
    if not files:
        pytest.skip(f"no captures under {DATA}; set CELLWATCH_DATA")
    return files


def test_every_field_of_every_capture_agrees_with_tshark(captures: list[Path], tmp_path: Path) -> None:
    # Starting tshark is what takes long, so all captures of a link type become one.
    kinds: dict[int, list[str]] = {}
    for path in captures:
        kinds.setdefault(next(iter(read_all(path))).link_type, []).append(str(path))
    compared: Counter[str] = Counter()
    for link_type, files in kinds.items():
        merged = tmp_path / f"{link_type}.pcapng"
        subprocess.run(["mergecap", "-a", "-F", "pcapng", "-w", str(merged), *files], check=True)
        compared += compare(merged)
    for name in ("tcp.seq_raw", "tcp.options.mss_val", "udp.length", "icmp.type", "arp.opcode", "ipv6.dst"):
        assert compared[name], name
    assert compared.total() > 1_000_000
    assert {name: n for name, n in compared.items() if name.startswith("malformed")} == {}


def wrapped(kind: str, frame: bytes) -> bytes:
    """The frame's IPv4 datagram behind another link header."""
    ip = frame[14:]
    return {
        "vlan": frame[:12] + struct.pack(">HH", 0x8100, 0x2005) + frame[12:],
        "qinq": frame[:12] + struct.pack(">HHHH", 0x88A8, 100, 0x8100, 5) + frame[12:],
        "raw": ip,
        "ipv4": ip,
        "null": struct.pack("<I", 2) + ip,
        "loop": struct.pack(">I", 2) + ip,
        "sll": struct.pack(">HHH6s2xH", 0, 1, 6, frame[6:12], 0x0800) + ip,
        "sll2": struct.pack(">HHIHBB6s2x", 0x0800, 0, 2, 1, 0, 6, frame[6:12]) + ip,
        "sll vlan": struct.pack(">HHH6s2xHHH", 0, 1, 6, frame[6:12], 0x8100, 0x2005, 0x0800) + ip,
        "sll2 vlan": struct.pack(">HHIHBB6s2xHH", 0x8100, 0, 2, 1, 0, 6, frame[6:12], 0x2005, 0x0800) + ip,
    }[kind]


@pytest.mark.parametrize(
    ("kind", "link_type"),
    [
        ("vlan", 1),
        ("qinq", 1),
        ("raw", 101),
        ("ipv4", 228),
        ("null", 0),
        ("loop", 108),
        ("sll", 113),
        ("sll2", 276),
        ("sll vlan", 113),
        ("sll2 vlan", 276),
    ],
)
def test_every_link_type_agrees_with_tshark(
    kind: str, link_type: int, captures: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "wrapped.pcap"
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, link_type))
        for capture in captures[::9]:
            raw = next(iter(read_all(capture)))
            if raw.link_type != 1:
                continue
            data = raw.data.tobytes()
            for at, size in list(zip(raw.offset.tolist(), raw.length.tolist(), strict=True))[:20]:
                if data[at + 12 : at + 14] == b"\x08\x00":
                    frame = wrapped(kind, data[at : at + size])
                    out.write(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)
    compared = compare(path)
    assert compared["ip.src"] > 100
    assert compared["tcp.seq_raw"] > 50
    if kind.startswith("sll"):
        assert compared["sll.src.eth"] > 100
    if link_type == 1 or kind.endswith("vlan"):
        assert compared["vlan.id" if kind.endswith("vlan") else "ieee8021ad.id"] > 100


def check(
    packets: Packets, rows: list[dict[str, str]], path: str, start: int, compared: Counter[str]
) -> None:
    """Compare each field that tshark shows."""
    columns = {f.name: getattr(packets, f.name).tolist() for f in fields(packets) if f.name != "block"}
    for i, row in enumerate(rows):
        p = {name: column[i] for name, column in columns.items()}
        # What tshark shows of the outer headers; ICMP errors and tunnels have inner ones as well.
        layers = [name for name in row["frame.protocols"].split(":") if not name.startswith("ipv6.")]
        network = next((k for k, name in enumerate(layers) if name in ("ip", "ipv6", "arp")), len(layers))
        if row["ip.version"] not in ("", "4", "6"):  # fuzzed: tshark shows the number and reads no further
            network = len(layers)
        outer = {"frame", "eth", "sll", "vlan", "ieee8021ad", *layers[network : network + 2]}
        syn = row["tcp.flags"] and int(row["tcp.flags"], 16) & pk.SYN

        def same(
            ours: object,
            theirs: object,
            name: str,
            malformed: bool = p["malformed"],
            number: int = start + i + 1,
        ) -> None:
            if malformed and ours != theirs:
                compared[f"malformed {name}"] += 1
                return
            assert ours == theirs, f"{path} packet {number} {name}"
            compared[name] += 1

        shown = {name: text for name, text in row.items() if text and name.split(".")[0] in outer}
        for theirs, ours in NUMBERS.items():
            if theirs in shown and (theirs != "tcp.options.mss_val" or syn):
                same(p[ours], int(row[theirs]), theirs)
        if "tcp.flags" in shown:
            same(p["tcp_flags"], int(row["tcp.flags"], 16) & 0xFF, "tcp.flags")
        for name, ours in (("eth.src", "src_mac"), ("eth.dst", "dst_mac"), ("sll.src.eth", "src_mac")):
            if name in shown:
                same(mac(p[ours]), row[name], name)
        for name, hi, lo in (
            ("ip.src", "src_hi", "src_lo"),
            ("ip.dst", "dst_hi", "dst_lo"),
            ("ipv6.src", "src_hi", "src_lo"),
            ("ipv6.dst", "dst_hi", "dst_lo"),
            ("arp.src.proto_ipv4", "src_hi", "src_lo"),
        ):
            if name in shown:
                same(address(p[hi], p[lo]), row[name], name)
        if "udp.length" in shown:
            same(p["payload_length"] + 8, int(row["udp.length"]), "udp.length")
        if "ipv6.plen" in shown:
            same(p["ip_length"] - 40, int(row["ipv6.plen"]), "ipv6.plen")
        for name in ("ieee8021ad.id", "vlan.id"):  # the outer tag is what we keep
            if name in shown:
                same(p["vlan"], int(row[name]), name)
                break
        if "ip.flags" in shown:
            flags = int(row["ip.flags"], 16)
            same(p["ip_flags"], flags >> (5 if flags > 7 else 0), "ip.flags")
        seconds, part = row["frame.time_epoch"].split(".")
        same(p["time_ns"], int(seconds) * 10**9 + int(part.ljust(9, "0")), "frame.time_epoch")


def test_tcp_over_vlans() -> None:
    inner = ipv4(tcp(b"\x00\x01\x00\x00\x00\x06\x01\x03\x00\x00\x00\x0a"), pk.TCP)
    one = ethernet(inner, tags=struct.pack(">HH", 0x8100, 0x2005))
    two = ethernet(inner, tags=struct.pack(">HHHH", 0x88A8, 100, 0x8100, 5))
    p = parse(block(ethernet(inner), one, two))
    assert p.vlan.tolist() == [0, 5, 100]
    assert p.dst_port.tolist() == [502] * 3
    assert p.payload_length.tolist() == [12] * 3
    assert [PROTOCOLS[a] for a in p.app] == ["mbtcp"] * 3
    assert not p.malformed.any()


def test_options_mss_and_content() -> None:
    syn = tcp(flags=2, options=b"\x01\x01\x02\x04\x05\xb4\x00\x00")
    hello = tcp(b"HELF" + struct.pack("<I", 32) + bytes(24), dport=51234)
    p = parse(block(ethernet(ipv4(syn, pk.TCP, options=bytes([7, 4, 0, 0]))), ethernet(ipv4(hello, pk.TCP))))
    assert p.mss.tolist() == [1460, 0]
    assert p.ip_header.tolist() == [24, 20]
    assert PROTOCOLS[p.app[0]] == "tcp"
    assert PROTOCOLS[p.app[1]] == "opcua"


def test_fragments_have_no_ports() -> None:
    first = ethernet(ipv4(struct.pack(">HHHH", 5000, 6000, 4000, 0) + bytes(16), pk.UDP, flags=0x2000))
    second = ethernet(ipv4(b"\xff" * 24, pk.UDP, flags=0x0003))
    p = parse(block(first, second))
    assert p.fragment.tolist() == [True, True]
    assert p.fragment_offset.tolist() == [0, 24]
    assert p.dst_port.tolist() == [6000, 0]
    assert p.l4.tolist() == [pk.UDP, 0]
    assert p.payload_length.tolist() == [3992, 24]  # the first says how long the whole is
    assert not p.malformed.any()


def test_offloaded_segments_state_no_length() -> None:
    frame = bytearray(ethernet(ipv4(tcp(bytes(4000)), pk.TCP)))
    frame[16:18] = bytes(2)
    cut = block(bytes(frame[:96]))
    p = parse(replace(cut, wire_length=np.array([len(frame)], dtype=np.uint32)))
    assert p.ip_length.tolist() == [4040]
    assert p.payload_length.tolist() == [4000]
    assert not p.malformed.any()


def test_a_client_may_have_the_number_of_an_industrial_port() -> None:
    identity = struct.pack("<HHII8sI", 0x63, 0, 0, 0, bytes(8), 0)
    page = b"HTTP/1.1 200 OK\r\n\r\n"
    query = struct.pack(">HHHH", 47808, 53, 28, 0) + bytes(20)
    who_is = bytes.fromhex("810b000c0120ffff00ff1008")
    bacnet = struct.pack(">HHHH", 47808, 47808, 8 + len(who_is), 0) + who_is
    payloads = [
        tcp(b"\x9c\x01" * 20, sport=44818, dport=8444),
        tcp(b"\x9c\x01" * 20, sport=8444, dport=44818),
        tcp(page, sport=80, dport=48898),
        tcp(identity, dport=44818),
    ]
    frames = [ethernet(ipv4(payload, pk.TCP)) for payload in payloads]
    frames += [ethernet(ipv4(payload, pk.UDP)) for payload in (query, bacnet)]
    names = [PROTOCOLS[a] for a in parse(block(*frames)).app]
    assert names == ["data", "data", "http", "enip", "dns", "bacnet"]


def test_ipv6_extension_headers() -> None:
    body = struct.pack(">HHHH", 546, 547, 12, 0) + b"abcd"
    hop = bytes([60, 0, 1, 4, 0, 0, 0, 0])
    dest = bytes([17, 0, 1, 4, 0, 0, 0, 0])
    head = (
        struct.pack(">IHBB", 0x60000000, len(hop + dest + body), 0, 7)
        + bytes(15)
        + b"\x01"
        + bytes(15)
        + b"\x02"
    )
    fragment = struct.pack(">BBHI", 17, 0, 0x0009, 1)
    part = struct.pack(">IHBB", 0x60000000, 8 + len(body), 44, 7) + bytes(32) + fragment + body
    p = parse(block(ethernet(head + hop + dest + body, 0x86DD), ethernet(part, 0x86DD)))
    assert p.protocol.tolist() == [17, 17]
    assert p.dst_port.tolist() == [547, 0]
    assert p.fragment.tolist() == [False, True]
    assert p.fragment_offset.tolist() == [0, 8]
    assert address(int(p.src_hi[0]), int(p.src_lo[0])) == "::1"


@pytest.mark.parametrize(
    ("link_type", "head"),
    [
        (101, b""),
        (228, b""),
        (113, bytes.fromhex("0000 0001 0006 020000000001 0000 0800")),
        (276, bytes.fromhex("0800 0000 00000002 0001 00 06 020000000001 0000")),
    ],
)
def test_other_link_types(link_type: int, head: bytes) -> None:
    p = parse(block(head + ipv4(tcp(b"xyz!"), pk.TCP), link_type=link_type))
    assert p.dst_port.tolist() == [502]
    assert p.src_mac.tolist() == [0x020000000001 if head else 0]
    assert not p.malformed.any()


def test_half_a_packet_is_malformed_and_keeps_to_itself() -> None:
    whole = ethernet(ipv4(tcp(b"hello world!"), pk.TCP))
    for cut in range(len(whole)):
        wire = np.full(2, len(whole), dtype=np.uint32)
        p = parse(replace(block(whole[:cut], whole), wire_length=wire))
        assert p.dst_port[1] == 502
        if cut < 54:
            assert p.malformed[0], cut
            assert p.dst_port[0] == 0, cut  # and not the port of the neighbour
        else:
            assert not p.malformed[0], cut  # cut in the payload: a snap length, all headers are there


def test_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="link type 147"):
        parse(block(b"abc", link_type=147))
    outside = block(b"abcdef")
    with pytest.raises(ValueError, match="outside"):
        parse(
            PacketBlock(outside.data, outside.offset + 1, outside.length, outside.length, outside.time_ns, 1)
        )
    assert len(parse(block())) == 0


FRAME = st.one_of(
    st.binary(max_size=200),
    st.builds(ethernet, st.binary(max_size=120)),
    st.builds(lambda b: ethernet(b, 0x86DD), st.binary(max_size=120)),
    st.builds(
        lambda b, p: ethernet(ipv4(b, p)), st.binary(max_size=80), st.sampled_from([1, 6, 17, 41, 132])
    ),
    st.builds(
        lambda n, o: ethernet(ipv4(tcp(b"\x16\x03\x01x", 2, o), 6))[:n],
        st.integers(0, 90),
        st.just(b"\x02\x00" * 4),
    ),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(FRAME, min_size=1, max_size=8), st.sampled_from([1, 101, 113, 276, 0]))
def test_any_bytes_parse_and_no_packet_sees_its_neighbours(frames: list[bytes], link_type: int) -> None:
    # What is parsed of a packet must not depend on the bytes around it: that proves no read outside of it.
    alone = block(*frames, link_type=link_type)
    noisy = np.frombuffer(b"".join(b"\xff" * 40 + f for f in frames) + b"\xff" * 300, dtype=np.uint8)
    shift = alone.offset + 40 * np.arange(1, len(frames) + 1)
    other = PacketBlock(noisy, shift, alone.length, alone.length, alone.time_ns, link_type)
    a, b = parse(alone), parse(other)
    for f in fields(Packets):
        if f.name not in ("block", "payload"):
            np.testing.assert_array_equal(getattr(a, f.name), getattr(b, f.name), err_msg=f.name)
    assert (a.payload <= alone.offset + alone.length).all()
    np.testing.assert_array_equal(a.payload - alone.offset, b.payload - shift)
    assert (a.app < len(PROTOCOLS)).all()


def test_spare_bytes_change_nothing() -> None:
    frame = ethernet(ipv4(tcp(b"x" * 40), pk.TCP))
    a, b = parse(block(frame)), parse(block(frame, padding=500))
    for f in fields(Packets):
        if f.name != "block":
            np.testing.assert_array_equal(getattr(a, f.name), getattr(b, f.name))


def test_reads_the_whole_collection() -> None:
    files = sorted(DATA.glob("pcaps/*/*.pcap*"))
    if not files:
        pytest.skip(f"no captures under {DATA}; set CELLWATCH_DATA")
    total = sum(len(parse(raw)) for path in files for raw in read_all(path))
    assert total > 50_000
