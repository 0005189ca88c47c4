"""What the black box costs: CPU and memory of its node, over real DDS, quiet and while it records.

    python benchmarks/black_box.py [--seconds 60] [--devices 40] [--links 1] [--json]

A cell of so many devices with ten tags each at 10 Hz, in as many links, is spoken to a node in a process of
its own: a batch of tags a link ten times a second; each second the features, traffic, the verdicts of four
sources and the fused one. After half of the time there is an alarm; the recording must hold every batch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

TAGS, HZ = 10, 10  # of a device


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--devices", type=int, default=40)
    parser.add_argument("--links", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with tempfile.TemporaryDirectory() as name:
        folder, place, half = Path(name), f"/black_box_{os.getpid()}", options.seconds / 2
        code = "from cellwatch.nodes import black_box_node as n; n.run(n.BlackBoxNode, up=True)"
        node = subprocess.Popen(
            [sys.executable, "-c", code, "--ros-args", "-r", f"__ns:={place}", "-p", f"folder:={folder}",
             "-p", f"before_s:={options.seconds}", "-p", f"after_s:={options.seconds}"]
        )  # fmt: skip
        try:
            found = measure(place, psutil.Process(node.pid), half, options.devices, options.links)
        finally:
            node.terminate()
            node.wait(20)
        found["tag_batches_recorded"] = recorded(folder)
    print(json.dumps(found) if options.json else "\n".join(f"{k:24} {v}" for k, v in found.items()))


def measure(place: str, node: psutil.Process, half: float, devices: int, links: int) -> dict[str, float]:
    """Speak to the node; its CPU as a share of a core, quiet and recording, and its memory."""
    import rclpy
    from cellwatch_msgs import msg as m

    from cellwatch.nodes.ros import convert, qos

    rclpy.init()
    me = rclpy.create_node("cell", namespace=place)
    messages = speech(m, devices, links)
    publishers = {  # one for each link, as in a cell
        topic: [me.create_publisher(type(one), topic, qos.TOPICS[topic]) for one in found]
        for topic, found in (messages | {"alarms": [m.AlarmArray()]}).items()
    }
    deadline = time.monotonic() + 30
    while not all(pub.get_subscription_count() for pubs in publishers.values() for pub in pubs):
        if time.monotonic() > deadline:
            raise SystemExit("the black box does not listen")
        time.sleep(0.1)
    time.sleep(2.0)  # until the node, too, has found them all
    said = {"tags": 0}

    def speak(seconds: float) -> float:
        """CPU seconds of the node a second."""
        before, begun = sum(node.cpu_times()[:2]), time.monotonic()
        for k in range(round(seconds * HZ)):
            for topic, batches in messages.items():
                if topic == "tags" or k % HZ == 0:
                    for publisher, batch in zip(publishers[topic], batches, strict=True):
                        batch.header.stamp = convert.time_msg(time.time_ns())
                        publisher.publish(batch)
                    said["tags"] += len(batches) * (topic == "tags")
            time.sleep(max(0.0, begun + (k + 1) / HZ - time.monotonic()))
        return (sum(node.cpu_times()[:2]) - before) / (time.monotonic() - begun)

    start_mb = node.memory_info().rss / 1e6
    quiet, quiet_mb = speak(half), node.memory_info().rss / 1e6
    now = convert.time_msg(time.time_ns())
    alarm = m.Alarm(key="D0/dos", state=m.Alarm.UNACKNOWLEDGED, priority=3, raised=now, changed=now)
    publishers["alarms"][0].publish(m.AlarmArray(alarms=[alarm]))
    recording = speak(half)
    found = {
        "cpu_quiet_percent": round(100 * quiet, 2),
        "cpu_recording_percent": round(100 * recording, 2),
        "start_mb": round(start_mb, 1),
        "quiet_mb": round(quiet_mb, 1),
        "recording_mb": round(node.memory_info().rss / 1e6, 1),
        "tag_batches_said": said["tags"],
    }
    me.destroy_node()
    rclpy.shutdown()
    return found


def speech(m, devices: int, links: int) -> dict[str, list]:
    """The messages of a second, by topic, with the sizes that those of a cell have."""
    from cellwatch.models.features.schema import default_schema
    from cellwatch.models.types import FeatureWindow, TagBatch
    from cellwatch.nodes.ros import convert

    noise, names = np.random.default_rng(1), [f"D{i}" for i in range(devices)]
    tags, now = devices * TAGS // links, time.time_ns()
    index, times = np.arange(tags, dtype=np.uint32), np.full(tags, now, np.int64)
    batches = [
        convert.tags_msg(
            TagBatch(f"PLC{i}", 1, index, noise.normal(50, 10, tags), 0 * index, times, times, now)
        )
        for i in range(links)
    ]
    columns = len(default_schema().names)
    values = noise.normal(0, 1, (devices, columns)).astype(np.float32)
    tag_values = noise.normal(0, 1, (devices * TAGS, 8)).astype(np.float32)
    owners = np.repeat(np.arange(devices, dtype=np.uint32), TAGS)
    window = FeatureWindow(
        1, now - 10**9, now, now, "s", tuple(names), values, tuple(f"T{i}" for i in range(devices * TAGS)),
        owners, tag_values,
    )  # fmt: skip
    scores = m.LevelScores(level=1, detectors=list("abcdef"), classes=["benign", "attack"])
    scores.probabilities = noise.random(devices * 12).astype(np.float32).tolist()
    verdict = m.VerdictArray(devices=names, screening=[1] * devices, confidence=[0.5] * devices)
    verdict.levels = [scores] * 3
    parts = [m.Contribution(detector=d, score=0.5, weight=0.2) for d in "abcdef"]
    fused = m.FusedVerdictArray(
        verdicts=[m.FusedVerdict(device=n, decision=1, contributions=parts) for n in names]
    )
    traffic = m.TrafficBatch(devices=names, columns=[f"c{i}" for i in range(40)], values=[0.5] * devices * 40)
    return {
        "tags": batches,
        "features": [convert.features_msg(window)],
        "traffic": [traffic],
        **{f"verdicts/{source}": [verdict] for source in ("rules", "ensemble", "ewad", "limits")},
        "verdicts/fused": [fused],
    }


def recorded(folder: Path) -> int:
    """Batches of tags in the recording."""
    from cellwatch.nodes.drivers.recordings import recordings

    ((one,), _) = recordings(folder)
    return next(number for topic, (_, number) in one.topics.items() if topic.endswith("/tags"))


if __name__ == "__main__":
    main()
