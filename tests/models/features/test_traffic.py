"""Network columns against a slow, plain reference, and the rules of the grid."""

from __future__ import annotations

import csv
import io
import math
import os
import struct
import subprocess
import sys
import tarfile
from collections import defaultdict
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
import pytest

from cellwatch.models.features import packets as pk
from cellwatch.models.features.packets import PROTOCOLS, Packets, address, mac, parse
from cellwatch.models.features.traffic import NETWORK_COLUMNS, TRAFFIC_COLUMNS, TrafficWindows
from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers.capture import read_all

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[4] / "shared" / "data"))
S = 1_000_000_000
A, B, C = b"\x02\0\0\0\0\x0a", b"\x02\0\0\0\0\x0b", b"\xff" * 6


def udp(
    src: bytes, dst: bytes, size: int = 20, sport: int = 5000, dport: int = 1883, frag: int = 0x4000
) -> bytes:
    ip = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        28 + size,
        1,
        frag,
        64,
        17,
        0,
        b"\x0a\0\0" + src[-1:],
        b"\x0a\0\0" + dst[-1:],
    )
    return dst + src + b"\x08\0" + ip + struct.pack(">HHHH", sport, dport, 8 + size, 0) + bytes(size)


def syn(src: bytes, dst: bytes) -> bytes:
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 44, 1, 0x4000, 128, 6, 0, b"\x0a\0\0" + src[-1:], b"\x0a\0\0" + dst[-1:]
    )
    return (
        dst
        + src
        + b"\x08\0"
        + ip
        + struct.pack(">HHIIBBHHH", 9, 22, 0, 0, 0x60, 2, 1000, 0, 0)
        + b"\x02\x04\x05\xb4"
    )


def packets(*at: tuple[float, bytes]) -> Packets:
    frames = [frame for _, frame in at]
    length = np.array([len(f) for f in frames], dtype=np.uint32)
    offset = np.array([0, *np.cumsum(length)[:-1]][: len(length)], dtype=np.int64)
    time_ns = np.array([round(t * S) for t, _ in at], dtype=np.int64)
    return parse(PacketBlock(np.frombuffer(b"".join(frames), np.uint8), offset, length, length, time_ns, 1))


