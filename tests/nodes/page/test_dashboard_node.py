"""The dashboard node on real topics and services, in one process with the fusion node."""

from __future__ import annotations

import json
import os
import pwd
import socket
import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from cellwatch_msgs import msg as m  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.types import Level, LevelScores, TagBatch, Verdicts, Violation  # noqa: E402
from cellwatch.nodes import dashboard_node  # noqa: E402
from cellwatch.nodes.dashboard_node import DashboardNode  # noqa: E402
from cellwatch.nodes.drivers.audit_log import read  # noqa: E402
from cellwatch.nodes.fusion_node import FusionNode  # noqa: E402
from cellwatch.nodes.page.users import Role  # noqa: E402
from cellwatch.nodes.ros import convert, qos  # noqa: E402
from cellwatch.nodes.ros.node import OK, WARN  # noqa: E402

DONE, FAILED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture(autouse=True)
def _ros(monkeypatch):
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def run():
    """Nodes in a spinning thread: `run(node, ...)`."""
    nodes, executor = [], SingleThreadedExecutor()
    thread = threading.Thread(target=executor.spin, daemon=True)

    def add(*more):
        for node in more:
            executor.add_node(node)
            nodes.append(node)
        if not thread.is_alive():
            thread.start()

    yield add
    executor.shutdown()
    if thread.is_alive():
        thread.join(5)
    for node in nodes:
        if hasattr(node, "end"):
            node.end()
        node.destroy_node()


def dashboard(tmp_path, **more):
    node = DashboardNode()
    values = {
        "port": 0,
        "users": str(tmp_path / "users.json"),
        "cell": "demo",
        "devices": '["PLC1", "HMI1"]',
        "links": '["opcua_client_node"]',
        "audit_file": str(tmp_path / "audit.jsonl"),
    } | more
    node.set_parameters([Parameter(k, value=v) for k, v in values.items()])
    return node


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_what_is_said_on_the_topics_is_seen(tmp_path, run, made):
    node, world = dashboard(tmp_path), rclpy.create_node("world")
    assert (node.trigger_configure(), node.trigger_activate()) == (DONE, DONE)
    pubs = {
        topic: world.create_publisher(kind, topic, qos.TOPICS[topic])
        for topic, kind in (
            ("tag_catalog", m.TagCatalog), ("tags", m.TagBatch), ("verdicts/fused", m.FusedVerdictArray),
            ("alarms", m.AlarmArray), ("commands", m.ActuatorCommand), ("command_results", m.ActuatorResult),
            ("model_state", m.ModelState), ("response_state", m.ResponseState),
            ("attributions", m.Attribution),
        )
    }  # fmt: skip
    health = world.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
    run(node, world)
    assert until(lambda: all(p.get_subscription_count() for p in pubs.values()))
    now = time.time_ns()
    pubs["tag_catalog"].publish(convert.catalog_msg(made.catalog(), now))
    assert until(node.live.tags)
    batch = made.batch([0], [2.5], [now])
    for sequence in (1, 3):  # the second was lost
        again = TagBatch(*(sequence if f == "sequence" else getattr(batch, f) for f in batch.__slots__))
        pubs["tags"].publish(convert.tags_msg(again))
    pubs["verdicts/fused"].publish(convert.fused_msg(made.window(now), now))
    pubs["attributions"].publish(m.Attribution(device="PLC1", features=["a"], shares=[0.5]))
    pubs["alarms"].publish(convert.alarms_msg((made.alarm(),), 0, now))
    pubs["commands"].publish(convert.command_msg(made.command(issued_ns=now)))
    pubs["command_results"].publish(convert.result_msg(made.result(), "PLC1"))
    pubs["model_state"].publish(m.ModelState(version="v1", detectors=["A", "B"], states=["active", "failed"]))
    pubs["response_state"].publish(m.ResponseState(overridden=["PLC1"]))
    for place in (f"cellwatch:{node.get_namespace()}", "cellwatch:/another"):
        status = DiagnosticStatus(level=WARN, name=place[-8:], message="x", hardware_id=place)
        status.values = [KeyValue(key="armed", value="1")]
        health.publish(DiagnosticArray(status=[status]))
    live = node.live
    assert until(
        lambda: (
            live.tags()[0].value == 2.5
            and live.explanation("PLC1/dos")
            and live.alarms()[0]
            and live.commands()
            and live.commands()[0].status == "WITHHELD"
            and live.models()
            and live.response_state()[0]
            and live.armed()
            and node.lost
        )
    ), (live.versions, node.lost)
    assert live.models()[0].failed == ("B",)
    assert node.lost == 1
    assert "another" not in [n.name for n in live.nodes()]
    level, message, counters = node.health()
    assert (level, message) == (OK, node.server.url)
    assert counters == {"lost": 1, "wrong_passwords": 0}


def attack(fusion, window_id):
    score, sure = np.array([[[0.05, 0.95]]], np.float32), np.array([0.9], np.float32)
    violation = Violation("PLC1", "network_packets_all_count", 9.0, 0.0, 1.0, "limit", "dos")
    for source in ("rules", "ensemble"):
        rules = source == "rules"
        said = Verdicts(
            source, window_id, window_id * 10**9, time.time_ns(), ("PLC1",),
            np.array([3 if rules else 0], np.uint8), sure,
            () if rules else (LevelScores(Level.L1, ("XGB",), ("benign", "attack"), score),),
            (violation,) if rules else (),
        )  # fmt: skip
        fusion._offer(convert.verdicts_msg(said))


