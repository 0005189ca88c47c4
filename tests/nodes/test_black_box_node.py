"""The black box node: real topics in, a file out that other programs read."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

import yaml  # noqa: E402
from cellwatch_msgs import msg as m  # noqa: E402
from mcap.reader import make_reader  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rosbags.rosbag2 import Reader  # noqa: E402
from rosbags.typesys import Stores, get_types_from_msg, get_typestore  # noqa: E402

from cellwatch.nodes import black_box_node as module  # noqa: E402
from cellwatch.nodes.black_box_node import TOPICS, BlackBoxNode  # noqa: E402
from cellwatch.nodes.drivers import black_box  # noqa: E402
from cellwatch.nodes.drivers.recordings import recordings  # noqa: E402
from cellwatch.nodes.ros import convert, qos  # noqa: E402
from cellwatch.nodes.ros.definitions import definition, type_name  # noqa: E402

UNACKNOWLEDGED, SHELVED = m.Alarm.UNACKNOWLEDGED, m.Alarm.SHELVED


class Cell:
    """A node that speaks on the cell's topics, and the black box that hears it."""

    def __init__(self, folder):
        rclpy.init()
        self.folder, self.publishers = folder, {}
        self.box, self.speaker = BlackBoxNode(), rclpy.create_node("speaker")
        settings = {"folder": str(folder), "after_s": 0.6}
        self.box.set_parameters([Parameter(name, value=value) for name, value in settings.items()])
        self.box.trigger_configure()
        self.box.trigger_activate()
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.box)
        self.heard = 0
        self.ring = self.box.box._ring
        self.keep, self.ring.add = self.ring.add, self.count

    def count(self, message):
        self.heard += 1
        self.keep(message)

    def say(self, topic, msg, source="speaker", at_ns=None):
        """Say a message; it has been heard when this returns."""
        if hasattr(msg, "header"):
            msg.header.stamp = convert.time_msg(time.time_ns() if at_ns is None else at_ns)
            msg.header.frame_id = source
        if (topic, source) not in self.publishers:
            pub = self.speaker.create_publisher(type(msg), topic, qos.TOPICS[topic])
            self.publishers[topic, source] = pub
            self.until(pub.get_subscription_count)
        before = self.heard
        self.publishers[topic, source].publish(msg)
        self.until(lambda: self.heard > before)

    def alarm(self, key="PLC1/dos", state=UNACKNOWLEDGED, priority=3, age_s=0.0, message="a flood of SYNs"):
        raised = convert.time_msg(time.time_ns() - round(age_s * 1e9))
        alarm = m.Alarm(
            key=key, state=state, priority=priority, message=message, raised=raised, changed=raised
        )
        self.say("alarms", m.AlarmArray(alarms=[alarm]))
        return alarm

    def until(self, condition, timeout=10):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline
            self.executor.spin_once(timeout_sec=0.05)

    def recorded(self):
        """The recordings, once their time is over."""
        self.until(lambda: self.box.box.stats.recordings and not self.box.box.stats.open)
        return recordings(self.folder)[0]

    def close(self):
        self.box.end()
        self.box.destroy_node()
        self.speaker.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def cell(tmp_path, monkeypatch):
    monkeypatch.setattr(black_box, "WRITE_S", 0.05)
    cell = Cell(tmp_path / "black_box")
    yield cell
    cell.close()


def batch(k):
    return m.TagBatch(sequence=k, tag=[0, 1], value=[k + 0.25, float("nan")], status=[0, 0x80000000])


def test_an_alarm_leaves_a_file_that_rosbags_reads(cell):
    cell.say("tag_catalog", m.TagCatalog(tags=[m.TagInfo(name="LIT101", device="T101", low=0.5)]), "PLC1")
    for k in (1, 2):
        cell.say("tags", batch(k))
    traffic = m.TrafficBatch(window_id=7, devices=["PLC1"], conversations=[m.Conversations(names=["HMI"])])
    cell.say("traffic", traffic)
    cell.say("verdicts/rules", m.VerdictArray(violations=[m.Violation(device="PLC1", observed=9.0)]))
    cell.alarm()
    cell.say("tags", batch(3))
    (found,) = cell.recorded()
    assert found.alarms[0]["alarm"] == "PLC1/dos"
    assert found.alarms[0].items() >= {"priority": "high", "message": "a flood of SYNs"}.items()
    store = get_typestore(Stores.EMPTY)
    said = {}
    with Reader(found.path) as reader:
        for connection in reader.connections:  # the types come from the file alone
            store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        for connection, _, data in reader.messages():
            said.setdefault(connection.topic, []).append(store.deserialize_cdr(data, connection.msgtype))
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
    assert [(b.sequence, b.value[0], b.status[1]) for b in said["/tags"]] == [
        (k, k + 0.25, 0x80000000) for k in (1, 2, 3)
    ]
    assert said["/traffic"][0].conversations[0].names == ["HMI"]
    assert said["/verdicts/rules"][0].violations[0].observed == 9.0
    assert said["/alarms"][0].alarms[0].key == "PLC1/dos"
    assert (said["/tag_catalog"][0].tags[0].name, said["/tag_catalog"][0].header.frame_id) == (
        "LIT101",
        "PLC1",
    )
    assert (durability["/tags"], durability["/alarms"]) == ("VOLATILE", "TRANSIENT_LOCAL")


