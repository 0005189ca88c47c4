"""Export node: every stream to disk, and from there to InfluxDB.

Subscribes  every topic of the cell, /diagnostics
Parameters  folder, influx, max_mb, segment_mb (see `Params`)
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from cellwatch_msgs import msg as m
from diagnostic_msgs.msg import DiagnosticArray

from cellwatch.models.features.schema import default_schema
from cellwatch.models.types import Alarm
from cellwatch.nodes.drivers import line_protocol as lp
from cellwatch.nodes.drivers.store import Recorder, RecorderSettings
from cellwatch.nodes.heard import Heard
from cellwatch.nodes.ros import convert, health, qos
from cellwatch.nodes.ros.node import ERROR, OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param


@dataclass(frozen=True)
class Params:
    folder: str = param("", "folder of the embedded store")
    influx: str = param("", "InfluxDB to forward to; empty: the embedded store alone")
    max_mb: int = param(2048, "size limit of the store", unit="MB", low=1, high=10_000_000)
    segment_mb: int = param(32, "size at which a segment is closed", unit="MB", low=1, high=4096)


class InfluxExportNode(CellNode):
    NAME = "influx_export_node"
    PARAMS = Params
    TICK_S = 0.2

    def build(self) -> None:
        p = self.params
        settings = RecorderSettings(
            influx=p.influx, segment_bytes=p.segment_mb << 20, max_bytes=p.max_mb << 20
        )
        self.recorder = Recorder(Path(p.folder), settings)
        self.columns = default_schema().names
        self.encoders: dict[str, lp.TagEncoder] = {}
        self.early: deque = deque(maxlen=200)  # batches that came before their catalogue
        self.unnamed = 0
        self.heard = Heard(self.recorder)
        self.recorded: dict[str, Alarm] = {}  # alarms as last recorded
        self.candidate = b""  # likewise, without its time
        record = self._record
        self.subscribe(m.TagCatalog, "tag_catalog", self._catalog)
        self.subscribe(m.TagBatch, "tags", self._tags)
        self.subscribe(m.TrafficBatch, "traffic", lambda x: record(lp.traffic_lines(convert.traffic(x))))
        self.subscribe(
            m.FeatureWindow, "features", lambda x: record(lp.feature_lines(convert.features(x), self.columns))
        )
        for source in ("rules", "ensemble", "ewad", "limits"):
            self.subscribe(
                m.VerdictArray, f"verdicts/{source}", lambda x: record(lp.verdict_lines(convert.verdicts(x)))
            )
        self.subscribe(
            m.FusedVerdictArray, "verdicts/fused", lambda x: record(lp.fused_lines(convert.fused(x)))
        )
        self.subscribe(m.Attribution, "attributions", self._attribution)
        self.subscribe(
            m.ActuatorResult, "command_results", lambda x: record(lp.command_lines(convert.result(x)))
        )
        self.subscribe(m.AlarmArray, "alarms", self._alarms)
        self.subscribe(m.DriftEvent, "drift", lambda x: record(lp.drift_lines(convert.drift(x))))
        self.subscribe(m.CandidateState, "candidate", self._candidate)
        self.subscribe(m.ModelState, "model_state", self._models)
        self.subscribe(m.Label, "labels", lambda x: record(lp.label_lines(convert.label(x))))
        self._subs.append(
            self.create_subscription(DiagnosticArray, "/diagnostics", self._health_of, qos.DIAGNOSTICS)
        )

    def _record(self, lines: bytes) -> None:
        self.recorder.append(lines)

    def _attribution(self, msg: m.Attribution) -> None:
        shares = dict(zip(msg.features, msg.shares, strict=False))
        end_ns = convert.time_ns(msg.header.stamp)
        self._record(lp.attribution_lines(msg.window_id, end_ns, msg.device, shares, msg.explanation))

    def _candidate(self, msg: m.CandidateState) -> None:
        """Record what is news: it may be said again and again."""
        said = convert.candidate(msg)
        news = lp.candidate_lines(replace(said, at_ns=0))
        if news != self.candidate:
            self.candidate = news
            self._record(lp.candidate_lines(said))

    def _models(self, msg: m.ModelState) -> None:
        node, at_ns = msg.header.frame_id, convert.time_ns(msg.header.stamp)
        counts = len(msg.detectors), list(msg.states).count("failed"), msg.replica, msg.replicas
        self._record(lp.model_lines(node, msg.version, *counts, msg.detail, at_ns))

    def _alarms(self, msg: m.AlarmArray) -> None:
        """Record the alarms that changed since they were last recorded."""
        news = [a for a in convert.alarms(msg) if self.recorded.get(a.key) != a]
        self.recorded.update((a.key, a) for a in news)
        if news:
            self._record(lp.alarm_lines(news))

    def _health_of(self, msg: DiagnosticArray) -> None:
        """Record how the nodes of this cell are; every counter is a float, so that none changes its type."""
        at_ns = convert.time_ns(msg.header.stamp)
        for status, values in health.statuses(msg, self.get_namespace()):
            counters = {k: number(v) for k, v in values.items() if k not in {"pid", "message"}}
            fields = {"message": status.message, **counters}
            self._record(lp.health_lines(status.name, status.level[0], fields, at_ns))

    def _catalog(self, msg: m.TagCatalog) -> None:
        self.encoders[msg.header.frame_id] = lp.TagEncoder(convert.catalog(msg))
        waiting, self.early = list(self.early), deque(maxlen=self.early.maxlen)
        for batch in waiting:
            self._write_tags(batch)

    def _tags(self, msg: m.TagBatch) -> None:
        plc = msg.header.frame_id
        if missed := self.heard.take(plc, msg.sequence):
            self._record(lp.missed_lines(plc, missed, msg.sequence, convert.time_ns(msg.header.stamp)))
        self._write_tags(msg)

    def _write_tags(self, msg: m.TagBatch) -> None:
        encoder = self.encoders.get(msg.header.frame_id)
        if encoder is not None:
            self._record(encoder.encode(convert.tags(msg)))
            return
        if len(self.early) == self.early.maxlen:
            self.unnamed += len(self.early[0].tag)
        self.early.append(msg)

    def step(self) -> None:
        self.heard.note()
        warnings = self.recorder.warnings
        if warnings:
            self.news("recorder", "; ".join(warnings))
        else:
            self.good_news("recorder", "recording works again")

    def stop(self) -> None:
        self.recorder.flush(timeout=3.0)
        self.heard.note()
        self.heard.note()

    def release(self) -> None:
        if getattr(self, "recorder", None) is not None:
            self.recorder.close()
            self.recorder = None

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        stats = self.recorder.stats
        lost = stats.lost + self.unnamed + self.heard.missed
        counters = {"written": stats.written, "pending": stats.pending, "lost": lost}
        warnings = self.recorder.warnings
        if warnings:
            return ERROR if counters["lost"] else WARN, "; ".join(warnings), counters
        return OK, self.params.influx or self.params.folder, counters


def number(text: str) -> float:
    """NaN, which no record holds, if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def main() -> None:
    run(InfluxExportNode)


if __name__ == "__main__":
    main()