def test_an_alarm_is_acknowledged_on_the_page_by_the_real_service_and_once_on_record(
    tmp_path, run, browse, monkeypatch
):
    monkeypatch.setenv("LOGNAME", "somebody-else")
    fusion = FusionNode()
    values = {
        "state_file": str(tmp_path / "response.json"),
        "audit_file": str(tmp_path / "audit.jsonl"),
        "confirm_windows": 1,
        "sources": json.dumps(["rules", "ensemble"]),
    }
    fusion.set_parameters([Parameter(k, value=v) for k, v in values.items()])
    node = dashboard(tmp_path)
    for one in (fusion, node):
        assert (one.trigger_configure(), one.trigger_activate()) == (DONE, DONE)
    run(fusion, node)
    attack(fusion, 1)
    (alarm,) = until(lambda: node.live.alarms()[0])
    browser = browse(node.server.port).enter()
    done = browser.post("alarms/acknowledge", {"key": alarm.key, "reason": "seen"})
    assert (done.status, done.body) == (200, {"warnings": []})
    again = browser.post("alarms/acknowledge", {"key": alarm.key})
    assert again.status == 409
    assert "there is nothing to acknowledge" in again.body["detail"]
    assert browser.post("override", {"target": "PLC9", "on": True}).status == 409
    assert until(lambda: node.live.alarms()[0][0].state.name == "ACKNOWLEDGED")
    assert browser.post("alarms/comment", {"key": alarm.key, "reason": "it was me"}).status == 200
    found = [(row["event"], row["source"], row["alarm"]) for row in read(tmp_path / "audit.jsonl")]
    me = pwd.getpwuid(os.getuid()).pw_name  # whatever LOGNAME says
    assert found == [("acknowledge", me, alarm.key), ("comment", me, alarm.key)]
    node.desk._line.patience_s = 0.2
    assert (
        browser.post("candidate", {"action": "hold"}).status == 503
    )  # nobody answers: there is no such node


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"host": "0.0.0.0"}, "cellwatch users add"),
        ({"certificate": "/nowhere.pem"}, "/nowhere.pem"),
        ({"devices": "{"}, "Expecting"),
    ],
)
def test_mistakes_are_said_at_the_start(tmp_path, run, more, words):
    node = dashboard(tmp_path, **more)
    said = []
    node.tell_health = lambda level=None, text="": said.append(text)
    assert node.trigger_configure() == FAILED
    assert words in said[0]
    run(node)


def test_users_open_other_addresses(tmp_path, run, users, browse):
    node = dashboard(tmp_path, host="0.0.0.0", users=str(users.path))
    assert (node.trigger_configure(), node.trigger_activate()) == (DONE, DONE)
    run(node)
    assert node.access.needs_login
    assert node.server.url == f"http://{socket.gethostname()}:{node.server.port}"
    assert node.health()[1] == f"{node.server.url} (passwords travel in the open: give it a certificate)"
    called = browse(node.server.port).ask("GET", "/", Host=node.server.url.removeprefix("http://"))
    assert called.status == 200  # the page may be called as it is printed


def test_a_page_that_cannot_be_served_is_a_warning_and_comes_back(tmp_path, run, monkeypatch):
    monkeypatch.setattr("cellwatch.nodes.page.server.PORTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        node = dashboard(tmp_path, port=other.getsockname()[1])
        assert (node.trigger_configure(), node.trigger_activate()) == (DONE, DONE)
        level, message, _ = node.health()
        assert level == WARN
        assert "not served: 127.0.0.1: ports" in message
        node.next_s = 0.0
        node.step()
        assert node.health()[0] == WARN
    node.next_s = 0.0
    node.step()
    run(node)
    assert node.health()[0] == OK


def test_a_server_that_ends_is_begun_anew(tmp_path, run, monkeypatch):
    monkeypatch.setattr(dashboard_node, "AGAIN_S", 0.0)
    node = dashboard(tmp_path)
    assert (node.trigger_configure(), node.trigger_activate()) == (DONE, DONE)
    assert until(lambda: node.server._server is not None)
    node.server._server.should_exit = True
    assert until(lambda: not node.server.alive)
    assert node.health()[0] == WARN
    node.step()
    assert node.health()[0] == OK
    run(node)


def test_who_disarms_is_let_in_when_the_log_is_full(tmp_path, run, users, browse):
    (tmp_path / "audit.jsonl").mkdir()
    node = dashboard(tmp_path, audit_file="", users=str(users.path))
    assert (node.trigger_configure(), node.trigger_activate()) == (DONE, DONE)
    node.desk._file = tmp_path / "audit.jsonl"  # from now on nothing can be put on record
    run(node)
    assert browse(node.server.port).enter(Role.OPERATOR).get("session").body["role"] == "operator"
    assert node._news["audit"].endswith("cannot open the audit log: Is a directory")
