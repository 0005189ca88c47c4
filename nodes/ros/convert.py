"""Frozen values to messages and back. Arrays travel as bytes, never element by element."""

from __future__ import annotations

import array
from dataclasses import fields
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from cellwatch_msgs import msg as m
from numpy.typing import NDArray

from cellwatch.models import types as t

_CODES = {
    "float32": "f", "float64": "d", "uint32": "I", "int64": "q", "uint64": "Q", "uint16": "H", "uint8": "B",
}  # fmt: skip


def time_msg(ns: int) -> Time:
    return Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


def time_ns(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _array(values: NDArray[Any], dtype: str) -> array.array[Any]:
    out = array.array(_CODES[dtype])
    out.frombytes(np.ascontiguousarray(values, dtype=dtype).tobytes())
    return out


def _numpy(values: Any, dtype: str) -> NDArray[Any]:
    return np.array(values, dtype=dtype)


def catalog_msg(c: t.TagCatalog, now_ns: int) -> m.TagCatalog:
    out = m.TagCatalog()
    out.header.stamp, out.header.frame_id = time_msg(now_ns), c.plc
    out.tags = [
        m.TagInfo(
            name=i.name,
            node_id=i.node_id,
            device=i.device,
            unit=i.unit,
            low=i.low,
            high=i.high,
            period=i.period_s,
            writable=i.writable,
            role=i.role,
        )
        for i in c.tags
    ]
    return out


def catalog(msg: m.TagCatalog) -> t.TagCatalog:
    return t.TagCatalog(
        msg.header.frame_id,
        tuple(
            t.TagInfo(i.name, i.node_id, i.device, i.unit, i.low, i.high, i.period, i.writable, i.role)
            for i in msg.tags
        ),
    )


def tags_msg(b: t.TagBatch) -> m.TagBatch:
    out = m.TagBatch(sequence=b.sequence, replayed=b.replayed, dropped=b.dropped)
    out.header.stamp, out.header.frame_id = time_msg(b.received_ns), b.plc
    out.tag, out.value, out.status = (
        _array(b.tag, "uint32"),
        _array(b.value, "float64"),
        _array(b.status, "uint32"),
    )
    out.source_ns, out.server_ns = _array(b.source_ns, "int64"), _array(b.server_ns, "int64")
    out.gaps = [m.Gap(start=time_msg(g.start_ns), end=time_msg(g.end_ns), reason=g.reason) for g in b.gaps]
    return out


def tags(msg: m.TagBatch) -> t.TagBatch:
    return t.TagBatch(
        msg.header.frame_id,
        msg.sequence,
        _numpy(msg.tag, "uint32"),
        _numpy(msg.value, "float64"),
        _numpy(msg.status, "uint32"),
        _numpy(msg.source_ns, "int64"),
        _numpy(msg.server_ns, "int64"),
        time_ns(msg.header.stamp),
        msg.replayed,
        msg.dropped,
        tuple(t.Gap(time_ns(g.start), time_ns(g.end), g.reason) for g in msg.gaps),
    )


_CONVERSATIONS = {
    "device": "uint32", "peer": "uint32", "role": "uint8", "protocol": "uint32", "service": "uint32",
    "port": "uint32", "packets": "uint32", "writes": "uint32", "refused": "uint32", "peers": "uint32",
    "low": "int64", "high": "int64", "claim_device": "uint32", "claim_ip": "uint32", "claim_owner": "uint32",
    "claim_packets": "uint32",
}  # fmt: skip


def _conversations_msg(c: t.Conversations | None) -> list[m.Conversations]:
    if c is None:
        return []
    out = m.Conversations(names=list(c.names), more=c.more)
    for name, dtype in _CONVERSATIONS.items():
        setattr(out, name, _array(getattr(c, name), dtype))
    return [out]


def _conversations(msgs: list[m.Conversations]) -> t.Conversations | None:
    if not msgs:
        return None
    msg = msgs[0]
    columns = {name: _numpy(getattr(msg, name), dtype) for name, dtype in _CONVERSATIONS.items()}
    return t.Conversations(names=tuple(msg.names), more=msg.more, **columns)


def traffic_msg(b: t.TrafficBatch) -> m.TrafficBatch:
    out = m.TrafficBatch(
        window_id=b.window_id,
        window=(b.end_ns - b.start_ns) / 1e9,
        columns=list(b.columns),
        devices=list(b.devices),
        packets=b.packets,
        malformed=b.malformed,
        dropped=b.dropped,
        late=b.late,
        conversations=_conversations_msg(b.conversations),
    )
    out.header.stamp, out.header.frame_id = time_msg(b.end_ns), "tap"
    out.values = _array(b.values, "float32")
    return out


def traffic(msg: m.TrafficBatch) -> t.TrafficBatch:
    end_ns = time_ns(msg.header.stamp)
    shape = (len(msg.devices), len(msg.columns))
    return t.TrafficBatch(
        msg.window_id,
        end_ns - round(msg.window * 1e9),
        end_ns,
        tuple(msg.columns),
        tuple(msg.devices),
        _numpy(msg.values, "float32").reshape(shape),
        msg.packets,
        msg.malformed,
        msg.dropped,
        msg.late,
        conversations=_conversations(msg.conversations),
    )


def features_msg(w: t.FeatureWindow) -> m.FeatureWindow:
    out = m.FeatureWindow(
        window_id=w.window_id,
        schema_id=w.schema_id,
        window=(w.end_ns - w.start_ns) / 1e9,
        devices=list(w.devices),
        tags=list(w.tags),
        commissioning=w.commissioning,
        held=list(w.held),
        modes=list(w.modes),
        conversations=_conversations_msg(w.conversations),
        closed=time_msg(w.closed_ns),
    )
    out.header.stamp, out.header.frame_id = time_msg(w.end_ns), "cell"
    out.values, out.tag_values = _array(w.values, "float32"), _array(w.tag_values, "float32")
    out.tag_device = _array(w.tag_device, "uint32")
    return out


def features(msg: m.FeatureWindow) -> t.FeatureWindow:
    end_ns = time_ns(msg.header.stamp)
    n, k = len(msg.devices), len(msg.tags)
    values, tag_values = _numpy(msg.values, "float32"), _numpy(msg.tag_values, "float32")
    return t.FeatureWindow(
        msg.window_id,
        end_ns - round(msg.window * 1e9),
        end_ns,
        time_ns(msg.closed),
        msg.schema_id,
        tuple(msg.devices),
        values.reshape(n, -1) if n else values.reshape(0, 0),
        tuple(msg.tags),
        _numpy(msg.tag_device, "uint32"),
        tag_values.reshape(k, -1) if k else tag_values.reshape(0, 0),
        msg.commissioning,
        tuple(msg.held),
        tuple(msg.modes),
        _conversations(msg.conversations),
    )


def _violation_msg(v: t.Violation) -> m.Violation:
    return m.Violation(
        device=v.device,
        feature=v.feature,
        observed=v.observed,
        low=v.low,
        high=v.high,
        rule=v.rule,
        category=v.category,
        attack_id=v.attack_id,
        message=v.message,
    )


def _violation(v: m.Violation) -> t.Violation:
    return t.Violation(
        v.device, v.feature, v.observed, v.low, v.high, v.rule, v.category, v.attack_id, v.message
    )


def verdicts_msg(v: t.Verdicts) -> m.VerdictArray:
    out = m.VerdictArray(
        window_id=v.window_id,
        latency=v.latency_s,
        devices=list(v.devices),
        abstained=v.abstained,
        partial=v.partial,
        closed=time_msg(v.closed_ns),
    )
    out.header.stamp, out.header.frame_id = time_msg(v.end_ns), v.source
    out.screening, out.confidence = _array(v.screening, "uint8"), _array(v.confidence, "float32")
    for s in v.levels:
        level = m.LevelScores(level=int(s.level), detectors=list(s.detectors), classes=list(s.classes))
        level.probabilities = _array(s.probabilities, "float32")
        out.levels.append(level)
    out.violations = [_violation_msg(x) for x in v.violations]
    return out


def verdicts(msg: m.VerdictArray) -> t.Verdicts:
    n = len(msg.devices)
    return t.Verdicts(
        msg.header.frame_id,
        msg.window_id,
        time_ns(msg.header.stamp),
        time_ns(msg.closed),
        tuple(msg.devices),
        _numpy(msg.screening, "uint8"),
        _numpy(msg.confidence, "float32"),
        tuple(
            t.LevelScores(
                t.Level(s.level),
                tuple(s.detectors),
                tuple(s.classes),
                _numpy(s.probabilities, "float32").reshape(n, len(s.detectors), len(s.classes)),
            )
            for s in msg.levels
        ),
        tuple(_violation(x) for x in msg.violations),
        msg.abstained,
        msg.latency,
        msg.partial,
    )


def fused_msg(w: t.FusedWindow, now_ns: int) -> m.FusedVerdictArray:
    out = m.FusedVerdictArray(
        window_id=w.window_id,
        latency=(now_ns - w.closed_ns) / 1e9,
        sources=list(w.sources),
        missing=list(w.missing),
        closed=time_msg(w.closed_ns),
    )
    out.header.stamp, out.header.frame_id = time_msg(w.end_ns), "cell"
    out.verdicts = [
        m.FusedVerdict(
            device=v.device,
            decision=int(v.decision),
            probability=v.probability,
            threshold=v.threshold,
            category=v.category,
            attack_type=v.attack_type,
            explanation=v.explanation,
            contributions=[
                m.Contribution(detector=c.detector, score=c.score, weight=c.weight) for c in v.contributions
            ],
            violations=[_violation_msg(x) for x in v.violations],
            category_confidence=v.category_confidence,
            attack_type_confidence=v.attack_type_confidence,
            rules_confidence=v.rules_confidence,
            agreeing=list(v.agreeing),
            conflict=v.conflict,
            explanation_json=v.explanation_json,
        )
        for v in w.verdicts
    ]
    return out


def fused(msg: m.FusedVerdictArray) -> t.FusedWindow:
    return t.FusedWindow(
        msg.window_id,
        time_ns(msg.header.stamp),
        time_ns(msg.closed),
        tuple(
            t.FusedVerdict(
                v.device,
                t.Screening(v.decision),
                v.probability,
                v.threshold,
                v.category,
                v.attack_type,
                tuple(t.Contribution(c.detector, c.score, c.weight) for c in v.contributions),
                tuple(_violation(x) for x in v.violations),
                v.explanation,
                v.category_confidence,
                v.attack_type_confidence,
                v.rules_confidence,
                tuple(v.agreeing),
                v.conflict,
                v.explanation_json,
            )
            for v in msg.verdicts
        ),
        tuple(msg.sources),
        tuple(msg.missing),
    )


def command_msg(c: t.Command) -> m.ActuatorCommand:
    out = m.ActuatorCommand(
        command_id=c.command_id,
        window_id=c.window_id,
        tag=c.tag,
        value=c.value,
        valid_for=c.valid_for_s,
        reason=c.reason,
        closed=time_msg(c.closed_ns),
    )
    out.header.stamp, out.header.frame_id = time_msg(c.issued_ns), c.device
    return out


def command(msg: m.ActuatorCommand) -> t.Command:
    return t.Command(
        msg.command_id,
        msg.window_id,
        msg.header.frame_id,
        msg.tag,
        msg.value,
        time_ns(msg.header.stamp),
        msg.valid_for,
        msg.reason,
        time_ns(msg.closed),
    )


def result_msg(r: t.CommandResult, plc: str) -> m.ActuatorResult:
    out = m.ActuatorResult(
        command_id=r.command_id,
        window_id=r.window_id,
        tag=r.tag,
        value=r.value,
        status=int(r.status),
        error_msg=r.error,
        read_back=r.read_back,
        issued=time_msg(r.issued_ns),
        closed=time_msg(r.closed_ns),
    )
    out.header.stamp, out.header.frame_id = time_msg(r.decided_ns), plc
    return out


def result(msg: m.ActuatorResult) -> t.CommandResult:
    return t.CommandResult(
        msg.command_id,
        msg.window_id,
        msg.tag,
        msg.value,
        t.CommandStatus(msg.status),
        msg.error_msg,
        msg.read_back,
        time_ns(msg.header.stamp),
        time_ns(msg.issued),
        time_ns(msg.closed),
    )


def label_msg(i: t.Incident) -> m.Label:
    return m.Label(
        onset=time_msg(i.onset_ns),
        end=time_msg(i.end_ns),
        name=i.name,
        kind=i.kind,
        category=i.category,
        type=i.type,
        device=i.device,
        devices=list(i.devices),
        attack_id=i.attack_id or "",
    )


def label(msg: m.Label) -> t.Incident:
    return t.Incident(
        msg.name,
        msg.kind,
        msg.category,
        msg.type,
        msg.device,
        time_ns(msg.onset),
        time_ns(msg.end),
        tuple(msg.devices),
        msg.attack_id or None,
    )


def alarms_msg(alarms: tuple[t.Alarm, ...], flooded: int, now_ns: int) -> m.AlarmArray:
    out = m.AlarmArray(flooded=flooded)
    out.header.stamp, out.header.frame_id = time_msg(now_ns), "cell"
    out.alarms = [
        m.Alarm(
            key=a.key,
            device=a.device,
            category=a.category,
            attack_type=a.attack_type,
            state=int(a.state),
            priority=int(a.priority),
            ne107=int(a.ne107),
            active=a.active,
            annunciated=a.annunciated,
            raised=time_msg(a.raised_ns),
            changed=time_msg(a.changed_ns),
            occurrences=a.occurrences,
            message=a.message,
            shelved_until=time_msg(a.shelved_until_ns),
            user=a.user,
            reason=a.reason,
        )
        for a in alarms
    ]
    return out


def alarms(msg: m.AlarmArray) -> tuple[t.Alarm, ...]:
    return tuple(
        t.Alarm(
            a.key,
            a.device,
            a.category,
            a.attack_type,
            t.AlarmState(a.state),
            t.Priority(a.priority),
            t.Ne107(a.ne107),
            a.active,
            a.annunciated,
            time_ns(a.raised),
            time_ns(a.changed),
            a.occurrences,
            a.message,
            time_ns(a.shelved_until),
            a.user,
            a.reason,
        )
        for a in msg.alarms
    )


_SCENARIOS = ("", "A", "B")  # by the constants of the message


def drift_msg(e: t.DriftEvent) -> m.DriftEvent:
    out = m.DriftEvent(
        state=int(e.state),
        scenario=_SCENARIOS.index(e.scenario),
        since=time_msg(e.since_ns),
        level=int(e.level),
        version=e.version,
        monitors=[f.monitor for f in e.figures],
        values=[f.value for f in e.figures],
        limits=[f.limit for f in e.figures],
        places=[f.place for f in e.figures],
        reasons=list(e.reasons),
        windows=e.windows,
        labelled=e.labelled,
        held_back=e.held_back,
    )
    out.header.stamp, out.header.frame_id = time_msg(e.at_ns), "cell"
    return out


def drift(msg: m.DriftEvent) -> t.DriftEvent:
    return t.DriftEvent(
        time_ns(msg.header.stamp),
        t.DriftState(msg.state),
        t.Level(msg.level),
        msg.version,
        _SCENARIOS[msg.scenario],
        time_ns(msg.since),
        tuple(map(t.DriftFigure._make, zip(msg.monitors, msg.values, msg.limits, msg.places, strict=True))),
        tuple(msg.reasons),
        msg.windows,
        msg.labelled,
        msg.held_back,
    )


def settled_msg(s: t.SettledLabels) -> m.SettledLabels:
    out = m.SettledLabels(devices=list(s.devices), classes=list(s.classes))
    out.window_ids = _array(s.window_ids, "uint64")
    out.device, out.label = _array(s.device, "uint16"), _array(s.label, "uint16")
    out.header.stamp, out.header.frame_id = time_msg(s.at_ns), "cell"
    return out


def settled(msg: m.SettledLabels) -> t.SettledLabels:
    return t.SettledLabels(
        time_ns(msg.header.stamp),
        tuple(msg.devices),
        tuple(msg.classes),
        *(_numpy(values, "int64") for values in (msg.window_ids, msg.device, msg.label)),
    )


_FIGURES = [f.name for f in fields(t.StageFigures)]


def candidate_msg(c: t.CandidateState) -> m.CandidateState:
    out = m.CandidateState(
        stage=int(c.stage),
        held=c.held,
        scenario=_SCENARIOS.index(c.scenario),
        version=c.version,
        parent=c.parent,
        devices=list(c.devices),
        since=time_msg(c.since_ns),
        reason=c.reason,
        **{name: getattr(c.figures, name) for name in _FIGURES},
    )
    out.header.stamp, out.header.frame_id = time_msg(c.at_ns), "cell"
    return out


def candidate(msg: m.CandidateState) -> t.CandidateState:
    return t.CandidateState(
        time_ns(msg.header.stamp),
        t.Stage(msg.stage),
        msg.held,
        _SCENARIOS[msg.scenario],
        msg.version,
        msg.parent,
        tuple(msg.devices),
        time_ns(msg.since),
        msg.reason,
        t.StageFigures(**{name: getattr(msg, name) for name in _FIGURES}),
    )
