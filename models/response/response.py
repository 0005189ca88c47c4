"""The answer of the cell to a fused window: alarms, and commands that pass every interlock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cellwatch.models.response.alarms import AlarmList, AlarmSettings
from cellwatch.models.response.interlocks import (
    Agreement,
    InterlockSettings,
    RateLimit,
    Supervision,
    owner,
)
from cellwatch.models.response.policy import ResponsePolicy, ResponseRule, Wish
from cellwatch.models.types import (
    Command,
    CommandResult,
    CommandStatus,
    FusedVerdict,
    FusedWindow,
    TagInfo,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be done about a window."""

    commands: tuple[Command, ...] = ()
    held_back: tuple[tuple[str, str], ...] = ()  # tag that would have been written, and why it is not


@dataclass(slots=True)
class _Held:
    """A tag that the response has set, or wants to have set."""

    rule: ResponseRule
    device: str  # whose verdict asked for it
    command_id: str
    since_ns: int
    cause_ns: int  # when its cause was last seen
    applied: bool = False  # the PLC has confirmed it
    revert_id: str = ""  # of the command that last tried to set it back


@dataclass(slots=True)
class _Plant:
    """What the response knows of the tags."""

    tags: dict[str, TagInfo] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)


class Response:
    """Policy, interlocks and alarms of one cell. Wall clock `now_ns`; `monotonic_ns` for the dead-man only.

    It knows nothing of "armed": the write guard of each PLC decides on that last, and the response learns
    from its results what was really written.
    """

    def __init__(
        self,
        rules: tuple[ResponseRule, ...],
        interlocks: InterlockSettings | None = None,
        alarms: AlarmSettings | None = None,
    ) -> None:
        self.settings = interlocks or InterlockSettings()
        self.policy = ResponsePolicy(rules)
        self.supervision = Supervision(self.settings.dead_man_s)
        self.supervision.take((), ())
        self.alarms = AlarmList(alarms)
        self._agreement = Agreement(self.settings.alone_windows)
        self._rate = RateLimit(self.settings.max_commands, self.settings.per_s)
        self._plant = _Plant()
        self._held: dict[str, _Held] = {}
        self._last_window = -1
        self._count = 0

    # What it is told ------------------------------------------------------------
    def catalog(self, tags: tuple[TagInfo, ...]) -> None:
        """Tags of one more PLC."""
        self._plant.tags |= {t.name: t for t in tags}

    def show(self, values: Mapping[str, float]) -> None:
        """Present values of tags; NaN where a value is bad."""
        self._plant.values.update(values)

    def hand_over(self, overridden: frozenset[str], maintenance: frozenset[str], now_ns: int) -> None:
        """Tags, devices or "*" that the operator keeps: no commands; in maintenance no alarms either.

        What the response has set there is the operator's from now on, and is not reverted.
        """
        self.supervision.take(overridden, maintenance)
        for tag, held in list(self._held.items()):
            if {*self._names(tag, held.device), "*"} & (overridden | maintenance):
                del self._held[tag]
        self.alarms.suppress_by_design(maintenance, now_ns)

    def result(self, result: CommandResult) -> None:
        """What became of a command; only what the PLC confirmed is ever reverted."""
        for tag, held in list(self._held.items()):
            if held.command_id == result.command_id:
                held.applied |= result.status == CommandStatus.ACCEPTED
            elif result.status == CommandStatus.ACCEPTED and result.command_id == held.revert_id:
                del self._held[tag]

    # What it does -----------------------------------------------------------------
    def step(self, window: FusedWindow, now_ns: int, monotonic_ns: int) -> Answer:
        """Answer one window. A window that is not newer than the last one is ignored."""
        if window.window_id <= self._last_window:
            return Answer()
        self._last_window = window.window_id
        self._agreement.see(window)
        for verdict in window.verdicts:
            priority = self.policy.alarm_priority(verdict)
            if priority:
                self.alarms.trouble(
                    verdict.device, verdict.category, priority, verdict.explanation, now_ns,
                    verdict.attack_type,
                )  # fmt: skip
        self.alarms.tick(now_ns)
        commands: list[Command] = []
        held_back: list[tuple[str, str]] = []
        wishes = self.policy.wishes(window, self._plant.values)
        for wish in wishes:
            held = self._held.get(wish.rule.tag)
            if held and self._rests(held, wish, now_ns):
                continue
            why = {v.device: self._objection_to(wish, v, now_ns, monotonic_ns) for v in wish.verdicts}
            asking = next((v for v in wish.verdicts if not why[v.device]), None)
            if asking is None:
                held_back.append((wish.rule.tag, next(iter(why.values()))))
                continue
            command = self._command(window, wish, asking, now_ns)
            applied = bool(held and held.applied)
            self._held[wish.rule.tag] = _Held(
                wish.rule, asking.device, command.command_id, now_ns, now_ns, applied
            )
            commands.append(command)
        commands += self._reverts(window, now_ns, monotonic_ns)
        return Answer(tuple(commands), tuple(held_back))

    def _rests(self, held: _Held, wish: Wish, now_ns: int) -> bool:
        """Within the hold time only a graver action may take the tag over."""
        if now_ns - held.since_ns >= held.rule.hold_s * 1e9:
            return False
        return wish.rule.action <= held.rule.action

    def _objection_to(self, wish: Wish, verdict: FusedVerdict, now_ns: int, monotonic_ns: int) -> str:
        """Why this verdict is not enough for this write; the grave ones are all that write."""
        return self._agreement.objection(verdict) or self._objection(
            wish.rule.tag, verdict.device, now_ns, monotonic_ns
        )

    def _objection(self, tag: str, device: str, now_ns: int, monotonic_ns: int) -> str:
        info = self._plant.tags.get(tag)
        if info is not None and not info.writable:
            return f"{tag} is not writable in the tag map"
        names = self._names(tag, device)
        return self.supervision.objection(names, monotonic_ns) or self._rate.objection(now_ns)

    def _names(self, tag: str, device: str) -> tuple[str, str, str]:
        """What an override of a write must name: its tag, the device judged, the tag's device."""
        info = self._plant.tags.get(tag)
        return tag, device, owner(tag, info.device if info else "")

    def _command(self, window: FusedWindow, wish: Wish, verdict: FusedVerdict, now_ns: int) -> Command:
        self._count += 1
        self._rate.issued(now_ns)
        rule = wish.rule
        return Command(
            f"{window.window_id}-{self._count}", window.window_id, verdict.device, rule.tag, wish.value,
            now_ns, rule.valid_for_s, f"{rule.action.name.lower()}: {verdict.explanation}", window.closed_ns,
        )  # fmt: skip

    def _reverts(self, window: FusedWindow, now_ns: int, monotonic_ns: int) -> list[Command]:
        """Set back what was set, once its cause is gone and its hold time is over."""
        out = []
        for tag, held in list(self._held.items()):
            rule = held.rule
            if any(rule.fits(v) for v in window.verdicts):
                held.cause_ns = now_ns
            held_s, clear_s = (now_ns - held.since_ns) / 1e9, (now_ns - held.cause_ns) / 1e9
            if held_s < rule.hold_s or clear_s < self.settings.clear_s:
                continue
            if math.isnan(rule.revert) or not held.applied:
                del self._held[tag]
                continue
            target = rule.revert_tag or tag
            if self._objection(target, held.device, now_ns, monotonic_ns):
                continue
            held.since_ns = now_ns  # should it fail, it is tried again after the hold time
            self._count += 1
            held.revert_id = f"{window.window_id}-{self._count}"
            self._rate.issued(now_ns)
            reason = f"revert: {held.device} is quiet for {clear_s:.0f} s"
            out.append(
                Command(
                    held.revert_id, window.window_id, held.device, target, rule.revert, now_ns,
                    rule.valid_for_s, reason, window.closed_ns,
                )
            )  # fmt: skip
        return out
