"""The shadow on real DDS: it judges what the cell hears, beside its own nodes, and commands nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
m = pytest.importorskip("cellwatch_msgs.msg")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from cellwatch.models.features.schema import default_schema  # noqa: E402
from cellwatch.models.features.tags import TAG_COLUMNS  # noqa: E402
from cellwatch.models.registry.bundle import BundleError  # noqa: E402
from cellwatch.models.registry.keys import Keys  # noqa: E402
from cellwatch.models.registry.manifest import Manifest, ModelEntry  # noqa: E402
from cellwatch.models.registry.registry import Registry  # noqa: E402
from cellwatch.models.rules.profile_builder import ProfileBuilder  # noqa: E402
from cellwatch.models.types import FeatureWindow, Screening  # noqa: E402
from cellwatch.nodes.cell import Artifacts, node_table, shadow_parameters  # noqa: E402
from cellwatch.nodes.config import CellConfig, PlcConfig, ResponseConfig  # noqa: E402
from cellwatch.nodes.ros import convert, qos  # noqa: E402
from cellwatch.nodes.shadow_process import ShadowProcess  # noqa: E402

pytestmark = pytest.mark.system
PLACE = "/beside"
PATIENCE_S = 90.0  # of a machine that is busy otherwise
NAMES = default_schema().names
PACKETS = NAMES.index("network_packets_all_count")
S = 1_000_000_000


def window(i: int, packets: float) -> FeatureWindow:
    values = np.full((1, len(NAMES)), np.nan, np.float32)
    values[0, PACKETS] = packets
    return FeatureWindow(
        i, i * S, (i + 1) * S, (i + 1) * S, default_schema().schema_id, ("PLC1",), values, (),
        np.zeros(0, np.uint32), np.zeros((0, len(TAG_COLUMNS)), np.float32),
    )  # fmt: skip


def profile(packets: float) -> bytes:
    builder = ProfileBuilder(NAMES, TAG_COLUMNS, 0.5)
    for i in range(60):
        builder.add(window(i, packets + i % 5))
    return builder.build().to_json().encode()


def never_an_attack() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["y"]),
        helper.make_node("Softmax", ["y"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(NAMES)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(np.zeros((len(NAMES), 2), np.float32), "w"),
            numpy_helper.from_array(np.array([2.0, -2.0], np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "r", Keys(tmp_path / "keys"))


@pytest.fixture
def version(registry) -> str:
    scaler = {"centre": [0.0] * len(NAMES), "scale": [1.0] * len(NAMES)}
    models = [ModelEntry("XGB", 1, "window", "L1-XGB.onnx")]
    classes = {"1": ["benign", "attack"]}
    manifest = Manifest("bench", default_schema().schema_id, 1.0, classes, scaler, models, {})
    return registry.add(manifest, {"profile.json": profile(100.0), "L1-XGB.onnx": never_an_attack()})


@pytest.fixture
def shadow(tmp_path, registry):
    """Of a cell that answers every objection with a command."""
    rule = ResponseConfig(action="write", decision="suspicious", tag="P101", value=0.0)
    cell = CellConfig("beside", plcs=[PlcConfig("PLC1", "tags.yaml")], response=[rule])
    files = Artifacts(tmp_path / "cell", models=str(registry.folder), keys=str(registry.keys.folder))
    made = ShadowProcess(PLACE, shadow_parameters(node_table(cell, files)), tmp_path / "shadow")
    yield made
    made.stop()
    deadline = time.monotonic() + 10
    while made.running and time.monotonic() < deadline:
        made.poll()
        time.sleep(0.02)
    assert not made.running


@pytest.fixture
def cell():
    """A node of the cell that says windows, and hears all that comes of them."""
    rclpy.init()
    node = rclpy.create_node("cell", namespace=PLACE)
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def test_it_judges_beside_and_nobody_takes_it_for_the_cell(cell, shadow, registry, version):
    shadow.start(registry, version)
    heard, health = [], []
    topic = "verdicts/shadow"
    cell.create_subscription(m.FusedVerdictArray, topic, heard.append, qos.heard(topic))
    cell.create_subscription(DiagnosticArray, "/diagnostics", health.append, qos.DIAGNOSTICS)
    pub = cell.create_publisher(m.FeatureWindow, "features", qos.TOPICS["features"])
    now, deadline = int(time.time()) - 10_000, time.monotonic() + PATIENCE_S
    i = 0
    while len(heard) < 8 or not health:
        assert shadow.running, shadow.last_words()
        assert time.monotonic() < deadline, shadow.last_words()
        pub.publish(convert.features_msg(window(now + i, 5000.0 if i % 2 else 100.0)))
        i += 1
        said, until = len(heard), time.monotonic() + 0.5  # topics keep 20 windows
        while len(heard) == said and time.monotonic() < until:
            rclpy.spin_once(cell, timeout_sec=0.02)
    found = [convert.fused(msg) for msg in heard]
    ids = [w.window_id for w in found]
    assert ids == list(range(ids[0], ids[0] + len(ids)))  # from the first on, none is lost
    assert found[-1].sources == ("rules", "ensemble")
    for w in found:
        assert (w.verdicts[0].decision > Screening.ALLOW) == bool((w.window_id - now) % 2)
    topics = dict(cell.get_topic_names_and_types())
    assert f"{PLACE}/shadow/commands" in topics  # it would say them here; it has no rules that could
    for topic in ("commands", "verdicts/rules", "verdicts/fused", "verdicts/limits", "alarms", "model_state"):
        assert cell.count_publishers(f"{PLACE}/{topic}") == 0
    places = {s.hardware_id for msg in health for s in msg.status}
    assert places == {f"cellwatch:{PLACE}/shadow"}
    os.kill(shadow._popen.pid, signal.SIGKILL)
    shadow._popen.wait()
    assert (shadow.died, shadow.running) == (True, False)


def test_what_cannot_judge_is_said(shadow, registry, version, tmp_path):
    with pytest.raises(BundleError, match="no version 'abc'"):
        shadow.start(registry, "abc")
    place = registry.path(version) / "profile.json"
    good = place.read_bytes()
    place.write_bytes(profile(200.0))
    with pytest.raises(BundleError, match="sha256"):
        shadow.start(registry, version)
    assert not shadow.running
    place.write_bytes(good)
    shadow._parameters["ensemble_node"]["keys"] = str(tmp_path / "no-keys")
    shadow.start(registry, version)
    deadline = time.monotonic() + PATIENCE_S
    while shadow.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert shadow.died
    assert "not signed by a key" in (tmp_path / "shadow" / "shadow.log").read_text()


CHILD = """
import json, sys, time
from pathlib import Path
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.registry import Registry
from cellwatch.nodes.shadow_process import ShadowProcess

