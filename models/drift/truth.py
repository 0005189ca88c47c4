"""Labels of a plant that knows the truth: a simulated or a replayed one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.types import Bool, Incident

BENIGN = "benign"


class Truth:
    """What every window was, some time after it: the plant tells of incidents, all else is benign.

    A window that an incident touches in part is neither.
    """

    def __init__(self, wait_ns: int) -> None:
        """`wait_ns`: how long a window waits to be told of its incident, in the time of the windows."""
        self._wait_ns = wait_ns
        self._incidents: dict[str, Incident] = {}  # by name; the last word counts
        self._windows: deque[tuple[int, int, int]] = deque()  # id, start, end

    def incident(self, incident: Incident) -> None:
        """An incident that begins, or whose end is known now."""
        if incident.kind != "normal":
            self._incidents[incident.name] = incident

    def see(self, window_id: int, start_ns: int, end_ns: int) -> None:
        """A window that was judged."""
        self._windows.append((window_id, start_ns, end_ns))

    def due(self, devices: Sequence[str]) -> Iterator[tuple[int, NDArray[np.object_], Bool]]:
        """Id, what each device (d,) was ("benign", "dos/syn-flood"), and whether that is certain (d,)."""
        while self._windows and self._windows[0][2] + self._wait_ns <= self._windows[-1][2]:
            window_id, start_ns, end_ns = self._windows.popleft()
            name, certain = np.full(len(devices), BENIGN, dtype=object), np.ones(len(devices), np.bool_)
            for one in list(self._incidents.values()):
                if one.end_ns <= start_ns:
                    del self._incidents[one.name]
                elif one.onset_ns < end_ns:
                    mine = np.array([name == one.device or name in one.devices for name in devices], np.bool_)
                    whole = one.onset_ns <= start_ns and end_ns <= one.end_ns
                    if whole:
                        name[mine] = _name(one)
                    certain &= ~mine | whole
            yield window_id, name, certain | (name != BENIGN)

    def forget(self) -> None:
        """The windows that wait, not the incidents."""
        self._windows.clear()


def _name(one: Incident) -> str:
    return f"fault/{one.type}" if one.kind == "fault" else f"{one.category}/{one.type}"
