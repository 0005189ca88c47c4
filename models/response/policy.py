"""Which action answers which verdict."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cellwatch.models.types import Action, Priority, Screening

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellwatch.models.types import FusedVerdict, FusedWindow


@dataclass(frozen=True, slots=True)
class ResponseRule:
    """A verdict at least as grave as `decision` in one of `categories` on one of `devices` ("*": any).

    QUARANTINE and SAFE_STATE set `tag` to `value`; a tag "PLC1/SafeState()" calls the method of that name
    (its value is 1). CLAMP writes the nearer limit where `tag` stands outside `low`..`high`. ADVISE and ALARM
    write nothing. `revert` is written when the cause is gone. Raises ValueError where that does not fit.
    """

    action: Action
    decision: Screening = Screening.BLOCK
    categories: tuple[str, ...] = ("*",)
    devices: tuple[str, ...] = ("*",)
    tag: str = ""
    value: float = 1.0
    low: float = math.nan
    high: float = math.nan
    revert: float = math.nan  # NaN: the operator reverts by hand
    revert_tag: str = ""  # "": the same tag
    hold_s: float = 60.0  # nothing else is written into the tag within this time, the revert neither
    valid_for_s: float = 2.0
    priority: Priority = Priority.UNKNOWN  # of the alarm; UNKNOWN: by the decision

    def __post_init__(self) -> None:
        name = self.action.name.lower()
        if self.action == Action.UNKNOWN or self.decision < Screening.SUSPICIOUS:
            raise ValueError("a response answers suspicious or block with advise, alarm, clamp ...")
        if self.writes != bool(self.tag):
            raise ValueError(f"{name} {'needs a tag or method' if self.writes else 'writes no tag'}")
        if (self.action == Action.CLAMP) != (self.low < self.high):
            raise ValueError("clamp, and no other action, needs a range [low, high]")
        if not math.isfinite(self.value) or not (self.hold_s >= 0 and self.valid_for_s > 0):
            raise ValueError("value must be finite, hold_s not negative, valid_for_s above 0")
        if not math.isnan(self.revert) and self.action not in {Action.QUARANTINE, Action.SAFE_STATE}:
            raise ValueError(f"{name} has nothing to revert")
        if self.revert_tag and math.isnan(self.revert):
            raise ValueError("revert_tag needs revert, the value to write (1 for a method)")

    @property
    def writes(self) -> bool:
        """Does it act on the plant? Such an action is grave."""
        return self.action >= Action.CLAMP

    def fits(self, verdict: FusedVerdict) -> bool:
        """Say whether this rule is meant for the verdict."""
        return (
            verdict.decision >= self.decision
            and ("*" in self.categories or verdict.category in self.categories)
            and ("*" in self.devices or verdict.device in self.devices)
        )


def parse_rule(data: Mapping[str, Any]) -> ResponseRule:
    """A rule from the keys of a policy file (docs/response.md). ValueError names what does not fit.

    >>> parse_rule({"action": "safe_state", "method": "PLC1/SafeState"}).tag
    'PLC1/SafeState()'
    """
    row = dict(data)
    for key, kind in (("action", Action), ("decision", Screening), ("priority", Priority)):
        if word := row.pop(key, ""):
            names = [member.name.lower() for member in kind][1:]
            if word not in names:
                raise ValueError(f"{key} '{word}': use {', '.join(names)}")
            row[key] = kind[word.upper()]
    for key, target in (("method", "tag"), ("revert_method", "revert_tag")):
        if name := row.pop(key, ""):
            if row.get(target):
                raise ValueError(f"give {key} or {target}, not both")
            row[target] = f"{name}()"
            if key == "revert_method":
                row["revert"] = 1.0
    if limits := row.pop("range", []):
        if len(limits) != 2:
            raise ValueError("range is [low, high]")
        row["low"], row["high"] = limits
    row |= {key: tuple(row[key]) for key in ("categories", "devices") if key in row}
    return ResponseRule(**row)


def as_words(rule: ResponseRule) -> dict[str, Any]:
    """The rule as `parse_rule` reads it, for a file.

    >>> parse_rule(as_words(parse_rule({"action": "quarantine", "tag": "T", "value": 0}))).value
    0
    """
    words = {"action": rule.action.name.lower(), "decision": rule.decision.name.lower()}
    return asdict(rule) | words | {"priority": rule.priority.name.lower() if rule.priority else ""}


@dataclass(frozen=True, slots=True)
class Wish:
    """A write that the policy wants; the interlocks decide whether it becomes a command."""

    rule: ResponseRule
    verdicts: tuple[FusedVerdict, ...]  # that ask for it, at least one
    value: float


class ResponsePolicy:
    """All rules of a cell; every rule that fits a verdict counts."""

    def __init__(self, rules: tuple[ResponseRule, ...]) -> None:
        self.rules = rules

    def wishes(self, window: FusedWindow, values: Mapping[str, float]) -> list[Wish]:
        """Writes wanted, one for each tag, the gravest action first; `values`: what the tags show now."""
        found: dict[str, Wish] = {}
        for rule in sorted(self.rules, key=lambda r: -r.action):
            if not rule.writes or rule.tag in found:
                continue
            value = rule.value
            if rule.action == Action.CLAMP:
                now = values.get(rule.tag, math.nan)
                value = min(max(now, rule.low), rule.high)
                if math.isnan(now) or value == now:
                    continue
            verdicts = tuple(v for v in window.verdicts if rule.fits(v))
            if verdicts:
                found[rule.tag] = Wish(rule, verdicts, value)
        return list(found.values())

    def alarm_priority(self, verdict: FusedVerdict) -> Priority:
        """Priority of the alarm that a verdict raises; UNKNOWN: none.

        A BLOCK raises an alarm by itself, unless all rules that fit it only advise. The highest priority of
        all rules that fit counts; what a rule says of SUSPICIOUS does not lower a BLOCK.
        """
        rules = [r for r in self.rules if r.fits(verdict)]
        alarming = [r for r in rules if r.action >= Action.ALARM]
        if not alarming and (rules or verdict.decision < Screening.BLOCK):
            return Priority.UNKNOWN
        return max((_priority(r, verdict.decision) for r in alarming), default=Priority.HIGH)


def _priority(rule: ResponseRule, decision: Screening) -> Priority:
    if rule.priority and decision == rule.decision:
        return rule.priority
    if decision < Screening.BLOCK:
        return Priority.LOW
    return max(rule.priority, Priority.CRITICAL if rule.writes else Priority.HIGH)
