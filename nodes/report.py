"""The ledger of a run: what was seen on the topics, set against the ground truth at the end."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.models.types import CommandStatus, Screening, Severity, severity
from cellwatch.nodes.latency import LatencyHistogram
from cellwatch.nodes.sequence import Sequence

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellwatch.models.types import (
        CommandResult,
        DriftEvent,
        FeatureWindow,
        FusedWindow,
        Incident,
        TagBatch,
        TrafficBatch,
        Verdicts,
    )

MAX_ALARMS = 500_000


@dataclass(frozen=True, slots=True)
class Alarm:
    """One fused verdict that is not ALLOW."""

    heard_ns: int
    start_ns: int
    end_ns: int
    device: str
    decision: Screening
    category: str
    explanation: str


@dataclass
class Ledger:
    """Counts everything from `start` on."""

    window_s: float = 1.0
    hear: Callable[[FeatureWindow], None] | None = None  # gets every window, also before the start
    start_ns: int = 0
    tags: Counter[str] = field(default_factory=Counter)
    traffic: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    drift: DriftEvent | None = None  # the last one
    alarms: deque[Alarm] = field(default_factory=lambda: deque(maxlen=MAX_ALARMS))
    devices: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # name -> decision, category, why
    latency: dict[str, LatencyHistogram] = field(
        default_factory=lambda: {
            k: LatencyHistogram()
            for k in ("tag_to_topic", "window_to_verdict", "verdict_to_write", "window_to_command")
        }
    )
    _sequence: Sequence = field(default_factory=Sequence)

    def on_tags(self, b: TagBatch, now_ns: int) -> None:
        lost = self._sequence.lost(b.plc, b.sequence)
        if not self.start_ns:
            return
        self.tags["lost_batches"] += lost
        self.tags["received"] += len(b.tag)
        self.tags["bad_quality"] += int((severity(b.status) != Severity.GOOD).sum())
        self.tags["dropped"] += b.dropped
        self.tags["replayed"] += len(b.tag) if b.replayed else 0
        self.tags["gaps"] += len(b.gaps)
        if len(b.tag) and not b.replayed:
            self.latency["tag_to_topic"].add((now_ns - int(np.median(b.source_ns))) / 1e9)

    def on_traffic(self, b: TrafficBatch) -> None:
        if self.start_ns:
            self.traffic["packets"] += b.packets
            self.traffic["dropped"] += b.dropped
            self.traffic["malformed"] += b.malformed

    def on_features(self, window: FeatureWindow) -> None:
        self.windows += bool(self.start_ns)
        if self.hear is not None:
            self.hear(window)

    def on_verdicts(self, v: Verdicts) -> None:
        if self.start_ns and not v.abstained:
            self.verdicts[v.source] += len(v.devices)

    def on_fused(self, w: FusedWindow, now_ns: int) -> None:
        for v in w.verdicts:
            self.devices[v.device] = (v.decision.name, v.category, v.explanation)
        if not self.start_ns:
            return
        self.latency["window_to_verdict"].add((now_ns - w.closed_ns) / 1e9)
        self.verdicts["fused"] += len(w.verdicts)
        for v in w.verdicts:
            self.verdicts[v.decision.name.lower()] += 1
            if v.decision != Screening.ALLOW:
                start = w.end_ns - int(self.window_s * 1e9)
                self.alarms.append(
                    Alarm(now_ns, start, w.end_ns, v.device, v.decision, v.category, v.explanation)
                )

    def on_drift(self, event: DriftEvent) -> None:
        self.drift = event

    def on_command(self) -> None:
        self.commands["issued"] += bool(self.start_ns)

    def on_result(self, r: CommandResult) -> None:
        if not self.start_ns:
            return
        self.commands[r.status.name.lower()] += 1
        if r.status == CommandStatus.ACCEPTED:
            self.latency["verdict_to_write"].add((r.decided_ns - r.issued_ns) / 1e9)
            self.latency["window_to_command"].add((r.decided_ns - r.closed_ns) / 1e9)

    def report(self, *, end_ns: int, incidents: list[Incident] | None) -> dict[str, Any]:
        """The ledger's share of the report. Without ground truth there are no false alarms to count."""
        return {
            "duration_s": round((end_ns - self.start_ns) / 1e9, 3) if self.start_ns else 0.0,
            "tags": {
                "received": self.tags["received"],
                "bad_quality": self.tags["bad_quality"],
                "dropped": self.tags["dropped"] + self.tags["lost_batches"],
                "replayed": self.tags["replayed"],
                "gaps": self.tags["gaps"],
            },
            "traffic": {"packets": self.traffic["packets"], "dropped": self.traffic["dropped"]},
            "windows": self.windows,
            "verdicts": {
                k: self.verdicts[k]
                for k in ("rules", "ensemble", "ewad", "fused", "allow", "suspicious", "block")
            },
            "incidents": [self._incident(i) for i in incidents or []],
            "false_alarms": None if incidents is None else len(self.false_alarms(incidents)),
            "drift": {
                "state": self.drift.state.name if self.drift else None,
                "scenario": (self.drift.scenario if self.drift else "") or None,
            },
            "commands": {k: self.commands[k] for k in ("issued", "accepted", "refused", "withheld")},
            "latency_ms": {k: h.summary() for k, h in self.latency.items()},
        }

    def _incident(self, i: Incident) -> dict[str, Any]:
        hits = [a for a in self.alarms if _touches(a, i, grace_ns=0)]
        found = min(hits, key=lambda a: a.heard_ns) if hits else None
        gravest = max((a.decision for a in hits), default=None)
        categories = Counter(a.category for a in hits if a.decision == gravest)
        onset = (i.onset_ns - self.start_ns) / 1e9
        return {
            "name": i.name,
            "kind": i.kind,
            "device": i.device,
            "onset": round(onset, 3),
            "detected_at": round((found.heard_ns - self.start_ns) / 1e9, 3) if found else None,
            "latency_s": round((found.heard_ns - i.onset_ns) / 1e9, 3) if found else None,
            "decision": gravest.name if gravest is not None else None,
            "category": categories.most_common(1)[0][0] if categories else None,
        }

    def false_alarms(self, incidents: list[Incident]) -> list[Alarm]:
        """Alarms on a device that no incident touches at that time, with a grace of one window."""
        grace = int(self.window_s * 1e9)
        return [a for a in self.alarms if not any(_touches(a, i, grace_ns=grace) for i in incidents)]


def _touches(alarm: Alarm, incident: Incident, *, grace_ns: int) -> bool:
    devices = set(incident.devices) | {incident.device}
    return (
        alarm.device in devices
        and alarm.end_ns > incident.onset_ns
        and alarm.start_ns < incident.end_ns + grace_ns
    )
