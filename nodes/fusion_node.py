"""Fusion node: pairs the verdicts of a window, decides, explains, and asks for commands.

Subscribes  verdicts/rules, verdicts/ensemble
Publishes   verdicts/fused (FusedVerdictArray), commands (ActuatorCommand)
Parameters  sources, threshold, budget_s, confirm_windows, confirm_alone, weights, response (see `Params`)
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from cellwatch_msgs.msg import ActuatorCommand, FusedVerdictArray, VerdictArray

from cellwatch.models.fusion.fusion import Fusion, FusionSettings
from cellwatch.models.response.policy import ResponsePolicy, ResponseRule
from cellwatch.models.types import Screening
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param


@dataclass(frozen=True)
class Params:
    sources: str = param('["rules", "ensemble"]', "JSON list: sources a window waits for")
    threshold: float = param(0.5, "tau: P(attack) from which a window counts as an attack", low=0.0, high=1.0)
    budget_s: float = param(0.25, "how long a window waits for a late source", unit="s", low=0.0, high=10.0)
    confirm_windows: int = param(2, "agreeing windows in a row before BLOCK", low=1, high=100)
    confirm_alone: int = param(4, "the same when the rules decide alone", low=1, high=100)
    weights: str = param("{}", "JSON object: detector -> weight")
    response: str = param(
        "[]", "JSON list of response rules: categories, devices, tag, value, hold_s, valid_for_s"
    )


class FusionNode(CellNode):
    NAME = "fusion_node"
    PARAMS = Params
    TICK_S = 0.02

    def build(self) -> None:
        p = self.params
        self.core = Fusion(
            FusionSettings(
                tuple(json.loads(p.sources)),
                p.threshold,
                p.budget_s,
                p.confirm_windows,
                p.confirm_alone,
                json.loads(p.weights),
            )
        )
        self.policy = ResponsePolicy(
            tuple(
                ResponseRule(**{k: tuple(v) if isinstance(v, list) else v for k, v in r.items()})
                for r in json.loads(p.response)
            )
        )
        self.fused = self.issued = self.incomplete = 0
        self.missing = ""
        self.pub = self.publisher(FusedVerdictArray, "verdicts/fused")
        self.commands = self.publisher(ActuatorCommand, "commands")
        for source in ("rules", "ensemble"):
            self.subscribe(VerdictArray, f"verdicts/{source}", self._offer)

    def _offer(self, msg: VerdictArray) -> None:
        self.core.offer(convert.verdicts(msg), time.time_ns())
        self.step()

    def step(self) -> None:
        if not self.active:
            return
        for window in self.core.step(time.time_ns()):
            now = time.time_ns()
            for command in self.policy.step(window, now):
                self.issued += 1
                self.say(self.commands, convert.command_msg(command))
            self.fused += 1
            self.missing = ", ".join(window.missing)
            self.incomplete += bool(window.missing)
            self.say(self.pub, convert.fused_msg(window, now))
            for verdict in window.verdicts:
                self._tell(verdict)

    def _tell(self, verdict) -> None:
        if verdict.decision == Screening.BLOCK:
            self.news(verdict.device, f"{verdict.device}: BLOCK, {verdict.category}")
            self.get_logger().debug(verdict.explanation)
        elif verdict.decision == Screening.ALLOW:
            self.good_news(verdict.device, f"{verdict.device}: back to normal")

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        counters = {
            "fused": self.fused,
            "issued": self.issued,
            "incomplete": self.incomplete,
            "late": self.core.late,
        }
        return (WARN, f"without {self.missing}", counters) if self.missing else (OK, "fusing", counters)


def main() -> None:
    run(FusionNode)


if __name__ == "__main__":
    main()