def reference(p: Packets, window_ns: int) -> dict[tuple[int, str], dict[str, float]]:
    """The definitions of docs/features.md, one packet after the other."""
    rows: dict[tuple[int, str], list[tuple[int, str]]] = defaultdict(list)
    for i in range(len(p)):
        w = int(p.time_ns[i]) // window_ns + 1
        ends = []
        for m, hi, lo, role in (
            (int(p.src_mac[i]), int(p.src_hi[i]), int(p.src_lo[i]), "src"),
            (int(p.dst_mac[i]), int(p.dst_hi[i]), int(p.dst_lo[i]), "dst"),
        ):
            if m and not m >> 40 & 1:
                ends.append((mac(m), role))
            elif not m and (lo >> 24 & 255) < 224 and lo & 0xFFFFFFFF:
                ends.append((address(hi, lo), role))
        for name, role in ends:
            rows[w, name].append((i, role))
    delta = np.maximum(np.diff(p.time_ns, prepend=p.time_ns[:1]), 0) / 1e9
    table = {}
    for key, entries in rows.items():
        mine = sorted({i for i, _ in entries})
        roles = {role: [i for i, r in entries if r == role] for role in ("src", "dst")}
        out: dict[str, float] = {}

        def stat(name: str, values: list[float], out: dict[str, float] = out) -> None:
            some = bool(values)
            for suffix, how in (("avg", fmean), ("max", max), ("min", min), ("std_deviation", pstdev)):
                out[f"network_{name}_{suffix}"] = float(how(values)) if some else math.nan

        ip = [i for i in mine if p.ip_version[i] == 4]  # DataSense leaves IPv6 out
        tcp = [i for i in mine if p.l4[i] == pk.TCP]
        stat("header-length", [float(p.ip_header[i]) for i in ip])
        stat("ip-flags", [float(p.ip_flags[i]) for i in ip])
        stat("ip-length", [float(p.ip_length[i]) for i in ip])
        stat("mss", [float(p.mss[i]) for i in tcp if p.mss[i]])
        stat("packet-size", [float(p.wire_length[i]) for i in mine])
        stat(
            "payload-length",
            [float(p.payload_length[i]) + 8 * (p.l4[i] == pk.UDP) for i in mine if p.l4[i] in (6, 17)],
        )
        stat("tcp-flags", [float(p.tcp_flags[i]) for i in tcp])
        stat("time-delta", [float(delta[i]) for i in mine])
        stat("ttl", [float(p.ttl[i]) for i in ip])
        stat("window-size", [float(p.window[i]) for i in tcp])
        times = [int(p.time_ns[i]) for i in mine]
        out["network_interval-packets"] = (
            (max(times) - min(times)) / 1e6 / (len(mine) - 1) if len(mine) > 1 else math.nan
        )
        parts = sum(bool(p.fragment[i]) for i in ip)
        out["network_fragmented-packets"] = parts
        out["network_fragmentation-score"] = parts / len(ip) if ip else math.nan
        out["network_packets_all_count"] = len(mine)
        for flag in ("fin", "syn", "rst", "psh", "ack", "urg"):
            out[f"network_tcp-flags-{flag}_count"] = sum(
                bool(p.tcp_flags[i] & getattr(pk, flag.upper())) for i in tcp
            )
        for role in ("src", "dst"):
            out[f"network_packets_{role}_count"] = len(roles[role])
            out[f"network_protocols_{role}_count"] = len({p.app[i] for i in roles[role]})
        out["network_protocols_all_count"] = len({p.app[i] for i in mine})
        sides = {}
        for role, m, hi, lo, port in (
            ("src", p.src_mac, p.src_hi, p.src_lo, p.src_port),
            ("dst", p.dst_mac, p.dst_hi, p.dst_lo, p.dst_port),
        ):
            talk = [i for i in mine if 0xFFFF in (int(p.src_lo[i]) >> 32, int(p.dst_lo[i]) >> 32)]
            sides["ips", role] = {(int(hi[i]), int(lo[i])) for i in talk}
            sides["macs", role] = {int(m[i]) for i in mine if m[i]}
            sides["ports", role] = {int(port[i]) for i in mine if p.src_port[i] or p.dst_port[i]}
        for name in ("ips", "macs", "ports"):
            for role in ("src", "dst"):
                out[f"network_{name}_{role}_count"] = len(sides[name, role])
            out[f"network_{name}_all_count"] = len(sides[name, "src"] | sides[name, "dst"])
        table[key] = out
    return table


def test_columns_are_those_of_datasense() -> None:
    archive = DATA / "datasense" / "benign_samples_10sec.csv.tar.xz"
    if not archive.exists():
        pytest.skip(f"{archive} is absent; set CELLWATCH_DATA")
    with tarfile.open(archive) as tar:
        member = next(m for m in tar if m.name.endswith(".csv") and not Path(m.name).name.startswith("."))
        handle = tar.extractfile(member)
        assert handle is not None
        header = next(csv.reader(io.StringIO(handle.readline().decode())))
    lists = {f"network_{a}_{b}" for a in ("ips", "macs", "ports", "protocols") for b in ("all", "dst", "src")}
    assert tuple(c for c in header if c.startswith("network_") and c not in lists) == NETWORK_COLUMNS
    assert len(NETWORK_COLUMNS) == 64


