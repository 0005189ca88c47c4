"""Labels from the command line: when, and to a drift node that runs."""

from __future__ import annotations

import json
import threading

import pytest
from typer.testing import CliRunner

from cellwatch.nodes.cli import app


def test_a_running_drift_node_answers(monkeypatch):
    rclpy = pytest.importorskip("rclpy")
    pytest.importorskip("cellwatch_msgs")
    from rclpy.executors import SingleThreadedExecutor

    from cellwatch.nodes.drift_node import DriftNode

    rclpy.init(args=["--ros-args", "-r", "__ns:=/demo"])
    node = DriftNode()
    node.trigger_configure()
    node.trigger_activate()
    executor, done = SingleThreadedExecutor(), threading.Event()
    executor.add_node(node)
    thread = threading.Thread(
        target=lambda: [executor.spin_once(timeout_sec=0.05) for _ in iter(done.is_set, True)]
    )
    thread.start()
    try:
        said = CliRunner().invoke(app, ["drift", "label", "benign", "--since", "1min", "--json"])
        assert json.loads(said.stdout) == {"accepted": 0, "expired": 0, "held_back": 0}
        said = CliRunner().invoke(app, ["drift", "label", "sunshine", "--since", "1min"])
        assert said.exit_code == 2
        assert "'sunshine'" in said.stderr
    finally:
        done.set()
        thread.join()
        executor.shutdown()
        node.end()
        node.destroy_node()
        rclpy.try_shutdown()
