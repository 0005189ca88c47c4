"""Capture sources: formats, damage, FIFO, pacing, the live ring."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers.capture import (
    CaptureError,
    FifoCapture,
    FileCapture,
    LiveCapture,
    LiveSettings,
    PacedCapture,
    open_source,
    read_all,
)
from cellwatch.nodes.drivers.pcap_file import Decoder

Packet = tuple[int, bytes]  # time in ns, bytes
PACKETS: list[Packet] = [
    (1_700_000_000_000_000_000 + i * 1_000_000, bytes([i % 256]) * (20 + i % 50)) for i in range(300)
]


def pcap(packets: list[Packet], order: str = "<", *, nano: bool = False, link: int = 1) -> bytes:
    out = struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    for at, data in packets:
        part = at % 10**9 // (1 if nano else 1000)
        out += struct.pack(order + "IIII", at // 10**9, part, len(data), len(data) + 3) + data
    return out


def ng_block(kind: int, body: bytes, order: str) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def pcapng(
    packets: list[Packet], order: str = "<", resolution: int = 9, links: tuple[int, ...] = (1,)
) -> bytes:
    out = ng_block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    for link in links:
        option = struct.pack(order + "HHB3xHH", 9, 1, resolution, 0, 0)
        out += ng_block(1, struct.pack(order + "HHI", link, 0, 0) + option, order)
    out += ng_block(5, bytes(12), order)  # interface statistics: skipped
    for i, (at, data) in enumerate(packets):
        ticks = (at << (resolution & 127)) // 10**9 if resolution & 128 else at * 10**resolution // 10**9
        head = struct.pack(
            order + "IIIII", i % len(links), ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data) + 3
        )
        out += ng_block(6, head + data + bytes(-len(data) % 4), order)
    return out


def unpack(blocks: list[PacketBlock]) -> list[Packet]:
    return [
        (int(t), b.data[o : o + n].tobytes())
        for b in blocks
        for t, o, n in zip(b.time_ns, b.offset, b.length, strict=True)
    ]


def everything(path: Path, chunk: int = 1 << 20) -> tuple[list[Packet], str]:
    source = FileCapture(path, chunk=chunk)
    blocks = []
    while not source.exhausted:
        blocks += source.read()
    source.close()
    return unpack(blocks), source.damage


FORMATS = {
    "pcap": pcap(PACKETS),
    "pcap big-endian": pcap(PACKETS, ">"),
    "pcap nano": pcap(PACKETS, nano=True),
    "pcap nano big-endian": pcap(PACKETS, ">", nano=True),
    "pcapng": pcapng(PACKETS),
    "pcapng big-endian": pcapng(PACKETS, ">"),
    "pcapng micro": pcapng(PACKETS, resolution=6),
    "gzip": gzip.compress(pcap(PACKETS)),
    "gzip pcapng": gzip.compress(pcapng(PACKETS)),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("chunk", [61, 1 << 20])
def test_formats(name: str, chunk: int, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(FORMATS[name])
    assert everything(path, chunk) == (PACKETS, "")


def test_binary_resolution_and_several_links(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(pcapng(PACKETS, resolution=0x80 | 30))
    packets, _ = everything(path)
    assert max(abs(a[0] - b[0]) for a, b in zip(packets, PACKETS, strict=True)) <= 2
    path.write_bytes(pcapng(PACKETS, links=(1, 101)))
    blocks = list(read_all(path))
    assert {b.link_type for b in blocks} == {1, 101}
    assert sorted(unpack(blocks)) == PACKETS
    assert (blocks[0].wire_length == blocks[0].length + 3).all()


def test_an_empty_capture_is_fine(tmp_path: Path) -> None:
    for content in (pcap([]), pcapng([]), gzip.compress(pcap([]))):
        path = tmp_path / "x"
        path.write_bytes(content)
        assert everything(path) == ([], "")


@pytest.mark.parametrize("name", ["pcap", "pcapng", "gzip"])
def test_a_capture_cut_off_is_read_up_to_the_cut(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(FORMATS[name][: len(FORMATS[name]) * 2 // 3])
    packets, damage = everything(path, 500)
    assert packets == PACKETS[: len(packets)]
    assert len(packets) > 50
    assert "byte" in damage
    assert str(path) in damage


@pytest.mark.parametrize("name", ["pcap", "pcapng"])
@pytest.mark.parametrize("filler", [b"\xff", b"\x00", b"A"])
def test_a_damaged_capture_is_read_up_to_the_damage(name: str, filler: bytes, tmp_path: Path) -> None:
    good = FORMATS[name]
    middle = len(good) // 2
    path = tmp_path / "x"
    path.write_bytes(good[:middle] + filler * 4000 + good[middle:])
    packets, damage = everything(path)
    keep = [p for p in packets if p in PACKETS]
    assert len(keep) > 100
    assert len(packets) - len(keep) <= 1  # the one the damage begins in
    place = int(damage.split("at byte ")[1].split(":")[0].split(",")[0])
    assert middle - 100 < place < middle + 200


def test_no_capture_is_refused_by_name(tmp_path: Path) -> None:
    for content, what in ((b"hello world", "not a capture"), (b"", "empty"), (b"\x1f\x8bxx", "not a")):
        path = tmp_path / "notes.txt"
        path.write_bytes(content)
        with pytest.raises(CaptureError, match=rf"notes\.txt.*{what}"):
            open_source(path)
    with pytest.raises(CaptureError, match=r"nowhere\.pcap: neither"):
        open_source(tmp_path / "nowhere.pcap")
    with pytest.raises(CaptureError, match="folder"):
        open_source(tmp_path)
    with pytest.raises(CaptureError, match=r"no such interface; this machine has .*lo"):
        LiveCapture("nope0")
    (tmp_path / "x").write_bytes(pcap([]))
    with pytest.raises(CaptureError, match="is no FIFO"):
        FifoCapture(tmp_path / "x")
    with pytest.raises(CaptureError, match="speed -1"):
        open_source(tmp_path / "x", speed=-1)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["pcap", "pcapng"]),
    st.integers(0, 3000),
    st.binary(min_size=1, max_size=40),
    st.integers(1, 700),
)
def test_any_damage_is_survived_inside_the_buffer(name: str, place: int, junk: bytes, chunk: int) -> None:
    raw = bytearray(FORMATS[name][:3000])
    raw[place : place + len(junk)] = junk
    decoder = Decoder("x")
    try:
        for start in range(0, len(raw), chunk):
            for b in decoder.feed(bytes(raw[start : start + chunk])):
                assert (b.offset >= 0).all()
                assert (b.offset + b.length <= len(b.data)).all()
    except CaptureError:
        assert place < 4
    decoder.finish()


def test_a_fifo_outlives_its_writers(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    source = open_source(path)
    assert isinstance(source, FifoCapture)
    assert source.read(0.05) == []  # nobody writes: no error, no hang
    raw = pcap(PACKETS[:10])
    with path.open("wb", buffering=0) as writer:
        writer.write(raw[:40])
        assert source.read() == []  # half a packet
        writer.write(raw[40:61])
        assert unpack(source.read(0.5)) == PACKETS[:1]
        writer.write(raw[61:])
        assert unpack(source.read(0.5)) == PACKETS[1:10]
    assert source.read(0.05) == []
    assert source.damage == ""
    with path.open("wb", buffering=0) as writer:  # the next writer, other byte order, breaks off
        writer.write(pcap(PACKETS[10:20], ">", nano=True)[:-5])
    assert unpack(source.read(0.5)) == PACKETS[10:19]
    source.read(0.05)
    assert "cut off" in source.damage
    with path.open("wb", buffering=0) as writer:
        writer.write(b"this is not a capture")
    assert source.read(0.05) == []
    assert "not a capture" in source.damage
    with path.open("wb", buffering=0) as writer:  # two writers without a pause between
        writer.write(pcap(PACKETS[:5]) + pcap(PACKETS[5:9], nano=True))
    assert unpack(source.read(0.5)) == PACKETS[:9]
    assert source.damage == ""  # the trouble is over
    assert not source.exhausted
    source.close()
    assert source.exhausted


def test_a_busy_fifo_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    source = FifoCapture(path)
    raw = pcap(PACKETS * 50)
    writer = threading.Thread(target=lambda: path.write_bytes(raw))
    writer.start()
    got: list[Packet] = []
    end = time.monotonic() + 10
    while len(got) < 15_000 and time.monotonic() < end:
        got += unpack(source.read(0.1))
    writer.join()
    assert got == PACKETS * 50
    source.close()


def test_pacing_like_tcpreplay(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(PACKETS))  # 300 packets, 1 ms apart
    now = [10**18]
    source = PacedCapture(FileCapture(path, chunk=3000), 2.0, lambda: now[0])
    first = source.read()
    assert sum(len(b.time_ns) for b in first) == 1
    assert first[0].time_ns.tolist() == [10**18]
    now[0] += 50_000_000  # 50 ms of ours are 100 of the file
    times = np.concatenate([b.time_ns for b in source.read()])
    assert len(times) == 100
    assert np.diff(times).tolist() == [500_000] * 99
    assert not source.exhausted
    now[0] += 10**9
    assert sum(len(b.time_ns) for b in source.read()) == 199
    assert source.exhausted
    source.close()


@pytest.mark.parametrize("speed", [0.0, 1e6])
def test_what_was_played_already_is_skipped(speed: float, tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(PACKETS))
    for skip in (0, 1, 42, 299, 300, 1000):
        source = PacedCapture(FileCapture(path, chunk=500), speed, skip=skip)
        blocks = []
        while not source.exhausted:
            blocks += source.read(0.1)
        assert [data for _, data in unpack(blocks)] == [data for _, data in PACKETS[skip:]]
        assert not blocks or abs(int(blocks[0].time_ns[0]) - time.time_ns()) < 2 * 10**9
        source.close()


def test_top_speed_is_stamped_when_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(PACKETS))
    source = PacedCapture(FileCapture(path, chunk=3000), 0)
    start = time.time_ns()
    blocks = []
    while not source.exhausted:
        blocks += source.read()
    times = np.concatenate([b.time_ns for b in blocks])
    assert len(times) == 300
    assert (np.diff(times) >= 0).all()
    assert times[0] >= start - 1_000_000_000
    assert times[-1] <= time.time_ns()


def live() -> LiveCapture:
    try:
        return LiveCapture("lo")
    except CaptureError as error:
        pytest.skip(str(error))


def test_live_ring_sees_every_packet_once() -> None:
    source = live()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for i in range(500):
            sender.sendto(b"cellwatch%05d" % i, ("127.0.0.1", 9))
    mine: list[Packet] = []
    end = time.monotonic() + 5
    while time.monotonic() < end and len(mine) < 500:  # UDP only: ICMP's complaints quote the payload
        mine += [
            (t, p)
            for t, p in unpack(source.read(0.1))
            if b"cellwatch" in p and p[12:14] == b"\x08\x00" and p[23] == 17
        ]
    assert [p[-5:] for _, p in mine] == [b"%05d" % i for i in range(500)]
    assert abs(mine[-1][0] - time.time_ns()) < 10 * 10**9
    assert source.dropped == 0
    source.close()


def test_live_drops_are_counted() -> None:
    live().close()
    source = LiveCapture("lo", LiveSettings(block_bytes=1 << 16, blocks=2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(2000):
            sender.sendto(bytes(1000), ("127.0.0.1", 9))
    time.sleep(0.05)
    assert source.dropped > 0
    source.close()
    assert source.dropped > 0
