"""The drift node: real topics, a real service, one process."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
m = pytest.importorskip("cellwatch_msgs.msg")

from cellwatch_msgs.action import Retrain  # noqa: E402
from cellwatch_msgs.srv import SubmitLabel  # noqa: E402
from rclpy.action import ActionServer  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.drift.cell_watch import CellWatch  # noqa: E402
from cellwatch.models.drift.watch import DriftSettings  # noqa: E402
from cellwatch.models.types import (  # noqa: E402
    DriftEvent,
    DriftFigure,
    DriftState,
    FeatureWindow,
    FusedVerdict,
    FusedWindow,
    Incident,
    Level,
    LevelScores,
    Screening,
    Verdicts,
)
from cellwatch.nodes import drift_node  # noqa: E402
from cellwatch.nodes.drift_node import DriftNode  # noqa: E402
from cellwatch.nodes.ros import convert, qos  # noqa: E402
from cellwatch.nodes.ros.node import OK, WARN  # noqa: E402

S = 1_000_000_000
DEVICES = ("PLC1", "HMI1")


@pytest.fixture
def ros():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def made(ros, request):
    """The node, active, with a tester beside it in one executor."""
    node, tester = DriftNode(), rclpy.create_node("tester")
    node.set_parameters([Parameter(k, value=v) for k, v in getattr(request, "param", {}).items()])
    node.trigger_configure()
    node.trigger_activate()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(tester)

    def spin(until, seconds=10.0):
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
        assert until()

    yield node, tester, spin
    executor.shutdown()
    node.end()
    node.destroy_node()
    tester.destroy_node()


def messages(i, decision=Screening.ALLOW):
    none = np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)
    at = i * S
    window = FeatureWindow(i, at - S, at, at, "s", DEVICES, np.zeros((2, 3), np.float32), (), *none)
    scores = LevelScores(Level.L1, ("XGB",), ("benign", "attack"), np.full((2, 1, 2), 0.5, np.float32))
    verdicts = Verdicts(
        "ensemble", i, at, at, DEVICES, np.zeros(2, np.uint8), np.zeros(2, np.float32), (scores,)
    )
    fused = FusedWindow(i, at, at, tuple(FusedVerdict(d, decision, 0.1, 0.5) for d in DEVICES))
    return (
        ("features", convert.features_msg(window)),
        ("verdicts/ensemble", convert.verdicts_msg(verdicts)),
        ("verdicts/fused", convert.fused_msg(fused, at)),
    )


def say(tester, spin, node, windows):
    """Models in service, and windows with their verdicts, on the topics."""
    state = tester.create_publisher(m.ModelState, "model_state", qos.TOPICS["model_state"])
    state.publish(m.ModelState(version="v1", detectors=["L1/XGB", "L2/XGB"]))
    spin(lambda: node.core.event(0).version == "v1")
    pubs = {topic: tester.create_publisher(type(msg), topic, qos.TOPICS[topic]) for topic, msg in messages(1)}
    spin(lambda: all(pub.get_subscription_count() for pub in pubs.values()))
    for i in windows:
        for topic, msg in messages(i):
            pubs[topic].publish(msg)
        spin(lambda i=i: node.core.watched == i)


def tell(node, i):
    """Window i with its verdicts and label; all is benign, and objected to from the 61st on."""
    decision = Screening.SUSPICIOUS if i > 60 else Screening.ALLOW
    taken = node._features, node._scores, node._fused
    for (_, msg), take in zip(messages(i, decision), taken, strict=True):
        take(msg)
    node._submit(SubmitLabel.Request(label="normal", window_id=i), SubmitLabel.Response())


def ask(tester, spin, **fields):
    client = tester.create_client(SubmitLabel, "drift_node/submit_label")
    spin(client.service_is_ready)
    future = client.call_async(SubmitLabel.Request(**fields))
    spin(future.done)
    return future.result()


def test_windows_labels_and_a_late_reader(made):
    node, tester, spin = made
    say(tester, spin, node, range(1, 5))
    stretch = {"start": convert.time_msg(S), "end": convert.time_msg(3 * S)}  # windows 2 and 3
    answer = ask(tester, spin, label="benign", source="ada", **stretch)
    assert (answer.error_code, answer.accepted, answer.error_msg) == (0, 4, "")
    answer = ask(tester, spin, label="dos/syn-flood", window_id=2, devices=["HMI1", "nobody", "HMI1"])
    assert (answer.accepted, answer.held_back, answer.expired) == (0, 1, 1)
    assert answer.error_msg.startswith("1 held back: they contradict")
    answer = ask(tester, spin, label="benign", start=convert.time_msg(-S), end=convert.time_msg(6 * S))
    assert (answer.accepted, answer.held_back, answer.expired) == (7, 1, 0)
    assert answer.error_msg.endswith("the stretch begins before the watch began")
    heard: list = []
    tester.create_subscription(m.DriftEvent, "drift", heard.append, qos.heard("drift"))
    spin(lambda: bool(heard))
    event = convert.drift(heard[-1])
    assert (event.state, event.version, event.windows, event.held_back) == (DriftState.CALM, "v1", 4, 3)
    assert event.reasons == ("3 labels held back: they contradict others",)
    level, text, counters = node.health()
    assert (level, text) == (OK, "calm")
    assert counters == {
        "windows": 4, "unpaired": 0, "labels_joined": 8, "labels_expired": 1, "labels_held_back": 3,
        "alarms": 0,
    }  # fmt: skip


@pytest.mark.parametrize("made", [{"truth": True}], indirect=True)
def test_the_plant_tells_the_truth(made):
    node, tester, spin = made
    pub = tester.create_publisher(m.Label, "labels", qos.TOPICS["labels"])
    spin(pub.get_subscription_count)
    attack = Incident("x", "attack", "dos", "x", "PLC1", 0, 9 * S, ("PLC1",))
    pub.publish(convert.label_msg(attack))
    spin(lambda: bool(node.core._truth._incidents))
    say(tester, spin, node, range(1, 12))
    assert node.core.labels.joined == 2
    assert node.core.labels._label[0].tolist() == [1, 0]
    assert node.core.labels.names == ["benign", "dos/x"]
    assert node.loader is not None


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"label": "bening", "window_id": 1}, "label 'bening': use benign, attack, fault, dos"),
        ({"label": "benign/whatever", "window_id": 1}, "label 'benign/whatever': use benign, attack, "),
        ({"label": "attack/whatever", "window_id": 1}, "label 'attack/whatever'"),
        ({"label": "dos/", "window_id": 1}, "label 'dos/'"),
        ({"label": "benign"}, "a stretch of time that ends after its start"),
        ({"label": "benign", "window_id": 1, "devices": ["a", "b", "c"]}, "3 labels: at most 2"),
    ],
)
def test_requests_that_cannot_be_are_refused(made, monkeypatch, fields, word):
    monkeypatch.setattr(drift_node, "MOST_LABELS", 2)
    node = made[0]
    answer = node._submit(SubmitLabel.Request(**fields), SubmitLabel.Response())
    assert answer.error_code == SubmitLabel.Response.REFUSED
    assert word in answer.error_msg
    assert node.core.labels.expired == 0


def test_an_inactive_node_takes_no_labels(made):
    node = made[0]
    node.trigger_deactivate()
    answer = node._submit(SubmitLabel.Request(label="benign", window_id=1), SubmitLabel.Response())
    assert answer.error_msg == "the node is not active"


def test_an_alarm_is_published_and_its_health_warns(made):
    node = made[0]
    heard: list = []
    node.pub = SimpleNamespace(publish=lambda msg: heard.append(convert.drift(msg)))
    node.core = CellWatch(("f", "g", "h"), DriftSettings(window=10, reference=5, profile=60, block=30))
    node._model(m.ModelState(version="v1", detectors=["L1/XGB"]))
    for i in range(1, 101):
        tell(node, i)
    assert [e.state for e in heard].count(DriftState.CALM) > 1
    alarm = next(e for e in heard if e.state == DriftState.DRIFT)
    assert (alarm.scenario, alarm.since_ns) == ("A", 61 * S)
    level, text, counters = node.health()
    assert level == WARN
    assert text.startswith("the models no longer fit since 1970-01-01 00:01:01Z: scenario A, false alarms (")
    assert counters["alarms"] == 1
    assert node._news["drift"] == text
    node._model(m.ModelState(version="v2", detectors=["L1/XGB"]))
    assert (heard[-1].state, heard[-1].version, node.health()[0]) == (DriftState.CALM, "v2", OK)


def watched(path) -> DriftNode:
    """A node that has learnt what is normal from 60 windows."""
    node = DriftNode()
    node.set_parameters([Parameter("state_file", value=str(path))])
    node.trigger_configure()
    node.trigger_activate()
    node.core = CellWatch(
        ("f", "g", "h"),
        DriftSettings(window=10, reference=5, profile=60, block=30),
        reference=node.core.reference,
    )
    node._model(m.ModelState(version="v1", detectors=["L1/XGB"]))
    for i in range(1, 61):
        tell(node, i)
    return node


def test_what_is_normal_is_kept_over_a_restart(ros, tmp_path):
    node = watched(tmp_path / "drift.json")
    reference = node.core.reference
    assert reference.version == "v1"
    assert 1 in reference.limits
    node.destroy_node()  # killed: nobody calls `end`
    again = DriftNode()
    again.set_parameters([Parameter("state_file", value=str(tmp_path / "drift.json"))])
    again.trigger_configure()
    assert again.core.reference == reference
    again.end()
    again.destroy_node()


@pytest.mark.parametrize("what", ["damaged", "full"])
def test_a_reference_that_cannot_be_kept_stops_nothing(ros, tmp_path, what):
    path = tmp_path / "drift.json"
    if what == "damaged":
        path.write_text('{"format": 1')
    else:
        path = tmp_path / "nowhere" / "drift.json"
    node = watched(path)
    assert node.core.watched == 60
    assert path.exists() == (what == "damaged")
    assert ("state" in node._news) == (what == "full")
    node.end()
    node.destroy_node()


@pytest.mark.parametrize("made", [{"retrain": True, "learn_windows": 30}], indirect=True)
def test_a_candidate_is_asked_for_once_enough_has_been_seen(made):
    node, tester, spin = made
    goals: list = []

    def execute(handle):
        goals.append(handle.request)
        handle.succeed()
        return Retrain.Result()

    server = ActionServer(tester, Retrain, "retrain_node/retrain", execute)
    node.core = CellWatch(("f", "g", "h"), DriftSettings(window=10, reference=5, profile=60, block=30))
    node._model(m.ModelState(version="v1", detectors=["L1/XGB"]))
    for i in range(1, 131):
        tell(node, i)
        if node.core.state == DriftState.DRIFT and node.core.since(61 * S) < 30:
            assert not node.asking
            spin(node.client.server_is_ready)
    assert node.core.state == DriftState.DRIFT
    spin(lambda: bool(goals))
    assert (goals[0].scenario, convert.time_ns(goals[0].since)) == (Retrain.Goal.A, 61 * S)
    assert "scenario A" in goals[0].reason
    assert len(goals) == 1
    spin(lambda: not node.asking)
    assert (node.asked, node.wait) == (130, 600)  # from now on, not from when it was asked
    server.destroy()


class Known:
    """A future whose result is there."""

    def __init__(self, result):
        self.result = lambda: result

    def add_done_callback(self, callback):
        callback(self)


@pytest.mark.parametrize("made", [{"retrain": True, "learn_windows": 1, "again_windows": 30}], indirect=True)
def test_asking_in_vain_is_done_less_and_less_often(made, monkeypatch):
    node, asked = made[0], []
    event = DriftEvent(0, DriftState.DRIFT, Level.L1, "v1", "A", S, (), ("loss",))
    core = SimpleNamespace(state=event.state, event=lambda _: event, since=lambda _: 9, watched=0)
    busy, silent = (400, 500), 5_000  # somebody else's candidate is made; no result ever comes

    def send(_goal):
        asked.append(core.watched)
        accepted = not busy[0] <= core.watched < busy[1]
        result = SimpleNamespace(add_done_callback=lambda _: None) if core.watched > silent else Known(None)
        return Known(SimpleNamespace(accepted=accepted, get_result_async=lambda: result))

    monkeypatch.setattr(node, "core", core)
    monkeypatch.setattr(node, "client", SimpleNamespace(server_is_ready=lambda: True, send_goal_async=send))
    monkeypatch.setattr(drift_node, "DAY", 200)
    for core.watched in range(10_000):
        core.state = DriftState.CALM if 1_500 < core.watched < 3_000 else DriftState.DRIFT
        node._ask()
    waits = np.diff(asked).tolist()
    assert waits[:8] == [30, 60, 120, 200, 200, 200, 200, 200]  # one that is refused makes it no longer
    again = asked.index(3_000)  # another drift: at once, and as at first
    assert waits[again : again + 3] == [30, 60, 120]
    assert max(waits[again:]) == drift_node.HOUR


def test_an_event_survives_the_wire():
    figures = (DriftFigure("loss", 0.5, float("inf")), DriftFigure("features", 0.25, 0.2, "PLC1 size"))
    event = DriftEvent(9 * S, DriftState.DRIFT, Level.L1, "v1", "A", S, figures, ("loss",), 7, 30, 2)
    assert convert.drift(convert.drift_msg(event)) == event
