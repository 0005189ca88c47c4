"""The user's own rules: a condition that holds for a while makes a device SUSPICIOUS or BLOCK."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.rules.functions import windows_of
from cellwatch.models.rules.rule import Finding
from cellwatch.models.rules.signals import Signals
from cellwatch.models.types import Screening, Violation

if TYPE_CHECKING:
    from cellwatch.models.rules.language import Condition
    from cellwatch.models.types import Bool, FeatureWindow


@dataclass(frozen=True, slots=True)
class UserRule:
    """One declared rule."""

    name: str
    when: Condition
    for_s: float = 0.0  # the condition must hold for so long
    devices: tuple[str, ...] = ()  # names, with * and ? for many; () = see `UserRules`
    verdict: Screening = Screening.SUSPICIOUS  # or BLOCK
    category: str = ""
    attack_id: str = ""
    message: str = ""


class UserRules:
    """Judges windows in the order of time; one object for one run.

    A rule without `devices` speaks of the device of the first tag it names; if it names none, of the device
    whose feature it names, or of every device when it names features only. A rule whose tags the cell does
    not have is not judged, and `unknown` says so, as it does of devices that no window has.
    """

    def __init__(
        self, rules: Sequence[UserRule], suspicious_points: float = 1.0, block_points: float = 6.0
    ) -> None:
        self._rules = tuple(rules)
        self._points = {Screening.SUSPICIOUS: suspicious_points, Screening.BLOCK: block_points}
        self._signals = Signals([rule.when for rule in rules])
        self._streak = np.zeros((len(rules), 0), dtype=np.int64)  # windows for which it holds, per device
        self._about: Bool = np.zeros((len(rules), 0), dtype=bool)  # devices that a rule speaks of
        self._tags: tuple[str, ...] = ()
        self.unknown: tuple[str, ...] = ()

    def judge(self, window: FeatureWindow) -> list[Finding]:
        """What is broken in this window. ValueError for a window of another schema."""
        if not self._rules:
            return []
        moved = self._signals.push(window)
        if moved is not None:
            padded = np.pad(self._streak, ((0, 0), (0, 1)))
            self._streak = padded[:, moved]
        if moved is not None or window.tags != self._tags:
            self._bind(window)
        if self._signals.seen == 1:
            self._streak[:] = 0
        found: list[Finding] = []
        for r, rule in enumerate(self._rules):
            held = (rule.when.holds(self._signals) == 1) & self._about[r]
            self._streak[r] = np.where(held, self._streak[r] + 1, 0)
            needed = windows_of(rule.for_s, self._signals.window_s)
            found += [self._found(rule, int(i), window) for i in np.flatnonzero(self._streak[r] >= needed)]
        return found

    def _bind(self, window: FeatureWindow) -> None:
        self._tags = window.tags
        self._about = np.zeros((len(self._rules), len(window.devices)), dtype=bool)
        unknown = []
        for r, rule in enumerate(self._rules):
            unknown += [f"{rule.name}: {why}" for why in self._signals.unknown(rule.when)]
            idle = [p for p in rule.devices if not fnmatch.filter(window.devices, p)]
            unknown += [f"{rule.name}: no device is called '{pattern}'" for pattern in idle]
            if not self._signals.lacking(rule.when):
                patterns = rule.devices or self._default(rule.when, window)
                self._about[r] = [any(fnmatch.fnmatchcase(d, p) for p in patterns) for d in window.devices]
        self.unknown = tuple(unknown)

    def _default(self, condition: Condition, window: FeatureWindow) -> tuple[str, ...]:
        tag = next((n for n in condition.names if not n.feature), None)
        if tag is not None:
            return (self._signals.owner(window, tag),)
        if all(n.device for n in condition.names):
            return (condition.names[0].device,)
        return ("*",)

    def _found(self, rule: UserRule, row: int, window: FeatureWindow) -> Finding:
        text, observed, low, high = rule.when.cause(self._signals, row)
        violation = Violation(
            window.devices[row],
            text,
            observed,
            low,
            high,
            f"user:{rule.name}",
            rule.category,
            rule.attack_id,
            rule.message,
        )
        return Finding(row, self._points[rule.verdict], violation)
