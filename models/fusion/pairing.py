"""Which verdicts belong to one window, and when the wait for the rest ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cellwatch.models.fusion.limit_states import LIMITS, LimitStates

if TYPE_CHECKING:
    from cellwatch.models.types import Verdicts


@dataclass(slots=True)
class Pending:
    """All that was said of one window so far: the parts of each source, one part a replica."""

    first_ns: int  # when the first of them came
    parts: dict[str, list[Verdicts]] = field(default_factory=dict)

    @property
    def first(self) -> Verdicts:
        """What came first: it names the window."""
        return next(iter(self.parts.values()))[0]

    def devices(self) -> tuple[str, ...]:
        """Every device that a source named, in order of first mention."""
        named = [v.devices for parts in self.parts.values() for v in parts]
        if all(d == named[0] for d in named[1:]):
            return named[0]
        return tuple(dict.fromkeys(d for devices in named for d in devices))

    def heard(self, sources: tuple[str, ...]) -> bool:
        """All `sources` have spoken of all devices; a source that is not shared out speaks once."""
        if any(s not in self.parts for s in sources):
            return False
        if all(any(not v.partial for v in self.parts[s]) for s in sources):
            return True
        everyone = set(self.devices())
        return all(everyone == {d for v in self.parts[s] for d in v.devices} for s in sources)


class Pairing:
    """Verdicts by window; at most `MAX_PENDING` windows wait. Limits are waited for by none.

    Numbers of windows follow the wall clock, so they start anew when it is set back; waiting goes by
    `monotonic_ns`, which cannot be set (without it: `now_ns`).
    """

    MAX_PENDING = 64
    FUTURE_S = 60.0  # no window ends that far ahead of the clock
    SKEW_S = 1.0  # by which the clocks of two nodes may differ
    OUTDATED = 4  # verdicts in a row, each older than all that could wait: not they are wrong

    def __init__(self, sources: tuple[str, ...], budget_s: float) -> None:
        self.late = 0  # verdicts that came after their window was decided
        self.refused = 0  # verdicts on windows of the future
        self.restarts = 0  # how often the numbers of windows went back
        self._sources = sources
        self._budget_ns = budget_s * 1e9
        self._pending: dict[int, Pending] = {}
        self._limits = LimitStates()
        self._decided = -1
        self._decided_end_ns = 0
        self._outdated = 0

    @property
    def limits_dropped(self) -> int:
        """Limit states that were lost because too many waited for a window."""
        return self._limits.dropped

    def offer(self, verdicts: Verdicts, now_ns: int, monotonic_ns: int | None = None) -> None:
        """Stage what one source says. A replica that speaks twice of a window is believed the last time."""
        heard_ns = now_ns if monotonic_ns is None else monotonic_ns
        if verdicts.source == LIMITS:
            self._limits.offer(verdicts, now_ns, heard_ns)
            return
        if verdicts.end_ns > now_ns + self.FUTURE_S * 1e9:
            self.refused += 1
            return
        if verdicts.window_id <= self._decided:
            if not self._begins_anew(verdicts, now_ns):
                self.late += 1
                return
            self._restart()
        self._outdated = 0
        pending = self._pending.setdefault(verdicts.window_id, Pending(heard_ns))
        parts = pending.parts.setdefault(verdicts.source, [])
        parts[:] = [p for p in parts if p.devices != verdicts.devices]
        parts.append(verdicts)

    def _begins_anew(self, verdicts: Verdicts, now_ns: int) -> bool:
        """Whether an old window shows that the numbers went back, and not that its source is late."""
        old = verdicts.window_id < self._decided - self.MAX_PENDING
        self._outdated = self._outdated + 1 if old else 0
        present = now_ns + self.SKEW_S * 1e9
        set_back = verdicts.end_ns <= present < self._decided_end_ns  # what was decided is yet to come
        return set_back or self._outdated >= self.OUTDATED

    def _restart(self) -> None:
        self.restarts += 1
        self._pending.clear()
        self._decided, self._decided_end_ns = -1, 0
        self._limits.restart()

    def ready(self, now_ns: int, monotonic_ns: int | None = None) -> list[Pending]:
        """Windows that are complete, or whose budget is spent, in order of their number."""
        monotonic_ns = now_ns if monotonic_ns is None else monotonic_ns
        out = []
        for window_id in sorted(self._pending):
            pending = self._pending[window_id]
            spent = monotonic_ns - pending.first_ns >= self._budget_ns
            if not (spent or len(self._pending) > self.MAX_PENDING or pending.heard(self._sources)):
                break  # later windows wait for this one: decisions are made in order
            del self._pending[window_id]
            self._decided, self._decided_end_ns = window_id, pending.first.end_ns
            limits = self._limits.until(pending.first, monotonic_ns)
            if limits:
                pending.parts[LIMITS] = [limits]
            out.append(pending)
        return out
