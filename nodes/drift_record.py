"""What the record of a cell tells of drift: events, figures over time, versions in service."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.models.types import DriftState, Stage
from cellwatch.nodes.drivers.line_protocol import Point
from cellwatch.nodes.drivers.record_schema import MONITORS
from cellwatch.nodes.drivers.store import Store

LABELLED = MONITORS[:2]  # these know the truth
UNDER_WAY = (Stage.SHADOW.name, Stage.CANARY.name, Stage.ACTIVE.name)
SCENARIOS = {"A": "scenario A, false alarms", "B": "scenario B, misses", "": "no labels say of which kind"}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    at_ns: int
    kind: str  # "models" | "drift" | "candidate" | "labels"
    what: str
    version: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which something was so; the last one of a record ends where that does."""

    since_ns: int
    until_ns: int
    what: str  # a version, "WARNING", "DRIFT", or a stage
    detail: str = ""  # of DRIFT the scenario, of a stage the version


@dataclass(slots=True)
class Curve:
    """One monitor under one version, from one start of the drift node to the next."""

    monitor: str
    at_ns: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)  # NaN: there was none yet


@dataclass(frozen=True, slots=True)
class DriftRecord:
    """All of it, in the order of time."""

    first_ns: int
    last_ns: int
    events: tuple[Event, ...]
    versions: tuple[Span, ...]
    states: tuple[Span, ...]  # WARNING and DRIFT
    onsets: tuple[int, ...]  # with which drifts began, as estimated
    stages: tuple[Span, ...]  # of candidates, those that end nothing
    curves: tuple[Curve, ...]

    @property
    def alarms(self) -> int:
        """How often the state became DRIFT."""
        return sum(each.what == DriftState.DRIFT.name for each in self.states)

    def figure(self, monitor: str, span: Span) -> float:
        """Mean of what a monitor measured within a span, NaN if it measured nothing."""
        values = [
            value
            for curve in self.curves
            if curve.monitor == monitor
            for at, value in zip(curve.at_ns, curve.value, strict=True)
            if span.since_ns <= at < span.until_ns or at == span.until_ns == self.last_ns
        ]
        return float(np.mean(values)) if values else math.nan


def read(folder: Path, since_ns: int | None = None) -> DriftRecord:
    """The record in a folder, from a time on. FileNotFoundError if it is none."""
    store = Store(folder)
    points = {name: _points(store, name, since_ns) for name in ("drift", "models", "candidate")}
    times = [point.time_ns for point in chain.from_iterable(points.values())]
    first_ns, last_ns = min(times, default=0), max(times, default=0)
    drift, candidate = points["drift"], points["candidate"]
    before = None if since_ns is None else _serving(store, since_ns)
    service = list(_in_service(points["models"] or drift, before))
    served = service if before is None else [(first_ns, before), *service]
    states = _spans([(p.time_ns, _state(p), _text(p, "scenario")) for p in drift], last_ns)
    stages = _spans(
        [(p.time_ns, Stage(_number(p, "stage")).name, _text(p, "version")) for p in candidate], last_ns
    )
    events = chain(
        (Event(at, "models", "in service", version) for at, version in service),
        _drift_events(drift),
        _candidate_events(candidate),
    )
    return DriftRecord(
        first_ns,
        last_ns,
        tuple(sorted(events, key=lambda event: event.at_ns)),
        tuple(_spans([(at, version, "") for at, version in served], last_ns)),
        tuple(span for span in states if span.what != DriftState.CALM.name),
        tuple(dict.fromkeys(at for p in drift if (at := _number(p, "since_ns")) >= first_ns)),
        tuple(span for span in stages if span.what in UNDER_WAY),
        tuple(_curves(drift)),
    )


def _points(store: Store, measurement: str, since_ns: int | None) -> list[Point]:
    """In the order of time; of two with one time the later recorded one."""
    last = {(p.time_ns, *p.tags.items()): p for p in store.points(measurement, since_ns)}
    return sorted(last.values(), key=lambda point: point.time_ns)


def _serving(store: Store, before_ns: int) -> str | None:
    """The version in service just before a time, None if nothing tells of it."""
    for name in ("models", "drift"):
        last = max(store.points(name, None, before_ns), key=lambda p: p.time_ns, default=None)
        if last is not None:
            return _text(last, "version")
    return None


def _in_service(points: Iterable[Point], now: str | None) -> Iterator[tuple[int, str]]:
    """When which version came into service after `now`; replicas that follow are passed over."""
    for point in points:
        version = _text(point, "version")
        if version != now:
            now = version
            yield point.time_ns, version


