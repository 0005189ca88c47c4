"""The ensemble node: hot swap without a lost window, refused models, replicas that share and take over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from cellwatch_msgs.srv import PromoteModel  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.features.schema import default_schema  # noqa: E402
from cellwatch.models.registry.keys import Keys  # noqa: E402
from cellwatch.models.registry.manifest import Manifest, ModelEntry  # noqa: E402
from cellwatch.models.registry.registry import POINTER, Registry  # noqa: E402
from cellwatch.models.types import FeatureWindow  # noqa: E402
from cellwatch.nodes import ensemble_node  # noqa: E402
from cellwatch.nodes.ensemble_node import EnsembleNode  # noqa: E402
from cellwatch.nodes.ros import convert  # noqa: E402
from cellwatch.nodes.ros.node import ERROR, OK, WARN  # noqa: E402

F = len(default_schema().names)
DEVICES = tuple(f"device-{i}" for i in range(12))


def newest_alone(sign: float) -> bytes:
    """P(attack) is logistic(sign * (first column now - in the oldest window)): 0.5 for a new sequence."""
    pick = np.zeros((8, F, 2), np.float32)
    pick[0, 0, 1], pick[7, 0, 1] = -sign, sign
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, F])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(pick.reshape(-1, 2), "w"),
            numpy_helper.from_array(np.array([-1, 8 * F]), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


def manifest(seed: int) -> Manifest:
    return Manifest(
        "bench",
        default_schema().schema_id,
        1.0,
        {"1": ["benign", "attack"]},
        {"centre": [0.0] * F, "scale": [1.0] * F},
        [ModelEntry("RNN", 1, "sequence", "L1-RNN.onnx")],
        {"1": {"RNN": 1.0}},
        lineage={"seed": seed},
    )


@pytest.fixture
def registry(tmp_path) -> Registry:
    place = Registry(tmp_path / "r", Keys(tmp_path / "keys"))
    for seed, sign in ((1, 1.0), (2, -1.0)):
        place.add(manifest(seed), {"L1-RNN.onnx": newest_alone(sign)})
    return place


@pytest.fixture
def versions(registry) -> tuple[str, str]:
    by_seed = {registry.load(v.version).manifest.lineage["seed"]: v.version for v in registry.versions()}
    registry.promote(by_seed[1])
    return by_seed[1], by_seed[2]


class Clock:
    """`time` of the node's module, with a monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0
        self.time_ns, self.perf_counter = time.time_ns, time.perf_counter

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(ensemble_node, "time", made)
    return made


