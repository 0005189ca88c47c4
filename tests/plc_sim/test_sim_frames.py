"""Frames: checksums against a slow sum of our own, merging, padding, capture files."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from cellwatch.plc_sim import frames as fr
from cellwatch.plc_sim import pcap

A = fr.host("a", "02:00:00:00:00:01", "10.0.0.1")
B = fr.host("b", "02:00:00:00:00:02", "10.0.0.2")


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


def check(frame):
    """Every checksum of a frame sums up to 0xFFFF; returns its protocol."""
    if frame[12:14] == fr.ETHER_IPV6:
        body = frame[54:]
        pseudo = frame[22:54] + struct.pack(">II", len(body), frame[20])
        assert ones_sum(pseudo + body) == 0xFFFF
        return frame[20]
    if frame[12:14] != fr.ETHER_IPV4:
        assert len(frame) >= 60
        return frame[12:14]
    length, header = struct.unpack(">H", frame[16:18])[0], (frame[14] & 15) * 4
    assert len(frame) == 14 + length
    assert ones_sum(frame[14 : 14 + header]) == 0xFFFF
    body = frame[14 + header :]
    if struct.unpack(">H", frame[20:22])[0] & 0x3FFF:
        return "fragment"
    pseudo = (
        b"" if frame[23] in {fr.ICMP, fr.IGMP} else frame[26:34] + struct.pack(">HH", frame[23], len(body))
    )
    assert ones_sum(pseudo + body) == 0xFFFF
    return frame[23]


def some_frames():
    rng = np.random.default_rng(3)
    out = []
    for size in (0, 1, 7, 64, 333, 1400):
        payload = rng.bytes(size)
        out += [
            fr.tcp_frame(A, B, (1, 2), 3, 4, fr.ACK, payload),
            fr.tcp_frame(A, B, (1, 2), 3, 0, fr.SYN, payload, fr.MSS_OPTION),
            fr.udp_frame(A, B, (1, 2), payload),
            fr.icmp_echo(A, B, False, 1, 2, payload),
        ]
    return out


def test_seal_sums_every_protocol():
    mine = fr.group("239.255.255.250")
    more = [
        fr.igmp_report(A, mine),
        fr.group6(A, b"\xff\x02" + bytes(13) + b"\x02", fr.ICMPV6, bytes([133]) + bytes(7)),
        fr.group6(A, b"\xff\x02" + bytes(13) + b"\x0c", fr.UDP, fr.udp_body((1, 2), b"odd")),
        fr.icmp_unreachable(B, A, fr.udp_frame(A, B, (1, 2), b"question"), whole=True),
        fr.arp_frame(A, B, reply=False),
    ]
    found = {check(fr.seal(frame)) for frame in some_frames() + more}
    assert found == {fr.TCP, fr.UDP, fr.ICMP, fr.IGMP, fr.ICMPV6, fr.ETHER_ARP}


def test_an_all_zero_udp_checksum_is_sent_as_ones():
    payloads = (struct.pack(">H", n) for n in range(65536))
    frame = next(
        f for f in (fr.seal(fr.udp_frame(A, B, (1, 2), p)) for p in payloads) if f[40:42] == b"\xff\xff"
    )
    check(frame)


def test_blocks_get_the_same_checksums_as_single_frames():
    for frame in some_frames():
        block = fr.stamp(frame, np.arange(3))
        fr.put16(block.rows, fr.IDENT, np.array([1, 2, 65535]))
        singles = [bytes(row[: len(frame)]) for row in block.rows]
        assert each(fr.merge([], [block])) == [fr.seal(single) for single in singles]


def test_a_fragment_keeps_its_body():
    frame = bytearray(fr.udp_frame(A, B, (1, 2), b"x" * 100))
    frame[20] = 0x20  # more fragments
    frame[40:42] = b"\x12\x34"
    for sealed in (fr.seal(bytes(frame)), each(fr.merge([], [fr.stamp(bytes(frame), np.array([0]))]))[0]):
        assert check(sealed) == "fragment"
        assert sealed[40:42] == b"\x12\x34"


def test_merge_keeps_time_and_bytes():
    singles = [(30, fr.udp_frame(A, B, (1, 2), b"x" * 101)), (10, fr.arp_frame(A, B, reply=False))]
    block = fr.stamp(fr.tcp_frame(A, B, (5, 6), 1, 0, fr.SYN), np.array([20, 5]))
    fr.put16(block.rows, fr.SPORT, np.array([7, 70000]))
    merged = fr.merge(singles, [block])
    assert merged.time_ns.tolist() == [5, 10, 20, 30]
    rows = each(merged)
    assert [len(row) for row in rows] == [54, 60, 54, 143]  # IP as captured by its sender, ARP padded
    assert struct.unpack(">H", rows[0][34:36])[0] == 70000 % 65536
    assert rows[3].endswith(b"x" * 101)
    assert len(fr.merge([], [])) == 0


@pytest.mark.parametrize("blocks", [0, 2])
def test_pcap_is_read_back(blocks):
    many = [
        fr.stamp(fr.tcp_frame(A, B, (5, k), 1, 0, fr.SYN), np.arange(40) * 10**8 + k) for k in range(blocks)
    ]
    frames = fr.merge([(i * 3 * 10**8, frame) for i, frame in enumerate(some_frames())], many)
    raw = pcap.HEADER + pcap.encode(frames)
    at, got = 24, []
    while at < len(raw):
        sec, nsec, size, full = struct.unpack("<IIII", raw[at : at + 16])
        assert size == full
        got.append((sec * 10**9 + nsec, raw[at + 16 : at + 16 + size]))
        at += 16 + size
    assert got == list(zip(frames.time_ns.tolist(), each(frames), strict=True))
    assert pcap.encode(fr.EMPTY) == b""
