"""Stands in for the sources of a cell: publishes windows and the truth, and hears the fused verdicts.

Publishes   features (FeatureWindow), labels (Label)
Subscribes  verdicts/fused (FusedVerdictArray)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import rclpy
from cellwatch_msgs import msg as m

from cellwatch.models.types import FeatureWindow, Incident
from cellwatch.nodes.ros import convert, qos
from cellwatch.nodes.ros.node import make_executor, spin

# Number of the window; seconds from `closed`; all sources spoke; decision of each device by name.
Heard = Callable[[int, float, bool, dict[str, int]], None]


class WindowPlayer:
    """The only ROS node of its process, which spins in a thread of its own."""

    def __init__(self, namespace: str, windows: Sequence[FeatureWindow], heard: Heard) -> None:
        rclpy.init(
            args=["--ros-args", "-r", f"__ns:={namespace}"],
            signal_handler_options=rclpy.signals.SignalHandlerOptions.NO,
        )
        self._node = rclpy.create_node("window_player")
        self._heard = heard
        self._messages = [convert.features_msg(window) for window in windows]
        self._features = self._node.create_publisher(m.FeatureWindow, "features", qos.TOPICS["features"])
        self._labels = self._node.create_publisher(m.Label, "labels", qos.TOPICS["labels"])
        topic = "verdicts/fused"
        self._node.create_subscription(m.FusedVerdictArray, topic, self._fused, qos.heard(topic))
        executor = make_executor()
        executor.add_node(self._node)
        self._stop = threading.Event()
        threading.Thread(target=spin, args=(executor, self._stop), daemon=True).start()

    def deaf(self, listeners: set[str]) -> set[str]:
        """Those of the nodes that do not hear the player yet."""
        topic = self._node.resolve_topic_name("features")
        found = {each.node_name for each in self._node.get_subscriptions_info_by_topic(topic)}
        if not listeners <= found:
            return listeners - found
        linked = self._features.get_subscription_count() >= len(found)
        return set() if linked and self._node.count_publishers("verdicts/fused") else listeners

    def tell(self, incident: Incident) -> None:
        """The truth about a stretch of time."""
        self._labels.publish(convert.label_msg(incident))

    def publish(self, place: int, number: int, end_ns: int) -> None:
        """One of the windows under a number and with an end; it is closed now."""
        msg = self._messages[place]
        msg.window_id, msg.header.stamp = number, convert.time_msg(end_ns)
        msg.closed = convert.time_msg(time.time_ns())
        self._features.publish(msg)

    def close(self) -> None:
        """Let go of ROS; the process is about to end."""
        self._stop.set()

    def _fused(self, msg: m.FusedVerdictArray) -> None:
        decisions = {v.device: v.decision for v in msg.verdicts}
        self._heard(msg.window_id, msg.latency, not msg.missing, decisions)
