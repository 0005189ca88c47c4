"""The export node records what other nodes say: real topics, a real store."""

from __future__ import annotations

import time

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from cellwatch_msgs import msg as m  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.nodes.drivers.store import Store  # noqa: E402
from cellwatch.nodes.influx_export_node import InfluxExportNode  # noqa: E402
from cellwatch.nodes.ros import convert, qos  # noqa: E402

NOW = 1_700_000_000_000_000_000


def test_what_moved_the_models_is_recorded(tmp_path):
    rclpy.init()
    node, ensemble = InfluxExportNode(), rclpy.create_node("ensemble")
    try:
        node.set_parameters([Parameter("folder", value=str(tmp_path / "record"))])
        node.trigger_configure()
        node.trigger_activate()
        msg = m.Attribution(window_id=7, device="PLC1", features=["a", "b"], shares=[0.25, -0.5])
        msg.header.stamp = convert.time_msg(NOW)
        publisher = ensemble.create_publisher(m.Attribution, "attributions", qos.TOPICS["attributions"])
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        deadline = time.monotonic() + 10
        points = []
        while not points and time.monotonic() < deadline:
            publisher.publish(msg)
            executor.spin_once(timeout_sec=0.1)
            node.recorder.flush(timeout=3.0)
            points = list(Store(tmp_path / "record").points("attributions"))
        assert points
        assert (points[0].tags, points[0].time_ns) == ({"device": "PLC1"}, NOW)
        assert (points[0].fields["a"], points[0].fields["b"], points[0].fields["window_id"]) == (
            0.25,
            -0.5,
            7,
        )
    finally:
        node.end()
        node.destroy_node()
        ensemble.destroy_node()
        rclpy.try_shutdown()