@pytest.mark.parametrize(
    "name",
    [
        "lemay_modbus/CnC_uploading_exe_modbus_6RTU_with_operate.pcap",
        "pcaps/mqtt",
        "pcaps/iec61850",
        "pcaps/opcua",
        "pcaps/bacnet",
    ],
)
@pytest.mark.parametrize("chunk", [97, 100_000])
def test_every_column_agrees_with_the_plain_reference(name: str, chunk: int) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is absent; set CELLWATCH_DATA")
    file = path if path.is_file() else min(f for f in path.glob("*.pcap*") if f.stat().st_size < 400_000)
    blocks = list(read_all(file))
    whole = parse(blocks[0])
    n = min(len(whole), 1500)
    windows = TrafficWindows(2.0)
    for start in range(0, n, chunk):
        pick = slice(start, min(start + chunk, n))
        raw = blocks[0]
        windows.add(
            parse(
                PacketBlock(
                    raw.data,
                    raw.offset[pick],
                    raw.length[pick],
                    raw.wire_length[pick],
                    raw.time_ns[pick],
                    raw.link_type,
                )
            )
        )
    raw = blocks[0]
    first = slice(0, n)
    expected = reference(
        parse(
            PacketBlock(
                raw.data,
                raw.offset[first],
                raw.length[first],
                raw.wire_length[first],
                raw.time_ns[first],
                raw.link_type,
            )
        ),
        2 * S,
    )
    found = 0
    for batch in windows.close(None):
        assert batch.columns == TRAFFIC_COLUMNS
        for device, row in zip(batch.devices, batch.values, strict=True):
            want = expected[batch.window_id, device]
            np.testing.assert_allclose(
                row[: len(NETWORK_COLUMNS)],
                [want[c] for c in NETWORK_COLUMNS],
                rtol=2e-6,
                atol=1e-9,
                err_msg=f"{device} {batch.window_id}",
            )
            found += 1
    assert found == len(expected) > 0


def test_grid_names_and_directions() -> None:
    windows = TrafficWindows(1.0, {"02:00:00:00:00:0A": "plc"})
    windows.add(
        packets((100.0, udp(A, B)), (100.5, udp(B, A)), (100.999999999, syn(A, B)), (101.0, udp(A, C)))
    )
    first, second = windows.close(None)
    assert (first.window_id, first.start_ns, first.end_ns) == (101, 100 * S, 101 * S)
    assert first.devices == ("02:00:00:00:00:0b", "plc")
    assert first.packets == 3
    plc = dict(zip(TRAFFIC_COLUMNS, first.values[1].tolist(), strict=True))
    assert plc["network_packets_all_count"] == 3
    assert plc["network_packets_src_count"] == 2
    assert plc["network_packets_dst_count"] == 1
    assert plc["network_mss_avg"] == 1460
    assert plc["network_tcp-flags-syn_count"] == 1
    assert plc["network_interval-packets"] == pytest.approx(500)
    assert second.devices == ("plc",)  # nobody is called broadcast
    assert math.isnan(second.values[0][NETWORK_COLUMNS.index("network_mss_avg")])
    assert math.isnan(second.values[0][NETWORK_COLUMNS.index("network_interval-packets")])


def test_late_packets_are_counted_and_left_out() -> None:
    windows = TrafficWindows(1.0)
    windows.add(packets((10.2, udp(A, B)), (11.2, udp(A, B))))
    assert [b.window_id for b in windows.close(11 * S)] == [11]
    windows.add(packets((10.9, udp(A, B)), (11.3, udp(A, B))))
    (batch,) = windows.close(12 * S)
    assert windows.late == batch.late == 1
    assert batch.packets == 2


def test_quiet_windows_are_empty_batches_and_long_silence_is_skipped() -> None:
    windows = TrafficWindows(1.0, max_empty=5)
    windows.add(packets((10.2, udp(A, B))))
    assert [b.window_id for b in windows.close(13 * S)] == [11, 12, 13]
    assert [b.window_id for b in windows.close(113 * S)] == [109, 110, 111, 112, 113]
    assert windows.skipped == 95
    assert windows.close(113 * S) == []
    assert windows.close(100 * S) == []  # a clock that steps back closes nothing


