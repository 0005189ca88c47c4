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
    """Verdicts by window; at most `MAX_PENDING` windows wait. Limits are waited for by none."""

    MAX_PENDING = 64

    def __init__(self, sources: tuple[str, ...], budget_s: float) -> None:
        self.late = 0  # verdicts that came after their window was decided
        self._sources = sources
        self._budget_ns = budget_s * 1e9
        self._pending: dict[int, Pending] = {}
        self._limits = LimitStates()
        self._decided = -1

    def offer(self, verdicts: Verdicts, now_ns: int) -> None:
        """Stage what one source says. A replica that speaks twice of a window is believed the last time."""
        if verdicts.source == LIMITS:
            self._limits.offer(verdicts, now_ns)
        elif verdicts.window_id <= self._decided:
            self.late += 1
        else:
            pending = self._pending.setdefault(verdicts.window_id, Pending(now_ns))
            parts = pending.parts.setdefault(verdicts.source, [])
            parts[:] = [p for p in parts if p.devices != verdicts.devices]
            parts.append(verdicts)

    def ready(self, now_ns: int) -> list[Pending]:
        """Windows that are complete, or whose budget is spent, in order of their number."""
        out = []
        for window_id in sorted(self._pending):
            pending = self._pending[window_id]
            spent = now_ns - pending.first_ns >= self._budget_ns
            if not (spent or len(self._pending) > self.MAX_PENDING or pending.heard(self._sources)):
                break  # later windows wait for this one: decisions are made in order
            del self._pending[window_id]
            self._decided = max(self._decided, window_id)
            limits = self._limits.until(pending.first, now_ns)
            if limits:
                pending.parts[LIMITS] = [limits]
            out.append(pending)
        return out
