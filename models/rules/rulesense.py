"""RuleSense: judge a window against the learned limits (DeepSense, section 3.3).

The paper leaves the rule algorithm open (Algorithm 1 is an image), so this is ours: every feature
outside its normal range is a violation worth its distance in units of the range, at most
`POINTS_CAP`; the points of a device decide between ALLOW, SUSPICIOUS and BLOCK.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.types import Level, LevelScores, Screening, Verdicts, Violation

if TYPE_CHECKING:
    from cellwatch.models.rules.profile import Limits, Profile
    from cellwatch.models.types import F32, F64, FeatureWindow

POINTS_CAP = 3.0  # one wild feature alone stays SUSPICIOUS
MIN_PACKETS = 5  # statistics over fewer packets are chance; counts are judged all the same
MAX_VIOLATIONS = 8  # per device, the gravest first
# Tag columns worth a limit each; avg, min and max move together, so one of them speaks.
JUDGED_TAG_COLUMNS = ("avg", "std_deviation", "slope", "good_ratio", "staleness", "zscore", "residual")

# What a violated traffic feature hints at: (category, ATT&CK for ICS technique).
_HINTS = {
    "network_ports": ("recon", "T0846"),
    "network_tcp-flags-rst": ("recon", "T0846"),
    "network_ips": ("recon", "T0846"),
    "network_macs": ("recon", "T0846"),
    "network_packets": ("dos", "T0814"),
    "network_interval-packets": ("dos", "T0814"),
    "network_tcp-flags-syn": ("dos", "T0814"),
    "industrial_new-peers": ("recon", "T0846"),
    "sensor_": ("fault", ""),
}
_TRAFFIC = ("network_", "log_", "industrial_")


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """Points at which a device becomes SUSPICIOUS and BLOCK; both > 0."""

    suspicious_points: float = 1.0
    block_points: float = 6.0


def hint(feature: str) -> tuple[str, str]:
    """Category and technique a violated feature hints at, ("", "") when it cannot tell."""
    for prefix, found in _HINTS.items():
        if feature.startswith(prefix):
            return found
    return ("", "")


class RuleSense:
    """Judges windows against one profile. A device that the profile does not know is SUSPICIOUS."""

    DETECTOR = "rulesense"

    def __init__(self, profile: Profile, settings: RuleSettings | None = None) -> None:
        self.profile = profile
        self.settings = settings or RuleSettings()
        self._tag_columns = np.array([profile.tag_columns.index(c) for c in JUDGED_TAG_COLUMNS])
        self._sensor = np.array([f.startswith("sensor_") for f in profile.features])
        self._statistics = np.array(
            [f.startswith(_TRAFFIC) and not f.endswith("_count") for f in profile.features]
        )
        packets = "network_packets_all_count"
        self._packets = profile.features.index(packets) if packets in profile.features else None

    def judge(self, window: FeatureWindow) -> Verdicts:
        """Verdicts for all devices of `window`. ValueError if the window has another schema.

        NaN is not judged: a missing number breaks no limit (silence has features of its own).
        """
        if window.schema_id != self.profile.schema_id:
            raise ValueError(f"profile has schema {self.profile.schema_id}, the window {window.schema_id}")
        n = len(window.devices)
        points = np.zeros(n)
        violations: list[list[tuple[float, Violation]]] = [[] for _ in range(n)]
        self._features(window, points, violations)
        self._tags(window, points, violations)

        s = self.settings
        confidence = (points / (points + s.block_points)).astype(np.float32)
        screening = np.select(
            [points >= s.block_points, points >= s.suspicious_points],
            [Screening.BLOCK, Screening.SUSPICIOUS],
            Screening.ALLOW,
        ).astype(np.uint8)
        kept: list[Violation] = []
        for i in np.flatnonzero(screening > Screening.ALLOW):
            ranked = sorted(violations[i], key=lambda pair: -pair[0])
            kept += [v for _, v in ranked[:MAX_VIOLATIONS]]
        scores = np.stack([1 - confidence, confidence], axis=1)[:, None, :]
        return Verdicts(
            "rules",
            window.window_id,
            window.end_ns,
            window.closed_ns,
            window.devices,
            screening,
            confidence,
            (LevelScores(Level.L1, (self.DETECTOR,), ("benign", "attack"), scores),),
            tuple(kept),
        )

    def _features(
        self, window: FeatureWindow, points: F64, violations: list[list[tuple[float, Violation]]]
    ) -> None:
        for i, device in enumerate(window.devices):
            limits = self.profile.devices.get(device)
            if limits is None:
                if window.values[i, 0] > 0 or np.nansum(np.abs(window.values[i])) > 0:
                    points[i] += self.settings.suspicious_points
                    violations[i].append((self.settings.suspicious_points, _unknown(device)))
                continue
            excess = limits.excess(window.values[i])
            if device in window.held:
                excess[self._sensor] = 0.0
            if self._packets is not None and not window.values[i, self._packets] >= MIN_PACKETS:
                excess[self._statistics] = 0.0
            self._collect(
                i, device, self.profile.features, window.values[i], limits, excess, points, violations
            )

    def _tags(
        self, window: FeatureWindow, points: F64, violations: list[list[tuple[float, Violation]]]
    ) -> None:
        for k, tag in enumerate(window.tags):
            i = int(window.tag_device[k])
            limits = self.profile.tags.get(tag)
            if limits is None or window.devices[i] in window.held:
                continue
            excess = np.zeros(len(self.profile.tag_columns))
            excess[self._tag_columns] = limits.excess(window.tag_values[k])[self._tag_columns]
            names = tuple(f"{tag}/{c}" for c in self.profile.tag_columns)
            self._collect(
                i, window.devices[i], names, window.tag_values[k], limits, excess, points, violations
            )

    @staticmethod
    def _collect(
        i: int,
        device: str,
        names: tuple[str, ...],
        values: F32,
        limits: Limits,
        excess: F64,
        points: F64,
        violations: list[list[tuple[float, Violation]]],
    ) -> None:
        worth = np.minimum(excess, POINTS_CAP)
        points[i] += worth.sum()
        for j in np.flatnonzero(worth):
            category, attack_id = ("fault", "") if "/" in names[j] else hint(names[j])
            violations[i].append(
                (
                    float(excess[j]),
                    Violation(
                        device,
                        names[j],
                        float(values[j]),
                        float(limits.low[j]),
                        float(limits.high[j]),
                        "limit",
                        category,
                        attack_id,
                    ),
                )
            )


def _unknown(device: str) -> Violation:
    return Violation(device, "device", math.nan, math.nan, math.nan, "unknown-device", "", "")
