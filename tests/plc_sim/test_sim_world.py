"""The factory's cast speaks as often as the real one (DataSense's benign hour)."""

from __future__ import annotations

import collections
import csv
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cellwatch.plc_sim.network import DEVICES, Network, S
from cellwatch.plc_sim.network.hosts import HOSTS, ROLES
from cellwatch.plc_sim.sites import SITES

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[3] / "shared" / "data")) / "datasense"
WINDOW_S = 10
EVENTS = {
    "vibration-sensor",
    "motion-sensor",
    "yi-camera",
    "blurams-camera",
    "dekco-camera",
    "router",
    "edge1",
}


def real_means():
    """Packets sent and received by each device in 10 s, on average over the first half of the hour."""
    archive = DATA / "benign_samples_10sec.csv.tar.xz"
    if not archive.exists():
        pytest.skip(f"{archive} is not here; set CELLWATCH_DATA")
    with tarfile.open(archive) as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith(".csv") and "/._" not in f"/{m.name}")
        rows = list(csv.DictReader(io.TextIOWrapper(tar.extractfile(member))))
    middle = sorted(row["timestamp_start"] for row in rows)[len(rows) // 2]
    seen = collections.defaultdict(list)
    for row in rows:
        if row["timestamp_start"] < middle:
            sent, received = (float(row[f"network_packets_{side}_count"]) for side in ("src", "dst"))
            seen[row["device_name"]].append((sent, received))
    return {name: np.mean(counts, axis=0) for name, counts in seen.items()}


def test_devices_speak_as_often_as_the_real_ones():
    real = real_means()
    start = 1_700_000_000 * S
    net = Network(np.random.default_rng(1), start, SITES["factory"])
    sent, received = collections.Counter(), collections.Counter()
    for k in range(360):
        frames = net.tick(start + k * S, start + (k + 1) * S)
        if k >= 60:  # after the connections have opened
            heads = frames.data[frames.offset[:-1, None] + np.arange(12)]
            received.update(DEVICES.get(head[:6].tobytes().hex(":")) for head in heads)
            sent.update(DEVICES.get(head[6:].tobytes().hex(":")) for head in heads)
    compared = 0
    for name, means in real.items():
        if name not in EVENTS:  # of those a few minutes are not the hour
            ours = np.array([sent[name], received[name]]) * WINDOW_S / 300
            assert np.abs(ours - means).max() < 0.2 * means.sum() + 0.5, (name, ours, means)
            compared += 1
    assert compared == 38 - len(EVENTS)


def test_the_cast_is_that_of_the_testbed():
    with (
        (DATA / "devices.csv").open()
        if (DATA / "devices.csv").exists()
        else pytest.skip("no devices.csv") as file
    ):
        rows = {row["device_name"]: row for row in csv.DictReader(file)}
    assert set(rows) <= set(HOSTS)
    net = Network(np.random.default_rng(1), 0, SITES["factory"])
    for name, row in rows.items():
        host = net.hosts[name]
        assert ".".join(map(str, host.ip)) == row["ip"]
        assert ROLES[name] == row["role"]
        if name != "iot-cloud":  # seen under the router's address
            assert host.mac.hex(":") == row["mac"].lower()
