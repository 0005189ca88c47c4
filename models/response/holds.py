"""What the response has set, until it is set back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cellwatch.models.response.policy import ResponseRule, as_words, parse_rule
from cellwatch.models.types import CommandResult, CommandStatus, FusedWindow, Screening

RETRY_S = 5.0  # after a write that was refused or withheld
_ASKED = 8  # commands whose late answer still counts


@dataclass(slots=True)
class Hold:
    """A tag that the response has set, or wants to have set. Times are monotonic nanoseconds."""

    rule: ResponseRule  # that asked last
    device: str  # whose verdict asked last
    since_ns: int
    devices: set[str]  # all whose verdicts asked for it
    asked: dict[str, ResponseRule] = field(default_factory=dict)  # command id -> its rule
    undo: ResponseRule | None = None  # the first one that the PLC confirmed: its revert is the way back
    refused: bool = False  # the last command was not accepted
    calm_ns: int | None = None  # since when all `devices` are calm
    revert_id: str = ""  # of the command that last tried to set it back

    def ask(self, rule: ResponseRule, device: str, command_id: str, now_ns: int) -> None:
        """A command went out, for the first time or anew, perhaps by a graver rule."""
        self.rule, self.device, self.since_ns, self.refused = rule, device, now_ns, False
        self.devices.add(device)
        self.asked[command_id] = rule
        while len(self.asked) > _ASKED:
            del self.asked[next(iter(self.asked))]

    def answer(self, result: CommandResult) -> bool:
        """Take the result of a command; True: the tag is set back, and nothing is held any more."""
        accepted = result.status == CommandStatus.ACCEPTED
        if result.command_id in self.asked:
            last = next(reversed(self.asked)) == result.command_id
            self.refused = self.refused or (last and not accepted)
            rule = self.asked.pop(result.command_id)
            if accepted and self.undo is None:
                self.undo = rule
        return accepted and bool(self.revert_id) and result.command_id == self.revert_id

    def rests(self, rule: ResponseRule, now_ns: int) -> bool:
        """Within the hold time only a graver action may write; what was not written may be tried again."""
        span_s = min(RETRY_S, self.rule.hold_s) if self.refused else self.rule.hold_s
        return now_ns - self.since_ns < span_s * 1e9 and rule.action <= self.rule.action

    def see(self, window: FusedWindow, now_ns: int, *, stale: bool) -> None:
        """Calm is ALLOW for every device that asked, with all sources present and in time."""
        rules = (self.rule,) if self.undo is None else (self.rule, self.undo)
        self.devices |= {v.device for v in window.verdicts if any(r.fits(v) for r in rules)}
        allowed = {v.device for v in window.verdicts if v.decision == Screening.ALLOW}
        if stale or window.missing or not self.devices <= allowed:
            self.calm_ns = None
        elif self.calm_ns is None:
            self.calm_ns = now_ns

    def over(self, clear_s: float, now_ns: int) -> bool:
        """The hold time has passed, and it has been calm for `clear_s`."""
        if self.calm_ns is None or now_ns - self.calm_ns < clear_s * 1e9:
            return False
        return now_ns - self.since_ns >= self.rule.hold_s * 1e9

    @property
    def revertible(self) -> bool:
        """The PLC has confirmed it, and the way back is known."""
        return self.undo is not None and not math.isnan(self.undo.revert)

    def to_dict(self) -> dict[str, Any]:
        """What is needed to set it back after a restart, as JSON takes it."""
        return {
            "rule": as_words(self.undo or self.rule),
            "device": self.device,
            "devices": sorted(self.devices),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], now_ns: int) -> Hold:
        """Take what `to_dict` gave; its hold time begins anew. ValueError if it is something else."""
        try:
            rule = parse_rule(data["rule"])
            return cls(rule, str(data["device"]), now_ns, set(data["devices"]), undo=rule)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not what the response has set: {error!r}") from None
