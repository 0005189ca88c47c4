"""The fusion node without windows: limits are alarmed all the same, and its health says what is amiss."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.fusion.window_watch import WindowWatch  # noqa: E402
from cellwatch.models.types import AlarmState, Screening, Verdicts, Violation  # noqa: E402
from cellwatch.nodes.fusion_node import FusionNode  # noqa: E402
from cellwatch.nodes.ros import convert  # noqa: E402
from cellwatch.nodes.ros.node import OK, WARN  # noqa: E402


@pytest.fixture
def node():
    rclpy.init()
    made = FusionNode()
    made.set_parameters([Parameter("sources", value='["rules"]')])
    made.trigger_configure()
    made.trigger_activate()
    yield made
    made.end()
    made.destroy_node()
    rclpy.try_shutdown()


def limits(screening=Screening.BLOCK):
    now = time.time_ns()
    return Verdicts(
        "limits", 0, now, now, ("TANK",), np.array([screening], np.uint8), np.ones(1, np.float32),
        violations=(Violation("TANK", "LIT101/value", 95.0, 0.0, 90.0, "limit-high-high", "fault"),),
    )  # fmt: skip


def test_a_grave_limit_is_alarmed_without_any_window(node):
    node._offer(convert.verdicts_msg(limits(Screening.SUSPICIOUS)))
    assert node.response.alarms.alarms() == ()
    node._offer(convert.verdicts_msg(limits()))
    (alarm,) = node.response.alarms.alarms()
    assert (alarm.key, alarm.state) == ("TANK/fault", AlarmState.UNACKNOWLEDGED)
    assert "LIT101/value is 95" in alarm.message
    node._offer(convert.verdicts_msg(limits()))
    assert node.response.alarms.alarms()[0].occurrences == 1
    assert node.fused == 0


def test_health_warns_when_no_window_comes_and_counts_what_was_refused(node):
    assert node.health()[0] == OK
    second = time.time_ns() // 10**9
    window = replace(limits(Screening.ALLOW), source="rules", violations=())
    for window_id in (second - 1, second):
        node._offer(convert.verdicts_msg(replace(window, window_id=window_id, end_ns=window_id * 10**9)))
    assert (node.fused, node.health()[0]) == (2, OK)
    node.watch.silent_s = lambda _: 31.0
    level, text, _ = node.health()
    assert (level, text) == (WARN, "no window for 31 s")
    node._offer(convert.verdicts_msg(replace(window, window_id=2**40, end_ns=2 * time.time_ns())))
    assert node.health()[2]["refused"] == 1
    node._offer(convert.verdicts_msg(replace(window, window_id=second, end_ns=second * 10**9)))
    assert (node.health()[2]["late"], node.fused) == (1, 2)


def test_the_watch_is_told_of_every_window(node):
    seen = []
    node.watch = WindowWatch(0)
    node.watch.see = lambda *window: seen.append(window[:2])
    now = time.time_ns()
    node._offer(convert.verdicts_msg(replace(limits(), source="rules", window_id=5, end_ns=now)))
    assert seen == [(5, now)]
