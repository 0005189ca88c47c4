"""Data sets: the folder agrees with itself, with tshark, and with the run; failures leave nothing."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from cellwatch.models.features.packets import parse
from cellwatch.nodes.drivers.capture import read_all
from cellwatch.plc_sim.dataset import COLUMNS, DatasetError, label_rows, write
from cellwatch.plc_sim.incidents import Incident
from cellwatch.plc_sim.recording import simulate
from cellwatch.plc_sim.scenario import load
from cellwatch.plc_sim.scenario import parse as parse_scenario

SMALL = parse_scenario(
    """
name: small
site: factory
duration_s: 30
incidents:
  - {attack: dos/syn-flood, target: PLC1, attackers: attacker1, duration_s: 3, at_s: 2, size: 1}
  - {fault: pump_wear, duration_s: 4, at_s: 6}
activities:
  - {activity: technician_scan, at_s: 1}
chaos:
  - {step: bad_quality_burst, plc: PLC2, at_s: 3, duration_s: 2}
""",
    "small.yaml",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "small"
    done = []
    manifest = write(out, SMALL, 4, 12, seen=done.append)
    assert done == list(range(1, 13))
    return out, manifest, simulate(SMALL, 4, 12.0)


def test_manifest_is_true(made):
    out, manifest, run = made
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert (manifest["scenario"], manifest["seed"], manifest["windows"]) == ("small", 4, 12)
    assert manifest["complete"] is True
    assert manifest["packets"] == len(run.frames)
    assert manifest["devices"] == run.devices
    assert {"cellwatch", "numpy", "python"} <= set(manifest["versions"])
    assert sorted(p.name for p in out.iterdir()) == sorted([*manifest["files"], "manifest.json"])
    for name, said in manifest["files"].items():
        data = (out / name).read_bytes()
        assert said == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_capture_opens_in_our_reader(made):
    out, _, run = made
    times = []
    for block in read_all(out / "capture.pcap"):
        parse(block)
        times.append(np.asarray(block.time_ns))
    assert np.array_equal(np.concatenate(times), run.frames.time_ns)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_capture_opens_in_tshark(made):
    out, manifest, _ = made
    command = ["tshark", "-r", str(out / "capture.pcap"), "-T", "fields", "-e", "frame.number", "-Y"]
    everything = subprocess.run([*command, "frame"], capture_output=True, text=True, check=True)
    assert len(everything.stdout.split()) == manifest["packets"]
    bad = subprocess.run([*command, "_ws.malformed"], capture_output=True, text=True, check=True)
    assert bad.stdout.split() == []


def test_tags_are_those_of_the_run(made):
    out, manifest, run = made
    table = pq.read_table(out / "tags.parquet")
    names = [tag["name"] for tag in manifest["tags"]]
    assert table.column_names == ["time_ns", *names, *(f"{name}.status" for name in names)]
    assert np.array_equal(table["time_ns"].to_numpy(), run.time_ns)
    values = np.column_stack([table[name].to_numpy() for name in names])
    assert np.array_equal(values, run.values)
    status = np.column_stack([table[f"{name}.status"].to_numpy() for name in names])
    assert np.array_equal(status, run.status)


def test_each_window_has_its_rows(made):
    out, manifest, _ = made
    times = pq.read_table(out / "tags.parquet")["time_ns"].to_numpy()
    with (out / "labels.csv").open(newline="") as file:
        spans = [(int(row["start_ns"]), int(row["end_ns"])) for row in csv.DictReader(file)]
    rows = [int(((start < times) & (times <= end)).sum()) for start, end in spans]
    assert rows == [manifest["scans"] // manifest["windows"]] * len(spans)
    assert sum(rows) == len(times)


def test_bad_quality_is_in_the_status(made):
    _, _, run = made
    plc = np.array([tag.device for tag in run.tags])
    seconds = (run.time_ns - (run.time_ns[0] - 100_000_000)) * 1e-9
    struck = (seconds > 2.95) & (seconds < 4.95)
    assert np.all(run.status[struck][:, plc == "PLC2"] != 0)
    assert np.all(run.status[~struck] == 0)
    assert np.all(run.status[:, plc == "PLC1"] == 0)


def test_labels_agree(made):
    out, _, run = made
    labels = json.loads((out / "labels.json").read_text())
    assert [Incident(**{**x, "devices": tuple(x["devices"])}) for x in labels["incidents"]] == list(
        run.incidents
    )
    assert [each["name"] for each in labels["activities"]] == ["technician_scan"]
    assert [(each["name"], each["plc"]) for each in labels["chaos"]] == [("bad_quality_burst", "PLC2")]
    with (out / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label4"] for row in rows] == (
        ["benign"] * 2 + ["dos_syn-flood"] * 3 + ["benign"] + ["fault_pump_wear"] * 6
    )
    assert rows[2]["label_full"] == "attack_dos_syn-flood_PLC1"
    assert rows[2]["label1"] == "attack"
    assert rows[2]["attack_id"] == "T0814"
    assert "PLC1" in rows[2]["devices"].split(";")
    assert rows[0]["devices"] == ""
    assert int(rows[0]["start_ns"]) == labels["start_ns"]


def test_attack_is_in_its_windows(made):
    out, _, run = made
    labels = json.loads((out / "labels.json").read_text())
    (mac,) = [name for name in labels["incidents"][0]["devices"] if ":" in name]
    head = run.frames.data[run.frames.offset[:-1, None] + np.arange(12)]
    talks = (head[:, 6:12] == np.frombuffer(bytes.fromhex(mac.replace(":", "")), np.uint8)).all(1)
    second = (run.frames.time_ns[talks] - labels["start_ns"]) // 1_000_000_000
    rate = np.bincount(second, minlength=12)[:12]
    flood = np.zeros(12, bool)
    flood[2:5] = True
    assert rate[flood].min() > 10 * rate[~flood].max()


def test_same_arguments_same_bytes(made, tmp_path):
    _, manifest, _ = made
    again = write(tmp_path / "again", SMALL, 4, 12)
    other = write(tmp_path / "other", SMALL, 5, 12)
    assert again == manifest
    assert other["files"]["capture.pcap"]["sha256"] != manifest["files"]["capture.pcap"]["sha256"]


def test_window_label_needs_half_and_takes_the_longest():
    def one(name, kind, begin, end):
        return Incident(
            name, kind, "dos", name, "PLC1", int(begin * 1e9), int(end * 1e9), ("PLC1", "02:00:00:00:00:01")
        )

    incidents = [one("a", "attack", 0.6, 1.5), one("b", "fault", 1.4, 2.5), one("c", "attack", 2.4, 3.0)]
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in label_rows(incidents, 0, 1_000_000_000, 4)]
    assert [row["label3"] for row in rows] == ["benign", "b", "c", "benign"]
    assert [row["incidents"] for row in rows] == ["a", "a;b", "b;c", ""]
    assert rows[0]["devices"] == "PLC1"


def test_ends_early_when_the_capture_is_large_enough(tmp_path):
    manifest = write(tmp_path / "out", load("quiet"), 1, 50, 0.5, max_bytes=20_000)
    assert manifest["complete"] is False
    assert 1 <= manifest["windows"] < 50
    size = manifest["files"]["capture.pcap"]["bytes"]
    assert 20_000 <= size < 100_000
    rows = (tmp_path / "out" / "labels.csv").read_text().splitlines()
    assert len(rows) == manifest["windows"] + 1
    assert pq.read_metadata(tmp_path / "out" / "tags.parquet").num_rows == manifest["windows"] * 5


@pytest.mark.parametrize(
    ("windows", "window_s", "expected"),
    [
        (0, 1.0, "--windows is 0"),
        (-3, 1.0, "--windows is -3"),
        (1, 0.05, "multiple of 0.1 s"),
        (1, float("nan"), "--window"),
    ],
)
def test_bad_lengths(tmp_path, windows, window_s, expected):
    with pytest.raises(DatasetError, match=expected):
        write(tmp_path / "out", load("quiet"), 1, windows, window_s)
    assert not (tmp_path / "out").exists()


def test_bad_folders(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(DatasetError, match="is not empty"):
        write(tmp_path / "full", load("quiet"), 1, 1)
    assert (tmp_path / "full" / "x").exists()
    with pytest.raises(DatasetError, match="is a file"):
        write(tmp_path / "full" / "x", load("quiet"), 1, 1)
    with pytest.raises(OSError):
        write(tmp_path / "full" / "x" / "y", load("quiet"), 1, 1)


FULL_DISK = """
import resource, sys
from pathlib import Path
from cellwatch.plc_sim.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main(["--dataset", sys.argv[1], "--scenario", "quiet-shift", "--windows", "60"]))
"""


def test_full_disk_says_so_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