def _drift_events(points: Iterable[Point]) -> Iterator[Event]:
    state, origin, held_back = DriftState.CALM, ("", 0), 0
    for p in points:
        version = _text(p, "version")
        now, found = DriftState(_number(p, "state")), (_text(p, "scenario"), _number(p, "since_ns"))
        if now != state or (now == DriftState.DRIFT and found != origin):
            yield Event(p.time_ns, "drift", now.name, version, _why(now, p))
        state, origin = now, found
        if (count := _number(p, "held_back")) > held_back:
            what = f"{count - held_back} held back"
            yield Event(p.time_ns, "labels", what, version, "they contradict others")
        held_back = count


def _why(state: DriftState, p: Point) -> str:
    if state == DriftState.DRIFT:
        return f"{SCENARIOS[_text(p, 'scenario')]}; raised by {_text(p, 'reasons')}"
    over = [name for name in MONITORS if _value(p, name) > _value(p, f"{name}_limit")]
    return f"over the limit: {', '.join(over)}" if state == DriftState.WARNING and over else ""


def _candidate_events(points: Iterable[Point]) -> Iterator[Event]:
    before: tuple[object, ...] = ("", Stage.NONE, False)
    for p in points:
        version, stage, held = _text(p, "version"), Stage(_number(p, "stage")), bool(p.fields.get("held"))
        if (version, stage, held) == before:
            continue
        what = ("held" if held else "released") if (version, stage) == before[:2] else stage.name
        before = version, stage, held
        if stage != Stage.NONE:
            yield Event(p.time_ns, "candidate", what, version, _beside(p, stage))


def _beside(p: Point, stage: Stage) -> str:
    """Why it is there, for which devices, and what it did beside its parent."""
    parts = [_text(p, "reason")]
    if stage == Stage.CANARY and _text(p, "devices"):
        parts.append(f"decides for {_text(p, 'devices')}")
    if labelled := _number(p, "labelled"):
        own, parent = _number(p, "errors"), _number(p, "parent_errors")
        parts.append(f"{own} wrong of {labelled} labelled, its parent {parent}")
    return "; ".join(part for part in parts if part)


def _spans(points: Iterable[tuple[int, str, str]], last_ns: int) -> list[Span]:
    """One span for each change of what is said."""
    changes: list[tuple[int, str, str]] = []
    for at, what, detail in points:
        if not changes or changes[-1][1:] != (what, detail):
            changes.append((at, what, detail))
    ends = [at for at, *_ in changes[1:]] + [last_ns]
    return [Span(at, end, what, detail) for (at, what, detail), end in zip(changes, ends, strict=False)]


def _curves(points: list[Point]) -> Iterator[Curve]:
    """A new one wherever the watch began anew; a figure that is only said again is left out."""
    starts = [i for i, (before, now) in enumerate(pairwise(points), 1) if _anew(before, now)]
    for first, last in pairwise([0, *starts, len(points)]):
        for monitor in MONITORS:
            curve, before = Curve(monitor), (math.nan, math.nan)
            for p in points[first:last]:
                now = _value(p, monitor), _value(p, f"{monitor}_limit")
                if math.isfinite(now[0]) and str(now) != str(before):  # nan is itself here
                    curve.at_ns.append(p.time_ns)
                    curve.value.append(now[0])
                    curve.limit.append(now[1])
                    before = now
            if curve.at_ns:
                yield curve


def _anew(before: Point, now: Point) -> bool:
    same = _text(before, "version") == _text(now, "version")
    return not same or _number(before, "windows") > _number(now, "windows")


def _state(p: Point) -> str:
    return DriftState(_number(p, "state")).name


def _text(p: Point, name: str) -> str:
    return str(p.fields.get(name, ""))


def _number(p: Point, name: str) -> int:
    return int(p.fields.get(name, 0))


def _value(p: Point, name: str) -> float:
    return float(p.fields.get(name, math.nan))


def to_json(found: DriftRecord) -> Mapping[str, Any]:
    """The record as it is printed; times in nanoseconds since 1970."""
    return {
        "first_ns": found.first_ns,
        "last_ns": found.last_ns,
        "alarms": found.alarms,
        "events": [
            {"at_ns": e.at_ns, "kind": e.kind, "what": e.what, "version": e.version, "detail": e.detail}
            for e in found.events
        ],
        "versions": [
            {
                "version": v.what, "since_ns": v.since_ns, "until_ns": v.until_ns,
                **{name: found.figure(name, v) for name in LABELLED},
            }
            for v in found.versions
        ],
        "states": [
            {"state": s.what, "scenario": s.detail, "since_ns": s.since_ns, "until_ns": s.until_ns}
            for s in found.states
        ],
        "onsets_ns": list(found.onsets),
        "stages": [
            {"stage": s.what, "version": s.detail, "since_ns": s.since_ns, "until_ns": s.until_ns}
            for s in found.stages
        ],
        "figures": [
            {"monitor": c.monitor, "at_ns": c.at_ns, "value": c.value, "limit": c.limit} for c in found.curves
        ],
    }  # fmt: skip
