"""The operator and the fusion node: real services, real topics, one process."""

from __future__ import annotations

import json
import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.response.policy import parse_rule  # noqa: E402
from cellwatch.models.types import (  # noqa: E402
    AlarmState,
    CommandResult,
    CommandStatus,
    Level,
    LevelScores,
    Priority,
    Screening,
    TagCatalog,
    TagInfo,
    Verdicts,
    Violation,
)
from cellwatch.nodes.drivers.audit_log import AuditError, read  # noqa: E402
from cellwatch.nodes.fusion_node import FusionNode  # noqa: E402
from cellwatch.nodes.opcua_client_node import OpcuaClientNode  # noqa: E402
from cellwatch.nodes.ros import convert, operator, operator_desk  # noqa: E402
from cellwatch.nodes.ros.operator import NoAnswerError, Operator  # noqa: E402

CATALOG = TagCatalog("PLC1", (TagInfo("LOCK", "", "PLC1", writable=True),))
RESPONSE = [{"action": "quarantine", "tag": "LOCK", "value": 1}]


def violation():
    return Violation("PLC1", "network_packets_all_count", 9.0, 0.0, 1.0, "limit", "dos")


def verdicts(window_id, source):
    score = np.array([[[0.05, 0.95]]], np.float32)
    levels = (LevelScores(Level.L1, ("XGB",), ("benign", "attack"), score),) if source == "ensemble" else ()
    screening = Screening.BLOCK if source == "rules" else Screening.UNKNOWN
    return Verdicts(
        source, window_id, window_id * 10**9, time.time_ns(), ("PLC1",), np.array([screening], np.uint8),
        np.array([0.9], np.float32), levels, (violation(),) if source == "rules" else (),
    )  # fmt: skip


class Running:
    """A fusion node that spins in a thread of its own, and keeps what it says."""

    def __init__(self, folder, **more):
        self.node = FusionNode()
        values = {
            "response": json.dumps(RESPONSE),
            "state_file": str(folder / "response.json"),
            "audit_file": str(folder / "audit.jsonl"),
            "confirm_windows": 1,
        } | more
        self.node.set_parameters([Parameter(k, value=v) for k, v in values.items()])
        self.state = self.node.trigger_configure()
        self.commands: list = []
        if hasattr(self.node, "commands"):
            self.node.commands = SimpleNamespace(publish=self.commands.append, destroy=lambda: None)
        self.node.trigger_activate()
        self.node._learn_tags(convert.catalog_msg(CATALOG, 0))
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()
        self.window_id = 0

    def attack(self):
        self.window_id += 1
        for source in ("rules", "ensemble"):
            self.node._offer(convert.verdicts_msg(verdicts(self.window_id, source)))
        self.node.desk.tell()  # not only at its next turn

    def close(self):
        self.executor.shutdown()
        self.thread.join(5)
        self.node.end()
        self.node.destroy_node()


