"""`cellwatch features`: the table of a capture, labels, errors, and that live gives the same numbers."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cellwatch.models.features import datasense
from cellwatch.models.features.columns import (
    COUNT_COLUMNS,
    DATASENSE_COLUMNS,
    IDENTITY_COLUMNS,
    INDUSTRIAL_COLUMNS,
    LIST_COLUMNS,
    TRAFFIC_COLUMNS,
    unit,
)
from cellwatch.models.features.packets import parse
from cellwatch.models.features.schema import DATASENSE17, Schema, default_schema
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.features.window import FeatureAssembler
from cellwatch.nodes.cli import app
from cellwatch.nodes.drivers.capture import FifoCapture, read_all
from cellwatch.nodes.features_file import MAX_GRID, extract, read_devices, read_labels

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
LEMAY = DATA / "lemay_modbus"
MOVING, CNC = (
    LEMAY / "moving_two_files_modbus_6RTU.pcap",
    LEMAY / "CnC_uploading_exe_modbus_6RTU_with_operate.pcap",
)
S = 1_000_000_000


@pytest.fixture
def capture() -> Path:
    if not MOVING.exists():
        pytest.skip(f"{MOVING} is absent; set CELLWATCH_DATA")
    return MOVING


def command(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["features", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_json_is_exactly_five_figures_and_the_grid_is_full(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "windows.parquet"
    code, said, _ = command(capture, "--window", 10, "-o", out, "--json")
    assert code == 0
    figures = json.loads(said)
    assert list(figures) == ["packets", "malformed", "windows", "devices", "seconds"]
    assert figures["packets"] == sum(len(b.time_ns) for b in read_all(capture))
    table = pq.read_table(out)
    assert set(table.column_names) == {
        "device_mac", "timestamp_start", "timestamp_end", *TRAFFIC_COLUMNS, *LIST_COLUMNS
    }  # fmt: skip
    pairs = set(zip(table["device_mac"].to_pylist(), table["timestamp_end"].to_pylist(), strict=True))
    assert len(pairs) == len(table) == figures["windows"] * figures["devices"]
    width = np.unique((table["timestamp_end"].to_numpy() - table["timestamp_start"].to_numpy()).astype(int))
    assert width.tolist() == [10 * S]
    assert (table["timestamp_end"].to_numpy().astype(np.int64) % (10 * S) == 0).all()
    # Every list is as long as its count says.
    for name in LIST_COLUMNS:
        lengths = [len(cell) for cell in table[name].to_pylist()]
        assert lengths == table[f"{name}_count"].to_pylist(), name


def test_silent_windows_hold_counts_of_0_and_nothing_else(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "windows.parquet"
    extract(capture, out, 1.0)
    table = pq.read_table(out)
    silent = table.filter(np.array(table["network_packets_all_count"]) == 0)
    assert len(silent)
    for name in TRAFFIC_COLUMNS:
        values = silent[name].to_numpy()
        assert (values == 0).all() if name in COUNT_COLUMNS else np.isnan(values).all(), name
    assert not any(silent["network_ips_all"].to_pylist())


@pytest.mark.parametrize(("file", "windows", "malicious"), [(CNC, 8, 2), (MOVING, 20, 4)])
def test_labelled_captures_yield_labelled_windows(
    file: Path, windows: int, malicious: int, tmp_path: Path
) -> None:
    labels = file.with_name(file.stem + "_labeled.csv")
    if not labels.exists():
        pytest.skip(f"{labels} is absent; set CELLWATCH_DATA")
    out = tmp_path / "windows.parquet"
    assert command(file, "--window", 10, "-o", out, "--labels", labels)[0] == 0
    table = pq.read_table(out)
    seen = set(zip(table["timestamp_end"].to_pylist(), table["label1"].to_pylist(), strict=True))
    assert len(seen) == windows
    assert sum(label == "attack" for _, label in seen) == malicious


def test_labels_of_another_capture_are_refused(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "windows.parquet"
    code, _, said = command(capture, "-o", out, "--labels", CNC.with_name(CNC.stem + "_labeled.csv"))
    assert code == 2
    assert "another capture's labels" in said
    assert not list(tmp_path.iterdir())
    (tmp_path / "labels.csv").write_text("1;0\n2;maybe\n")
    with pytest.raises(ValueError, match="line 2"):
        read_labels(tmp_path / "labels.csv")


def test_labels_of_stretches_of_time(capture: Path, tmp_path: Path) -> None:
    first = int(next(iter(read_all(capture))).time_ns[0]) // (10 * S) * 10 * S
    rows = [("benign", first, first + 30 * S), ("attack", first + 30 * S, first + 49 * S)]
    labels, out = tmp_path / "labels.csv", tmp_path / "windows.parquet"
    lines = [f"{i},{a},{b},{kind},dos-{i}" for i, (kind, a, b) in enumerate(rows)]
    labels.write_text("\n".join(["window,start_ns,end_ns,label1,label2", *reversed(lines)]))
    done = extract(capture, out, 10.0, labels=read_labels(labels))
    assert done.malicious == 2
    table = pq.read_table(out)
    at = (table["timestamp_start"].to_numpy().astype(np.int64) - first) // (10 * S)
    for place, one, two in zip(at, table["label1"].to_pylist(), table["label2"].to_pylist(), strict=True):
        assert one == ("attack" if place in (3, 4) else "benign")
        assert two == ("dos-0" if place < 3 else "dos-1" if place < 5 else "benign")


def test_names_and_datasense_form(capture: Path, tmp_path: Path) -> None:
    devices = tmp_path / "devices.csv"
    mac = "00:0c:29:ee:b7:84"
    devices.write_text(f"mac,ip,device_name\n{mac.upper()},192.168.1.100,master\n02:00:00:00:00:99,,spare\n")
    assert read_devices(devices)[mac] == "master"
    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    assert command(capture, "--window", 10, "-o", ours, "--devices", devices)[0] == 0
    assert command(capture, "--window", 10, "-o", theirs, "--devices", devices, "--datasense")[0] == 0
    a, b = pq.read_table(ours), pq.read_table(theirs)
    assert tuple(b.column_names) == DATASENSE_COLUMNS
    assert set(zip(a["device_mac"].to_pylist(), a["device_name"].to_pylist(), strict=True)) > {
        (mac, "master"),
        ("02:00:00:00:00:99", "spare"),
    }
    for name in DATASENSE_COLUMNS[10:]:
        assert b[name].null_count == 0
        if name in TRAFFIC_COLUMNS:
            np.testing.assert_array_equal(np.nan_to_num(a[name].to_numpy()), b[name].to_numpy(), err_msg=name)
    start = b["timestamp_start"].to_pylist()[0]
    assert b["timestamp"].to_pylist()[0] == f"{start}_{b['timestamp_end'].to_pylist()[0]}"
    # It reads back as DataSense's own tables do, and back again.
    again = datasense.from_ours(datasense.to_ours(b))
    assert again.equals(b)
    assert not set(INDUSTRIAL_COLUMNS) & set(b.column_names)


def test_errors_are_one_clear_line(tmp_path: Path) -> None:
    text = tmp_path / "notes.pcap"
    text.write_text("hello")
    for args, words in (
        ((tmp_path / "absent.pcap", "-o", tmp_path / "x.parquet"), "absent.pcap"),
        ((text, "-o", tmp_path / "x.parquet"), "not a capture"),
        ((text, "-o", tmp_path / "x.csv"), "x.parquet"),
        ((tmp_path / "absent.csv", "-o", tmp_path / "x.parquet"), "absent.csv"),
    ):
        code, _, said = command(*args)
        assert code == 2
        assert words in said
    assert [p.name for p in tmp_path.iterdir()] == ["notes.pcap"]


def test_a_damaged_capture_is_read_up_to_the_damage(capture: Path, tmp_path: Path) -> None:
    whole = capture.read_bytes()
    broken, out = tmp_path / "broken.pcap", tmp_path / "windows.parquet"
    broken.write_bytes(whole[: len(whole) // 2] + b"\xff" * 4000)
    code, said, warned = command(broken, "-o", out, "--json")
    assert code == 0
    assert "damaged at byte" in warned
    packets = json.loads(said)["packets"]
    assert 0 < packets < sum(len(b.time_ns) for b in read_all(capture))
    sent = np.nansum(pq.read_table(out)["network_packets_src_count"].to_numpy())
    assert 0 < sent <= packets


def block_of(kind: int, body: bytes) -> bytes:
    """A block of a pcapng file."""
    body += bytes(-len(body) % 4)
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


def pcapng(links: list[int], packets: list[tuple[int, int, bytes]]) -> bytes:
    """A pcapng file with interfaces of `links` and packets of (interface, s, frame)."""
    out = block_of(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    for link in links:
        out += block_of(1, struct.pack("<HHI", link, 0, 65535))
    for interface, at, frame in packets:
        high, low = divmod(at * 1_000_000, 1 << 32)
        size = len(frame)
        out += block_of(6, struct.pack("<IIIII", interface, high, low, size, size) + frame)
    return out


def frame(source: int) -> bytes:
    """A broadcast of one station."""
    return b"\xff" * 6 + (0x02 << 40 | source).to_bytes(6, "big") + b"\x88\xb5" + bytes(46)


def test_packets_of_an_unknown_link_type_are_skipped_and_told(tmp_path: Path) -> None:
    """Wi-Fi (105) beside Ethernet, seconds apart; labels belong to the packets by their number."""
    mixed, labels, out = tmp_path / "m.pcapng", tmp_path / "labels.csv", tmp_path / "w.parquet"
    at = [(0, 1000), (1, 1001), (1, 1001), (0, 1002), (0, 1003)]
    mixed.write_bytes(pcapng([1, 105], [(interface, s, frame(1)) for interface, s in at]))
    labels.write_text("1;0\n2;0\n3;0\n4;1\n5;0\n")
    code, said, warned = command(mixed, "-o", out, "--labels", labels, "--json")
    assert code == 0
    figures = json.loads(said)
    assert list(figures) == ["packets", "malformed", "windows", "devices", "seconds"]
    assert figures["packets"] == 5
    assert "2 packets skipped: link type 105" in " ".join(warned.split())
    assert "2 unread" in command(mixed, "-o", out, "--labels", labels)[1]
    table = pq.read_table(out)
    starts = table["timestamp_start"].to_numpy().astype(np.int64) // S
    counts = dict(zip(starts.tolist(), table["network_packets_all_count"].to_pylist(), strict=True))
    assert counts == {1000: 1, 1001: 0, 1002: 1, 1003: 1}
    found = dict(zip(starts.tolist(), table["label1"].to_pylist(), strict=True))
    assert [s for s, label in found.items() if label == "attack"] == [1002]


def test_a_capture_without_a_readable_packet_is_one_clear_line(tmp_path: Path) -> None:
    strange = tmp_path / "wifi.pcapng"
    strange.write_bytes(pcapng([105], [(0, 1000, frame(1))]))
    code, _, said = command(strange, "-o", tmp_path / "x.parquet")
    assert code == 2
    assert "wifi.pcapng: no packet can be read: link type 105" in " ".join(said.split())
    assert [p.name for p in tmp_path.iterdir()] == ["wifi.pcapng"]


def test_every_device_is_counted_also_beyond_the_grid(tmp_path: Path) -> None:
    many, out = tmp_path / "many.pcapng", tmp_path / "w.parquet"
    count = MAX_GRID + 300
    packets = [(0, 1000 + i // 500, frame(i)) for i in range(count)]
    many.write_bytes(pcapng([1], packets + packets[-200:]))
    code, said, _ = command(many, "-o", out, "--json")
    assert code == 0
    assert json.loads(said)["devices"] == count == len(set(pq.read_table(out)["device_mac"].to_pylist()))


def described(path: Path) -> tuple[str, str]:
    about = pq.read_schema(path).metadata
    return about[b"schema_id"].decode(), about[b"window_s"].decode()


def test_every_table_says_its_schema_and_window(capture: Path, tmp_path: Path) -> None:
    whole = Schema(TRAFFIC_COLUMNS, tuple(map(unit, TRAFFIC_COLUMNS)))
    theirs = whole.select(datasense.NUMERIC)
    ours, form = tmp_path / "ours.parquet", tmp_path / "form.parquet"
    assert command(capture, "--window", 10, "-o", ours)[0] == 0
    assert described(ours) == (whole.schema_id, "10.0")
    assert command(capture, "--window", 10, "-o", form, "--datasense")[0] == 0
    assert described(form) == (theirs.schema_id, "10.0")
    # As CSV it is a table of DataSense, which reads back with the same values, and says its window.
    text, again = tmp_path / "form.csv", tmp_path / "again.parquet"
    assert command(capture, "--window", 10, "-o", text, "--datasense")[0] == 0
    assert datasense.read(text).equals(pq.read_table(form))
    for extra in ((), ("--datasense",)):
        assert command(text, "-o", again, *extra)[0] == 0
        assert described(again) == (theirs.schema_id, "10.0")
    copy = tmp_path / "copy.csv"
    assert command(text, "-o", copy, "--datasense")[0] == 0
    assert copy.read_bytes() == text.read_bytes()


def test_a_schema_selects_the_columns(capture: Path, tmp_path: Path) -> None:
    whole, few, out = tmp_path / "whole.parquet", tmp_path / "few.json", tmp_path / "few.parquet"
    names = ("network_ttl_min", "industrial_writes_count", "network_macs_all_count")
    mine = default_schema().select(names)
    few.write_text(mine.to_json())
    assert command(capture, "--window", 10, "-o", whole)[0] == 0
    assert command(capture, "--window", 10, "-o", out, "--schema", few)[0] == 0
    who = ["device_mac", "timestamp_start", "timestamp_end"]
    assert pq.read_table(out).equals(pq.read_table(whole).select([*who, *names]))
    assert described(out)[0] == mine.schema_id
    seventeen = ("--schema", "datasense17")
    assert command(capture, "--window", 10, "-o", out, *seventeen)[0] == 0
    assert pq.read_table(out).column_names == [*who, *DATASENSE17]
    # A table of DataSense has no industrial columns.
    text = tmp_path / "form.csv"
    assert command(capture, "--window", 10, "-o", text, "--datasense")[0] == 0
    assert command(text, "-o", out, *seventeen)[0] == 0
    assert pq.read_table(out).column_names == [*IDENTITY_COLUMNS, *DATASENSE17]
    before = {p.name for p in tmp_path.iterdir()}
    changed = tmp_path / "changed.json"
    changed.write_text(few.read_text().replace("_ttl_min", "_ttl_max"))
    for source, schema, words in (
        (text, few, "industrial_writes_count"),
        (capture, "default", "sensor_samples_count"),
        (capture, "other", "datasense17"),
        (capture, tmp_path / "absent.json", "absent.json"),
        (capture, changed, "changed.json"),
    ):
        code, _, said = command(source, "-o", tmp_path / "x.parquet", "--schema", schema)
        assert code == 2
        assert words in said
    assert command(capture, "-o", tmp_path / "x.parquet", "--datasense", *seventeen)[0] == 2
    assert {p.name for p in tmp_path.iterdir()} == before | {"changed.json"}


def test_an_empty_capture_is_an_empty_table(tmp_path: Path) -> None:
    empty, out = tmp_path / "empty.pcap", tmp_path / "windows.parquet"
    empty.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    code, said, _ = command(empty, "-o", out, "--json")
    assert code == 0
    assert json.loads(said)["windows"] == 0
    assert pq.read_table(out).num_rows == 0


def test_the_live_path_gives_the_numbers_of_the_file(capture: Path, tmp_path: Path) -> None:
    """The same packets through a FIFO, in the blocks and at the times of a tap, window by window."""
    out, fifo = tmp_path / "windows.parquet", tmp_path / "fifo"
    extract(capture, out, 1.0)
    os.mkfifo(fifo)
    raw = capture.read_bytes()
    tap, traffic = FifoCapture(fifo), TrafficWindows(1.0)
    core = FeatureAssembler(default_schema(), 1.0, 0.5)
    published = {}
    writer = os.open(fifo, os.O_WRONLY)
    try:
        for start in range(0, len(raw), 5000):
            os.write(writer, raw[start : start + 5000])
            for block in tap.read(timeout_s=0.01):
                traffic.add(parse(block))
                if not published:
                    core.step(int(block.time_ns[0]))
            for batch in traffic.close(traffic.newest_ns - 200_000_000):
                core.traffic(batch)
                for window in core.step(batch.end_ns + 600_000_000):
                    published[window.end_ns] = window
    finally:
        os.close(writer)
        tap.close()
    table = pq.read_table(out)
    n = len(TRAFFIC_COLUMNS)
    values = np.column_stack([table[name].to_numpy() for name in TRAFFIC_COLUMNS])
    ends, macs = table["timestamp_end"].to_numpy().astype(np.int64), table["device_mac"].to_pylist()
    compared = 0
    for row, end, device in zip(values, ends.tolist(), macs, strict=True):
        if end in published and device in published[end].devices:
            live = published[end].values[published[end].devices.index(device)]
            np.testing.assert_allclose(live[:n], row, rtol=1e-6, err_msg=f"{device} {end}")
            compared += 1
    assert compared > 100


def test_memory_stays_flat(capture: Path, tmp_path: Path) -> None:
    """Twelve hours of the same minute over and over: nothing that grows with the length is kept."""
    import tracemalloc

    raw = capture.read_bytes()
    blocks = list(read_all(capture))
    span = int(blocks[-1].time_ns[-1] - blocks[0].time_ns[0]) // S + 30

    def peak(times: int) -> int:
        long = tmp_path / f"{times}.pcap"
        with long.open("wb") as file:
            file.write(raw[:24])
            for i in range(times):
                for block in blocks:
                    at = block.time_ns + i * span * S
                    for place, size, wire, ns in zip(
                        block.offset.tolist(), block.length.tolist(), block.wire_length.tolist(), at.tolist(),
                        strict=True,
                    ):  # fmt: skip
                        file.write(struct.pack("<IIII", ns // S, ns % S // 1000, size, wire))
                        file.write(block.data[place : place + size].tobytes())
        tracemalloc.start()
        extract(long, tmp_path / "long.parquet", 10.0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    begun = time.monotonic()
    small, large = peak(4), peak(24)
    assert large < 1.5 * small + 8_000_000, f"{small} to {large} bytes in {time.monotonic() - begun:.0f} s"
