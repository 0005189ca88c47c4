"""The export node records what other nodes say: real topics, a real store."""

from __future__ import annotations

import time

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from cellwatch_msgs import msg as m  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.nodes.drivers.store import Store  # noqa: E402
from cellwatch.nodes.influx_export_node import InfluxExportNode  # noqa: E402
from cellwatch.nodes.ros import convert, qos  # noqa: E402

NOW = 1_700_000_000_000_000_000


@pytest.fixture
def recorded(tmp_path):
    """Says a message on a topic; the points of a measurement, once there are so many."""
    rclpy.init()
    node, speaker = InfluxExportNode(), rclpy.create_node("speaker")
    node.set_parameters([Parameter("folder", value=str(tmp_path / "record"))])
    node.trigger_configure()
    node.trigger_activate()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    publishers = {}

    def say(topic, msg, at_ns, measurement, wanted):
        msg.header.stamp, msg.header.frame_id = convert.time_msg(at_ns), "speaker"
        if topic not in publishers:
            publishers[topic] = speaker.create_publisher(type(msg), topic, qos.TOPICS.get(topic, qos.LATCHED))
        publishers[topic].publish(msg)  # latched: the node hears it when it has found the speaker
        deadline, points = time.monotonic() + 10, []
        while len(points) < wanted and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
            node.recorder.flush(timeout=3.0)
            points = list(Store(tmp_path / "record").points(measurement))
        return points

    yield say
    node.end()
    node.destroy_node()
    speaker.destroy_node()
    rclpy.try_shutdown()


def test_which_models_are_in_service_is_recorded(recorded):
    msg = m.ModelState(detectors=["L1/a", "L1/b"], states=["active", "failed"], version="v1")
    (point,) = recorded("model_state", msg, NOW, "models", 1)
    assert (point.tags, point.time_ns) == ({"node": "speaker"}, NOW)
    assert {"version": "v1", "detectors": 2, "failed": 1}.items() <= point.fields.items()


def test_a_candidate_is_recorded_when_there_is_news_of_it(recorded):
    msg = m.CandidateState(stage=2, scenario=1, version="v2", devices=["PLC1"], latency_s=float("nan"))
    (point,) = recorded("candidate", msg, NOW, "candidate", 1)
    assert {"stage": 2, "scenario": "A", "version": "v2", "devices": "PLC1"}.items() <= point.fields.items()
    recorded("candidate", msg, NOW + 1, "candidate", 1)  # the same again
    msg.errors = 3
    points = recorded("candidate", msg, NOW + 2, "candidate", 2)
    assert [(p.time_ns, p.fields["errors"]) for p in points] == [(NOW, 0), (NOW + 2, 3)]


def test_how_the_nodes_are_is_recorded(recorded):
    status = DiagnosticStatus(
        level=DiagnosticStatus.WARN, name="tap", message="slow", hardware_id="cellwatch:/"
    )
    values = {"pid": "7", "packets": "12", "lag_s": "0.5", "interface": "lo", "message": "1"}
    status.values = [KeyValue(key=k, value=v) for k, v in values.items()]
    msg = DiagnosticArray(status=[DiagnosticStatus(name="other", hardware_id="cellwatch:/else"), status])
    points = recorded("/diagnostics", msg, NOW, "health", 3)  # it tells of itself too, once a second
    (point,) = (p for p in points if p.tags == {"name": "tap"})
    assert point.fields == {"level": 1, "message": "slow", "packets": 12.0, "lag_s": 0.5}
    assert point.time_ns == NOW
    assert isinstance(point.fields["packets"], float)


def test_what_moved_the_models_is_recorded(tmp_path):
    rclpy.init()
    node, ensemble = InfluxExportNode(), rclpy.create_node("ensemble")
    try:
        node.set_parameters([Parameter("folder", value=str(tmp_path / "record"))])
        node.trigger_configure()
        node.trigger_activate()
        msg = m.Attribution(window_id=7, device="PLC1", features=["a", "b"], shares=[0.25, -0.5])
        msg.header.stamp = convert.time_msg(NOW)
        publisher = ensemble.create_publisher(m.Attribution, "attributions", qos.TOPICS["attributions"])
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        deadline = time.monotonic() + 10
        points = []
        while not points and time.monotonic() < deadline:
            publisher.publish(msg)
            executor.spin_once(timeout_sec=0.1)
            node.recorder.flush(timeout=3.0)
            points = list(Store(tmp_path / "record").points("attributions"))
        assert points
        assert (points[0].tags, points[0].time_ns) == ({"device": "PLC1"}, NOW)
        assert (points[0].fields["a"], points[0].fields["b"], points[0].fields["window_id"]) == (
            0.25,
            -0.5,
            7,
        )
    finally:
        node.end()
        node.destroy_node()
        ensemble.destroy_node()
        rclpy.try_shutdown()


def test_what_was_said_before_the_end_is_recorded_and_what_is_missing_counted(tmp_path):
    rclpy.init()
    node, plc = InfluxExportNode(), rclpy.create_node("plc")
    try:
        node.set_parameters([Parameter("folder", value=str(tmp_path / "record"))])
        node.trigger_configure()
        node.trigger_activate()
        catalog = m.TagCatalog(tags=[m.TagInfo(name="LIT101", device="PLC1")])
        catalog.header.frame_id = "plc1"
        plc.create_publisher(m.TagCatalog, "tag_catalog", qos.TOPICS["tag_catalog"]).publish(catalog)
        publisher = plc.create_publisher(m.TagBatch, "tags", qos.TOPICS["tags"])
        deadline = time.monotonic() + 10
        while not publisher.get_subscription_count() and time.monotonic() < deadline:
            time.sleep(0.02)
        for sequence in (1, 2, 5, 6):  # nobody spins: the node is busy until it is told to end
            batch = m.TagBatch(
                sequence=sequence, tag=[0], value=[1.0], status=[0], source_ns=[NOW + sequence], server_ns=[0]
            )
            batch.header.frame_id = "plc1"
            publisher.publish(batch)
        assert publisher.wait_for_all_acked(rclpy.duration.Duration(seconds=5))
        node.trigger_deactivate()
        times = [p.time_ns - NOW for p in Store(tmp_path / "record").points("tags")]
        assert times == [1, 2, 5, 6]
        assert node.health()[2]["lost"] == 2
        (gap,) = Store(tmp_path / "record").points("gaps")
        assert gap.fields == {"batches": 2, "sequence": 5}
    finally:
        node.end()
        node.destroy_node()
        plc.destroy_node()
        rclpy.try_shutdown()
