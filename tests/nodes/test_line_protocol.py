from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.models.types import (
    Alarm,
    AlarmState,
    CandidateState,
    CommandResult,
    CommandStatus,
    DriftEvent,
    DriftFigure,
    DriftState,
    FeatureWindow,
    FusedVerdict,
    FusedWindow,
    Gap,
    Incident,
    Level,
    LevelScores,
    Ne107,
    Priority,
    Screening,
    Stage,
    StageFigures,
    TagBatch,
    TagCatalog,
    TagInfo,
    TrafficBatch,
    Verdicts,
    Violation,
)
from cellwatch.nodes.drivers.line_protocol import (
    TagEncoder,
    alarm_lines,
    attribution_lines,
    candidate_lines,
    command_lines,
    drift_lines,
    feature_lines,
    fused_lines,
    health_lines,
    label_lines,
    line,
    model_lines,
    parse_line,
    traffic_lines,
    verdict_lines,
)

NOW = 1_700_000_000_000_000_000
# Any text but the look-alikes, which cannot be told from what they stand for.
TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda s: not any(c in "\uff3c\uff02" or 0x2400 <= ord(c) < 0x2420 for c in s)
)
NAME = TEXT.filter(lambda s: s not in {"", "time"})
FIELD = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
CATALOG = TagCatalog(
    "plc1", (TagInfo("LIC101.PV", "ns=2;s=a", "tank"), TagInfo("pump speed, A=1", "ns=2;s=b", "pump"))
)


def points(lines):
    assert lines.endswith(b"\n")
    return [parse_line(row) for row in lines.splitlines()]


def batch(tag, value, status=None, source=None, **more):
    n = len(tag)
    return TagBatch(
        plc="plc1",
        sequence=7,
        tag=np.array(tag, dtype=np.uint32),
        value=np.array(value, dtype=np.float64),
        status=np.array(status if status is not None else [0] * n, dtype=np.uint32),
        source_ns=np.array(source if source is not None else range(NOW, NOW + n), dtype=np.int64),
        server_ns=np.full(n, NOW + 500, dtype=np.int64),
        received_ns=NOW + 900,
        **more,
    )


@given(NAME, st.dictionaries(NAME, NAME, max_size=4), st.dictionaries(NAME, FIELD, min_size=1, max_size=4))
def test_any_point_comes_back_as_it_was(measurement, tags, fields):
    text = line(measurement, tags, fields, NOW).encode()
    assert text.count(b"\n") == 1
    back = parse_line(text)
    assert (back.measurement, back.tags, back.time_ns) == (measurement, tags, NOW)
    assert back.fields == fields
    assert [type(v) for v in back.fields.values()] == [type(v) for v in fields.values()]


@settings(deadline=None)  # the first import of the client is slow
@given(
    st.dictionaries(
        st.sampled_from(["device", "plc"]), st.sampled_from(["a b", "a,b", "a=b", "x"]), min_size=1
    ),
    st.dictionaries(
        st.sampled_from(["v", "w x"]), st.sampled_from([1, -2.5, True, 'say "hi"', "a\\b"]), min_size=1
    ),
)
def test_influxdb_client_writes_the_same_point(tags, fields):
    client = pytest.importorskip("influxdb_client")
    theirs = client.Point("m 1").time(NOW, client.WritePrecision.NS)
    for key, value in tags.items():
        theirs = theirs.tag(key, value)
    for key, value in fields.items():
        theirs = theirs.field(key, value)
    assert parse_line(theirs.to_line_protocol().encode()) == parse_line(
        line("m 1", tags, fields, NOW).encode()
    )


@pytest.mark.parametrize(
    "bad", [b"", b"x", b"m 5", b"m a=1", b"m a 5", b"m,t a=1 5", b"m a= 5", b'm a="b 5', b"m a=1 now"]
)
def test_what_is_not_a_line_is_refused(bad):
    with pytest.raises(ValueError, match=r"not|empty|could|invalid|values"):
        parse_line(bad)


def test_a_long_damaged_line_is_refused_at_once():
    with pytest.raises(ValueError, match="not line protocol"):
        parse_line(b"m,t=" + b"\\" * 4001 + b'"' * 4000)


def test_samples():
    first, second = points(TagEncoder(CATALOG).encode(batch([1, 0], [2.5, 1e-300])))
    assert first.measurement == "tags"
    assert first.tags == {"plc": "plc1", "tag": "pump speed, A=1", "device": "pump"}
    assert first.fields == {"value": 2.5, "status": 0, "quality": 0}
    assert (first.time_ns, second.time_ns) == (NOW, NOW + 1)
    assert second.fields["value"] == 1e-300