folder, keys, version, parameters, work = sys.argv[1:]
shadow = ShadowProcess("/beside", json.loads(parameters), Path(work))
shadow.start(Registry(Path(folder), Keys(Path(keys))), version)
print(shadow._popen.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_with_who_started_it(shadow, registry, version, tmp_path):
    parameters = json.dumps(shadow._parameters)
    arguments = [registry.folder, registry.keys.folder, version, parameters, tmp_path / "w"]
    parent = subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if b"Z" in Path(f"/proc/{pid}/stat").read_bytes().split(b") ")[1][:1]:
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_of_several_replicas_one_judges_alone():
    cell = CellConfig("beside", plcs=[PlcConfig("PLC1", "tags.yaml")])
    cell = replace(cell, ensemble=replace(cell.ensemble, replicas=3, local=[2]))
    found = shadow_parameters(node_table(cell, Artifacts(Path("x"), ewad="ewad", traffic_file="t.json")))
    assert found["ensemble_node"] | {"replica": 1, "replicas": 1, "ewad": ""} == found["ensemble_node"]
    assert found["rule_node"]["traffic_file"] == found["fusion_node"]["audit_file"] == ""
    assert found["fusion_node"]["response"] == "[]"
    assert "ewad" in found["fusion_node"]["sources"]  # heard of the cell's own