def test_the_file_has_the_profile_the_types_and_the_times(cell):
    began_ns = time.time_ns()
    cell.say("tags", batch(1))
    cell.alarm()
    (found,) = cell.recorded()
    with found.path.open("rb") as stream:
        reader = make_reader(stream)
        assert reader.get_header().profile == "ros2"
        read = [(s, c, message) for s, c, message in reader.iter_messages()]
    schema, channel, message = next(one for one in read if one[1].topic == "/tags")
    assert (schema.name, schema.encoding, channel.message_encoding) == (
        "cellwatch_msgs/msg/TagBatch", "ros2msg", "cdr",
    )  # fmt: skip
    assert schema.data.decode() == definition(m.TagBatch)
    assert began_ns <= message.log_time == message.publish_time <= time.time_ns()
    assert yaml.safe_load(channel.metadata["offered_qos_profiles"])[0]["depth"] == 50


def test_the_names_of_tags_are_in_a_file_even_where_they_were_said_long_before(cell):
    for plc in ("PLC1", "PLC2"):
        cell.say("tag_catalog", m.TagCatalog(tags=[m.TagInfo(name=f"{plc}.T")]), plc)
    cell.ring.span_ns = 0  # a minute goes by
    cell.say("tags", batch(1))
    cell.alarm()
    (found,) = cell.recorded()
    assert found.topics["/tag_catalog"] == ("cellwatch_msgs/msg/TagCatalog", 2)


def test_the_program_of_the_manual_reads_it(cell, root):
    cell.say("tag_catalog", m.TagCatalog(tags=[m.TagInfo(name="LIT101"), m.TagInfo(name="P101")]), "PLC1")
    cell.say("tags", m.TagBatch(tag=[1, 0], value=[1.0, 2.5], source_ns=[7, 8]), "PLC1")
    cell.alarm()
    (found,) = cell.recorded()
    program = (root / "docs" / "black-box.md").read_text().split("```python\n")[1].split("```")[0]
    command = [sys.executable, "-c", program, found.path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["7 P101 1.0", "8 LIT101 2.5"]


def test_an_alarm_is_recorded_once_and_again_when_it_is_graver_or_raised_anew(cell):
    alarm = cell.alarm(priority=2)
    cell.say("alarms", m.AlarmArray(alarms=[alarm]))  # the list is said again for another one's sake
    alarm.priority, alarm.changed = 3, convert.time_msg(time.time_ns())
    cell.say("alarms", m.AlarmArray(alarms=[alarm]))
    cell.alarm(priority=2, message="anew")
    cell.alarm(priority=2, age_s=0.5, message="by a clock that was set back")
    (found,) = cell.recorded()
    assert [(a["priority"], a["message"]) for a in found.alarms] == [
        ("medium", "a flood of SYNs"), ("high", "a flood of SYNs"), ("medium", "anew"),
        ("medium", "by a clock that was set back"),
    ]  # fmt: skip


def test_what_is_shelved_or_old_is_not_recorded(cell):
    cell.alarm(state=SHELVED)
    cell.alarm("PLC1/fault", age_s=30.0)  # stood when the box began to listen
    cell.alarm("PLC1/mitm")
    (found,) = cell.recorded()
    assert [a["alarm"] for a in found.alarms] == ["PLC1/mitm"]


def test_health_says_what_is_wrong(cell):
    level, text, counters = cell.box.health()
    assert (level, text, counters) == (module.OK, "", {"recordings": 0, "lost": 0, "early": 0})
    cell.ring.max_bytes = 100
    cell.say("labels", m.Label(name="x" * 200))
    assert cell.box.health()[:2] == (module.WARN, "64 MB do not hold 60 s: raise memory_mb")
    cell.box.box.warning = "recordings cannot be written"
    assert cell.box.health()[:2] == (module.WARN, "recordings cannot be written")


@pytest.mark.parametrize("place", ["lib/python3.11/site-packages", "local/lib/python3.12/dist-packages"])
def test_the_text_of_a_type_is_found_in_the_prefix_that_its_package_is_in(tmp_path, monkeypatch, place):
    file = tmp_path / "share" / "cellwatch_msgs" / "msg" / "Gap.msg"
    file.parent.mkdir(parents=True)
    file.write_text("# of this prefix\n\n")
    module = tmp_path / place / "cellwatch_msgs" / "__init__.py"
    monkeypatch.setattr(sys.modules["cellwatch_msgs"], "__file__", str(module))
    assert definition(m.Gap).startswith("# of this prefix\n====")


def test_every_type_reads_the_same_without_its_file(monkeypatch):
    """Names, fields and types that a reader finds in the text made from the class are those of the .msg."""
    texts = {kind: definition(kind) for kind in TOPICS.values()}
    assert "uint8 UNACKNOWLEDGED = 2" in texts[m.AlarmArray]  # from the file, which has the constants
    monkeypatch.setattr(sys.modules["cellwatch_msgs"], "__file__", "/nowhere/cellwatch_msgs/__init__.py")
    for kind, text in texts.items():
        made = definition(kind)
        assert "UNACKNOWLEDGED" not in made
        of_file, of_class = (get_types_from_msg(one, type_name(kind)) for one in (text, made))
        assert of_class.keys() == of_file.keys()
        for name, (_, fields) in of_file.items():
            assert of_class[name][1] == fields


def test_a_profile_is_told_as_rosbag2_tells_it():
    (profile,) = yaml.safe_load(qos.text(qos.COMMANDS))
    endless = {"sec": 9223372036, "nsec": 854775807}
    assert profile == {
        "history": "keep_last", "depth": 20, "reliability": "reliable", "durability": "volatile",
        "deadline": endless, "lifespan": {"sec": 5, "nsec": 0}, "liveliness": "automatic",
        "liveliness_lease_duration": endless, "avoid_ros_namespace_conventions": False,
    }  # fmt: skip


def test_no_topic_of_the_cell_is_forgotten():
    left_out = {"labels/settled", "verdicts/shadow", "verdicts/displaced", "heartbeat"}
    assert set(qos.TOPICS) - left_out == set(TOPICS)
