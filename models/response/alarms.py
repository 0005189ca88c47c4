"""The alarms of a cell: states of ISA-18.2-2016 (figure 6), flood suppression, shelving.

An alarm is one category of trouble on one device, "PLC1/dos". Its state follows from four facts: does the
condition stand, was it acknowledged, and is the alarm shelved, suppressed by design or out of service.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cellwatch.models.response.ne107 import status_signal
from cellwatch.models.types import Alarm, AlarmState, Priority

STEP_NS = 500_000_000  # by which the wall clock must differ from the monotonic one to have been set

STANDING = frozenset({AlarmState.UNACKNOWLEDGED, AlarmState.ACKNOWLEDGED})


class AlarmError(ValueError):
    """What the operator asks for cannot be done; the text says why."""


@dataclass(frozen=True, slots=True)
class AlarmSettings:
    """Limits of the alarm list."""

    off_delay_s: float = 5.0  # unseen for longer, the condition is gone; more than two windows of the cell
    max_shelve_s: float = 28_800.0  # a shift
    flood_alarms: int = 10  # more annunciations than this ...
    flood_s: float = 600.0  # ... within this time are a flood (ISA-18.2-2016, 16.5)
    max_alarms: int = 512  # the least grave go first

    def __post_init__(self) -> None:
        if self.flood_alarms < 1 or self.max_alarms < 1:
            raise ValueError("flood_alarms and max_alarms must be at least 1")
        if not all(math.isfinite(x) and x >= 0 for x in (self.off_delay_s, self.max_shelve_s, self.flood_s)):
            raise ValueError("off_delay_s, max_shelve_s and flood_s must be finite and not negative")


@dataclass(slots=True)
class _Entry:
    device: str
    category: str
    attack_type: str = ""
    message: str = ""
    priority: Priority = Priority.LOW
    active: bool = False
    acknowledged: bool = True
    flooded: bool = False  # held back by a flood
    shelved_until_ns: int = 0
    shelved_priority: Priority = Priority.UNKNOWN
    out_of_service: bool = False
    by_design: bool = False
    raised_ns: int = 0
    seen_ns: int = 0
    changed_ns: int = 0
    occurrences: int = 0
    user: str = ""
    reason: str = ""

    @property
    def key(self) -> str:
        return f"{self.device}/{self.category}"

    @property
    def suppressed(self) -> bool:
        return self.out_of_service or self.by_design or self.shelved_until_ns > 0

    @property
    def state(self) -> AlarmState:
        if self.out_of_service:
            return AlarmState.OUT_OF_SERVICE
        if self.by_design:
            return AlarmState.SUPPRESSED_BY_DESIGN
        if self.shelved_until_ns:
            return AlarmState.SHELVED
        if self.active:
            return AlarmState.ACKNOWLEDGED if self.acknowledged else AlarmState.UNACKNOWLEDGED
        return AlarmState.NORMAL if self.acknowledged else AlarmState.RETURNED_UNACKNOWLEDGED


class AlarmList:
    """All alarms that ever stood, at most `max_alarms`. Times are nanoseconds since the epoch."""

    def __init__(self, settings: AlarmSettings | None = None) -> None:
        self.settings = settings or AlarmSettings()
        self.dropped = 0  # entries given up because the list was full
        self._entries: dict[str, _Entry] = {}
        self._by_design: frozenset[str] = frozenset()  # devices
        self._shown: deque[tuple[int, str, Priority]] = deque()  # annunciations within `flood_s`
        self._offset_ns: int | None = None  # of the wall clock, from the monotonic one

    def keep_time(self, now_ns: int, monotonic_ns: int) -> None:
        """Compare the clocks, before anything else is done: a step of the wall clock changes no span.

        Off-delay, shelving and the flood go on as if the clock had not been set.
        """
        offset_ns = now_ns - monotonic_ns
        step_ns = offset_ns - (offset_ns if self._offset_ns is None else self._offset_ns)
        if self._offset_ns is not None and abs(step_ns) < STEP_NS:
            return
        self._offset_ns = offset_ns
        self._shown = deque((t + step_ns, key, priority) for t, key, priority in self._shown)
        for entry in self._entries.values():
            entry.seen_ns += step_ns
            entry.shelved_until_ns += step_ns if entry.shelved_until_ns else 0

    # What the plant does ----------------------------------------------------
    def trouble(
        self, device: str, category: str, priority: Priority, message: str, now_ns: int, attack_type: str = ""
    ) -> None:
        """The condition of an alarm stands. A priority above the one shown announces it anew."""
        key = f"{device}/{category}"
        entry = self._entries.get(key)
        if entry is None:
            entry = _Entry(device, category, priority=priority, by_design=self._designed(device))
            if not self._make_room(entry):
                return
            self._entries[key] = entry
        fresh, graver = not entry.active, entry.active and priority > entry.priority
        entry.seen_ns = max(entry.seen_ns, now_ns)
        if entry.shelved_until_ns and priority > entry.shelved_priority:
            entry.shelved_until_ns = 0  # it was shelved as something less grave
            fresh = True
        if not (fresh or graver):
            return
        entry.occurrences += not entry.active
        entry.raised_ns = entry.raised_ns if entry.active else now_ns
        entry.active, entry.changed_ns = True, now_ns
        entry.priority, entry.message, entry.attack_type = priority, message, attack_type
        if not entry.suppressed:
            entry.acknowledged = False
            self._annunciate(entry, now_ns)

    def suppress_by_design(self, devices: Iterable[str], now_ns: int) -> None:
        """Alarms of exactly these devices ("*": all) are suppressed while they are in maintenance."""
        self._by_design = frozenset(devices)
        for entry in self._entries.values():
            designed = self._designed(entry.device)
            if designed != entry.by_design:
                self._change(entry, now_ns, by_design=designed)

    def tick(self, now_ns: int) -> None:
        """Let conditions return to normal, shelving end, and what a flood held back come up."""
        for entry in self._entries.values():
            if entry.active and now_ns - entry.seen_ns > self.settings.off_delay_s * 1e9:
                entry.active, entry.flooded, entry.changed_ns = False, False, now_ns
            if 0 < entry.shelved_until_ns <= now_ns:
                self._change(entry, now_ns, shelved_until_ns=0)
        for entry in sorted(self._entries.values(), key=lambda e: -e.priority):
            if entry.flooded and entry.active and not entry.suppressed:
                self._annunciate(entry, now_ns)

    # What the operator does ---------------------------------------------------
    def acknowledge(self, key: str, user: str, now_ns: int, reason: str = "") -> None:
        """The operator has seen it."""
        entry = self._entry(key)
        if entry.acknowledged or entry.suppressed:
            raise AlarmError(f"{key} is {_words(entry.state)}: there is nothing to acknowledge")
        _sign(entry, user, reason, now_ns)
        entry.acknowledged = True

    def shelve(self, key: str, span_s: float, user: str, reason: str, now_ns: int) -> None:
        """Put it aside for `span_s` seconds; it comes back then, or before that if it grows graver."""
        entry = self._entry(key)
        if not 0 < span_s <= self.settings.max_shelve_s:
            raise AlarmError(f"shelve for more than 0 and at most {self.settings.max_shelve_s:g} s")
        if entry.out_of_service or entry.by_design:
            raise AlarmError(f"{key} is {_words(entry.state)}: it cannot be shelved")
        _need(reason)
        _sign(entry, user, reason, now_ns)
        entry.shelved_until_ns, entry.shelved_priority = now_ns + round(span_s * 1e9), entry.priority
        entry.acknowledged = True

    def unshelve(self, key: str, user: str, now_ns: int, reason: str = "") -> None:
        """Take it back before its time."""
        entry = self._entry(key)
        if not entry.shelved_until_ns:
            raise AlarmError(f"{key} is {_words(entry.state)}, not shelved")
        _sign(entry, user, reason, now_ns)
        self._change(entry, now_ns, shelved_until_ns=0)

    def out_of_service(self, key: str, user: str, reason: str, now_ns: int) -> None:
        """Take it out of service until somebody returns it."""
        entry = self._entry(key)
        if entry.out_of_service:
            raise AlarmError(f"{key} is out of service already")
        _need(reason)
        _sign(entry, user, reason, now_ns)
        entry.out_of_service, entry.shelved_until_ns, entry.acknowledged = True, 0, True

    def return_to_service(self, key: str, user: str, now_ns: int, reason: str = "") -> None:
        """Bring it back into service."""
        entry = self._entry(key)
        if not entry.out_of_service:
            raise AlarmError(f"{key} is {_words(entry.state)}, not out of service")
        _sign(entry, user, reason, now_ns)
        self._change(entry, now_ns, out_of_service=False)

    # What everybody may see -----------------------------------------------------
    def alarms(self) -> tuple[Alarm, ...]:
        """All alarms, what is announced first, then by priority, then the latest."""
        found = [self._alarm(key, entry) for key, entry in self._entries.items()]
        return tuple(sorted(found, key=lambda a: (not a.annunciated, -a.priority, -a.changed_ns, a.key)))

    @property
    def flooded(self) -> int:
        """How many standing alarms a flood holds back now."""
        return sum(e.flooded and e.active and not e.suppressed for e in self._entries.values())

    def to_dict(self) -> dict[str, Any]:
        """Everything that outlives a restart, as JSON takes it."""
        return {key: asdict(entry) for key, entry in self._entries.items()}

    def restore(self, data: Mapping[str, Any], now_ns: int) -> None:
        """Take what `to_dict` gave before a restart: what stood then stands until its off-delay is over."""
        self.load(data)
        limit_ns = now_ns + round(self.settings.max_shelve_s * 1e9)
        for entry in self._entries.values():
            entry.seen_ns = now_ns
            entry.shelved_until_ns = min(entry.shelved_until_ns, limit_ns)

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what `to_dict` gave. ValueError if it is something else."""
        try:
            for key, row in data.items():
                kinds = {f.name: row[f.name] for f in fields(_Entry)}
                kinds["priority"] = Priority(kinds["priority"])
                kinds["shelved_priority"] = Priority(kinds["shelved_priority"])
                self._entries[key] = _Entry(**kinds)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a list of alarms: {error!r}") from None

    # Within -------------------------------------------------------------------
    def _entry(self, key: str) -> _Entry:
        if key not in self._entries:
            raise AlarmError(f"there is no alarm {key}")
        return self._entries[key]

    def _designed(self, device: str) -> bool:
        return "*" in self._by_design or device in self._by_design

    def _annunciate(self, entry: _Entry, now_ns: int) -> None:
        """Announce it, unless `flood_alarms` others at least as grave were announced within `flood_s`.

        Each of the others counts once, so that one that comes and goes hides nothing.
        """
        while self._shown and now_ns - self._shown[0][0] > self.settings.flood_s * 1e9:
            self._shown.popleft()
        as_grave = {k for _, k, p in self._shown if p >= entry.priority and k != entry.key}
        entry.flooded = entry.priority < Priority.CRITICAL and len(as_grave) >= self.settings.flood_alarms
        if not entry.flooded:
            self._shown.append((now_ns, entry.key, entry.priority))
            entry.changed_ns = now_ns

    def _change(self, entry: _Entry, now_ns: int, **facts: bool | int) -> None:
        """Change what suppresses an alarm; one that is free again and stands is announced anew."""
        was = entry.suppressed
        for name, value in facts.items():
            setattr(entry, name, value)
        entry.changed_ns = now_ns
        if was and not entry.suppressed:
            entry.acknowledged = not entry.active
            if entry.active:
                self._annunciate(entry, now_ns)
        elif entry.suppressed:
            entry.acknowledged = True

    def _make_room(self, newcomer: _Entry) -> bool:
        """Give up the least grave if the list is full; False: that is the newcomer."""
        if len(self._entries) < self.settings.max_alarms:
            return True
        self.dropped += 1
        least = min(
            self._entries.values(),
            key=lambda e: (e.state != AlarmState.NORMAL, e.priority, e.suppressed, e.changed_ns),
        )
        if least.state != AlarmState.NORMAL and newcomer.priority < least.priority:
            return False
        del self._entries[least.key]
        return True

    def _alarm(self, key: str, e: _Entry) -> Alarm:
        signal = status_signal(e.category, e.attack_type, active=e.active, in_maintenance=e.by_design)
        return Alarm(
            key, e.device, e.category, e.attack_type, e.state, e.priority, signal, e.active,
            e.state in STANDING and not e.flooded, e.raised_ns, e.changed_ns, e.occurrences, e.message,
            e.shelved_until_ns, e.user, e.reason,
        )  # fmt: skip


def _sign(entry: _Entry, user: str, reason: str, now_ns: int) -> None:
    if not user.strip():
        raise AlarmError("say who you are: user is empty")
    entry.user, entry.reason, entry.changed_ns = user, reason, now_ns


def _need(reason: str) -> None:
    if not reason.strip():
        raise AlarmError("say why: reason is empty")


def _words(state: AlarmState) -> str:
    return state.name.lower().replace("_", " ")
