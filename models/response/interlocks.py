"""What stands between a wish and a write. Each interlock answers "" or why not.

Armed flag, allow-list, range, data type, expiry and the rate of one tag are in the write guard of the OPC UA
link, the last gate. `Supervision` is asked twice: by the response, and by the link just before a write.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cellwatch.models.types import Screening

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cellwatch.models.types import FusedVerdict, FusedWindow


@dataclass(frozen=True, slots=True)
class InterlockSettings:
    """Limits of the response."""

    dead_man_s: float = 3.0  # silence of the supervisor after which nothing is written; 0: not supervised
    alone_windows: int = 4  # windows in a row that one source alone needs for a grave action
    max_commands: int = 10  # of the whole cell within `per_s`
    per_s: float = 60.0
    clear_s: float = 10.0  # how long the cause must be gone before an automatic revert
    max_age_s: float = 2.0  # of a window since its close, beyond which it writes nothing

    def __post_init__(self) -> None:
        if self.alone_windows < 1 or self.max_commands < 0:
            raise ValueError("alone_windows must be at least 1, max_commands not negative")
        spans = (self.dead_man_s, self.per_s, self.clear_s, self.max_age_s)
        if not all(math.isfinite(x) and x >= 0 for x in spans):
            raise ValueError("dead_man_s, per_s, clear_s and max_age_s must be finite and not negative")


class DeadMan:
    """The supervisor's heartbeat. Before the first beat, and after `limit_s` of silence, it counts as gone.

    A beat counts only when its stamp moves, so that a stuck sender is silence too. `now_ns` is monotonic.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._stamp_ns = -1
        self._heard_ns: int | None = None

    def beat(self, stamp_ns: int, now_ns: int) -> None:
        """Take a heartbeat that carries `stamp_ns`."""
        if stamp_ns != self._stamp_ns:
            self._stamp_ns, self._heard_ns = stamp_ns, now_ns

    def objection(self, now_ns: int) -> str:
        """Why nothing may be written now."""
        if self.limit_s == 0:
            return ""
        if self._heard_ns is None:
            return "the supervisor has not been heard"
        silent_s = (now_ns - self._heard_ns) / 1e9
        return f"the supervisor is silent for {silent_s:.1f} s" if silent_s > self.limit_s else ""


class Supervision:
    """The operator's hand: dead-man, overrides and maintenance.

    An override or a maintenance is of a tag, a device, or "*" for the whole cell. Where a dead-man is set,
    nothing passes before they are known.
    """

    def __init__(self, dead_man_s: float) -> None:
        self.dead_man = DeadMan(dead_man_s)
        self.overridden: frozenset[str] = frozenset()
        self.maintenance: frozenset[str] = frozenset()
        self._known = dead_man_s == 0

    def take(self, overridden: Iterable[str], maintenance: Iterable[str]) -> None:
        """What the operator has taken out of the response's hands."""
        self.overridden, self.maintenance, self._known = frozenset(overridden), frozenset(maintenance), True

    def objection(self, names: Iterable[str], now_ns: int) -> str:
        """Why no command may go out that concerns `names`: its tag, the tag's device, the device judged."""
        if not self._known:
            return "it is not known yet what the operator has overridden"
        touched = {*names, "*"}
        for held, word in (
            (self.overridden, "overridden by an operator"),
            (self.maintenance, "in maintenance"),
        ):
            if both := sorted(touched & held):
                return f"{'the cell' if both[0] == '*' else both[0]} is {word}"
        return self.dead_man.objection(now_ns)


@dataclass(slots=True)
class Agreement:
    """A grave action needs two sources that agree, or `alone_windows` windows in a row."""

    alone_windows: int
    _streak: dict[str, int] = field(default_factory=dict)

    def see(self, window: FusedWindow) -> None:
        """Count windows in a row that are not ALLOW; a window without the device breaks the row."""
        self._streak = {
            v.device: self._streak.get(v.device, 0) + 1
            for v in window.verdicts
            if v.decision >= Screening.SUSPICIOUS
        }

    def forget(self) -> None:
        """Begin all rows anew."""
        self._streak = {}

    def objection(self, verdict: FusedVerdict) -> str:
        """Why the verdict is not enough for a grave action."""
        sources = sources_of(verdict)
        seen = self._streak.get(verdict.device, 0)
        if len(sources) >= 2 or seen >= self.alone_windows:
            return ""
        only = f"only {next(iter(sources))} speaks" if sources else "no source speaks"
        return f"{only} against {verdict.device}, {seen} of {self.alone_windows} windows"


class RateLimit:
    """At most `count` commands within `per_s`, over all tags; retries leave half of them to others.

    Times are monotonic nanoseconds.
    """

    def __init__(self, count: int, per_s: float) -> None:
        self.count = count
        self.per_s = per_s
        self._issued: deque[int] = deque()

    def objection(self, now_ns: int, *, retry: bool = False) -> str:
        """Why no more commands may go out now."""
        while self._issued and now_ns - self._issued[0] >= self.per_s * 1e9:
            self._issued.popleft()
        count = (self.count + 1) // 2 if retry else self.count
        if len(self._issued) < count:
            return ""
        return f"{count} {'retries' if retry else 'commands'} in {self.per_s:g} s are enough"

    def issued(self, now_ns: int) -> None:
        """Count a command."""
        self._issued.append(now_ns)


def sources_of(verdict: FusedVerdict) -> frozenset[str]:
    """Who speaks against a device. Limits and rules look at the same values, so they are one witness."""
    witness = {"rules": "rules", "limits": "rules", "ensemble": "models"}
    return frozenset(witness[s] for s in verdict.agreeing if s in witness)


def owner(tag: str, device: str = "") -> str:
    """Device that a tag belongs to, by the catalogue; of a method "PLC1/SafeState()" it is PLC1."""
    return tag.partition("/")[0] if tag.endswith("()") else device
