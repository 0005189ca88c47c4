"""Two ensemble nodes as processes on real DDS: they share the devices, and one that is killed is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
m = pytest.importorskip("cellwatch_msgs.msg")

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from cellwatch.models.features.schema import default_schema  # noqa: E402
from cellwatch.models.registry.bundle import write  # noqa: E402
from cellwatch.models.registry.keys import Keys  # noqa: E402
from cellwatch.models.registry.manifest import Manifest, ModelEntry  # noqa: E402
from cellwatch.models.types import FeatureWindow  # noqa: E402
from cellwatch.nodes.cell import NodeSpec, write_params  # noqa: E402
from cellwatch.nodes.ros import convert, qos  # noqa: E402

pytestmark = pytest.mark.system
PLACE = "/replicas"
DEVICES = tuple(f"device-{i}" for i in range(20))
F = len(default_schema().names)
PERIOD_S = 0.2


def bundle(folder, keys) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", F])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.zeros((F, 2), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    manifest = Manifest(
        "bench",
        default_schema().schema_id,
        1.0,
        {"1": ["benign", "attack"]},
        {"centre": [0.0] * F, "scale": [1.0] * F},
        [ModelEntry("XGB", 1, "window", "L1-XGB.onnx")],
        {"1": {"XGB": 1.0}},
    )
    write(folder, manifest, {"L1-XGB.onnx": model.SerializeToString()}, keys)


class Cell:
    """Publishes windows, hears the verdicts, brings nodes up."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("cell", namespace=PLACE)
        self.heard: dict[int, set[str]] = defaultdict(set)
        self.judges: dict[int, int] = defaultdict(int)
        self.node.create_subscription(
            m.VerdictArray, "verdicts/ensemble", self._hear, qos.TOPICS["verdicts/ensemble"]
        )
        self.pub = self.node.create_publisher(m.FeatureWindow, "features", qos.TOPICS["features"])
        self.next = 0
        self.due = time.monotonic()

    def _hear(self, msg) -> None:
        self.heard[msg.window_id] |= set(msg.devices)
        self.judges[msg.window_id] += 1

    def bring_up(self, name: str) -> None:
        client = self.node.create_client(ChangeState, f"{name}/change_state")
        assert client.wait_for_service(30)
        for step in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request()
            request.transition.id = step
            future = client.call_async(request)
            rclpy.spin_until_future_complete(self.node, future, timeout_sec=30)
            assert future.result().success

    def spin(self, seconds: float, until=lambda: False) -> bool:
        """Publish a window every PERIOD_S; true as soon as `until` is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(self.node, timeout_sec=0.02)
            if until():
                return True
            if time.monotonic() >= self.due:
                self.due = time.monotonic() + PERIOD_S
                self.pub.publish(convert.features_msg(self._window()))
                self.next += 1
        return until()

    def _window(self) -> FeatureWindow:
        now = time.time_ns()
        x = np.zeros((len(DEVICES), F), np.float32)
        none = np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)
        return FeatureWindow(
            self.next, now - 10**9, now, now, default_schema().schema_id, DEVICES, x, (), *none
        )

    def shared(self) -> bool:
        """Whether one of the last windows was judged by both, each device once or twice."""
        return any(self.heard[i] == set(DEVICES) and self.judges[i] == 2 for i in range(self.next)[-5:])

    def alone(self) -> bool:
        """Whether one of the last windows was judged whole by one."""
        return any(self.heard[i] == set(DEVICES) and self.judges[i] == 1 for i in range(self.next)[-5:])


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(40 + os.getpid() % 60))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    keys = Keys(tmp_path / "keys")
    bundle(tmp_path / "b", keys)
    processes = {}
    for i in (1, 2):
        name = f"ensemble_node_{i}"
        values = {"models": str(tmp_path / "b"), "keys": str(keys.folder), "replica": i, "replicas": 2}
        params = write_params(NodeSpec(name, "ensemble_node", values), PLACE, tmp_path)
        remap = ["-r", f"__node:={name}", "-r", f"__ns:={PLACE}", "--params-file", str(params)]
        command = [sys.executable, "-m", "cellwatch.nodes.ensemble_node", "--ros-args", *remap]
        processes[name] = subprocess.Popen(command)
    rclpy.init()
    yield Cell(), processes
    rclpy.try_shutdown()
    for process in processes.values():
        process.kill()
        process.wait()


def test_one_is_killed_and_the_other_takes_its_devices(pair):
    cell, processes = pair
    for name in processes:
        cell.bring_up(name)
    assert cell.spin(15, cell.shared)
    for name in processes:
        assert processes[name].poll() is None
    cell.spin(2.0)
    last = cell.next - 3
    assert cell.heard[last] == set(DEVICES)
    processes["ensemble_node_2"].send_signal(signal.SIGKILL)
    assert cell.spin(10, cell.alone)
