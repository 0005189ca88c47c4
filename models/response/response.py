"""The answer of the cell to a fused window: alarms, and commands that pass every interlock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cellwatch.models.response.alarms import STEP_NS, AlarmList, AlarmSettings
from cellwatch.models.response.holds import Hold
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
    FusedVerdict,
    FusedWindow,
    TagInfo,
)

_RESTART = 64  # windows further back than this are those of a fusion that began anew
_DEVICES = 4096  # that were judged and are remembered


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be done about a window."""

    commands: tuple[Command, ...] = ()
    held_back: tuple[tuple[str, str], ...] = ()  # tag that would have been written, and why it is not


@dataclass(slots=True)
class _Plant:
    """What the response knows of the tags and devices."""

    tags: dict[str, TagInfo] = field(default_factory=dict)
    plcs: dict[str, str] = field(default_factory=dict)  # tag -> its PLC
    devices: set[str] = field(default_factory=set)  # that were judged
    values: dict[str, float] = field(default_factory=dict)


class Response:
    """Policy, interlocks and alarms of one cell.

    `now_ns` is the wall clock, for the stamps; all that has a span or a rate goes by `monotonic_ns`.
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
        self._held: dict[str, Hold] = {}
        self._last_window = -1
        self._offset_ns = 0  # of the wall clock from the monotonic one, when ids last began
        self._count = 0

    # What it is told ------------------------------------------------------------
    def catalog(self, tags: tuple[TagInfo, ...], plc: str = "") -> None:
        """Tags of one more PLC."""
        self._plant.tags |= {t.name: t for t in tags}
        if plc:
            self._plant.plcs |= dict.fromkeys((t.name for t in tags), plc)

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
            if held.answer(result):
                del self._held[tag]

    # What it knows ----------------------------------------------------------------
    def names(self) -> frozenset[str]:
        """All that an override or a maintenance may name.

        Tags, methods, their devices and PLCs, the devices of the policy and those judged, "*".
        """
        plant, rules = self._plant, self.policy.rules
        found = {"*", *plant.tags, *plant.plcs.values(), *plant.devices}
        found |= {t.device for t in plant.tags.values()} | {a.device for a in self.alarms.alarms()}
        for rule in rules:
            written = (rule.tag, rule.revert_tag)
            found |= {*rule.devices, *written, *map(owner, written)}
        return frozenset(found - {""})

    def holds(self) -> dict[str, Any]:
        """What is set and will be set back, to be kept over a restart."""
        return {tag: held.to_dict() for tag, held in self._held.items() if held.revertible}

    def restore(self, holds: Mapping[str, Any], monotonic_ns: int) -> None:
        """Take what `holds` gave before a restart. ValueError if it is something else."""
        self._held |= {tag: Hold.from_dict(data, monotonic_ns) for tag, data in holds.items()}

    # What it does -----------------------------------------------------------------
    def step(self, window: FusedWindow, now_ns: int, monotonic_ns: int) -> Answer:
        """Answer one window. A window that is not newer than the last one is ignored."""
        if not self._newer(window.window_id, now_ns - monotonic_ns):
            return Answer()
        self.alarms.keep_time(now_ns, monotonic_ns)
        self._agreement.see(window)
        self._raise(window, now_ns)
        commands: list[Command] = []
        held_back: list[tuple[str, str]] = []
        for wish in self.policy.wishes(window, self._plant.values):
            rule = wish.rule
            held = self._held.get(rule.tag)
            if held and held.rests(rule, monotonic_ns):
                continue
            why = {
                v.device: self._stale(window, rule, now_ns)
                or self._agreement.objection(v)
                or self._objection(rule.tag, v.device, monotonic_ns, retry=bool(held and held.refused))
                for v in wish.verdicts
            }
            asking = next((v for v in wish.verdicts if not why[v.device]), None)
            if asking is None:
                held_back.append((rule.tag, next(iter(why.values()))))
                continue
            command = self._command(window, wish, asking, now_ns, monotonic_ns)
            if held is None:
                held = self._held[rule.tag] = Hold(rule, asking.device, monotonic_ns, set())
            held.ask(rule, asking.device, command.command_id, monotonic_ns)
            commands.append(command)
        commands += self._reverts(window, now_ns, monotonic_ns)
        return Answer(tuple(commands), tuple(held_back))

    def _newer(self, window_id: int, offset_ns: int) -> bool:
        """Is it newer than the last? Ids follow the wall clock, and begin anew when it is set back.

        That is what ids that go far back show, or the clock's `offset_ns` from the monotonic one.
        """
        back = self._last_window - window_id
        if back >= 0:
            if back <= _RESTART and self._offset_ns - offset_ns < STEP_NS:
                return False
            self._agreement.forget()
            self._offset_ns = offset_ns
        self._offset_ns = max(self._offset_ns, offset_ns)
        self._last_window = window_id
        return True

    def _raise(self, window: FusedWindow, now_ns: int) -> None:
        """Raise the alarms of a window, and remember the devices it judges."""
        for verdict in window.verdicts:
            priority = self.policy.alarm_priority(verdict)
            if priority:
                self.alarms.trouble(
                    verdict.device, verdict.category, priority, verdict.explanation, now_ns,
                    verdict.attack_type,
                )  # fmt: skip
        self.alarms.tick(now_ns)
        if len(self._plant.devices) > _DEVICES:
            self._plant.devices.clear()
        self._plant.devices.update(v.device for v in window.verdicts)

    def _stale(self, window: FusedWindow, rule: ResponseRule, now_ns: int) -> str:
        """A window that comes late tells of a plant that was: alarms yes, writes no."""
        limit_s = max(rule.valid_for_s, self.settings.max_age_s)
        return f"its window is older than {limit_s:g} s" if now_ns - window.closed_ns > limit_s * 1e9 else ""

    def _objection(self, tag: str, device: str, monotonic_ns: int, *, retry: bool = False) -> str:
        info = self._plant.tags.get(tag)
        if info is None and not tag.endswith("()"):
            return f"{tag} is in no catalogue of a connected PLC"
        if info is not None and not info.writable:
            return f"{tag} is not writable in the tag map"
        names = self._names(tag, device)
        return self.supervision.objection(names, monotonic_ns) or self._rate.objection(
            monotonic_ns, retry=retry
        )

    def _names(self, tag: str, device: str) -> set[str]:
        """What an override of a write may name: its tag, the device judged, the tag's device and PLC."""
        info = self._plant.tags.get(tag)
        of_tag = {owner(tag, info.device if info else ""), self._plant.plcs.get(tag, "")}
        return {tag, device, *of_tag} - {""}

    def _command(
        self, window: FusedWindow, wish: Wish, verdict: FusedVerdict, now_ns: int, monotonic_ns: int
    ) -> Command:
        rule = wish.rule
        return Command(
            self._new_id(window, monotonic_ns), window.window_id, verdict.device, rule.tag, wish.value,
            now_ns, rule.valid_for_s, f"{rule.action.name.lower()}: {verdict.explanation}", window.closed_ns,
        )  # fmt: skip

    def _new_id(self, window: FusedWindow, monotonic_ns: int) -> str:
        """Count one more command, and name it."""
        self._count += 1
        self._rate.issued(monotonic_ns)
        return f"{window.window_id}-{self._count}"

    def _reverts(self, window: FusedWindow, now_ns: int, monotonic_ns: int) -> list[Command]:
        """Set back what was set, once its cause is gone and its hold time is over."""
        out = []
        for tag, held in list(self._held.items()):
            rule = held.undo or held.rule
            stale = bool(self._stale(window, rule, now_ns))
            held.see(window, monotonic_ns, stale=stale)
            if not held.over(self.settings.clear_s, monotonic_ns):
                continue
            if not held.revertible:
                del self._held[tag]
                continue
            target = rule.revert_tag or tag
            if self._objection(target, held.device, monotonic_ns):
                continue
            held.since_ns = monotonic_ns  # should it fail, it is tried again after the hold time
            held.revert_id = self._new_id(window, monotonic_ns)
            out.append(
                Command(
                    held.revert_id, window.window_id, held.device, target, rule.revert, now_ns,
                    rule.valid_for_s, f"revert: {held.device} is quiet", window.closed_ns,
                )
            )  # fmt: skip
        return out
