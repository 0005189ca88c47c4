"""RuleSense: judge windows against the learned limits and further rules (DeepSense, section 3.3).

The paper leaves the rule algorithm open (Algorithm 1 is an image), so this is ours. A value outside its
normal range is worth its distance in units of the range; of a group of columns that tell the same story only
the worst counts, with at most `limit_table.CAP` points; the groups, and what further rules find, add up (see
`rule.add_up`). The points of a device decide between ALLOW, SUSPICIOUS and BLOCK.

| what meets it                | verdict                                                                    |
|------------------------------|----------------------------------------------------------------------------|
| NaN                          | breaks no limit: silence and staleness have features of their own          |
| a device never seen          | SUSPICIOUS when it speaks, else ALLOW                                      |
| a mode never commissioned    | traffic judged by the limits of all modes together, the process not judged |
| another schema, other length | ValueError that names both                                                 |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellwatch.models.rules.evidence import of_feature, of_tag_column
from cellwatch.models.rules.limit_table import UNKNOWN, LimitTable
from cellwatch.models.rules.limits import Limits
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.rule import Rule, add_up
from cellwatch.models.types import (
    F32,
    F64,
    I64,
    U8,
    Bool,
    FeatureWindow,
    Level,
    LevelScores,
    Screening,
    Verdicts,
    Violation,
)

MIN_PACKETS = 5  # statistics over fewer packets are chance; counts are judged all the same
MAX_VIOLATIONS = 8  # per device, the gravest first
# Tag columns worth a limit each; avg, min and max move together, so one of them speaks.
JUDGED_TAG_COLUMNS = ("avg", "std_deviation", "slope", "good_ratio", "staleness", "zscore", "residual")
_ALLOW = np.uint8(Screening.ALLOW)
_ANY_MODE = -(1 << 40)
_TRAFFIC = ("network_", "log_", "industrial_")


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """Points at which a device becomes SUSPICIOUS and BLOCK; both > 0."""

    suspicious_points: float = 1.0
    block_points: float = 6.0

    def screen(self, points: F64) -> tuple[U8, F32]:
        """Screening and confidence 0..1 (n,) of the points (n,) of devices."""
        above = (points >= self.suspicious_points).astype(np.uint8) + (points >= self.block_points)
        screening: U8 = _ALLOW + above  # SUSPICIOUS and BLOCK are the next ones
        return screening, (points / (points + self.block_points)).astype(np.float32)


class RuleSense:
    """Judges windows against one profile. `rules` add what limits cannot say: protocols, physics ..."""

    DETECTOR = "rulesense"

    def __init__(
        self, profile: Profile, settings: RuleSettings | None = None, rules: Sequence[Rule] = ()
    ) -> None:
        self.profile = profile
        self.settings = settings or RuleSettings()
        self.rules = tuple(rules)
        names = profile.features
        self._sensor: Bool = np.array([f.startswith("sensor_") for f in names])
        self._traffic: Bool = np.array([f.startswith(_TRAFFIC) for f in names])
        self._statistics = self._traffic & np.array([not f.endswith("_count") for f in names])
        packets = "network_packets_all_count"
        self._packets = names.index(packets) if packets in names else None
        limits = {(d, m): one.features for d, modes in profile.devices.items() for m, one in modes.items()}
        for device, modes in profile.devices.items():
            limits[device, _ANY_MODE] = self._without_process([one.features for one in modes.values()])
        self._features = LimitTable(names, [of_feature(f) for f in names], limits)
        judged = np.array([c in JUDGED_TAG_COLUMNS for c in profile.tag_columns])
        tags = {
            (tag, mode): Limits(*(np.where(judged, a, np.nan) for a in (one.low, one.high, one.scale)))
            for modes in profile.devices.values()
            for mode, of_mode in modes.items()
            for tag, one in of_mode.tags.items()
        }
        self._tags = LimitTable(profile.tag_columns, [of_tag_column(c) for c in profile.tag_columns], tags)
        self._layout: tuple[object, ...] = ()
        self._rows = self._tag_rows = np.zeros(0, dtype=np.int64)

    def _without_process(self, parts: list[Limits]) -> Limits:
        whole = Limits.union(parts)
        return replace(whole, scale=np.where(self._sensor, np.nan, whole.scale),
                       low=np.where(self._sensor, np.nan, whole.low),
                       high=np.where(self._sensor, np.nan, whole.high))  # fmt: skip

    def rows(self, devices: Sequence[str], modes: Sequence[int] = ()) -> I64:
        """Rows (n,) of the limits for devices in modes (() = all 0), as `judge_many` takes them."""
        table = self._features
        found = [
            row if (row := table.row(device, mode)) != UNKNOWN else table.row(device, _ANY_MODE)
            for device, mode in zip(devices, modes or (0,) * len(devices), strict=True)
        ]
        return np.array(found, dtype=np.int64)

    def judge_many(self, values: F32, rows: I64) -> tuple[F64, U8, F32]:
        """Points, screening and confidence (n,) of device windows (n, features) against limits alone."""
        points = self._points(values, rows)
        return points, *self.settings.screen(points)

    def _points(self, values: F32, rows: I64) -> F64:
        points = self._features.points(values, rows, self._few(values), self._statistics)
        unknown = np.flatnonzero(rows == UNKNOWN)
        if len(unknown):
            points[unknown] = np.where(self._speaks(values[unknown]), self.settings.suspicious_points, 0.0)
        return points

    def judge(self, window: FeatureWindow) -> Verdicts:
        """Verdicts for all devices of `window`. ValueError as `require_fit` says."""
        self.require_fit(window)
        rows, tag_rows = self._placed(window)
        values, tag_values = window.values, window.tag_values
        if window.held:
            held = np.isin(np.array(window.devices), window.held)
            values = values.copy()
            values[np.ix_(held, self._sensor)] = np.nan
            tag_rows = np.where(held[window.tag_device], UNKNOWN, tag_rows)
        points = self._points(values, rows)
        tag_points = self._tags.points(tag_values, tag_rows)
        if len(tag_points):
            points += np.bincount(window.tag_device, tag_points, len(points))
        found: dict[int, list[tuple[float, Violation]]] = {}  # of rules, which say more than limits do
        said = [finding for rule in self.rules for finding in rule.judge(window)]
        points += add_up(said, len(points), self.settings.block_points)
        for row, worth, violation in said:
            found.setdefault(row, []).append((worth, violation))
        screening, confidence = self.settings.screen(points)
        grave = np.flatnonzero(screening > _ALLOW).tolist()
        violations: list[Violation] = []
        if grave:
            broken_tags: dict[int, list[int]] = {}
            for k in np.flatnonzero(tag_points).tolist():
                broken_tags.setdefault(int(window.tag_device[k]), []).append(k)
            for i in grave:
                limits = self._broken(window, i, values, rows)
                for k in broken_tags.get(i, ()):
                    limits += self._broken_tag(window, k, tag_rows)
                ranked = [*_gravest(found.get(i, [])), *_gravest(limits)]
                violations += ranked[:MAX_VIOLATIONS]
        scores = np.empty((len(points), 1, 2), np.float32)
        scores[:, 0, 1], scores[:, 0, 0] = confidence, 1 - confidence
        return Verdicts(
            "rules",
            window.window_id,
            window.end_ns,
            window.closed_ns,
            window.devices,
            screening,
            confidence,
            (LevelScores(Level.L1, (self.DETECTOR,), ("benign", "attack"), scores),),
            tuple(violations),
        )

    def require_fit(self, window: FeatureWindow) -> None:
        """ValueError that names both sides if the window has another schema, length or other columns."""
        profile = self.profile
        if window.schema_id != profile.schema_id:
            raise ValueError(f"profile has schema {profile.schema_id}, the window {window.schema_id}")
        length_s = (window.end_ns - window.start_ns) / 1e9
        if not math.isclose(length_s, profile.window_s, rel_tol=1e-6):
            raise ValueError(
                f"profile is of windows of {profile.window_s:g} s, the window has {length_s:g} s"
            )
        for what, columns, values in (
            ("features", profile.features, window.values),
            ("tag columns", profile.tag_columns, window.tag_values),
        ):
            if len(values) and values.shape[1] != len(columns):
                raise ValueError(f"profile has {len(columns)} {what}, the window {values.shape[1]}")

    def _placed(self, window: FeatureWindow) -> tuple[I64, I64]:
        """Rows of the window's devices and tags; looked up once as long as the cell stays the same."""
        layout = (window.devices, window.modes, window.tags, window.tag_device.tobytes())
        if layout != self._layout:
            modes = window.modes or (0,) * len(window.devices)
            self._rows = self.rows(window.devices, modes)
            found = [
                self._tags.row(tag, modes[d]) for tag, d in zip(window.tags, window.tag_device, strict=True)
            ]
            self._tag_rows = np.array(found, dtype=np.int64)
            self._layout = layout
        return self._rows, self._tag_rows

    def _few(self, values: F32) -> Bool | None:
        if self._packets is None:
            return None
        few: Bool = ~(values[:, self._packets] >= MIN_PACKETS)
        return few

    def _speaks(self, values: F32) -> Bool:
        said: Bool = (np.nan_to_num(values[:, self._traffic]) != 0).any(axis=1)
        return said

    def _broken(self, window: FeatureWindow, i: int, values: F32, rows: I64) -> list[tuple[float, Violation]]:
        """Violated limits of features of a device, with their worth."""
        device, row = window.devices[i], rows[i : i + 1]
        if row[0] == UNKNOWN:
            nan = math.nan
            unknown = Violation(device, "device", nan, nan, nan, "unknown-device", "", "")
            return [(self.settings.suspicious_points, unknown)] if self._speaks(values[i : i + 1])[0] else []
        few = self._few(values[i : i + 1])
        passed = self._statistics if few is not None and few[0] else None
        return _explained(self._features, device, "", values[i : i + 1], row, passed)

    def _broken_tag(self, window: FeatureWindow, k: int, tag_rows: I64) -> list[tuple[float, Violation]]:
        device, part = window.devices[int(window.tag_device[k])], slice(k, k + 1)
        return _explained(self._tags, device, f"{window.tags[k]}/", window.tag_values[part], tag_rows[part])


def _gravest(found: list[tuple[float, Violation]]) -> list[Violation]:
    return [violation for _, violation in sorted(found, key=lambda pair: -pair[0])]


def _explained(
    table: LimitTable, device: str, prefix: str, values: F32, row: I64, passed: Bool | None = None
) -> list[tuple[float, Violation]]:
    """The gravest broken limits of one row of values (1, c), but for the columns `passed` (c,)."""
    excess = table.excess(values, row)[0]
    if passed is not None:
        excess[passed] = 0.0
    worst = np.argsort(-excess, kind="stable")[: min(MAX_VIOLATIONS, np.count_nonzero(excess))]
    numbers = (excess[worst], values[0, worst], table.low[row[0], worst], table.high[row[0], worst])
    found = []
    for j, far, seen, low, high in zip(worst.tolist(), *(part.tolist() for part in numbers), strict=True):
        evidence = table.evidence[j]
        violation = Violation(
            device,
            prefix + table.columns[j],
            seen,
            low,
            high,
            "limit",
            evidence.category,
            evidence.attack_id,
        )
        found.append((far, violation))
    return found
