"""Arming and disarming the links to the PLCs, and what keeps their hands off: real nodes and services."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from cellwatch_msgs.msg import ActuatorCommand, ResponseState  # noqa: E402
from cellwatch_msgs.srv import SetArmed  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from cellwatch.models.types import Command, LinkState, TagBatch  # noqa: E402
from cellwatch.nodes.drivers.audit_log import read  # noqa: E402
from cellwatch.nodes.opcua_client_node import OpcuaClientNode, Snapshot  # noqa: E402
from cellwatch.nodes.response_command import response  # noqa: E402
from cellwatch.nodes.ros import qos  # noqa: E402
from cellwatch.nodes.ros.node import WARN  # noqa: E402
from cellwatch.nodes.ros.operator import Operator  # noqa: E402

LINKS = ["opcua_client_node", *(f"opcua_client_node_PLC{i}" for i in (2, 3, 4))]
NOW = 1_700_000_000_000_000_000


@pytest.fixture
def ros(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    rclpy.init()
    yield
    rclpy.try_shutdown()


def link(folder, **more):
    """A configured link that is not connected to anything."""
    (folder / "map.yaml").write_text("tags: [{node: 'i=1', name: SP}]")
    node = OpcuaClientNode()
    values = {"tag_map": str(folder / "map.yaml"), "endpoint": "opc.tcp://127.0.0.1:1"} | more
    node.set_parameters([Parameter(k, value=v) for k, v in values.items()])
    node.trigger_configure()
    return node


def ask(node, *, armed):
    request = SetArmed.Request(armed=armed, user="anna", reason="test")
    return node._set_armed(request, SetArmed.Response())


# A disk that is full ------------------------------------------------------------
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("kept", ["armed", None])
def test_a_disarm_that_cannot_be_recorded_outlives_the_node(ros, tmp_path, kept):
    file = tmp_path / "armed"
    if kept is not None:
        file.write_text(kept)
    values = {"audit_file": "/dev/full", "armed_file": str(file), "armed": True}
    node = link(tmp_path, **values)
    assert node.armed
    answer = ask(node, armed=False)
    assert not node.armed
    assert answer.error_code == answer.NONE
    assert "PLC1 is disarmed, but not on record" in answer.error_msg
    assert "No space left" in answer.error_msg
    node.destroy_node()
    again = link(tmp_path, **values)
    assert not again.armed
    answer = ask(again, armed=True)  # what gives power back counts only once it is on record
    assert (answer.error_code, again.armed) == (answer.REFUSED, False)
    again.destroy_node()


def test_a_disarm_that_cannot_be_kept_is_recorded_and_told(ros, tmp_path):
    values = {"audit_file": str(tmp_path / "audit"), "armed_file": str(tmp_path / "armed")}
    (tmp_path / "armed").mkdir()  # no file can be written there
    node = link(tmp_path, **(values | {"armed_file": ""}))
    node.armed = True
    node.params = type(node.params)(**values)
    answer = ask(node, armed=False)
    assert not node.armed
    assert answer.error_code == answer.NONE
    assert "may be armed again" in answer.error_msg
    assert [row["event"] for row in read(tmp_path / "audit")] == ["disarmed"]
    node.destroy_node()


def test_arm_and_disarm_outlive_the_node(ros, tmp_path):
    values = {"audit_file": str(tmp_path / "audit"), "armed_file": str(tmp_path / "armed")}
    for armed in (True, False):
        node = link(tmp_path, **values)
        answer = ask(node, armed=armed)
        assert (node.armed, answer.error_code, answer.error_msg) == (armed, answer.NONE, "")
        node.destroy_node()
        again = link(tmp_path, **values)
        assert again.armed is armed
        again.destroy_node()


# Two fusion nodes -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "topic"), [(ResponseState, "response_state"), (ActuatorCommand, "commands")]
)
def test_nothing_is_written_while_two_nodes_say_what_to_do(ros, tmp_path, kind, topic):
    node = link(tmp_path)
    command = Command("c", 0, "HMI1", "SP", 1.0, 0, 1.0, "")
    others = [rclpy.create_node(f"fusion_{i}") for i in range(2)]
    publishers = [other.create_publisher(kind, topic, qos.TOPICS[topic]) for other in others]
    _until(lambda: node.count_publishers(topic) == 2)
    assert f"2 nodes publish {topic}" in node.link.live_objection(command)
    node.link.state = LinkState.CONNECTED
    level, text, _ = node.health()
    assert (level, f"2 nodes publish {topic}" in text) == (WARN, True)
    others[1].destroy_publisher(publishers[1])
    _until(lambda: node.count_publishers(topic) == 1)
    assert node.link.live_objection(command) == ""
    for each in (*others, node):
        each.destroy_node()


# The command line -----------------------------------------------------------------
class Links:
    """Links of the factory cell: each answers as told, or is silent."""

    def __init__(self, answers):
        self.asked = []
        self.node = rclpy.create_node("links", namespace="/factory")
        for name, answer in answers.items():
            self.node.create_service(SetArmed, f"{name}/set_armed", self._answering(name, *answer))
        state = self.node.create_publisher(ResponseState, "response_state", qos.TOPICS["response_state"])
        state.publish(ResponseState(overridden=["LOCK"]))
        self.health = self.node.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self.node.create_timer(0.05, self._tell)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def _answering(self, name, code, text):
        def answer(request, response):
            self.asked.append((name, request.armed))
            response.error_code, response.error_msg = code, text
            return response

        return answer

    def _tell(self):
        for cell, name, armed in (
            ("/factory", LINKS[0], "1"), ("/factory", LINKS[1], "0"), ("/other", LINKS[2], "1"),
        ):  # fmt: skip
            status = DiagnosticStatus(name=name, hardware_id=f"cellwatch:{cell}")
            status.values = [KeyValue(key="armed", value=armed)]
            self.health.publish(DiagnosticArray(status=[status]))

    def close(self):
        self.executor.shutdown()
        self.thread.join(5)
        self.node.destroy_node()


@pytest.fixture
def cell(ros, monkeypatch):
    """`cell({link: (error_code, error_msg)}, "disarm")`: runs the command, returns (exit, stderr, asked)."""
    monkeypatch.setattr(Operator.__init__, "__defaults__", (4.0,))

    def call(answers, *words):
        links = Links(answers)
        try:
            result = CliRunner().invoke(response, [*words, "--config", "factory"])
        finally:
            links.close()
        return result, links.asked

    return call


def test_disarm_goes_on_behind_a_silent_link_and_names_it(cell):
    result, asked = cell(dict.fromkeys(LINKS[1:], (0, "")), "disarm")
    assert sorted(asked) == [(name, False) for name in LINKS[1:]]
    assert result.exit_code == 2
    assert f"no answer from {LINKS[0]}, which" in result.stderr
    assert f"disarmed: {', '.join(LINKS[1:])}" in result.stderr


def test_what_was_done_but_not_recorded_is_told(cell):
    answers = dict.fromkeys(LINKS, (0, "")) | {LINKS[2]: (0, "PLC3 is disarmed, but not on record: full")}
    result, asked = cell(answers, "disarm")
    assert (result.exit_code, len(asked)) == (0, 4)
    assert "PLC3 is disarmed, but not on record: full" in result.stderr


def test_arm_names_what_is_armed_when_one_refuses(cell):
    answers = dict.fromkeys(LINKS, (0, "")) | {LINKS[2]: (1, "not on record: full")}
    result, asked = cell(answers, "arm")
    assert result.exit_code == 2
    assert f"{LINKS[2]} is not armed: not on record: full; armed: {', '.join(LINKS[:2])}" in result.stderr
    assert [name for name, _ in asked] == LINKS[:3]


def test_status_shows_what_is_armed(cell):
    result, _ = cell({}, "status", "--json")
    assert json.loads(result.stdout) == {
        "armed": dict(zip(LINKS, (True, False, None, None), strict=True)),
        "overridden": ["LOCK"],
        "maintenance": [],
    }


# A clock that was set back --------------------------------------------------------
def test_snapshots_go_on_after_the_clock_was_set_back():
    one = np.zeros(1, np.int64)
    snapshot = Snapshot("PLC1")
    snapshot.take(
        TagBatch("PLC1", 0, one.astype(np.uint32), one + 1.0, one.astype(np.uint32), one + NOW, one, NOW)
    )
    assert snapshot.due(NOW) is not None
    assert snapshot.due(NOW + 500_000_000) is None
    back = NOW - 3600 * 10**9
    assert snapshot.due(back) is not None
    assert snapshot.due(back + 500_000_000) is None
    assert snapshot.due(back + 10**9) is not None


def _until(there):
    deadline = time.monotonic() + 10
    while not there() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert there()
