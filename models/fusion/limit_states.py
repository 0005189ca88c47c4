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
    The clock of a PLC may be wrong: what it says counts at the latest from when it was heard.
    """

    HOLD_S = 10.0
    MAX_QUEUE = 1024

    def __init__(self) -> None:
        self.dropped = 0  # changes that a full queue lost
        self._queue: deque[tuple[Verdicts, int, int]] = deque(maxlen=self.MAX_QUEUE)  # end, heard
        self._state: dict[str, _State] = {}

    def offer(self, verdicts: Verdicts, now_ns: int, monotonic_ns: int) -> None:
        """Stage a change; `verdicts.end_ns` is the stamp of the newest sample behind it."""
        self.dropped += len(self._queue) == self.MAX_QUEUE
        self._queue.append((verdicts, min(verdicts.end_ns, now_ns), monotonic_ns))

    def restart(self) -> None:
        """The clock was set back: all that waits is due with the next window."""
        self._queue = deque(((v, 0, heard_ns) for v, _, heard_ns in self._queue), self.MAX_QUEUE)

    def until(self, window: Verdicts, monotonic_ns: int) -> Verdicts | None:
        """The limits in the words of a source, for the window that `window` is about; None if all hold."""
        oldest = monotonic_ns - self.HOLD_S * 1e9
        self._state = {d: s for d, s in self._state.items() if s.heard_ns >= oldest}
        worst = dict(self._state)
        later: deque[tuple[Verdicts, int, int]] = deque(maxlen=self.MAX_QUEUE)
        authors = set()  # each has its devices; what one said last must stay its last word
        for verdicts, end_ns, heard_ns in self._queue:
            if end_ns > window.end_ns or verdicts.devices in authors:
                later.append((verdicts, end_ns, heard_ns))
                authors.add(verdicts.devices)
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