@pytest.fixture
def ros(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def running(ros, tmp_path):
    made = Running(tmp_path)
    yield made
    made.close()


def test_from_alarm_to_out_of_service_with_everything_on_record(running, tmp_path):
    running.attack()
    assert [c.tag for c in running.commands] == ["LOCK"]
    with Operator("/") as desk:
        (alarm,), flooded = desk.alarms()
        assert (alarm.key, alarm.state, alarm.annunciated, flooded) == (
            "PLC1/dos", AlarmState.UNACKNOWLEDGED, True, 0,
        )  # fmt: skip
        desk.acknowledge("PLC1/dos", "anna", "seen")
        assert desk.alarms()[0][0].state == AlarmState.ACKNOWLEDGED
        with pytest.raises(NoAnswerError, match="nothing to acknowledge"):
            desk.acknowledge("PLC1/dos", "anna", "again")
        with pytest.raises(NoAnswerError, match="there is no alarm X/y"):
            desk.shelve("X/y", 60, "anna", "why")
        desk.shelve("PLC1/dos", 60, "anna", "test")
        desk.shelve("PLC1/dos", 0, "anna", "")
        desk.set_out_of_service("PLC1/dos", "ben", "dismounted", out=True)
        assert desk.alarms()[0][0].state == AlarmState.OUT_OF_SERVICE
    events = [(r["event"], r["source"]) for r in read(tmp_path / "audit.jsonl")]
    assert events == [
        ("acknowledge", "anna"), ("shelve", "anna"), ("unshelve", "anna"), ("out_of_service", "ben"),
    ]  # fmt: skip


def test_override_and_maintenance_stop_commands_and_outlive_the_node(running, tmp_path):
    with Operator("/") as desk:
        desk.set_override("LOCK", "anna", "by hand", on=True)
        running.node.response.catalog((TagInfo("PV", "", "HMI1"),))
        desk.set_maintenance("HMI1", "anna", "new disk", on=True)
        assert desk.taken() == (["LOCK"], ["HMI1"])
        with pytest.raises(NoAnswerError, match="who you are"):
            desk.set_override("", "anna", "", on=True)
    for _ in range(5):
        running.attack()
    assert running.commands == []
    running.close()
    again = Running(tmp_path)
    try:
        again.attack()
        assert again.commands == []
        with Operator("/") as desk:
            assert desk.taken() == (["LOCK"], ["HMI1"])
            desk.set_override("LOCK", "anna", "done", on=False)
        again.attack()
        assert [c.tag for c in again.commands] == ["LOCK"]
    finally:
        again.close()
    running.node = again.node  # closed already
    running.close = lambda: None


def test_a_word_that_protects_nothing_is_refused_and_ending_is_free(running):
    with Operator("/") as desk:
        for take in (desk.set_override, desk.set_maintenance):
            with pytest.raises(NoAnswerError, match=r"plc1 is no tag, .*did you mean PLC1"):
                take("plc1", "anna", "", on=True)
            with pytest.raises(NoAnswerError, match="whole cell"):
                take("nowhere-near-it", "anna", "", on=True)
            take("plc1", "anna", "", on=False)
            take("PLC1", "anna", "", on=True)
        assert desk.taken() == (["PLC1"], ["PLC1"])


def test_alarms_and_holds_survive_a_crash(running, tmp_path):
    running.node.response.policy.rules = (parse_rule(RESPONSE[0] | {"revert": 0}),)
    running.attack()
    (command,) = running.commands
    result = CommandResult(command.command_id, 0, "LOCK", 1.0, CommandStatus.ACCEPTED)
    running.node._result(convert.result_msg(result, "PLC1"))
    kept = tmp_path / "crashed.json"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not kept.exists():
        state = (tmp_path / "response.json").read_text()
        if "PLC1/dos" in state and '"LOCK"' in state:
            kept.write_text(state)  # the node knows nothing of its end
        time.sleep(0.05)
    again = FusionNode()
    again.set_parameters([Parameter("state_file", value=str(kept))])
    again.trigger_configure()
    assert [a.key for a in again.response.alarms.alarms()] == ["PLC1/dos"]
    assert list(again.response.holds()) == ["LOCK"]
    again.end()
    again.destroy_node()


def test_the_desk_speaks_on_when_the_clock_goes_back(running, monkeypatch):
    monkeypatch.setattr(operator_desk, "TELL_NS", 0)
    running.attack()
    desk, said = running.node.desk, []
    running.executor.shutdown()
    running.thread.join(5)
    running.node.say = lambda _, msg: said.append(msg)
    now = time.time_ns()
    desk._next_ns = 0
    desk.step(now)
    running.node.response.alarms.trouble("HMI1", "dos", Priority.HIGH, "why", now)
    desk.step(now - 3600 * 10**9)
    assert "HMI1/dos" in [a.key for a in said[-1].alarms]


def test_a_full_disk_never_keeps_an_operator_from_taking_over(running):
    def full(*_, **__):
        raise AuditError("disk full")

    running.attack()
    running.node.audit.operator = full
    with Operator("/") as desk:
        desk.set_override("*", "anna", "stop", on=True)
        assert desk.taken()[0] == ["*"]
        with pytest.raises(NoAnswerError, match="not on record"):
            desk.set_override("*", "anna", "", on=False)
        with pytest.raises(NoAnswerError, match="disk full"):
            desk.acknowledge("PLC1/dos", "anna", "")
        assert desk.alarms()[0][0].state == AlarmState.UNACKNOWLEDGED
        assert desk.taken()[0] == ["*"]


def test_an_answer_that_dds_lost_is_asked_for_again(running, monkeypatch):
    from rclpy.service import Service

    sent, send = [], Service.send_response

    def lossy(self, response, header):
        sent.append(response)
        if len(sent) not in (1, 3):  # the first answer to each question
            send(self, response, header)

    monkeypatch.setattr(operator, "AGAIN_S", 0.2)
    monkeypatch.setattr(Service, "send_response", lossy)
    running.attack()
    with Operator("/") as desk:
        desk.set_override("LOCK", "anna", "", on=True)
        assert desk.taken()[0] == ["LOCK"]
        with pytest.raises(NoAnswerError, match=r"nothing to acknowledge.*the first time"):
            desk.acknowledge("PLC1/dos", "anna", "seen")
        assert desk.alarms()[0][0].state == AlarmState.ACKNOWLEDGED
    assert len(sent) == 4


def test_a_damaged_state_file_is_refused_not_forgotten(ros, tmp_path):
    (tmp_path / "response.json").write_text('{"overridden": ["LOCK"]')
    node = FusionNode()
    node.set_parameters([Parameter("state_file", value=str(tmp_path / "response.json"))])
    said = []
    node.tell_health = lambda level=None, text="": said.append(text)
    node.trigger_configure()
    assert "response.json: damaged" in said[0]
    node.destroy_node()


def test_nobody_answers_says_so(ros):
    with Operator("/nowhere", patience_s=0.2) as desk, pytest.raises(NoAnswerError, match="is it running"):
        desk.alarms()


def test_the_link_asks_for_heartbeat_and_overrides_before_it_writes(ros, tmp_path):
    from std_msgs.msg import Header

    from cellwatch.models.types import Command

    (tmp_path / "map.yaml").write_text("tags: [{node: 'i=1', name: SP}]")
    node = OpcuaClientNode()
    values = {"tag_map": str(tmp_path / "map.yaml"), "endpoint": "opc.tcp://127.0.0.1:1", "dead_man_s": 3.0}
    node.set_parameters([Parameter(k, value=v) for k, v in values.items()])
    node.trigger_configure()
    command = Command("c", 0, "HMI1", "SP", 1.0, 0, 1.0, "")
    assert "not known" in node.link.live_objection(command)
    node._taken(SimpleNamespace(overridden=[], maintenance=["HMI1"]))
    assert node.link.live_objection(command) == "HMI1 is in maintenance"
    node._taken(SimpleNamespace(overridden=[], maintenance=[]))
    assert "not been heard" in node.link.live_objection(command)
    node._beat(Header(stamp=convert.time_msg(5)))
    assert node.link.live_objection(command) == ""
    node.destroy_node()
