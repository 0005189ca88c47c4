"""What physics allows, as the user declares it: ranges, rates, sensors that never stand still, balances.

Tags are judged in any operating mode, held or not: nothing here was learned. A guard (`while`) restricts a
rule to the times when it is meant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.features.tags import AVG, GOOD_RATIO, MAX, MIN, SAMPLES, STALENESS, TAG_COLUMNS
from cellwatch.models.rules.functions import windows_of
from cellwatch.models.rules.language import Condition
from cellwatch.models.rules.rule import Finding
from cellwatch.models.rules.signals import Signals
from cellwatch.models.rules.tag_names import TagNames, missing
from cellwatch.models.types import Screening, Violation

if TYPE_CHECKING:
    from cellwatch.models.types import F64, I64, Bool, FeatureWindow


@dataclass(frozen=True, slots=True)
class Common:
    """What every physics rule has."""

    guard: Condition | None = None  # judged only while it holds
    verdict: Screening = Screening.SUSPICIOUS  # or BLOCK
    category: str = "fault"
    attack_id: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Range:
    """Values that the tags can have: the least and the greatest of a window are judged."""

    tags: tuple[str, ...]  # names, with * and ? for many
    low: float = -math.inf
    high: float = math.inf
    common: Common = Common()


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast the tags can change: from the mean of a window to that of the next, unit/s."""

    tags: tuple[str, ...]
    limit: float  # > 0
    common: Common = Common()


@dataclass(frozen=True, slots=True)
class Stuck:
    """Noisy tags: one that holds its value to the last digit for `for_s`, while its PLC sends, is stuck."""

    tags: tuple[str, ...]
    for_s: float  # > 0
    common: Common = Common()


@dataclass(frozen=True, slots=True)
class Balance:
    """What a store gains is what flows in less what flows out.

    |capacity (x_now - x_then) - integral (sum of inflow - sum of outflow) dt / per_s| <= tolerance,
    over `for_s`; `capacity` is the quantity in one unit of the level tag, flows are quantities in `per_s`.
    """

    volume: str
    capacity: float  # > 0, e.g. L per %
    inflow: tuple[str, ...]
    outflow: tuple[str, ...]
    for_s: float  # > 0
    tolerance: float  # > 0, in the unit of the quantity
    per_s: float = 1.0  # 60 for flows in L/min
    common: Common = Common()


PhysicsRule = Range | Rate | Stuck | Balance