def test_fragments_and_malformed() -> None:
    windows = TrafficWindows(1.0)
    windows.add(
        packets(
            (10.2, udp(A, B, frag=0x2000)),
            (10.3, udp(A, B, frag=0x0004)),
            (10.4, udp(A, B)),
            (10.5, udp(A, B)[:30]),
        )
    )
    (batch,) = windows.close(None)
    row = dict(zip(TRAFFIC_COLUMNS, batch.values[0].tolist(), strict=True))
    assert row["network_fragmented-packets"] == 2
    assert row["network_fragmentation-score"] == pytest.approx(2 / 3)
    assert row["network_packets_all_count"] == 4
    assert batch.malformed == windows.malformed == 1


def test_a_flood_of_forged_senders_is_bounded() -> None:
    frames = [(10 + i / 1000, udp(struct.pack(">HI", 0x0200, i), A)) for i in range(500)]
    windows = TrafficWindows(1.0, {"02:00:00:00:00:0a": "plc"}, max_devices=20)
    windows.add(packets(*frames))
    (batch,) = windows.close(None)
    assert len(batch.devices) == 20
    assert "plc" in batch.devices
    assert windows.unlisted == 480  # one of the forged addresses is the PLC's own
    plc = batch.values[batch.devices.index("plc")]
    assert plc[NETWORK_COLUMNS.index("network_macs_src_count")] == 500


def test_nothing_in_nothing_out() -> None:
    windows = TrafficWindows(1.0)
    assert windows.close(None) == []
    windows.add(packets())
    assert windows.close(5 * S) == []
    assert [b.devices for b in windows.close(6 * S)] == [()]  # watched, and silent
    with pytest.raises(ValueError, match="longer than 0"):
        TrafficWindows(0)


def test_protocol_codes_fit_their_column() -> None:
    assert len(set(PROTOCOLS)) == len(PROTOCOLS) < 256


def test_a_device_with_two_addresses_is_one_row() -> None:
    both = {"02:00:00:00:00:0a": "plc", "02:00:00:00:00:0b": "plc", "02:00:00:00:00:0d": "hmi"}
    hmi = b"\x02\0\0\0\0\x0d"
    windows = TrafficWindows(1.0, both, lists=True)
    windows.add(packets((10.1, udp(A, hmi)), (10.2, udp(B, hmi)), (10.3, udp(A, B)), (10.4, udp(hmi, A))))
    (batch,) = windows.close(None)
    assert batch.devices == ("hmi", "plc")
    plc = dict(zip(TRAFFIC_COLUMNS, batch.values[1].tolist(), strict=True))
    assert plc["network_packets_all_count"] == 4  # what it sends to itself is one packet
    assert plc["network_packets_src_count"] == 3
    assert plc["network_packets_dst_count"] == 2
    assert plc["network_macs_all_count"] == 3
    assert batch.lists["network_macs_all"].to_lists()[1] == [f"02:00:00:00:00:0{x}" for x in "adb"]
    assert batch.lists["network_macs_dst"].to_lists()[0] == [f"02:00:00:00:00:0{x}" for x in "ad"]
    assert batch.lists["network_ports_dst"].to_lists() == [["1883"], ["1883"]]


def test_tables_grow_and_are_given_back() -> None:
    """Every packet a flow of its own: many times what the tables begin with, in blocks of any size."""
    n = 60_000
    frames = [(10 + i * 3 / n, udp(A, B, sport=1 + i % 50_000)) for i in range(n)]
    windows = TrafficWindows(1.0)
    for start, stop in ((0, 10), (10, 45_000), (45_000, n)):
        windows.add(packets(*frames[start:stop]))
    batches = windows.close(None)
    assert [b.packets for b in batches] == [20_000] * 3
    for batch in batches:
        row = dict(zip(TRAFFIC_COLUMNS, batch.values[0].tolist(), strict=True))
        assert row["network_packets_src_count"] == 20_000
        assert row["network_ports_src_count"] == 20_000
    windows.add(packets((14.5, udp(B, A))))
    assert [b.packets for b in windows.close(None)] == [0, 1]


