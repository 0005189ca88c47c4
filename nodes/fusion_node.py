"""Fusion node: pairs the verdicts of a window, decides, explains, raises alarms and asks for commands.

Subscribes  verdicts/{rules,ensemble,ewad,limits}; features (hard cases); tag_catalog, tag_snapshot (clamps);
            command_results (reverts); heartbeat (of the supervisor); model_state; candidate, and during a
            canary verdicts/shadow
Publishes   verdicts/fused (FusedVerdictArray), commands (ActuatorCommand), alarms (AlarmArray, latched),
            response_state (ResponseState, latched); verdicts/displaced (what a canary took the place of)
Services    ~/{acknowledge_alarm,shelve_alarm,set_out_of_service,set_override,set_maintenance}
Parameters  sources, threshold, ... response, interlocks, alarms, state_file, audit_file (see `Params`)

Models that come into service while the cell runs bring their weights and calibration: they are taken between
two windows. While a candidate is a canary, its verdicts stand for the devices that it was given.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellwatch_msgs import msg as m
from std_msgs.msg import Header

from cellwatch.models.fusion.canary import Canary
from cellwatch.models.fusion.fit import FusionFit
from cellwatch.models.fusion.fusion import Fusion, FusionSettings
from cellwatch.models.fusion.hard_cases import HardCases, hard_cases
from cellwatch.models.fusion.limit_alarms import limit_alarms
from cellwatch.models.fusion.window_watch import WindowWatch
from cellwatch.models.registry.bundle import Bundle
from cellwatch.models.registry.manifest import FUSION
from cellwatch.models.response.alarms import AlarmSettings
from cellwatch.models.response.interlocks import InterlockSettings
from cellwatch.models.response.policy import parse_rule
from cellwatch.models.response.response import Response
from cellwatch.models.types import (
    FeatureWindow,
    FusedVerdict,
    FusedWindow,
    Screening,
    Stage,
    Verdicts,
    severity,
)
from cellwatch.nodes.drivers.audit_log import AuditLog
from cellwatch.nodes.drivers.hard_case_store import HardCaseStore
from cellwatch.nodes.drivers.whole_file import write_whole
from cellwatch.nodes.follower import Follower
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import OK, WARN, CellNode, run
from cellwatch.nodes.ros.operator_desk import OperatorDesk
from cellwatch.nodes.ros.params import param

SOURCES = ("rules", "ensemble", "ewad", "limits")
KEPT_WINDOWS = 16
HARD_CASES = 4096


@dataclass(frozen=True)
class Params:
    sources: str = param('["rules", "ensemble"]', "JSON list: sources a window waits for")
    threshold: float = param(0.5, "tau: P(attack) from which a window counts as an attack", low=0.0, high=1.0)
    budget_s: float = param(0.25, "how long a window waits for a late source", unit="s", low=0.0, high=10.0)
    confirm_windows: int = param(2, "agreeing windows in a row before BLOCK", low=1, high=100)
    confirm_alone: int = param(4, "the same when the rules decide alone", low=1, high=100)
    weights: str = param("{}", "JSON object: detector -> weight")
    fit: str = param("", "fusion.json of the models: weights, calibration, threshold; empty: equal weights")
    models: str = param("", "registry or bundle of the models in service; empty: `fit` stays")
    fallback: str = param("", "bundle that the cell was started with")
    keys: str = param("", "folder of the keys that may sign models")
    version: str = param("", "version of the models that `weights` and `fit` come from")
    response: str = param(
        "[]", "JSON list of response rules, see cellwatch.models.response.policy.parse_rule"
    )
    interlocks: str = param('{"dead_man_s": 0}', "JSON object, see InterlockSettings")
    alarms: str = param("{}", "JSON object, see AlarmSettings")
    state_file: str = param("", "keeps alarms, overrides and maintenance over a restart; empty: nowhere")
    audit_file: str = param("", "append-only log of what operators do; empty: none")
    hard_cases: str = param("", "bounded store of rule/model conflicts; empty: none")


class FusionNode(CellNode):
    NAME = "fusion_node"
    PARAMS = Params
    TICK_S = 0.02

    def build(self) -> None:
        p = self.params
        self.settings = FusionSettings(
            tuple(json.loads(p.sources)),
            p.threshold,
            p.budget_s,
            p.confirm_windows,
            p.confirm_alone,
            json.loads(p.weights),
        )
        fit = Path(p.fit).read_text(encoding="utf-8") if p.fit else ""
        self.core = Fusion(_fitted(self.settings, fit))
        self.follower = Follower(p.models, p.fallback, p.keys, p.version, (FUSION,), self._brought)
        self.canary = Canary(p.budget_s)
        self._shadow: Any = None  # subscription, while there is a canary
        self.response = Response(
            tuple(parse_rule(r) for r in json.loads(p.response)),
            InterlockSettings(**json.loads(p.interlocks)),
            AlarmSettings(**json.loads(p.alarms)),
        )
        self.audit = AuditLog(p.audit_file) if p.audit_file else None
        self.store = HardCaseStore(Path(p.hard_cases), HardCases(HARD_CASES)) if p.hard_cases else None
        state = Path(p.state_file) if p.state_file else None
        self.desk = OperatorDesk(self, self.response, self.audit, state, write_whole)
        self.fused = self.issued = self.held_back = self.incomplete = 0
        self.missing = ""
        self.watch = WindowWatch(time.monotonic_ns())
        self._windows: OrderedDict[int, FeatureWindow] = OrderedDict()
        self._tags: dict[str, list[str]] = {}
        self.pub = self.publisher(m.FusedVerdictArray, "verdicts/fused")
        self.displaced = self.publisher(m.FusedVerdictArray, "verdicts/displaced")
        self.commands = self.publisher(m.ActuatorCommand, "commands")
        for source in SOURCES:
            self.subscribe(m.VerdictArray, f"verdicts/{source}", self._offer)
        if self.store:
            self.subscribe(m.FeatureWindow, "features", self._keep)
        self.subscribe(m.TagCatalog, "tag_catalog", self._learn_tags)
        self.subscribe(m.TagBatch, "tag_snapshot", self._show)
        self.subscribe(m.ActuatorResult, "command_results", self._result)
        self.subscribe(Header, "heartbeat", self._beat)
        self.subscribe(m.ModelState, "model_state", lambda msg: self.follower.hear(msg.version))
        self.subscribe(m.CandidateState, "candidate", self._candidate)

    def start(self) -> None:
        self.watch = WindowWatch(time.monotonic_ns())
        self.desk.tell()

    def step(self) -> None:
        if not self.active:
            return
        self._take_over()
        for decided in self.core.step(time.time_ns(), time.monotonic_ns()):
            self.canary.offer(decided, time.monotonic_ns())
        for window, displaced in self.canary.ready(time.monotonic_ns()):
            now = time.time_ns()
            self.watch.see(window.window_id, window.end_ns, time.monotonic_ns())
            answer = self.response.step(window, now, time.monotonic_ns())
            for command in answer.commands:
                self.issued += 1
                self.say(self.commands, convert.command_msg(command))
            self._say_held_back(dict(answer.held_back))
            self.fused += 1
            self.missing = ", ".join(window.missing)
            self.incomplete += bool(window.missing)
            if displaced:
                self.say(self.displaced, convert.fused_msg(replace(window, verdicts=displaced), now))
            self.say(self.pub, convert.fused_msg(window, now))
            self._keep_hard_cases(window)
            for verdict in window.verdicts:
                self._tell(verdict)
        self.desk.step(time.time_ns())

    # What is heard ------------------------------------------------------------
    def _offer(self, msg: m.VerdictArray) -> None:
        verdicts, now = convert.verdicts(msg), time.time_ns()
        refused, restarts = self.core.refused, self.core.restarts
        self.core.offer(verdicts, now, time.monotonic_ns())
        if self.core.refused != refused:
            self.news("refused", f"refused verdicts of {verdicts.source}: their window is yet to come")
        if self.core.restarts != restarts:
            self.get_logger().warning(f"windows go on at {verdicts.window_id}: was the clock set back?")
        if self.active:
            self._alarm_limits(verdicts, now)
        self.step()

    def _alarm_limits(self, verdicts: Verdicts, now_ns: int) -> None:
        """A limit is no matter of windows: it is alarmed as it is broken, and while it is."""
        for verdict in limit_alarms(verdicts):
            self.response.alarms.keep_time(now_ns, time.monotonic_ns())
            priority = self.response.policy.alarm_priority(verdict)
            if priority:
                self.response.alarms.trouble(
                    verdict.device, verdict.category, priority, verdict.explanation, now_ns
                )

    def _keep(self, msg: m.FeatureWindow) -> None:
        self._windows[msg.window_id] = convert.features(msg)
        while len(self._windows) > KEPT_WINDOWS:
            self._windows.popitem(last=False)

    def _learn_tags(self, msg: m.TagCatalog) -> None:
        catalog = convert.catalog(msg)
        self._tags[catalog.plc] = [t.name for t in catalog.tags]
        self.response.catalog(catalog.tags, catalog.plc)

    def _show(self, msg: m.TagBatch) -> None:
        batch = convert.tags(msg)
        names = self._tags.get(batch.plc, [])
        good = severity(batch.status) < 2
        self.response.show(
            {
                names[i]: value if ok else float("nan")
                for i, value, ok in zip(batch.tag.tolist(), batch.value.tolist(), good.tolist(), strict=True)
                if i < len(names)
            }
        )

    def _result(self, msg: m.ActuatorResult) -> None:
        self.response.result(convert.result(msg))

    def _beat(self, msg: Header) -> None:
        self.response.supervision.dead_man.beat(convert.time_ns(msg.stamp), time.monotonic_ns())

    # Models that come into service ------------------------------------------------
    def _brought(self, bundle: Bundle) -> FusionSettings:
        """What a version weighs and calibrates by. ValueError if its fit cannot be read."""
        weighed = replace(self.settings, weights=bundle.manifest.fusion_weights())
        return _fitted(weighed, bundle.files.get(FUSION, b"").decode())

    def _take_over(self) -> None:
        settings = self.follower.take()
        if settings is not None:
            self.core.adopt(settings)
            self.get_logger().info(f"weighing and calibrating as version {self.follower.version}")
        elif self.follower.trouble:
            self.news("models", self.follower.trouble)

    def _candidate(self, msg: m.CandidateState) -> None:
        """A canary decides for its devices; nothing of it is heard at other times."""
        devices = msg.devices if msg.stage == Stage.CANARY else []
        self.canary.assign(msg.version, devices)
        if devices and self._shadow is None:
            self.subscribe(m.FusedVerdictArray, "verdicts/shadow", self._hear_shadow)
            self._shadow = self._subs[-1]
        elif not devices and self._shadow is not None:
            self._subs.remove(self._shadow)
            self.destroy_subscription(self._shadow)
            self._shadow = None

    def _hear_shadow(self, msg: m.FusedVerdictArray) -> None:
        self.canary.hear(convert.fused(msg), time.monotonic_ns())
        self.step()

    # What is said ---------------------------------------------------------------
    def _tell(self, verdict: FusedVerdict) -> None:
        if verdict.decision == Screening.BLOCK:
            self.news(verdict.device, f"{verdict.device}: BLOCK, {verdict.category}")
            self.get_logger().debug(verdict.explanation)
        elif verdict.decision == Screening.ALLOW:
            self.good_news(verdict.device, f"{verdict.device}: back to normal")

    def _say_held_back(self, why: dict[str, str]) -> None:
        for tag, reason in why.items():
            self.held_back += 1
            self.news(f"held back {tag}", f"no command for {tag}: {reason}")

    def _keep_hard_cases(self, window: FusedWindow) -> None:
        features = self._windows.pop(window.window_id, None)
        if self.store is None or features is None:
            return
        try:
            for case in hard_cases(window, features):
                self.store.add(case)
        except (OSError, ValueError) as error:
            self.news("hard cases", f"{self.params.hard_cases}: {error}")

    def stop(self) -> None:
        self.desk.save()

    def release(self) -> None:
        for part in ("follower", "desk", "audit", "store"):
            if getattr(self, part, None) is not None:
                getattr(self, part).close()
                setattr(self, part, None)

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        counters = {
            "fused": self.fused,
            "issued": self.issued,
            "held_back": self.held_back,
            "incomplete": self.incomplete,
            "late": self.core.late,
            "refused": self.core.refused,
            "restarts": self.core.restarts,
            "limits_dropped": self.core.limits_dropped,
            "taken_over": self.follower.taken,
            "canary_judged": self.canary.judged,
            "canary_missed": self.canary.missed,
            "alarms": sum(a.annunciated for a in self.response.alarms.alarms()),
            "flooded": self.response.alarms.flooded,
        }
        silent_s = self.watch.silent_s(time.monotonic_ns())
        if silent_s:
            return WARN, f"no window for {silent_s:.0f} s", counters
        if self.follower.trouble:
            return WARN, self.follower.trouble, counters
        return (WARN, f"without {self.missing}", counters) if self.missing else (OK, "fusing", counters)


def _fitted(base: FusionSettings, fit: str) -> FusionSettings:
    """`base` with what a fusion.json says, "" = nothing. ValueError if it is none."""
    return FusionFit.from_json(fit).settings(base) if fit else base


def main() -> None:
    run(FusionNode)


if __name__ == "__main__":
    main()