def test_a_bad_sample_keeps_its_status():
    bad, uncertain, good = points(
        TagEncoder(CATALOG).encode(batch([0, 0, 0], [math.nan, 3.0, math.inf], [0x80340000, 0x40920000, 0]))
    )
    assert bad.fields == {"status": 0x80340000, "quality": 2}
    assert uncertain.fields == {"value": 3.0, "status": 0x40920000, "quality": 1}
    assert good.fields == {"status": 0, "quality": 0}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.floats(),
            st.sampled_from([0, 0x480, 0x40920000, 0x80340000, 0xFFFFFFFF]),
            st.integers(1, 2**62),
        ),
        max_size=6,
    )
)
def test_a_batch_is_its_samples_one_by_one(rows):
    encoder = TagEncoder(CATALOG)
    whole = encoder.encode(batch(*zip(*rows, strict=True))) if rows else encoder.encode(batch([], []))
    assert whole == b"".join(encoder.encode(batch(*[[x] for x in row])) for row in rows)
    assert [p.fields.get("value") for p in points(whole or b"m a=1 1\n")][: len(rows)] == [
        v if math.isfinite(v) else None for _, v, _, _ in rows
    ]


def test_time_falls_back_to_the_server_and_then_to_receipt():
    with_server = batch([0, 0], [1.0, 2.0], source=[0, NOW])
    assert [p.time_ns for p in points(TagEncoder(CATALOG).encode(with_server))] == [NOW + 500, NOW]
    neither = batch([0], [1.0], source=[0])
    neither.server_ns[0] = 0
    assert points(TagEncoder(CATALOG).encode(neither))[0].time_ns == NOW + 900


def test_gaps_and_losses_are_history():
    gap = Gap(NOW, NOW + 2_500_000_000, 'link lost: "timeout"')
    one, two = points(TagEncoder(CATALOG).encode(batch([], [], gaps=(gap,), dropped=4)))
    assert (one.measurement, one.tags, one.time_ns) == ("gaps", {"plc": "plc1"}, NOW)
    assert one.fields == {"reason": gap.reason, "end_ns": gap.end_ns, "duration_s": 2.5}
    assert (two.fields, two.time_ns) == ({"dropped": 4, "sequence": 7}, NOW + 900)


def test_a_tag_outside_the_catalogue_is_an_error():
    with pytest.raises(ValueError, match=r"tag index 2 of plc1 .* catalogue of 2 tags"):
        TagEncoder(CATALOG).encode(batch([2], [1.0]))


@given(st.lists(st.floats(width=32), min_size=2, max_size=2))
def test_features_keep_every_bit(row):
    values = np.array([row], dtype=np.float32)
    window = FeatureWindow(
        window_id=9,
        start_ns=NOW - 10**9,
        end_ns=NOW,
        closed_ns=NOW + 1,
        schema_id="s",
        devices=("tank",),
        values=values,
        tags=(),
        tag_device=np.zeros(0, dtype=np.uint32),
        tag_values=np.zeros((0, 1), dtype=np.float32),
        held=("tank",),
    )
    (point,) = points(feature_lines(window, ("level mean", "time")))
    assert point.fields["window_id"] == 9
    assert (point.fields["held"], point.fields["commissioning"]) == (True, False)
    for key, value in zip(("level mean", "time_"), values[0], strict=True):
        if np.isfinite(value):
            assert np.float32(point.fields[key]) == value
        else:
            assert key not in point.fields
    with pytest.raises(ValueError, match="1 column names for 2 columns"):
        feature_lines(window, ("one",))


def test_verdicts():
    scores = LevelScores(
        Level.L1,
        ("forest", "mlp"),
        ("benign", "attack"),
        np.array([[[0.25, 0.75], [np.nan, np.nan]]], dtype=np.float32),
    )
    rule = Violation("tank", "LIC101/mean", 9.5, -math.inf, 8.0, "range", "fault")
    verdicts = Verdicts(
        source="rules",
        window_id=3,
        end_ns=NOW,
        closed_ns=NOW,
        devices=("tank",),
        screening=np.array([Screening.BLOCK], dtype=np.uint8),
        confidence=np.array([0.9], dtype=np.float32),
        levels=(scores,),
        violations=(rule,),
    )
    summary, forest, mlp, broken = points(verdict_lines(verdicts))
    assert summary.tags == {"source": "rules", "device": "tank"}
    assert summary.fields["screening"] == 3
    assert (np.float32(summary.fields["confidence"]), summary.fields["violations"]) == (np.float32(0.9), 1)
    assert forest.tags == {**summary.tags, "detector": "forest", "level": "L1"}
    assert (forest.fields["p_benign"], forest.fields["p_attack"]) == (0.25, 0.75)
    assert mlp.fields == {"window_id": 3, "abstained": "no score"}
    assert (broken.measurement, broken.tags["rule"], broken.fields["high"]) == ("violations", "range", 8.0)
    assert "low" not in broken.fields  # open


