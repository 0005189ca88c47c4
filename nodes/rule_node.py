"""RuleSense node: judges every window against the learned limits; learns them while commissioning.

Subscribes  features, tags, tag_catalog, tag_snapshot, command_results, model_state
Publishes   verdicts/rules (VerdictArray, one a window), verdicts/limits (VerdictArray, once a tag breaks
            a limit of the rule file or keeps it again; said once a second while any is broken)
Parameters  profile_file, commissioning_s, traffic_file, network_commissioning_s, rules_file,
            suspicious_points, block_points, margin, models ... version (see `Params`)

Models that come into service while the cell runs bring their profile: it is taken between two windows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cellwatch_msgs.msg import (
    ActuatorResult,
    FeatureWindow,
    ModelState,
    TagBatch,
    TagCatalog,
    VerdictArray,
)

from cellwatch.models import types as t
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.registry.bundle import Bundle
from cellwatch.models.registry.manifest import PROFILE
from cellwatch.models.rules.crosscheck import CrossChecks
from cellwatch.models.rules.physics import Physics
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.profile_builder import ProfileBuilder, least_windows
from cellwatch.models.rules.protocol import ProtocolRules
from cellwatch.models.rules.rule_file import RuleFile
from cellwatch.models.rules.rulesense import RuleSense, RuleSettings
from cellwatch.models.rules.tag_limits import LimitRules, unknown_limits
from cellwatch.models.rules.user_rules import UserRules
from cellwatch.models.types import Screening, Verdicts, abstention
from cellwatch.nodes.drivers.whole_file import write_whole
from cellwatch.nodes.follower import Follower
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import ERROR, OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param
from cellwatch.nodes.text_file import read_text

LEARNT = -1  # the traffic was learnt anew already


@dataclass(frozen=True)
class Params:
    profile_file: str = param(
        "", "profile of the cell; written there after commissioning when it does not exist"
    )
    commissioning_s: float = param(
        0.0, "benign learning period at the start, as feature_node flags it", unit="s", low=0.0, high=604800.0
    )
    rules_file: str = param("", "limits, physics and rules of the user, YAML")
    suspicious_points: float = param(1.0, "points that make a device SUSPICIOUS", low=0.01, high=1000.0)
    block_points: float = param(6.0, "points that make a device BLOCK", low=0.01, high=1000.0)
    network_commissioning_s: float = param(
        0.0,
        "learn the traffic anew for this long, the process as in the profile",
        unit="s",
        low=0.0,
        high=86400.0,
    )
    traffic_file: str = param("", "profile with the traffic learned anew; read again after a restart")
    margin: float = param(0.5, "widening of learned limits, in units of the range seen", low=0.0, high=10.0)
    models: str = param("", "registry or bundle of the models in service; empty: their profile is not taken")
    fallback: str = param("", "bundle that the cell was started with")
    keys: str = param("", "folder of the keys that may sign models")
    version: str = param("", "version of the models that profile_file comes from")


class RuleNode(CellNode):
    NAME = "rule_node"
    PARAMS = Params

    def build(self) -> None:
        p = self.params
        self.settings = RuleSettings(p.suspicious_points, p.block_points)
        text = read_text(Path(p.rules_file)) if p.rules_file else ""
        self.declared = RuleFile.parse(text, p.rules_file)
        points = (p.suspicious_points, p.block_points)
        self.physics = Physics(self.declared.physics, *points)
        self.user_rules = UserRules(self.declared.rules, *points)
        self.limits: dict[str, LimitRules] = {}  # by PLC
        self.catalogs: dict[str, t.TagCatalog] = {}
        self.limits_told = 0.0
        self.crosschecks = CrossChecks({})
        self.protocol: ProtocolRules | None = None
        self.rules: RuleSense | None = None
        self.builder = self._builder()
        self.judged = self.learned = 0
        self.traffic: ProfileBuilder | None = None  # while the traffic is learnt anew
        self.traffic_until_ns = 0
        self.trouble = ""
        known = [Path(name) for name in (p.traffic_file, p.profile_file) if name and Path(name).exists()]
        if known:
            self._judge_by(self._rulesense(_profile(known[0])))
            if known[0] == Path(p.traffic_file):
                self.traffic_until_ns = LEARNT
        self.follower = Follower(p.models, p.fallback, p.keys, p.version, (PROFILE,), self._brought)
        self.pub = self.publisher(VerdictArray, "verdicts/rules")
        self.limits_pub = self.publisher(VerdictArray, "verdicts/limits")
        self.subscribe(FeatureWindow, "features", self._judge)
        self.subscribe(TagCatalog, "tag_catalog", self._catalog)
        self.subscribe(TagBatch, "tags", self._tags)
        self.subscribe(TagBatch, "tag_snapshot", self._snapshot)
        self.subscribe(ActuatorResult, "command_results", self._result)
        self.subscribe(ModelState, "model_state", lambda msg: self.follower.hear(msg.version))

    def release(self) -> None:
        if hasattr(self, "follower"):
            self.follower.close()

    def _catalog(self, msg: TagCatalog) -> None:
        catalog = convert.catalog(msg)
        if self.catalogs.get(catalog.plc) == catalog:  # a link that comes back says the same again
            return
        self.catalogs[catalog.plc] = catalog
        self.crosschecks.catalog(catalog)
        if self.declared.limits:
            self.limits[catalog.plc] = LimitRules(catalog, self.declared.limits)

    def _tags(self, msg: TagBatch) -> None:
        if not self.active:
            return
        batch = convert.tags(msg)
        self.crosschecks.tags(batch)
        limits = self.limits.get(batch.plc)
        if limits is not None:
            self._say_limits(limits.judge(batch))

    def _result(self, msg: ActuatorResult) -> None:
        self.crosschecks.command(convert.result(msg))

    def _snapshot(self, msg: TagBatch) -> None:
        limits = self.limits.get(msg.header.frame_id)
        if self.active and limits is not None:
            self._say_limits(limits.hold(convert.tags(msg)))

    def _say_limits(self, verdicts: Verdicts | None) -> None:
        if verdicts is not None:
            latency_s = (time.time_ns() - verdicts.closed_ns) / 1e9
            self.say(self.limits_pub, convert.verdicts_msg(replace(verdicts, latency_s=latency_s)))

    def step(self) -> None:
        """Say again once a second what is broken: who comes late must know it too."""
        self._take_over()
        if self.active and time.monotonic() - self.limits_told >= 1.0:
            self.limits_told = time.monotonic()
            for limits in self.limits.values():
                if limits.active:
                    self.say(self.limits_pub, convert.verdicts_msg(limits.state()))

    def _builder(self) -> ProfileBuilder:
        return ProfileBuilder(default_schema().names, TAG_COLUMNS, self.params.margin)

    def _rulesense(self, profile: Profile) -> RuleSense:
        """The profile's limits and all further rules."""
        protocol = ProtocolRules(profile.habits, self.settings.block_points)
        return RuleSense(profile, self.settings, (protocol, self.crosschecks, self.physics, self.user_rules))

    def _judge_by(self, rules: RuleSense) -> None:
        """From the next window on; what was seen of the cell stays."""
        (protocol,) = (rule for rule in rules.rules if isinstance(rule, ProtocolRules))
        if self.protocol is not None:
            protocol.take_over(self.protocol)
        self.crosschecks.adopt(rules.profile.habits)
        self.rules, self.protocol = rules, protocol

    # Models that come into service -------------------------------------------
    def _brought(self, bundle: Bundle) -> RuleSense | None:
        """The rules of a version, None if it brings no profile. ValueError if it does not fit this cell."""
        text = bundle.files.get(PROFILE)
        if text is None:
            return None
        profile = _checked(Profile.parse(text.decode(), PROFILE), PROFILE)
        fits = default_schema().schema_id, bundle.manifest.window_s
        if (profile.schema_id, profile.window_s) != fits:
            raise ValueError(f"{PROFILE}: is of another schema or window length than its models")
        return self._rulesense(profile)

    def _take_over(self) -> None:
        """Not before the cell has learnt what it is learning."""
        if self.rules is None or self.traffic is not None:
            return
        rules = self.follower.take()
        if rules is not None:
            self._judge_by(rules)
            self.get_logger().info(f"judging by the profile of version {self.follower.version}")
        elif self.follower.trouble:
            self.news("models", self.follower.trouble)

    def _judge(self, msg: FeatureWindow) -> None:
        if not self.active:
            return
        window = convert.features(msg)
        try:
            verdicts = self._learn(window) if window.commissioning else self._verdicts(window)
            self.trouble = ""
        except ValueError as error:
            self.trouble = str(error)
            self.news("judge", self.trouble)
            verdicts = abstention("rules", window, self.trouble)
        self.say(
            self.pub,
            convert.verdicts_msg(replace(verdicts, latency_s=(time.time_ns() - window.closed_ns) / 1e9)),
        )

    def _learn(self, window: t.FeatureWindow) -> Verdicts:
        if self.rules is None:
            self.builder.add(window)
            self.learned += 1
        return abstention("rules", window, "commissioning", Screening.ALLOW)

    def _verdicts(self, window: t.FeatureWindow) -> Verdicts:
        """ValueError says why there can be none."""
        if self.rules is None:
            self._conclude(window)
        if self.rules is None:
            return abstention("rules", window, "no profile")
        self.rules.require_fit(window)
        if self.params.network_commissioning_s and self.traffic_until_ns != LEARNT:
            window = self._learn_traffic(window)
        verdicts = self.rules.judge(window)
        self.judged += 1
        return verdicts

    def _conclude(self, window: t.FeatureWindow) -> None:
        """The commissioning is over: take what was learned. ValueError if a restart has lost most of it."""
        asked = round(self.params.commissioning_s * 1e9 / (window.end_ns - window.start_ns))
        if not asked and not len(self.builder):
            return
        if len(self.builder) < least_windows(asked):
            raise ValueError(
                f"commissioning was interrupted: {len(self.builder)} of {asked} windows were learned; "
                "commission again"
            )
        profile = self.builder.build()
        self.builder = self._builder()
        self._write(self.params.profile_file, profile)
        self._judge_by(self._rulesense(profile))
        self.get_logger().info(f"profile learned from {profile.windows} windows")

    def _write(self, name: str, profile: Profile) -> None:
        if name:
            try:
                write_whole(Path(name), profile.to_json())
            except OSError as error:  # it still judges; the next start learns anew
                self.news("profile", f"{name}: cannot be written: {error}")

    def _learn_traffic(self, window: t.FeatureWindow) -> t.FeatureWindow:
        """Collect traffic; until it is learnt, judge the process alone."""
        assert self.rules is not None
        if self.traffic is None:
            self.traffic = self._builder()
            self.traffic_until_ns = window.end_ns + round(self.params.network_commissioning_s * 1e9)
        if window.end_ns <= self.traffic_until_ns:
            self.traffic.add(window)
            values = window.values.copy()
            values[:, [not f.startswith("sensor_") for f in self.rules.profile.features]] = np.nan
            return replace(window, values=values, conversations=None)
        profile = self.rules.profile.with_network(self.traffic.build())
        self._write(self.params.traffic_file, profile)
        self._judge_by(self._rulesense(profile))
        self.get_logger().info(f"traffic learned from {len(self.traffic)} windows")
        self.traffic, self.traffic_until_ns = None, LEARNT
        return window

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        counters = {"judged": self.judged, "learned": self.learned, "taken_over": self.follower.taken}
        if self.trouble:
            return ERROR, self.trouble, counters
        if self.follower.trouble:
            return WARN, self.follower.trouble, counters
        if self.rules is None and not self.params.commissioning_s and not len(self.builder):
            return WARN, "no profile: nobody commissioned this cell", counters
        unknown = (
            *unknown_limits(self.limits.values()),
            *self.physics.unknown,
            *self.user_rules.unknown,
        )
        if unknown:
            return WARN, "; ".join(unknown[:3]), counters
        if self.rules is None:
            return OK, f"commissioning: {len(self.builder)} windows learned", counters
        if self.traffic is not None:
            return OK, f"learning the traffic: {len(self.traffic)} windows; the process is judged", counters
        return OK, "judging", counters


def _profile(path: Path) -> Profile:
    return _checked(Profile.parse(read_text(path), str(path)), str(path))


def _checked(profile: Profile, name: str) -> Profile:
    if profile.tag_columns != TAG_COLUMNS:
        raise ValueError(f"{name}: has other tag columns than this release: commission anew")
    return profile


def main() -> None:
    run(RuleNode)


if __name__ == "__main__":
    main()
