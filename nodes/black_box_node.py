"""Black box node: what was said in the minute before and after each alarm, in an MCAP file.

Subscribes  every topic of the cell, without taking the messages apart
Parameters  folder, before_s, after_s, memory_mb, max_mb (see `Params`)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellwatch_msgs import msg as m
from rclpy.serialization import deserialize_message

from cellwatch.models.response.alarms import STANDING
from cellwatch.models.types import Alarm, Priority
from cellwatch.nodes.drivers.black_box import BlackBox, BoxSettings
from cellwatch.nodes.drivers.mcap_recording import RecordedTopic
from cellwatch.nodes.moments import moment
from cellwatch.nodes.ros import convert, qos
from cellwatch.nodes.ros.definitions import definition, type_name
from cellwatch.nodes.ros.node import OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param

ALARMS = "alarms"
TOPICS: dict[str, type] = {
    "tag_catalog": m.TagCatalog,
    "tag_snapshot": m.TagBatch,
    "tags": m.TagBatch,
    "traffic": m.TrafficBatch,
    "feature_schema": m.FeatureSchema,
    "features": m.FeatureWindow,
    "verdicts/rules": m.VerdictArray,
    "verdicts/ensemble": m.VerdictArray,
    "verdicts/ewad": m.VerdictArray,
    "verdicts/limits": m.VerdictArray,
    "verdicts/fused": m.FusedVerdictArray,
    "attributions": m.Attribution,
    "commands": m.ActuatorCommand,
    "command_results": m.ActuatorResult,
    ALARMS: m.AlarmArray,
    "response_state": m.ResponseState,
    "drift": m.DriftEvent,
    "candidate": m.CandidateState,
    "model_state": m.ModelState,
    "labels": m.Label,
}


@dataclass(frozen=True)
class Params:
    folder: str = param("", "folder of the recordings")
    before_s: float = param(
        60.0, "what a recording has from before its alarm", unit="s", low=0.0, high=3600.0
    )
    after_s: float = param(60.0, "and from after its last one", unit="s", low=0.0, high=3600.0)
    memory_mb: int = param(64, "most that is kept in memory", unit="MB", low=1, high=65_536)
    max_mb: int = param(1024, "size limit of the folder", unit="MB", low=1, high=10_000_000)


class BlackBoxNode(CellNode):
    NAME = "black_box_node"
    PARAMS = Params
    TICK_S = 0.5

    def build(self) -> None:
        p = self.params
        settings = BoxSettings(p.before_s, p.after_s, p.memory_mb << 20, p.max_mb << 20)
        topics = [
            RecordedTopic(
                self.resolve_topic_name(name), type_name(kind), definition(kind), qos.text(qos.TOPICS[name])
            )
            for name, kind in TOPICS.items()
        ]
        self.box: BlackBox | None = BlackBox(Path(p.folder), topics, settings)
        self.early = 0  # messages, when health was last told
        self.known: dict[str, tuple[int, Priority]] = {}  # alarms that are recorded
        for index, (name, kind) in enumerate(TOPICS.items()):
            self.subscribe(kind, name, self._taker(index, name, kind), raw=True)

    def _taker(self, index: int, name: str, kind: type) -> Any:
        """What is called with the messages of a topic. Only latched ones are taken apart: they are few."""
        box = self.box

        def plain(data: bytes) -> None:
            box.hear(index, data)

        def latched(data: bytes) -> None:
            msg = deserialize_message(data, kind)
            box.hear(index, data, msg.header.frame_id if hasattr(msg, "header") else "")
            if name == ALARMS:
                self._alarms(convert.alarms(msg))

        return latched if qos.TOPICS[name] is qos.LATCHED else plain

    def _alarms(self, alarms: tuple[Alarm, ...]) -> None:
        """Record the time around every alarm that is raised, or grows graver; not old ones, heard late."""
        since_ns = time.time_ns() - round(self.params.after_s * 1e9)
        known, self.known = self.known, {}
        for alarm in alarms:
            raised_ns, priority = known.get(alarm.key, (0, Priority.UNKNOWN))
            new = alarm.raised_ns != raised_ns or alarm.priority > priority
            if new and alarm.state in STANDING and alarm.changed_ns >= since_ns:
                raised_ns, priority = alarm.raised_ns, alarm.priority
                self.box.alarm(facts(alarm))
            self.known[alarm.key] = raised_ns, priority

    def step(self) -> None:
        self.box.tick()
        if self.box.warning:
            self.news("box", self.box.warning)
        else:
            self.good_news("box", "recordings are written again")

    def release(self) -> None:
        if getattr(self, "box", None) is not None:
            self.box.close(timeout=3.0)
            self.box = None

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        stats = self.box.stats
        counters = {"recordings": stats.recordings, "lost": stats.lost, "early": stats.early}
        if self.box.warning:
            return WARN, self.box.warning, counters
        growing, self.early = stats.early > self.early, stats.early
        if growing:
            text = f"{self.params.memory_mb} MB do not hold {self.params.before_s:g} s: raise memory_mb"
            return WARN, text, counters
        return OK, f"recording into {self.params.folder}" if stats.open else "", counters


def facts(alarm: Alarm) -> dict[str, str]:
    """What a recording says of an alarm that it was made for."""
    return {
        "alarm": alarm.key,
        "attack_type": alarm.attack_type,
        "priority": alarm.priority.name.lower(),
        "raised": moment(alarm.raised_ns, 3),
        "message": alarm.message,
    }


def main() -> None:
    run(BlackBoxNode)


if __name__ == "__main__":
    main()
