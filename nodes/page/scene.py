"""What a browser is shown of the cell, in sections that are told anew only when they have changed."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cellwatch.models.types import Alarm, CandidateState, DriftEvent
    from cellwatch.nodes.page.live_cell import LiveCell

DIGITS = 6  # significant ones; a screen shows fewer
QUALITIES = {"": 0, "good": 1, "uncertain": 2, "bad": 3}
BEAT_NS = 1_000_000_000  # something is said at least so often, so that a browser hears that the line is alive
LEARNING = "commissioning"  # what a source says while it only watches


class Scene:
    """`changes()` gives the sections that are news since it was last asked; `whole()` all of them.

    Sections: cell, tags (names, units, ranges), values (one row a tag: value, quality, age in s), devices,
    alarms, commands, links, nodes, models, drift, taken. Times in ms since the epoch, as browsers count; no
    NaN and no infinity, which JSON does not know.
    """

    def __init__(self, live: LiveCell, clock: Callable[[], int] = time.time_ns) -> None:
        self._live, self._clock = live, clock
        self._told: dict[str, Any] = {}
        self._seen: dict[str, tuple[int, ...]] = {}
        self._beat_ns = 0
        self._makers: tuple[tuple[str, tuple[str, ...], Callable[[], Any]], ...] = (
            ("devices", ("devices",), self._devices),
            ("alarms", ("alarms", "comments"), self._alarms),
            ("commands", ("commands",), self._commands),
            ("models", ("models",), self._models),
            ("drift", ("drift",), self._drift),
            ("taken", ("response",), self._taken),
        )

    def changes(self) -> dict[str, Any]:
        """Empty if nothing is news."""
        now_ns = self._clock()
        news: dict[str, Any] = {}
        for name, parts, make in self._makers:
            seen = tuple(self._live.versions.get(part, 0) for part in parts)
            if self._seen.get(name) != seen:
                self._seen[name] = seen
                self._tell(news, name, make())
        seen = (self._live.versions.get("tags", 0),)
        beat = abs(now_ns - self._beat_ns) >= BEAT_NS
        if beat or self._seen.get("tags") != seen:  # ages grow without news
            self._seen["tags"] = seen
            self._tags(news)
        if beat:
            self._beat_ns = now_ns
            self._tell(news, "links", self._links())
            self._tell(news, "nodes", self._nodes())
            self._tell(news, "losses", [asdict(loss) for loss in self._live.losses()])
            self._tell(news, "commands", self._commands())  # one that nobody answers lapses
            news["cell"] = self._told["cell"] = self._cell(now_ns)
        return news

    def whole(self) -> dict[str, Any]:
        """Everything as it was told last."""
        return self._told

    def _tell(self, news: dict[str, Any], name: str, section: Any) -> None:
        if self._told.get(name) != section:
            news[name] = self._told[name] = section

    def _cell(self, now_ns: int) -> dict[str, Any]:
        judged = max((d.at_ns for d in self._live.devices()), default=0)
        heard = self._live.heard_ns.get("tags")
        traffic = self._live.traffic()
        return {
            "name": self._live.name,
            "now_ms": now_ns // 1_000_000,
            "window_s": self._live.window_s,
            "verdict_age_s": (now_ns - judged) / 1e9 if judged else None,
            "tags_age_s": (now_ns - heard) / 1e9 if heard else None,
            "packets_per_s": number(traffic.packets_per_s) if traffic.end_ns else None,
            "learning": self._learning(),
        }

    def _learning(self) -> str:
        """What RuleSense says of its commissioning; "" when that is over."""
        return next(
            (
                n.message
                for n in self._live.nodes()
                if n.level == "ok" and n.message.startswith(f"{LEARNING}:")
            ),
            "",
        )

    def _tags(self, news: dict[str, Any]) -> None:
        views = self._live.tags()
        names = [
            {
                "name": v.name, "device": v.device, "unit": v.unit, "low": number(v.low),
                "high": number(v.high), "writable": v.writable,
            }
            for v in views
        ]  # fmt: skip
        self._tell(news, "tags", names)
        values = [
            (number(v.value), QUALITIES[v.quality], None if math.isnan(v.age_s) else round(v.age_s))
            for v in views
        ]
        self._tell(news, "values", values)

    def _devices(self) -> list[dict[str, Any]]:
        return [
            {
                "name": d.name, "kind": d.kind, "decision": d.decision.name, "category": d.category,
                "attack_type": d.attack_type, "explanation": d.explanation, "since_ms": ms(d.since_ns),
                "probability": number(d.probability, 2),
            }
            for d in self._live.devices()
        ]  # fmt: skip

    def _alarms(self) -> dict[str, Any]:
        alarms, flooded = self._live.alarms()
        return {"list": [self._alarm(alarm) for alarm in alarms], "flooded": flooded}

    def _alarm(self, alarm: Alarm) -> dict[str, Any]:
        return {
            "key": alarm.key, "device": alarm.device, "category": alarm.category,
            "attack_type": alarm.attack_type, "state": alarm.state.name, "priority": alarm.priority.name,
            "ne107": alarm.ne107.name, "active": alarm.active, "annunciated": alarm.annunciated,
            "raised_ms": ms(alarm.raised_ns), "changed_ms": ms(alarm.changed_ns),
            "occurrences": alarm.occurrences, "message": alarm.message,
            "shelved_until_ms": ms(alarm.shelved_until_ns), "user": alarm.user, "reason": alarm.reason,
            "comments": [
                {"at_ms": ms(c.at_ns), "user": c.user, "text": c.text}
                for c in self._live.comments(alarm.key)
            ],
        }  # fmt: skip

    def _commands(self) -> list[dict[str, Any]]:
        return [
            {
                "command_id": c.command_id, "device": c.device, "tag": c.tag, "value": number(c.value),
                "reason": c.reason, "status": c.status, "words": c.words, "read_back": number(c.read_back),
                "issued_ms": ms(c.issued_ns), "decided_ms": ms(c.decided_ns),
            }
            for c in self._live.commands()
        ]  # fmt: skip

    def _links(self) -> list[dict[str, Any]]:
        return [{"name": name, "armed": armed} for name, armed in self._live.armed().items()]

    def _nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "name": n.name, "level": n.level, "message": n.message, "restarts": n.restarts,
                "age_s": round(n.age_s) if n.level == "silent" else 0,
                "counters": {name: number(value) for name, value in n.counters.items()},
            }
            for n in self._live.nodes()
        ]  # fmt: skip

    def _models(self) -> list[dict[str, Any]]:
        return [asdict(m) for m in self._live.models()]

    def _drift(self) -> dict[str, Any]:
        return {"event": _event(self._live.drift()), "candidate": _candidate(self._live.candidate())}

    def _taken(self) -> dict[str, Any]:
        overridden, maintenance = self._live.response_state()
        return {"overridden": list(overridden), "maintenance": list(maintenance)}


def _event(event: DriftEvent | None) -> dict[str, Any] | None:
    if event is None:
        return None
    figures = [
        {"monitor": f.monitor, "value": number(f.value), "limit": number(f.limit), "place": f.place}
        for f in event.figures
    ]
    return {
        "at_ms": ms(event.at_ns), "state": event.state.name, "version": event.version,
        "scenario": event.scenario, "since_ms": ms(event.since_ns), "reasons": list(event.reasons),
        "windows": event.windows, "labelled": event.labelled, "held_back": event.held_back,
        "figures": figures,
    }  # fmt: skip


def _candidate(state: CandidateState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {
        "stage": state.stage.name, "held": state.held, "scenario": state.scenario, "version": state.version,
        "parent": state.parent, "devices": list(state.devices), "since_ms": ms(state.since_ns),
        "reason": state.reason, "figures": plain(asdict(state.figures)),
    }  # fmt: skip


def ms(ns: int) -> int:
    """Milliseconds, as browsers count."""
    return ns // 1_000_000


def number(value: float, digits: int = DIGITS) -> float | None:
    """Rounded to significant digits; None for what JSON does not know.

    >>> number(1234.56789), number(float("nan")), number(float("inf"))
    (1234.57, None, None)
    """
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Names of enumerations, numbers as JSON knows them."""
    return {
        name: value.name if isinstance(value, Enum) else number(value) if isinstance(value, float) else value
        for name, value in values.items()
    }
