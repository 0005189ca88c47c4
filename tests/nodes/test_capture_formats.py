"""Capture files as other programs write them, lying ones, and damaged ones."""

from __future__ import annotations

import csv
import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers.capture import CaptureError, FileCapture, open_source
from cellwatch.nodes.drivers.pcap_file import Decoder

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
T0 = 1_700_000_000
Row = tuple[int, int, int, bytes]  # link type, time in ns, bytes on the wire, packet


def read(path: Path, chunk: int = 1 << 20) -> tuple[list[Row], str]:
    """Every packet of a file, and its damage."""
    source = FileCapture(path, chunk=chunk)
    rows = []
    while not source.exhausted:
        rows += unpacked(source.read())
    source.close()
    return rows, source.damage


def unpacked(blocks: list[PacketBlock]) -> list[Row]:
    return [
        (b.link_type, int(t), int(w), b.data[o : o + n].tobytes())
        for b in blocks
        for t, w, o, n in zip(b.time_ns, b.wire_length, b.offset, b.length, strict=True)
    ]


def pcap_header(order: str = "<", magic: int = 0xA1B2C3D4, link: int = 1, snap: int = 65535) -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link)


def record(data: bytes, second: int = T0, part: int = 0, wire: int | None = None, order: str = "<") -> bytes:
    return struct.pack(order + "IIII", second, part, len(data), len(data) if wire is None else wire) + data


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: int = 1, snap: int = 0, options: bytes = b"", order: str = "<") -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def packet(data: bytes, ticks: int, face: int = 0, order: str = "<") -> bytes:
    head = struct.pack(order + "IIIII", face, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(6, head + data + bytes(-len(data) % 4), order)


def place(damage: str) -> int:
    return int(re.findall(r"at byte (\d+)", damage)[-1])


# --- what other programs write ------------------------------------------------------------------------------


def test_every_capture_at_hand_holds_what_capinfos_says() -> None:
    files = [*sorted(DATA.glob("pcaps/*/*.pcap*")), *sorted(DATA.glob("lemay_modbus/*.pcap"))]
    if not files:
        pytest.skip(f"no captures under {DATA}")
    if shutil.which("capinfos") is None:
        pytest.skip("needs capinfos (tshark)")
    command = ["capinfos", "-T", "-M", "-c", "-d", "-a", "-e", "-S", *map(str, files)]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    told = {row["File name"]: row for row in csv.DictReader(text.splitlines(), delimiter="\t")}
    assert len(told) == len(files)
    for file in files:
        rows, damage = read(file)
        row = told[str(file)]
        assert damage == "", file
        assert len(rows) == int(row["Number of packets"]), file
        assert sum(r[2] for r in rows) == int(row["Data size (bytes)"]), file
        if rows:
            times = [r[1] for r in rows]
            assert min(times) / 1e9 == pytest.approx(float(row["Start time"]), abs=2e-6), file
            assert max(times) / 1e9 == pytest.approx(float(row["End time"]), abs=2e-6), file


@pytest.mark.parametrize("kind", ["pcap", "nsecpcap", "pcapng"])
def test_captures_merged_by_wireshark(kind: str, tmp_path: Path) -> None:
    if shutil.which("mergecap") is None:
        pytest.skip("needs mergecap (wireshark-common)")
    parts = []
    for i, link in enumerate((1, 113, 101) if kind == "pcapng" else (1, 1, 1)):
        part = tmp_path / f"{i}.pcap"
        records = [
            record(bytes([i]) * (20 + n % 90), T0 + n, 999_999_000 + 3 * i, wire=500) for n in range(200)
        ]
        part.write_bytes(pcap_header(magic=0xA1B23C4D, link=link) + b"".join(records))
        parts.append(str(part))
    merged = tmp_path / "merged"
    subprocess.run(["mergecap", "-F", kind, "-w", str(merged), *parts], check=True, capture_output=True)
    expected = [row for part in parts for row in read(Path(part))[0]]
    if kind == "pcap":  # microseconds
        expected = [(link, t // 1000 * 1000, w, p) for link, t, w, p in expected]
    rows, damage = read(merged)
    assert damage == ""
    assert sorted(rows) == sorted(expected)
    times = np.array([r[1] for r in rows])
    assert (np.maximum.accumulate(times) - times).max() <= 200_000_000


def test_sections_and_interfaces_each_with_their_own_clock(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    later = option(9, b"\x09") + option(14, struct.pack("<q", 1000)) + option(0, b"")
    binary = option(2, b"eth0") + option(9, bytes([0x80 | 20]))
    path.write_bytes(
        section("<")
        + interface(1)  # microseconds by default
        + interface(113, options=later)
        + packet(b"one", T0 * 10**6 + 5, 0)
        + packet(b"two.", T0 * 10**9 + 7, 1)
        + block(4, b"name resolution, skipped")
        + interface(101, options=binary)
        + packet(b"three", (T0 << 20) + (1 << 19), 2)
        + section(">")
        + interface(276, options=option(9, b"\x03", ">"), order=">")
        + packet(b"four", T0 * 1000 + 9, 0, ">")
    )
    expected = [
        (1, T0 * 10**9 + 5000, 3, b"one"),
        (113, (T0 + 1000) * 10**9 + 7, 4, b"two."),
        (101, T0 * 10**9 + 500_000_000, 5, b"three"),
        (276, T0 * 10**9 + 9_000_000, 4, b"four"),
    ]
    for chunk in (1 << 20, 7):
        assert read(path, chunk) == (expected, "")


def test_simple_and_obsolete_packet_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    for order in "<>":
        ticks = T0 * 10**6
        old = struct.pack(order + "HHIIII", 1, 3, ticks >> 32, ticks & 0xFFFFFFFF, 3, 9) + b"old"
        path.write_bytes(
            section(order)
            + interface(1, snap=6, order=order)
            + interface(0, order=order)
            + block(2, old, order)
            + block(3, struct.pack(order + "I", 99) + b"simple", order)  # cut to 6, padded to 8
            + block(3, struct.pack(order + "I", 5) + b"short", order)
        )
        now = T0 * 10**9  # a simple block has the time of the packet before
        expected = [(0, now, 9, b"old"), (1, now, 99, b"simple"), (1, now, 5, b"short")]
        assert read(path) == (expected, "")


def test_link_types_in_turns_keep_their_time(tmp_path: Path) -> None:
    """However they are sorted into blocks, no packet comes much later than its neighbours."""
    path = tmp_path / "x.pcapng"
    body = b"".join(packet(b"%06d" % n, T0 * 10**6 + n * 5000, n % 2) for n in range(1000))
    path.write_bytes(section() + interface(1) + interface(113) + body)
    rows, _ = read(path)
    assert sorted(r[3] for r in rows) == [b"%06d" % n for n in range(1000)]
    assert {int(r[3]) % 2 for r in rows if r[0] == 113} == {1}
    times = np.array([r[1] for r in rows])
    assert (np.maximum.accumulate(times) - times).max() <= 200_000_000


@pytest.mark.parametrize("link", [1, 0, 12, 14, 101, 108, 113, 228, 229, 276])
def test_the_link_type_comes_with_the_packets(link: int, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(pcap_header(link=link | 0x24000000) + record(b"p"))  # with a checksum of 4 bytes
    assert read(path)[0][0][0] == link


def test_captures_one_behind_the_other(tmp_path: Path) -> None:
    """`cat a b c > d` of pcap files is common, and so is a stream that its writer began again."""
    path = tmp_path / "x"
    small = pcap_header() + record(b"a") + record(b"b")
    nano = pcap_header(">", 0xA1B23C4D, 101) + record(b"c", part=7, order=">")
    ng = section() + interface(113) + packet(b"d", T0 * 10**6)
    path.write_bytes(small + nano + ng + small)
    expected = [(1, b"a", 0), (1, b"b", 0), (101, b"c", 7), (113, b"d", 0), (1, b"a", 0), (1, b"b", 0)]
    for chunk in (1 << 20, 50, 1):
        rows, damage = read(path, chunk)
        assert ([(k, p, t - T0 * 10**9) for k, t, _, p in rows], damage) == (expected, "")


def test_without_a_folder_for_compiled_code_it_is_compiled_at_each_start() -> None:
    code = (
        "import numpy as np; from cellwatch.nodes.drivers import records;"
        "print(records.word(np.arange(4, dtype='u1'), 0, True))"
    )
    env = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "IPythonCacheLocator"}  # which keeps nothing for files
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["66051"]


# --- lies ---------------------------------------------------------------------------------------------------


def test_a_snap_length_that_lies_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for snap in (0, 10, 0xFFFFFFFF):
        path.write_bytes(pcap_header(snap=snap) + record(bytes(1500)) + record(bytes(9000)))
        rows, damage = read(path)
        assert [len(r[3]) for r in rows] == [1500, 9000]
        assert damage == ""


def test_a_clock_that_steps_back_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(pcap_header() + record(b"a", T0) + record(b"b", T0 - 3600) + record(b"c", 0))
    assert [r[1] for r in read(path)[0]] == [T0 * 10**9, (T0 - 3600) * 10**9, 0]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (struct.pack("<IIII", T0, 0, 262_145, 262_145), "a record of 262145 bytes"),
        (struct.pack("<IIII", T0, 0, 0xFFFFFFFF, 60), "a record of 4294967295 bytes"),
        (struct.pack("<IIII", T0, 1_000_000, 1, 1), "without a sane time"),
        (struct.pack("<IIII", T0, 0, 1, 0xFFFFFFF0), "without a sane time and length"),
        (bytes(16), "without a sane time and length"),
    ],
)
def test_absurd_pcap_records_end_the_reading_at_their_byte(bad: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    good = pcap_header() + record(b"a" * 60) + record(b"b" * 60)
    path.write_bytes(good + bad + record(b"never read") * 9)
    for chunk in (1 << 20, 33):
        rows, damage = read(path, chunk)
        assert len(rows) == 2
        assert why in damage
        assert place(damage) == len(good)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (struct.pack("<II", 6, 8) + bytes(40), "a record of 8 bytes"),
        (struct.pack("<II", 6, 33) + bytes(40), "a record of 33 bytes"),
        (struct.pack("<II", 99, 1 << 30) + bytes(40), "a record of 1073741824 bytes"),
        (block(99, bytes(20))[:-4] + struct.pack("<I", 36), "lengths differ"),
        (block(6, bytes(8)), "does not fit"),
        (packet(b"abcd", T0 * 10**6, face=1), "does not fit"),
        (packet(b"abcd", (1 << 64) - 1), "does not fit"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 5000, 5000) + bytes(8)), "does not fit"),
        (block(0x0A0D0D0A, bytes(40)), "lengths differ"),  # no byte-order mark
        (section() + packet(b"abcd", T0 * 10**6), "does not fit"),  # a section without interfaces
        (section() + block(3, struct.pack("<I", 4) + b"abcd"), "does not fit"),
    ],
)
def test_absurd_pcapng_blocks_end_the_reading_at_their_byte(bad: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    good = section() + interface() + packet(b"a" * 60, T0 * 10**6)
    path.write_bytes(good + bad + packet(b"never read", T0 * 10**6) * 9)
    for chunk in (1 << 20, 33):
        rows, damage = read(path, chunk)
        assert len(rows) == 1
        assert why in damage
        assert len(good) <= place(damage) < len(good + bad)


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(4, 24))
def test_a_header_cut_short_is_said(size: int, tmp_path: Path) -> None:
    path = tmp_path / "x"
    for whole in (pcap_header(), section()):
        path.write_bytes(whole[:size])
        rows, damage = read(path)
        assert rows == []
        assert f"cut off at byte {size}" in damage