def test_the_rest():
    fused = FusedWindow(
        3, NOW, NOW, (FusedVerdict("tank", Screening.SUSPICIOUS, 0.7, 0.5, explanation="Level, high."),)
    )
    (point,) = points(fused_lines(fused))
    assert (point.fields["decision"], point.fields["explanation"]) == (2, "Level, high.")
    result = CommandResult("c1", 3, "P1.speed", 0.0, CommandStatus.REFUSED, error="stale", decided_ns=NOW)
    (point,) = points(command_lines(result))
    assert (point.tags, point.time_ns, point.fields["status"]) == ({"tag": "P1.speed"}, NOW, 2)
    assert "read_back" not in point.fields
    traffic = TrafficBatch(3, NOW - 1, NOW, (), ("a", "b"), np.zeros((2, 0), dtype=np.float32), 12, dropped=1)
    (point,) = points(traffic_lines(traffic))
    assert (point.tags, point.fields["packets"], point.fields["devices"]) == ({}, 12, 2)
    incident = Incident("leak", "fault", "process", "leak", "tank", NOW, NOW + 5, ("tank", "pump"))
    (point,) = points(label_lines(incident))
    assert (point.fields["devices"], point.fields["end_ns"]) == ("tank pump", NOW + 5)
    (point,) = points(health_lines("tap", 1, {"packets": 5, "lag_s": math.nan}, NOW))
    assert point.fields == {"level": 1, "packets": 5}


def test_drift_with_a_field_for_each_figure():
    figures = (DriftFigure("loss", 0.5, math.inf), DriftFigure("features", 0.25, 0.2, "PLC1 size"))
    event = DriftEvent(
        NOW, DriftState.DRIFT, Level.L1, "v1", "A", NOW - 9, figures, ("loss", "2 held back"), 7, 30, 2
    )
    (point,) = points(drift_lines(event))
    assert (point.measurement, point.tags, point.time_ns) == ("drift", {}, NOW)
    assert point.fields == {
        "state": 2, "scenario": "A", "since_ns": NOW - 9, "level": 1, "version": "v1",
        "reasons": "loss, 2 held back", "windows": 7, "labelled": 30, "held_back": 2,
        "loss": 0.5, "features": 0.25, "features_limit": 0.2, "features_place": "PLC1 size",
    }  # fmt: skip


def test_the_candidate_and_the_models_in_service():
    figures = StageFigures(60, 400, 8, 40, 5, 30, latency_s=0.25)
    state = CandidateState(
        NOW, Stage.CANARY, True, "B", "v2", "v1", ("PLC1", "HMI 1"), NOW - 9, "gate passed", figures
    )
    (point,) = points(candidate_lines(state))
    assert (point.measurement, point.tags, point.time_ns) == ("candidate", {}, NOW)
    assert point.fields == {
        "stage": 2, "held": True, "scenario": "B", "version": "v2", "parent": "v1", "devices": "PLC1 HMI 1",
        "since_ns": NOW - 9, "reason": "gate passed", "windows": 60, "labelled": 400, "errors": 8,
        "parent_errors": 40, "false_alarms": 5, "parent_false_alarms": 30, "latency_s": 0.25,
    }  # fmt: skip
    (point,) = points(model_lines("ensemble_node", "", 0, 0, 1, 2, "no model", NOW))
    assert (point.measurement, point.tags, point.time_ns) == ("models", {"node": "ensemble_node"}, NOW)
    assert point.fields == {
        "version": "", "detectors": 0, "failed": 0, "replica": 1, "replicas": 2, "detail": "no model",
    }  # fmt: skip


def test_alarms_and_the_evidence_behind_a_verdict():
    alarm = Alarm(
        "PLC1/dos", "PLC1", "dos", "dos/syn-flood", AlarmState.ACKNOWLEDGED, Priority.HIGH,
        Ne107.OUT_OF_SPECIFICATION, True, True, NOW - 9, NOW, 3, "PLC1: flood", user="ada",
    )  # fmt: skip
    (point,) = points(alarm_lines([alarm]))
    assert (point.measurement, point.tags) == ("alarms", {"device": "PLC1", "category": "dos"})
    assert (point.fields["state"], point.fields["priority"], point.fields["user"]) == (3, 3, "ada")
    assert point.time_ns == NOW
    evidence = '{"device_id": "tank", "sample_id": "3"}'
    blocked = FusedVerdict("tank", Screening.BLOCK, 0.9, 0.5, explanation_json=evidence)
    (point,) = points(fused_lines(FusedWindow(3, NOW, NOW, (blocked,))))
    assert point.fields["explanation_json"] == evidence
    assert alarm_lines([]) == b""


def test_attributions_are_one_point_with_a_field_for_each_feature():
    shares = {"network_packets_all_count": 0.25, "network_ports_all_count": -0.125, "x": math.nan}
    (point,) = points(attribution_lines(7, NOW, "PLC1", shares, "the models go by ..."))
    assert (point.measurement, point.tags, point.time_ns) == ("attributions", {"device": "PLC1"}, NOW)
    del shares["x"]  # no number
    assert point.fields == {"window_id": 7, "explanation": "the models go by ...", **shares}
