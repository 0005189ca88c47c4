"""RuleSense node: judges every window against the learned limits; learns them while commissioning.

Subscribes  features, feature_schema
Publishes   verdicts/rules (VerdictArray)
Parameters  profile_file, suspicious_points, block_points, margin (see `Params`)
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cellwatch_msgs.msg import FeatureWindow, VerdictArray

from cellwatch.models import types as t
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.rules.profile import Profile, ProfileBuilder
from cellwatch.models.rules.rulesense import RuleSense, RuleSettings
from cellwatch.models.types import Screening, Verdicts, abstention
from cellwatch.nodes.drivers.whole_file import write_whole
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import ERROR, OK, CellNode, run
from cellwatch.nodes.ros.params import param


@dataclass(frozen=True)
class Params:
    profile_file: str = param(
        "", "profile of the cell; written there after commissioning when it does not exist"
    )
    suspicious_points: float = param(1.0, "points that make a device SUSPICIOUS", low=0.01, high=1000.0)
    block_points: float = param(6.0, "points that make a device BLOCK", low=0.01, high=1000.0)
    network_commissioning_s: float = param(
        0.0,
        "learn the traffic anew for this long, the process as in the profile",
        unit="s",
        low=0.0,
        high=86400.0,
    )
    margin: float = param(0.5, "widening of learned limits, in units of the range seen", low=0.0, high=10.0)


class RuleNode(CellNode):
    NAME = "rule_node"
    PARAMS = Params

    def build(self) -> None:
        p = self.params
        self.settings = RuleSettings(p.suspicious_points, p.block_points)
        self.rules: RuleSense | None = None
        path = Path(p.profile_file)
        if p.profile_file and path.exists():
            self.rules = RuleSense(Profile.from_json(path.read_text(), str(path)), self.settings)
        self.builder = ProfileBuilder(default_schema().names, TAG_COLUMNS, p.margin)
        self.judged = self.learned = 0
        self.traffic: list = []  # windows to learn the traffic from
        self.traffic_until_ns = 0
        self.trouble = ""
        self.pub = self.publisher(VerdictArray, "verdicts/rules")
        self.subscribe(FeatureWindow, "features", self._judge)

    def _judge(self, msg: FeatureWindow) -> None:
        if not self.active:
            return
        window = convert.features(msg)
        verdicts = self._learn(window) if window.commissioning else self._verdicts(window)
        self.say(
            self.pub,
            convert.verdicts_msg(replace(verdicts, latency_s=(time.time_ns() - window.closed_ns) / 1e9)),
        )

    def _learn(self, window) -> Verdicts:
        self.builder.add(window)
        self.learned += 1
        return abstention("rules", window, "commissioning", Screening.ALLOW)

    def _verdicts(self, window) -> Verdicts:
        if self.rules is None and len(self.builder):
            profile = self.builder.build()
            if self.params.profile_file:
                try:
                    write_whole(Path(self.params.profile_file), profile.to_json())
                except OSError as error:  # it still judges; the next start learns anew
                    self.news("profile", f"{self.params.profile_file}: cannot be written: {error}")
            self.rules = RuleSense(profile, self.settings)
            self.get_logger().info(f"profile learned from {profile.windows} windows")
        if self.rules is None:
            return abstention("rules", window, "no profile")
        if self.params.network_commissioning_s and self.traffic_until_ns >= 0:
            window = self._learn_traffic(window)
        try:
            verdicts = self.rules.judge(window)
        except ValueError as error:
            self.trouble = str(error)
            self.news("judge", self.trouble)
            return abstention("rules", window, self.trouble)
        self.trouble = ""
        self.judged += 1
        return verdicts

    def _learn_traffic(self, window) -> t.FeatureWindow:
        """Collect traffic; until it is learnt, judge the process alone."""
        if not self.traffic_until_ns:
            self.traffic_until_ns = window.end_ns + round(self.params.network_commissioning_s * 1e9)
        if window.end_ns <= self.traffic_until_ns:
            self.traffic.append(window)
            values = window.values.copy()
            values[:, [f.startswith("network_") for f in self.rules.profile.features]] = np.nan
            return replace(window, values=values)
        self.rules = RuleSense(
            self.rules.profile.with_network(self.traffic, self.params.margin), self.settings
        )
        self.get_logger().info(f"traffic learned from {len(self.traffic)} windows")
        self.traffic, self.traffic_until_ns = [], -1
        return window

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        counters = {"judged": self.judged, "learned": self.learned}
        if self.trouble:
            return ERROR, self.trouble, counters
        return OK, "judging" if self.rules else "commissioning", counters


def main() -> None:
    run(RuleNode)


if __name__ == "__main__":
    main()