class Physics:
    """Judges windows in the order of time; one object for one run.

    A tag without a value breaks nothing, nor does one whose samples are all Bad, until one comes that is not.
    Uncertain values are judged: who could put their quality there would else switch physics off. A rule whose
    tags the cell does not have is not judged, and `unknown` says so.
    """

    def __init__(
        self, rules: Sequence[PhysicsRule], suspicious_points: float = 1.0, block_points: float = 6.0
    ) -> None:
        self._rules = tuple(rules)
        self._points = {Screening.SUSPICIOUS: suspicious_points, Screening.BLOCK: block_points}
        self._signals = Signals([r.common.guard for r in rules if r.common.guard is not None])
        self._tags: tuple[str, ...] | None = None
        self._layout: tuple[tuple[str, ...], tuple[str, ...]] | None = None  # tags and devices
        self._lacking: tuple[str, ...] = ()  # what `unknown` says of tags
        self._window_id = -1
        self._window_s = 0.0
        self._before: F64 = np.zeros(0)  # mean of each tag in the window before
        self._held: F64 = np.zeros(0)  # value at which each tag stands
        self._still: I64 = np.zeros(0, dtype=np.int64)  # windows for which it has stood there
        self._bad: Bool = np.zeros(0, dtype=bool)  # tags that sent nothing but Bad when they last sent
        self._stores: F64 = np.zeros((1, 2, 0))  # content and net flow of each balance, newest window first
        self.unknown: tuple[str, ...] = ()

    def judge(self, window: FeatureWindow) -> list[Finding]:
        """What is broken in this window."""
        if not self._rules:
            return []
        self._signals.push(window)
        window_s = (window.end_ns - window.start_ns) / 1e9
        if window.tags != self._tags or window_s != self._window_s:
            self._window_s = window_s
            self._bind(window)
        if (window.tags, window.devices) != self._layout:
            self._layout = window.tags, window.devices
            guards = [rule.common.guard for rule in self._rules if rule.common.guard is not None]
            idle = [f"while {g.text}: {why}" for g in guards for why in self._signals.unknown(g)]
            self.unknown = (*self._lacking, *idle)
        if window.window_id != self._window_id + 1:
            self._before[:] = np.nan
            self._held[:] = np.nan
            self._stores[:] = np.nan
        self._window_id = window.window_id
        # A message without tags does not tell how many columns they would have.
        x = window.tag_values.reshape(len(window.tags), len(TAG_COLUMNS)).astype(np.float64)
        # Of a Bad tag the last usable value is shown, which says nothing of now. One that sends nothing stays
        # what it was: `good_ratio` alone does not tell a silent Bad tag from a silent Uncertain one.
        usable = (x[:, GOOD_RATIO] > 0) | (x[:, STALENESS] <= window_s)
        self._bad = ~usable & (self._bad | (x[:, SAMPLES] > 0))
        x[self._bad] = np.nan
        found: list[Finding] = []
        on = self._guards()
        self._range(x, on, found, window)
        self._rate(x, on, found, window)
        self._stuck(x, on, found, window)
        self._balance(x, on, found, window)
        return found

    # ------------------------------------------------------------------ the four laws
    def _range(self, x: F64, on: Bool, found: list[Finding], window: FeatureWindow) -> None:
        rule, tag = self._pairs[Range]
        low, high = self._low, self._high
        below, above = x[tag, MIN] < low, x[tag, MAX] > high
        for k in np.flatnonzero((below | above) & on[rule]):
            column = "min" if below[k] else "max"
            observed = x[tag[k], MIN if below[k] else MAX]
            found.append(self._tell(rule[k], tag[k], window, column, observed, low[k], high[k]))

    def _rate(self, x: F64, on: Bool, found: list[Finding], window: FeatureWindow) -> None:
        rate = (x[:, AVG] - self._before) / self._window_s
        self._before = x[:, AVG]
        rule, tag = self._pairs[Rate]
        limit = self._rate_limit
        found += [
            self._tell(rule[k], tag[k], window, "rate", rate[tag[k]], -limit[k], limit[k])
            for k in np.flatnonzero((np.abs(rate[tag]) > limit) & on[rule])
        ]

    def _stuck(self, x: F64, on: Bool, found: list[Finding], window: FeatureWindow) -> None:
        stands = (x[:, MIN] == x[:, MAX]) & (x[:, MAX] == self._held)
        self._still = np.where(stands, self._still + 1, 0)
        self._held = x[:, MAX]
        # Samples come on change. If none comes of the whole PLC, it is the link that stands, not the sensor.
        sends = np.bincount(
            window.tag_device, weights=np.nan_to_num(x[:, SAMPLES]), minlength=len(window.devices)
        )
        rule, tag = self._pairs[Stuck]
        stuck = (self._still[tag] >= self._stuck_windows) & (sends[window.tag_device[tag]] > 0)
        for k in np.flatnonzero(stuck & on[rule]):
            still_s = float(self._still[tag[k]]) * self._window_s
            found.append(self._tell(rule[k], tag[k], window, "still", still_s, 0.0, self._stuck_s[k]))

    def _balance(self, x: F64, on: Bool, found: list[Finding], window: FeatureWindow) -> None:
        rules = self._balances
        if not rules:
            return
        mean = np.append(x[:, AVG], np.nan)  # -1: a tag that is not there
        flow = self._weights @ np.nan_to_num(mean)
        flow[(np.isnan(mean) & (self._weights != 0)).any(axis=1)] = np.nan
        # Both sums run to the middle of a window, where its mean stands (trapezoid of two windows).
        self._stores = np.roll(self._stores, 1, axis=0)
        self._stores[0, 0], self._stores[0, 1] = mean[self._volumes] * self._capacity, flow
        for b, (r, rule) in enumerate(rules):
            k = windows_of(rule.for_s, self._window_s)
            store, net = self._stores[: k + 1, 0, b], self._stores[: k + 1, 1, b]
            came = float((net[:-1] + net[1:]).sum()) / 2 * self._window_s / rule.per_s
            gap = float(store[0] - store[-1]) - came
            if abs(gap) > rule.tolerance and on[r]:
                tag = int(self._volumes[b])
                found.append(self._tell(r, tag, window, "balance", gap, -rule.tolerance, rule.tolerance))

    # ------------------------------------------------------------------ inside
    def _guards(self) -> Bool:
        """Which rules are judged now."""
        guards = [r.common.guard for r in self._rules]
        on = [g is None or bool((g.holds(self._signals) == 1).any()) for g in guards]
        return np.array(on, dtype=bool)

    def _bind(self, window: FeatureWindow) -> None:
        """Find the tags of every rule."""
        self._tags = window.tags
        m = len(window.tags)
        self._before, self._held = np.full(m, np.nan), np.full(m, np.nan)
        self._still = np.zeros(m, dtype=np.int64)
        self._bad = np.zeros(m, dtype=bool)
        tags = TagNames(window)
        unknown: list[str] = []
        pairs: dict[type, list[tuple[int, int]]] = {Range: [], Rate: [], Stuck: []}
        self._balances: list[tuple[int, Balance]] = []
        for r, rule in enumerate(self._rules):
            if isinstance(rule, Balance):
                names = (rule.volume, *rule.inflow, *rule.outflow)
                lacking = [n for n in names if tags.at(n) < 0]
                unknown += [f"balance of {rule.volume}: {missing(n, tags.at(n))}" for n in lacking]
                if not lacking:
                    self._balances.append((r, rule))
                continue
            kind = type(rule).__name__.lower()
            fits, idle = tags.fitting(rule.tags)
            pairs[type(rule)] += [(r, i) for i in fits]
            unknown += [f"{kind}: no tag is called '{pattern}'" for pattern in idle]
        self._lacking = tuple(unknown)
        self._pairs = {
            kind: (np.array([r for r, _ in p], np.int64), np.array([t for _, t in p], np.int64))
            for kind, p in pairs.items()
        }

        def each(kind: type, attribute: str) -> F64:
            return np.array([getattr(self._rules[r], attribute) for r in self._pairs[kind][0]], np.float64)

        self._low, self._high = each(Range, "low"), each(Range, "high")
        self._rate_limit = each(Rate, "limit")
        self._stuck_s = each(Stuck, "for_s")
        self._stuck_windows = np.array([windows_of(s, self._window_s) for s in self._stuck_s], np.int64)
        balances = [b for _, b in self._balances]
        self._volumes = np.array([tags.at(b.volume) for b in balances], dtype=np.int64)
        self._capacity = np.array([b.capacity for b in balances])
        self._weights = np.zeros((len(balances), m + 1))
        for k, b in enumerate(balances):
            np.add.at(self._weights[k], [tags.at(n) for n in b.inflow], 1.0)
            np.add.at(self._weights[k], [tags.at(n) for n in b.outflow], -1.0)
        depth = max((windows_of(b.for_s, self._window_s) for b in balances), default=0) + 1
        self._stores = np.full((depth, 2, len(balances)), np.nan)

    def _tell(
        self,
        r: int,
        tag: int,
        window: FeatureWindow,
        column: str,
        observed: float,
        low: float,
        high: float,
    ) -> Finding:
        rule = self._rules[r]
        row = int(window.tag_device[tag])
        violation = Violation(
            window.devices[row],
            f"{window.tags[tag]}/{column}",
            float(observed),
            float(low),
            float(high),
            f"physics-{type(rule).__name__.lower()}",
            rule.common.category,
            rule.common.attack_id,
            rule.common.message,
        )
        return Finding(row, self._points[rule.common.verdict], violation)
