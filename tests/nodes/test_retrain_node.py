"""The retrain node: real topics, a real action, a real worker, one process beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
m = pytest.importorskip("cellwatch_msgs.msg")

from cellwatch_msgs.action import Retrain  # noqa: E402
from cellwatch_msgs.srv import MoveCandidate  # noqa: E402
from rclpy.action import ActionClient  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.registry.candidate_file import CandidateFile  # noqa: E402
from cellwatch.models.registry.keys import Keys  # noqa: E402
from cellwatch.models.registry.registry import Registry  # noqa: E402
from cellwatch.models.types import FeatureWindow, SettledLabels, Stage  # noqa: E402
from cellwatch.nodes.drivers.audit_log import read as read_audit  # noqa: E402
from cellwatch.nodes.drivers.sample_store import read as read_samples  # noqa: E402
from cellwatch.nodes.retrain_node import RetrainNode  # noqa: E402
from cellwatch.nodes.ros import convert, qos  # noqa: E402
from cellwatch.nodes.ros.node import OK, WARN  # noqa: E402

S = 1_000_000_000


@pytest.fixture
def made(tmp_path, request):
    """The node, active, with a tester beside it in one executor."""
    rclpy.init()
    node, tester = RetrainNode(), rclpy.create_node("tester")
    given = {
        "models": str(tmp_path / "models"),
        "keys": str(tmp_path / "keys"),
        "store": str(tmp_path / "samples"),
        "cache": str(tmp_path / "cache"),
        "work": str(tmp_path / "work"),
        "audit_file": str(tmp_path / "audit.jsonl"),
    } | getattr(request, "param", {})
    node.set_parameters([Parameter(name, value=value) for name, value in given.items()])
    node.trigger_configure()
    node.trigger_activate()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(tester)

    def spin(until, seconds=40.0):
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
        assert until()

    yield node, tester, spin
    executor.shutdown()
    node.end()
    node.destroy_node()
    tester.destroy_node()
    rclpy.try_shutdown()


def ask(tester, spin, **goal):
    """Result of a goal, and how it ended."""
    client = ActionClient(tester, Retrain, "retrain_node/retrain")
    spin(client.server_is_ready)
    sent = client.send_goal_async(Retrain.Goal(**goal))
    spin(sent.done)
    result = sent.result().get_result_async()
    spin(result.done)
    client.destroy()
    return result.result().result


def move(tester, spin, action, **fields):
    client = tester.create_client(MoveCandidate, "retrain_node/move_candidate")
    spin(client.service_is_ready)
    future = client.call_async(MoveCandidate.Request(action=action, **fields))
    spin(future.done)
    return future.result()


def audit(node):
    return [(row["event"], row.get("source")) for row in read_audit(node.params.audit_file)]


def window(i):
    none = np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)
    return FeatureWindow(
        i, (i - 1) * S, i * S, i * S, "s", ("PLC1",), np.full((1, 3), i, np.float32), (), *none
    )


def test_windows_and_labels_are_kept(made, tmp_path):
    node, tester, spin = made
    pubs = [
        tester.create_publisher(kind, topic, qos.TOPICS[topic])
        for kind, topic in ((m.FeatureWindow, "features"), (m.SettledLabels, "labels/settled"))
    ]
    spin(lambda: all(pub.get_subscription_count() for pub in pubs))
    for i in (1, 2, 3):
        pubs[0].publish(convert.features_msg(window(i)))
    one = np.zeros(1, np.int64)
    pubs[1].publish(convert.settled_msg(SettledLabels(9 * S, ("PLC1",), ("dos",), one + 2, one, one)))
    spin(lambda: (node.store.windows, node.store.labels) == (3, 1))
    from rclpy.serialization import deserialize_message

    found = read_samples(Path(tmp_path / "samples"), 0)
    windows = [convert.features(deserialize_message(data, m.FeatureWindow)) for data in found.windows]
    assert [(w.window_id, float(w.values[0, 0])) for w in windows] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    labels = convert.settled(deserialize_message(found.labels[0], m.SettledLabels))
    assert (labels.window_ids.tolist(), labels.classes) == ([2], ("dos",))
    level, said, counters = node.health()
    assert (level, said, counters["stored"], counters["labels"]) == (OK, "no candidate", 3, 1)


def test_a_goal_that_cannot_be(made):
    _, tester, spin = made
    found = ask(tester, spin, scenario=0)
    assert (found.error_code, found.error_msg[:9]) == (Retrain.Result.REFUSED, "say which")


def test_the_worker_says_why_there_is_no_candidate(made):
    node, tester, spin = made
    found = ask(tester, spin, scenario=Retrain.Goal.B, user="anna", reason="try")
    assert found.error_code == Retrain.Result.REFUSED
    assert found.error_msg
    assert list(found.versions) == []
    assert node.failed == 1
    assert node.worker is None
    assert ("retrain", "anna") in audit(node)


@pytest.mark.parametrize("made", [{"models": ""}], indirect=True)
def test_a_cell_without_a_registry(made):
    _, tester, spin = made
    assert "no registry" in ask(tester, spin, scenario=Retrain.Goal.A).error_msg
    assert "no registry" in move(tester, spin, MoveCandidate.Request.HOLD).error_msg


def test_a_candidate_is_said_and_moved(made, manifest, files):
    node, tester, spin = made
    heard: list = []
    tester.create_subscription(
        m.CandidateState,
        "candidate",
        lambda msg: heard.append(convert.candidate(msg)),
        qos.heard("candidate"),
    )
    spin(lambda: bool(heard))
    assert heard[-1].stage == Stage.NONE
    refused = move(tester, spin, MoveCandidate.Request.HOLD)
    assert (refused.error_code, "no candidate" in refused.error_msg) == (MoveCandidate.Response.REFUSED, True)

    registry = Registry(Path(node.params.models), Keys(Path(node.params.keys)))
    old, new = (registry.add(replace(manifest, lineage={"seed": i}), files) for i in range(2))
    registry.promote(old)
    CandidateFile(registry).propose(new, registry.load(old), time.time_ns(), scenario="A", reason="drift")
    spin(lambda: heard[-1].stage == Stage.SHADOW)
    assert (heard[-1].version, heard[-1].parent, heard[-1].scenario) == (new, old, "A")
    assert "candidate is on its way" in ask(tester, spin, scenario=Retrain.Goal.A).error_msg

    CandidateFile(registry).hold(time.time_ns(), "from the command line")
    spin(lambda: heard[-1].held)
    CandidateFile(registry).release(time.time_ns(), "")
    spin(lambda: not heard[-1].held)
    done = move(tester, spin, MoveCandidate.Request.REJECT, user="anna", reason="not today")
    assert (done.error_code, done.stage) == (0, int(Stage.REJECTED))
    spin(lambda: heard[-1].stage == Stage.REJECTED)
    assert heard[-1].reason == "anna: not today"
    assert ("candidate reject", "anna") in audit(node)
    spin(lambda: ("candidate rejected", "retrain_node") in audit(node))
    stages = [event for event, who in audit(node) if who == "retrain_node"]
    shadow, held = "candidate shadow", "candidate shadow, held"
    assert stages == [shadow, held, shadow, "candidate rejected"]  # whoever moved it
    assert registry.current == old


def test_a_cell_whose_store_cannot_be_used_runs_without_it(made, tmp_path):
    node = made[0]
    node.trigger_deactivate()
    node.trigger_cleanup()
    (tmp_path / "file").write_text("")
    node.set_parameters([Parameter("store", value=str(tmp_path / "file"))])
    node.trigger_configure()
    node.trigger_activate()
    level, said, counters = node.health()
    assert (level, counters["stored"]) == (WARN, 0)
    assert said.startswith("nothing is kept to learn from")


def test_what_could_not_be_configured_gives_the_store_free(made, tmp_path):
    node = made[0]
    node.trigger_deactivate()
    node.trigger_cleanup()
    audit = node.get_parameter("audit_file").value
    node.set_parameters([Parameter("audit_file", value=str(tmp_path))])
    node.trigger_configure()  # a folder is no audit log
    node.set_parameters([Parameter("audit_file", value=audit)])
    node.trigger_configure()
    node.trigger_activate()
    assert node.health()[0] == OK