@pytest.mark.parametrize("step", [1, 4, 100])
def test_a_clock_set_back_begins_anew(step: int) -> None:
    windows = TrafficWindows(1.0)
    windows.add(packets(*((7200 + i / 10, udp(A, B)) for i in range(10))))
    assert [b.packets for b in windows.close(7201 * S)] == [10]
    windows.add(packets((7201.5, udp(A, B))))
    back = [(3600 + i / 10, udp(A, B)) for i in range(100)]
    batches = []
    for start in range(0, 100, step):
        windows.add(packets(*back[start : start + step]))
        batches += windows.close(windows.newest_ns)
    batches += windows.close(None)
    assert windows.clock_steps == 1
    first, *rest = batches
    assert (first.window_id, first.packets) == (7202, 1)  # what was open is not lost
    ids = [b.window_id for b in rest]
    assert ids == list(range(ids[0], 3611))
    assert ids[0] <= 3603  # at most a whole window told what happened, and the one that ran then is dropped
    assert all(b.packets == 10 for b in rest)
    assert windows.late + sum(b.packets for b in batches) == 101
    assert windows.close(None) == []


def test_old_packets_among_others_turn_nothing_back() -> None:
    windows = TrafficWindows(1.0)
    windows.add(packets((7200.5, udp(A, B))))
    windows.close(7201 * S)
    for i in range(20):
        windows.add(packets((3600 + i, udp(A, B)), (7201 + i / 100, udp(A, B))))
    for i in range(20):  # not far enough behind
        windows.add(packets((7192 + i / 4, udp(A, B))))
    assert (windows.clock_steps, windows.late) == (0, 40)
    (batch,) = windows.close(None)
    assert (batch.window_id, batch.packets) == (7202, 20)


def test_an_old_capture_after_silence_is_read() -> None:
    windows = TrafficWindows(1.0)
    windows.close(10**9 * S)
    windows.close((10**9 + 5) * S)
    windows.add(packets(*((100 + i / 10, udp(A, B)) for i in range(50))))
    assert [b.window_id for b in windows.close(None)] == [102, 103, 104, 105]


def test_a_capture_without_times_is_one_window() -> None:
    windows = TrafficWindows(1.0)
    windows.add(packets((0, udp(A, B)), (0, udp(B, A))))
    assert windows.close(-5 * S) == []
    assert [(b.window_id, b.packets) for b in windows.close(None)] == [(1, 2)]


def test_malformed_late_packets_count_for_no_window() -> None:
    windows = TrafficWindows(1.0)
    windows.add(packets((10.2, udp(A, B))))
    windows.close(11 * S)
    windows.add(packets((10.5, udp(A, B)[:30]), (11.5, udp(A, B)[:30])))
    (batch,) = windows.close(None)
    assert (batch.malformed, batch.late, windows.malformed) == (1, 1, 2)
    assert windows._broken == {}  # nothing piles up


@pytest.mark.parametrize(
    ("given", "seen"),
    [("02-00-00-00-00-0A", "02:00:00:00:00:0a"), ("FE80:0:0::0001", "fe80::1"), ("Pump 1", "pump 1")],
)
def test_addresses_are_known_however_they_are_written(given: str, seen: str) -> None:
    assert TrafficWindows(1.0, {given: "plc"}).names == {seen: "plc"}


def test_the_compiled_code_fits_the_columns_or_refuses() -> None:
    code = (
        "from cellwatch.models.features import columns\n"
        "columns.QUANTITIES += ('jitter',)\n"
        "import cellwatch.models.features.fold"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "ImportError" in done.stderr