@pytest.fixture
def nodes(monkeypatch, registry, clock) -> Iterator:
    """Makes active nodes; what they say lands in `said` and `states`."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    rclpy.init()
    made = []

    def make(**parameters) -> EnsembleNode:
        node = EnsembleNode()
        values = {"models": str(registry.folder), "keys": str(registry.keys.folder), **parameters}
        node.set_parameters([Parameter(k, value=v) for k, v in values.items()])
        node.said, node.states, node.beats, node.reasons = [], [], [], []
        node._diagnostics = SimpleNamespace(publish=node.beats.append)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        node.pub = SimpleNamespace(publish=node.said.append)
        node.state_pub = SimpleNamespace(publish=node.states.append)
        node.attributions = SimpleNamespace(publish=node.reasons.append)
        node.trigger_activate()
        made.append(node)
        return node

    yield make
    for node in made:
        node.end()
        node.destroy_node()
    rclpy.try_shutdown()


def window(i: int) -> FeatureWindow:
    x = np.zeros((len(DEVICES), F), np.float32)
    x[:, 0] = np.expm1(i / 20)  # the scaler takes the logarithm
    return FeatureWindow(
        i,
        i * 10**9,
        (i + 1) * 10**9,
        (i + 1) * 10**9,
        default_schema().schema_id,
        DEVICES,
        x,
        (),
        np.zeros(0, np.uint32),
        np.zeros((0, 0), np.float32),
    )


def score(node: EnsembleNode, i: int):
    node._score(convert.features_msg(window(i)))
    return convert.verdicts(node.said[-1])


def attack(verdicts) -> float:
    return float(verdicts.levels[0].probabilities[0, 0, 1])


def settle(node: EnsembleNode, clock: Clock, until, i: int) -> int:
    """Windows go on coming while a version is loaded."""
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline
        clock.now += 0.6
        node.step()
        i += 1
        assert not score(node, i).abstained
    return i


def test_a_promoted_version_takes_over_and_no_window_is_lost(nodes, registry, versions, clock):
    node = nodes()
    assert node.health()[:2] == (OK, f"serves {versions[0]}")
    for i in range(10):
        before = score(node, i)
    assert attack(before) > 0.55
    registry.promote(versions[1])
    last = settle(node, clock, lambda: node.swaps == 1, 9)
    after = score(node, last + 1)
    assert attack(after) < 0.45  # and not 0.5: the sequence was not begun anew
    assert [convert.verdicts(m).window_id for m in node.said] == list(range(last + 2))
    assert node.states[-1].version == versions[1]
    assert node.states[-1].detectors == ["L1/RNN"]


def test_promote_and_roll_back_by_the_service(nodes, registry, versions, clock):
    node = nodes()
    ask = PromoteModel.Request
    answer = node._promote(ask(version=versions[1], user="op"), PromoteModel.Response())
    assert (answer.error_code, answer.serving) == (PromoteModel.Response.NONE, versions[1])
    settle(node, clock, lambda: node.swaps == 1, 0)
    assert node._promote(ask(), PromoteModel.Response()).serving == versions[0]
    settle(node, clock, lambda: node.swaps == 2, 50)
    assert node.health()[1] == f"serves {versions[0]}"
    refused = node._promote(ask(version="nothing"), PromoteModel.Response())
    assert (refused.error_code, refused.serving) == (PromoteModel.Response.REFUSED, versions[0])
    assert "no version" in refused.error_msg


@pytest.fixture
def other_baseline(registry) -> str:
    """A version that brings another baseline, which the feature node would not take live."""
    files = {"L1-RNN.onnx": newest_alone(-1.0), "baseline.json": b"{}"}
    return registry.add(manifest(3), files)


def test_models_that_need_other_nodes_to_change_wait_for_a_restart(
    nodes, registry, versions, other_baseline, clock
):
    node = nodes()
    answer = node._promote(PromoteModel.Request(version=other_baseline), PromoteModel.Response())
    assert answer.error_code == PromoteModel.Response.REFUSED
    assert "baseline.json" in answer.error_msg
    assert "restart the cell" in answer.error_msg
    assert registry.current == versions[0]
    registry.promote(other_baseline)  # by the command line, for the next start
    settle(node, clock, lambda: bool(node.refused), 0)
    assert node.health()[0] == WARN
    assert "restart the cell" in node.health()[1]
    assert node.now.bundle.version == versions[0]
    assert nodes().now.bundle.version == other_baseline


def test_a_node_that_is_started_again_serves_what_fits_the_cell(nodes, registry, versions, other_baseline):
    started = registry.load(versions[0]).manifest.surroundings()
    registry.promote(other_baseline)
    node = nodes(fallback=str(registry.path(versions[0])), surroundings=json.dumps(started))
    assert node.now.bundle.version == versions[0]
    assert "restart the cell" in node.health()[1]


def test_a_cell_on_shipped_models_takes_a_promoted_version(nodes, registry, versions, clock):
    (registry.folder / POINTER).unlink()
    node = nodes(fallback=str(registry.path(versions[0])))
    assert node.health()[:2] == (OK, f"serves {versions[0]}")
    registry.promote(versions[1])
    settle(node, clock, lambda: node.swaps == 1, 0)
    assert node.now.bundle.version == versions[1]


@pytest.mark.parametrize("change", [{"schema_id": "s9"}, {"window_s": 10.0}, {"site": "factory"}])
def test_what_the_cell_cannot_serve_is_not_promoted(nodes, registry, versions, change):
    node = nodes()
    foreign = registry.add(replace(manifest(4), **change), {"L1-RNN.onnx": newest_alone(1.0)})
    answer = node._promote(PromoteModel.Request(version=foreign), PromoteModel.Response())
    assert answer.error_code == PromoteModel.Response.REFUSED
    assert next(iter(change)) in answer.error_msg
    assert registry.current == versions[0]


def test_without_models_there_is_nothing_to_promote(nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = nodes(models="")._promote(PromoteModel.Request(version="abc"), PromoteModel.Response())
    assert answer.error_code == PromoteModel.Response.REFUSED
    assert "no registry" in answer.error_msg
    assert not (tmp_path / ".lock").exists()


def test_promoting_on_a_single_bundle_does_not_spoil_it(nodes, registry, versions):
    alone = registry.path(versions[0])
    node = nodes(models=str(alone))
    for version in ("", "abc"):
        answer = node._promote(PromoteModel.Request(version=version), PromoteModel.Response())
        assert "one bundle" in answer.error_msg
    assert nodes(models=str(alone)).now.bundle.version == versions[0]


def test_without_a_folder_of_keys_the_current_one_is_not_taken(nodes, registry, versions, monkeypatch):
    monkeypatch.chdir(registry.keys.folder)
    with pytest.raises(AssertionError):
        nodes(keys="")


def test_a_version_promoted_before_the_first_window_is_taken(nodes, registry, versions, clock):
    node = nodes()
    registry.promote(versions[1])
    clock.now += 0.6
    node.step()
    node.next.result(20)
    node.step()
    assert node.now.bundle.version == versions[1]
    assert not score(node, 0).abstained


def test_a_takeover_that_fails_leaves_the_old_models_in_service(
    nodes, registry, versions, clock, monkeypatch
):
    node = nodes()
    monkeypatch.setattr(ensemble_node.Ensemble, "take_over", lambda *_: 1 / 0)
    registry.promote(versions[1])
    settle(node, clock, lambda: bool(node.refused), 0)
    assert node.now.bundle.version == versions[0]


def test_poisoned_models_never_serve_and_the_old_ones_go_on(nodes, registry, versions, clock):
    node = nodes()
    (registry.path(versions[1]) / "L1-RNN.onnx").write_bytes(newest_alone(5.0))
    # As an attacker would: past `promote`, which checks.
    (registry.folder / POINTER).write_text(json.dumps({"current": versions[1], "previous": []}))
    settle(node, clock, lambda: bool(node.refused), 0)
    level, text, _ = node.health()
    assert level == WARN
    assert "sha256 does not fit" in text
    assert node.now.bundle.version == versions[0]


def test_a_node_does_not_start_with_models_that_it_cannot_trust(nodes, registry, versions, tmp_path):
    node = EnsembleNode()
    values = {"models": str(registry.folder), "keys": str(tmp_path / "no-keys")}
    node.set_parameters([Parameter(k, value=v) for k, v in values.items()])
    said = []
    node._diagnostics = SimpleNamespace(publish=lambda msg: said.append(msg.status[0]))
    node.trigger_configure()
    assert (said[-1].level, "not signed by a key" in said[-1].message) == (ERROR, True)
    node.destroy_node()


def test_without_models_it_abstains(nodes):
    node = nodes(models="")
    assert score(node, 0).abstained == "no model trained for this cell"
    assert node.health()[0] == OK


def test_it_keeps_still_while_the_cell_learns(nodes, versions):
    node = nodes()
    node._score(convert.features_msg(replace(window(0), commissioning=True)))
    assert convert.verdicts(node.said[-1]).abstained == "commissioning"


def beat(node: EnsembleNode, replica: int, active: str = "1", place: str | None = None) -> None:
    hardware = f"cellwatch:{node.get_namespace() if place is None else place}"
    status = DiagnosticStatus(name=f"ensemble_node_{replica}", hardware_id=hardware)
    status.values = [KeyValue(key="replica", value=str(replica)), KeyValue(key="active", value=active)]
    node._hear(DiagnosticArray(status=[status]))


def test_two_replicas_share_and_one_takes_over_within_three_seconds(nodes, versions, clock):
    first, second = nodes(replica=1, replicas=2), nodes(replica=2, replicas=2)
    parts = [score(n, 0) for n in (first, second)]
    assert all(p.partial for p in parts)
    assert sorted(parts[0].devices + parts[1].devices) == sorted(DEVICES)
    assert min(len(p.devices) for p in parts) > 0
    for i in range(1, 4):  # both beat once a second
        clock.now += 1.0
        beat(first, 2)
        beat(second, 1)
        assert score(first, i).devices == parts[0].devices
    clock.now += 3.0  # the second is silent
    alone = score(first, 4)
    assert alone.devices == DEVICES
    assert alone.partial
    beat(first, 2)  # it comes back
    assert score(first, 5).devices == parts[0].devices
    beat(first, 2, active="0")  # it is taken down on purpose
    assert score(first, 6).devices == DEVICES


def test_a_replica_of_another_cell_is_not_heard(nodes, versions, clock):
    node = nodes(replica=1, replicas=2)
    clock.now += 3.0
    beat(node, 2, place="/another")
    assert score(node, 0).devices == DEVICES


def test_a_takeover_does_not_begin_sequences_anew(nodes, versions, clock):
    first = nodes(replica=1, replicas=2)
    for i in range(10):
        clock.now += 0.5
        beat(first, 2)
        score(first, i)
    clock.now += 3.0
    p = score(first, 10).levels[0].probabilities[:, 0, 1]
    assert (p > 0.55).all()
    np.testing.assert_allclose(p, p[0])


def test_a_suspicious_device_is_explained_by_its_features(nodes, versions, clock):
    node = nodes()
    deadline = time.monotonic() + 20
    for i in range(10):
        score(node, i)
        clock.now += 11.0  # a device is explained again after ten seconds
        while len(node.reasons) <= i:
            assert time.monotonic() < deadline
            node.step()
    reason = node.reasons[-1]
    assert reason.device in DEVICES
    assert reason.features[0] == default_schema().names[0]  # the only one that the model looks at
    assert reason.shares[0] > 0
    assert reason.features[0] in reason.explanation
