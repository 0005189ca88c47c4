"""How soon the running node tells a broken limit: tag batch published to verdict received, over real DDS.

    python benchmarks/limits_live.py [--batches 1000] [--json]

The rule node runs in a process of its own, as in a cell. 20 batches a second of 100 samples of 100 tags; in
every second batch one tag breaks its limit, in the next it is back. The time holds both ways through DDS and
both conversions, so it is an upper bound of "sample at the node to verdict".
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

TAGS, PERIOD_S = 100, 0.05
RULES = "limits:\n  - {tags: '*', high: 85, high_high: 95}\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rules.yaml")
        file.write_text(RULES)
        place = f"/limits_live_{os.getpid()}"
        node = subprocess.Popen(
            [sys.executable, "-m", "cellwatch.nodes.rule_node", "--ros-args", "-r", f"__ns:={place}",
             "-p", f"rules_file:={file}"]
        )  # fmt: skip
        try:
            spent = measure(place, options.batches)
        finally:
            node.terminate()
            node.wait(10)
    found = {
        "batches": len(spent),
        "p50_ms": round(float(np.quantile(spent, 0.5)) * 1e3, 2),
        "p99_ms": round(float(np.quantile(spent, 0.99)) * 1e3, 2),
        "max_ms": round(float(spent.max()) * 1e3, 2),
    }
    print(json.dumps(found) if options.json else "  ".join(f"{k} {v}" for k, v in found.items()))


def measure(place: str, batches: int) -> np.ndarray:
    """Seconds from publishing a batch that breaks a limit, or mends it, to the verdict."""
    import rclpy
    from cellwatch_msgs import msg as m
    from lifecycle_msgs.srv import ChangeState

    from cellwatch.models.types import TagBatch, TagCatalog, TagInfo
    from cellwatch.nodes.ros import convert, qos

    rclpy.init()
    me = rclpy.create_node("limits_live", namespace=place)
    change = me.create_client(ChangeState, "rule_node/change_state")
    if not change.wait_for_service(30.0):
        raise SystemExit("the rule node does not start")
    for transition in (1, 3):  # configure, activate
        request = ChangeState.Request()
        request.transition.id = transition
        done = change.call_async(request)
        rclpy.spin_until_future_complete(me, done, timeout_sec=10.0)
    heard: list[float] = []
    me.create_subscription(
        m.VerdictArray, "verdicts/limits", lambda _: heard.append(time.perf_counter()),
        qos.heard("verdicts/limits"),
    )  # fmt: skip
    catalogs = me.create_publisher(m.TagCatalog, "tag_catalog", qos.TOPICS["tag_catalog"])
    tags = me.create_publisher(m.TagBatch, "tags", qos.TOPICS["tags"])
    names = tuple(TagInfo(f"T{i}", f"T{i}", "PLC1") for i in range(TAGS))
    catalogs.publish(convert.catalog_msg(TagCatalog("PLC1", names), time.time_ns()))
    rest = time.perf_counter() + 2.0
    while time.perf_counter() < rest:
        rclpy.spin_once(me, timeout_sec=0.05)
    spent = []
    index = np.arange(TAGS, dtype=np.uint32)
    for k in range(batches):
        now = time.time_ns()
        value = np.full(TAGS, 60.0)
        value[k // 2 % TAGS] = 90.0 if k % 2 == 0 else 60.0
        times = np.full(TAGS, now, np.int64)
        batch = TagBatch("PLC1", k + 2, index, value, np.zeros(TAGS, np.uint32), times, times, now)
        message = convert.tags_msg(batch)
        heard.clear()
        begun = time.perf_counter()
        tags.publish(message)
        while time.perf_counter() - begun < PERIOD_S:
            rclpy.spin_once(me, timeout_sec=PERIOD_S / 10)
        if heard:
            spent.append(heard[0] - begun)
    me.destroy_node()
    rclpy.shutdown()
    if len(spent) < 0.9 * batches:
        raise SystemExit(f"only {len(spent)} of {batches} batches were answered in {PERIOD_S} s")
    return np.array(spent)


if __name__ == "__main__":
    main()
