"""What a node says of itself before it is at work."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from cellwatch.nodes.network_tap_node import NetworkTapNode  # noqa: E402
from cellwatch.nodes.ros.node import ERROR, OK  # noqa: E402


@pytest.fixture(autouse=True)
def _ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    rclpy.init()
    yield
    rclpy.try_shutdown()


class Troubled(NetworkTapNode):
    """Nothing works, and it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list = []
        self._diagnostics = SimpleNamespace(publish=lambda msg: self.said.append(msg.status[0]))

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        return ERROR, "disconnected", {"received": 3}


def test_a_node_that_waits_for_its_turn_is_not_in_trouble() -> None:
    """The manager takes an error of a node that is not active for a refusal to start."""
    node = Troubled()
    node.trigger_configure()
    node.tell_health()
    node.trigger_activate()
    node.trigger_deactivate()
    waiting, working, resting = node.said[0], node.said[1], node.said[-1]
    assert (waiting.level, waiting.message) == (OK, "inactive")
    assert (working.level, working.message) == (ERROR, "disconnected")
    assert (resting.level, resting.message) == (OK, "inactive")
    assert {v.key: v.value for v in resting.values}["received"] == "3"  # its last word still counts
    node.destroy_node()
