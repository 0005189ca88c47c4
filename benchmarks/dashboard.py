"""What the dashboard node costs beside the cell: CPU of its process while it hears everything.

    python benchmarks/dashboard.py [--devices 40] [--hz 10] [--readers 2] [--seconds 30] [--json]

Four PLCs say five tags of each device, `--hz` times a second, and once a second a snapshot of all; a verdict
for each device and source once a second, with twelve detectors, is fused; every tenth device is blocked. All
goes over real topics, from this process to the node's own. CPU is the node's, in percent of one core, with no
reader of the page's stream and with `--readers`; and the seconds of CPU that its start takes.
`benchmarks/page.py` has what a browser sees.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil

PLCS, TAGS, DETECTORS = 4, 5, 12


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("devices", 40), ("hz", 10), ("readers", 2), ("seconds", 30)):
        asked.add_argument(f"--{name}", type=int, default=default)
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", "61")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given, Path(folder))
    if given.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name}: {value:.1f}" for name, value in found.items()))


def measure(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Start the node, speak to it, and look at its CPU time."""
    import rclpy

    from cellwatch.nodes.cell import NodeSpec, write_params

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    values = {"port": port, "users": str(folder / "users.json"), "devices": json.dumps(names(given.devices))}
    file = write_params(NodeSpec("dashboard_node", "", values), "", folder)
    code = (
        "from cellwatch.nodes.dashboard_node import DashboardNode\n"
        "from cellwatch.nodes.ros.node import run\n"
        "run(DashboardNode, up=True)"
    )
    node = subprocess.Popen([sys.executable, "-c", code, "--ros-args", "--params-file", str(file)])
    rclpy.init()
    try:
        world = World(given.devices, given.hz)
        url = f"http://127.0.0.1:{port}/api/v1/live"
        until_up(url)
        process = psutil.Process(node.pid)
        found = {"start_cpu_s": sum(process.cpu_times()[:2])}
        world.speak(3.0)
        with urllib.request.urlopen(url.replace("live", "tags"), timeout=5) as answer:
            assert sum(tag["quality"] == "good" for tag in json.load(answer)) == given.devices * TAGS
        found["no_reader_percent"] = cpu(process, world, given.seconds)
        with ExitStack() as stack:
            for _ in range(given.readers):
                reader = subprocess.Popen(["curl", "-s", "-o", os.devnull, url])
                stack.callback(reader.kill)
            world.speak(2.0)
            found[f"{given.readers}_readers_percent"] = cpu(process, world, given.seconds)
        found["memory_mb"] = process.memory_info().rss / 1e6
        return found
    finally:
        node.terminate()
        node.wait(10)
        rclpy.try_shutdown()


def cpu(process: psutil.Process, world: World, seconds: float) -> float:
    before = sum(process.cpu_times()[:2])
    world.speak(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds * 100


def until_up(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the page did not come up")


def names(n: int) -> list[str]:
    return [f"DEV{i:02}" for i in range(n)]


class World:
    """All that a cell says, at its pace."""

    def __init__(self, devices: int, hz: int) -> None:
        import rclpy
        from cellwatch_msgs import msg as m

        from cellwatch.nodes.ros import qos

        self.devices, self.hz = names(devices), hz
        self.node = rclpy.create_node("world")
        kinds = {
            "tags": m.TagBatch,
            "tag_snapshot": m.TagBatch,
            "tag_catalog": m.TagCatalog,
            "verdicts/fused": m.FusedVerdictArray,
            "verdicts/rules": m.VerdictArray,
            "verdicts/ensemble": m.VerdictArray,
        }
        self.pubs = {
            (topic, i): self.node.create_publisher(kind, topic, qos.TOPICS[topic])
            for topic, kind in kinds.items()
            for i in range(PLCS if topic in {"tag_catalog", "tag_snapshot"} else 1)
        }
        self.sequence = 0
        self.catalogs()

    def catalogs(self) -> None:
        from cellwatch.models.types import TagCatalog, TagInfo
        from cellwatch.nodes.ros import convert

        self.mine = [self.devices[i::PLCS] for i in range(PLCS)]
        for i, mine in enumerate(self.mine):
            tags = tuple(TagInfo(f"{d}_{k}", "", d, "m", 0.0, 100.0) for d in mine for k in range(TAGS))
            self.pubs["tag_catalog", i].publish(convert.catalog_msg(TagCatalog(f"PLC{i}", tags), 1))

    def speak(self, seconds: float) -> None:
        """At the pace of the cell, for so long."""
        begin = time.monotonic()
        for step in range(int(seconds * self.hz)):
            time.sleep(max(0.0, begin + step / self.hz - time.monotonic()))
            self.say_tags()
            if step % self.hz == 0:
                self.say_verdicts()

    def say_tags(self) -> None:
        from cellwatch.models.types import TagBatch
        from cellwatch.nodes.ros import convert

        self.sequence += 1
        now = time.time_ns()
        for i, mine in enumerate(self.mine):
            n = len(mine) * TAGS
            stamp = np.full(n, now, np.int64)
            value = np.sin(np.arange(n) + now / 1e10) * 50 + 50
            batch = TagBatch(
                f"PLC{i}", self.sequence, np.arange(n, dtype=np.uint32), value, np.zeros(n, np.uint32), stamp,
                stamp, now,
            )  # fmt: skip
            self.pubs["tags", 0].publish(convert.tags_msg(batch))
            if self.sequence % self.hz == 0:
                self.pubs["tag_snapshot", i].publish(convert.tags_msg(batch))

    def say_verdicts(self) -> None:
        from cellwatch.models.types import (
            Contribution,
            FusedVerdict,
            FusedWindow,
            Level,
            LevelScores,
            Screening,
            Verdicts,
            Violation,
        )
        from cellwatch.nodes.ros import convert

        now, n = time.time_ns(), len(self.devices)
        shares = tuple(Contribution(f"L1/model{k}", 0.9, 1.0) for k in range(DETECTORS))
        broken = (Violation("", "network_packets_all_count", 900.0, 0.0, 40.0, "limit", "dos", "T0814"),) * 3
        verdicts = tuple(
            FusedVerdict(d, Screening.BLOCK, 0.97, 0.5, "dos", "", shares, broken, f"{d}: BLOCK, dos")
            if i % 10 == 0
            else FusedVerdict(d, Screening.ALLOW, 0.01, 0.5, contributions=shares)
            for i, d in enumerate(self.devices)
        )
        window = FusedWindow(now // 10**9, now, now, verdicts)
        self.pubs["verdicts/fused", 0].publish(convert.fused_msg(window, now))
        models = tuple(f"model{k}" for k in range(DETECTORS // 3))
        scores = tuple(
            LevelScores(level, models, tuple("abcdefgh"), np.full((n, len(models), 8), 0.1, np.float32))
            for level in (Level.L1, Level.L2, Level.L3)
        )
        for source, levels in (("rules", ()), ("ensemble", scores)):
            said = Verdicts(
                source, now // 10**9, now, now, tuple(self.devices), np.ones(n, np.uint8),
                np.full(n, 0.9, np.float32), levels,
            )  # fmt: skip
            self.pubs[f"verdicts/{source}", 0].publish(convert.verdicts_msg(said))


if __name__ == "__main__":
    main()
