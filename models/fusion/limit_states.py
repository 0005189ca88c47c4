"""The limits of single samples: a state that holds until the next word, folded into windows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.types import Screening, Verdicts

if TYPE_CHECKING:
    from cellwatch.models.types import Violation

LIMITS = "limits"


@dataclass(frozen=True, slots=True)
class _State:
    screening: int
    violations: tuple[Violation, ...]
    heard_ns: int


class LimitStates:
    """For each device the worst limit state within a window, the one that it came in with included.

    Limits are judged per sample and said when they change, and again each second while one is broken. A state
    that is not said again for `HOLD_S` ends: its author is gone. At most `MAX_QUEUE` changes wait.
    """

    HOLD_S = 10.0
    MAX_QUEUE = 1024

    def __init__(self) -> None:
        self._queue: deque[tuple[Verdicts, int]] = deque(maxlen=self.MAX_QUEUE)
        self._state: dict[str, _State] = {}

    def offer(self, verdicts: Verdicts, now_ns: int) -> None:
        """Stage a change; `verdicts.end_ns` is the stamp of the newest sample behind it."""
        self._queue.append((verdicts, now_ns))

    def until(self, window: Verdicts, now_ns: int) -> Verdicts | None:
        """The limits in the words of a source, for the window that `window` is about; None if all hold."""
        oldest = now_ns - self.HOLD_S * 1e9
        self._state = {d: s for d, s in self._state.items() if s.heard_ns >= oldest}
        worst = dict(self._state)
        later: deque[tuple[Verdicts, int]] = deque(maxlen=self.MAX_QUEUE)
        for verdicts, heard_ns in self._queue:
            if verdicts.end_ns > window.end_ns:
                later.append((verdicts, heard_ns))
                continue
            for i, device in enumerate(verdicts.devices):
                broken = tuple(v for v in verdicts.violations if v.device == device)
                state = _State(int(verdicts.screening[i]), broken, heard_ns)
                if device not in worst or state.screening >= worst[device].screening:
                    worst[device] = state
                self._state[device] = state
        self._queue = later
        self._state = {d: s for d, s in self._state.items() if s.screening > Screening.ALLOW}
        worst = {d: s for d, s in worst.items() if s.screening > Screening.ALLOW}
        if not worst:
            return None
        return Verdicts(
            LIMITS,
            window.window_id,
            window.end_ns,
            window.closed_ns,
            tuple(worst),
            np.array([s.screening for s in worst.values()], np.uint8),
            np.full(len(worst), np.nan, np.float32),
            violations=tuple(v for s in worst.values() for v in s.violations),
            partial=True,
        )
