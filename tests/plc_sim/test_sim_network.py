"""Frames: checksums, sequence numbers, shapes; judged by our own slow reading and by tshark where it is."""

from __future__ import annotations

import collections
import itertools
import shutil
import struct
import subprocess

import numpy as np
import pytest

from cellwatch.plc_sim import frames as fr
from cellwatch.plc_sim import pcap
from cellwatch.plc_sim.network import ATTACKERS, DEVICES
from cellwatch.plc_sim.recording import simulate


@pytest.fixture(scope="module")
def runs():
    """Two runs of 60 s with one attack of each type."""
    found = {}
    for seed in range(30):
        r = simulate("demo", seed, 60.0, network=False)
        kind = next(label.type for label in r.incidents if label.kind == "attack")
        if kind not in found:
            found[kind] = simulate("demo", seed, 60.0)
    assert sorted(found) == ["port-scan", "syn-flood"]
    return found


def each(frames):
    data, offset = frames.data.tobytes(), frames.offset
    return [data[a:b] for a, b in itertools.pairwise(offset)]


def ones_sum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_every_checksum_is_right(runs):
    seen = collections.Counter()
    for run in runs.values():
        for frame in each(run.frames):
            assert 60 <= len(frame) <= 1514
            if frame[12:14] != b"\x08\x00":
                assert frame[12:14] == b"\x08\x06"
                seen["arp"] += 1
                continue
            ip = frame[14 : 14 + struct.unpack(">H", frame[16:18])[0]]
            assert ones_sum(ip[:20]) == 0xFFFF
            body = ip[20:]
            pseudo = b"" if ip[9] == fr.ICMP else ip[12:20] + struct.pack(">HH", ip[9], len(body))
            assert ones_sum(pseudo + body) == 0xFFFF
            seen[ip[9]] += 1
    assert set(seen) == {"arp", fr.ICMP, fr.TCP, fr.UDP}


def test_addresses_belong_together(runs):
    pairs = set()
    for run in runs.values():
        for frame in each(run.frames):
            if frame[12:14] == b"\x08\x00":
                pairs.add((frame[6:12].hex(":"), frame[26:30]))
    macs = [mac for mac, _ in pairs]
    assert len(macs) == len(set(macs))  # one address a device
    assert set(DEVICES) <= set(macs) <= set(DEVICES) | set(ATTACKERS)


def test_tcp_sequence_numbers_follow_the_payload(runs):
    expected: dict[tuple, int] = {}
    checked = 0
    for frame in each(runs["syn-flood"].frames):
        if frame[12:14] != b"\x08\x00" or frame[23] != fr.TCP or frame[6:12].hex(":") in ATTACKERS:
            continue
        if frame[0:6].hex(":") in ATTACKERS:
            continue
        ports = struct.unpack(">HH", frame[34:38])
        seq = struct.unpack(">I", frame[38:42])[0]
        flags, header = frame[47], (frame[46] >> 4) * 4
        size = struct.unpack(">H", frame[16:18])[0] - 20 - header
        key = (frame[26:34], ports)
        if key in expected:
            assert seq == expected[key]
            checked += 1
        expected[key] = (seq + size + bool(flags & (fr.SYN | fr.FIN))) & 0xFFFFFFFF
    assert checked > 800


def test_benign_share_of_protocols():
    ports = collections.Counter()
    for frame in each(simulate("quiet", 4, 60.0).frames):
        if frame[12:14] == b"\x08\x00" and frame[23] in {fr.TCP, fr.UDP}:
            ports.update(set(struct.unpack(">HH", frame[34:38])) & {4840, 1883, 53, 123})
    assert set(ports) == {4840, 1883, 53, 123}
    assert ports[4840] > 300  # two polls a second of three packets


def test_attack_rates_stand_out(runs):
    for kind, least in (("syn-flood", 400), ("port-scan", 120)):
        run = runs[kind]
        label = next(label for label in run.incidents if label.kind == "attack")
        inside = (run.frames.time_ns >= label.onset_ns) & (run.frames.time_ns < label.end_ns)
        span = (label.end_ns - label.onset_ns) * 1e-9
        outside = (~inside).sum() / (60.0 - span)
        assert inside.sum() / span > least
        assert outside < 40


def test_merge_keeps_time_and_bytes():
    a, b = fr.host("a", "02:00:00:00:00:01", "10.0.0.1"), fr.host("b", "02:00:00:00:00:02", "10.0.0.2")
    singles = [(30, fr.udp_frame(a, b, (1, 2), b"x" * 101)), (10, fr.arp_frame(a, b, reply=False))]
    block = fr.stamp(fr.tcp_frame(a, b, (5, 6), 1, 0, fr.SYN), np.array([20, 5]))
    fr.put16(block.rows, 34, np.array([7, 70000]))
    merged = fr.merge(singles, [block])
    assert merged.time_ns.tolist() == [5, 10, 20, 30]
    rows = each(merged)
    assert [len(row) for row in rows] == [60, 60, 60, 143]
    assert struct.unpack(">H", rows[0][34:36])[0] == 70000 % 65536
    assert rows[3].endswith(b"x" * 101)
    assert len(fr.merge([], [])) == 0


def test_pcap_is_read_back():
    run = simulate("quiet", 9, 3.0)
    raw = pcap.HEADER + pcap.encode(run.frames)
    at, got = 24, []
    while at < len(raw):
        sec, nsec, size, full = struct.unpack("<IIII", raw[at : at + 16])
        assert size == full
        got.append((sec * 10**9 + nsec, raw[at + 16 : at + 16 + size]))
        at += 16 + size
    assert got == list(zip(run.frames.time_ns.tolist(), each(run.frames), strict=True))
    assert pcap.encode(fr.EMPTY) == b""


def test_tshark_finds_nothing_malformed(runs, tmp_path):
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    file = tmp_path / "all.pcap"
    file.write_bytes(pcap.HEADER + b"".join(pcap.encode(run.frames) for run in runs.values()))
    checksums = [f"{p}.checksum.status" for p in ("ip", "tcp", "udp", "icmp")]
    troubles = ["_ws.malformed", "tcp.analysis.lost_segment"]
    options = [x for p in ("ip", "tcp", "udp") for x in ("-o", f"{p}.check_checksum:TRUE")]
    fields = [x for f in ("_ws.col.Protocol", *troubles, *checksums) for x in ("-e", f)]
    command = ["tshark", "-r", str(file), *options, "-T", "fields", *fields]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == sum(len(run.frames) for run in runs.values())
    assert {cell for row in rows for cell in row[1:3]} == {""}
    assert {cell for row in rows for cell in row[3:]} == {"", "1"}  # 1 = good
    names = {row[0] for row in rows}
    assert {"TCP", "ARP", "MQTT", "DNS", "NTP", "ICMP"} <= names
    assert any("OpcUa" in name for name in names), names