PLAIN = pcap_header() + b"".join(
    record(np.random.default_rng(n).bytes(200), T0 + n) for n in range(3000)
)  # 650 kB that hardly pack
PACKED = gzip.compress(PLAIN, 1)


def test_a_gzip_stream_cut_off_gives_every_packet_before_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    for cut in (5000, 20_000, len(PACKED) // 2, len(PACKED) - 8, len(PACKED) - 1):
        path.write_bytes(PACKED[:cut])
        plain = zlib.decompressobj(31).decompress(PACKED[:cut])  # all that zlib can get out of it
        rows, damage = read(path)
        assert len(rows) == (len(plain) - 24) // 216
        assert f"cut off at its byte {cut}" in damage


def test_a_gzip_stream_broken_half_way_gives_every_packet_before_the_break(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    middle = len(PACKED) // 2
    path.write_bytes(PACKED[:middle] + bytes(64) + PACKED[middle + 64 :])
    rows, damage = read(path)
    assert "the gzip stream is broken at its byte" in damage or "damaged at byte" in damage
    sure = len(zlib.decompressobj(31).decompress(PACKED[: middle - 1])) // 216 - 1
    assert sure > 1000
    assert [r[3] for r in rows[:sure]] == [PLAIN[40 + 216 * n :][:200] for n in range(sure)]


def test_a_wrong_gzip_checksum_is_said_behind_the_last_packet(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(PACKED[:-8] + b"\1\2\3\4" + PACKED[-4:])
    rows, damage = read(path)
    assert len(rows) == 3000
    assert "incorrect data check" in damage


def test_gzip_members_one_behind_the_other(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    a, b = PLAIN[: 24 + 216 * 10], PLAIN[24 + 216 * 10 : 24 + 216 * 25]
    for tail, told in ((b"", ""), (bytes(512), ""), (b"rubbish", "something else follows")):
        path.write_bytes(gzip.compress(a) + gzip.compress(b) + tail)
        rows, damage = read(path, 1000)
        assert len(rows) == 25
        assert told in damage
        assert bool(told) == bool(damage)


def test_what_is_packed_is_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    for content in (gzip.compress(b"hello"), gzip.compress(b""), b"\x1f\x8b", b"\x1f\x8b\x08\x00junk"):
        path.write_bytes(content)
        with pytest.raises(CaptureError, match=r"x\.gz: not a capture"):
            open_source(path)


SEEDS = [
    pcap_header() + b"".join(record(bytes([n]) * 40, T0 + n) for n in range(20)),
    section()
    + interface()
    + interface(113)
    + b"".join(packet(b"x" * 40, T0 * 10**6, n % 2) for n in range(20)),
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(4, 1500), st.binary(min_size=1, max_size=12)), max_size=6),
    st.integers(1, 900),
)
def test_nothing_is_read_outside_the_buffer(seed: bytes, edits: list[tuple[int, bytes]], chunk: int) -> None:
    raw = bytearray(seed)
    for at, junk in edits:
        raw[at : at + len(junk)] = junk
    decoder = Decoder("x")
    for start in range(0, len(raw), chunk):
        for b in decoder.feed(bytes(raw[start : start + chunk])):
            end = b.offset + b.length
            assert (b.offset >= 0).all()
            assert (end <= len(b.data)).all()
            assert (b.time_ns >= 0).all()
    decoder.finish()
