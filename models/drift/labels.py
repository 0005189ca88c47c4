"""Labels that come late, partly or wrong, joined to the windows that were judged."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from cellwatch.models.drift.ring import slots_of
from cellwatch.models.types import F32, F64, I64, Bool

MOST_NAMES = 1000
NEVER_NS = 2**63 - 1
_OPEN, _PENDING, _LEARNT, _DISPUTED = range(4)


class Receipt(NamedTuple):
    """What became of the labels of one submission."""

    joined: int = 0  # new, and taken
    known: int = 0  # said before
    expired: int = 0  # of windows or devices that are unknown, not judged, or no longer kept
    held_back: int = 0  # they contradict others, or stand in a submission that does


class Labelled(NamedTuple):
    """n labelled samples: a window of a device each."""

    end_ns: I64  # (n,) of the window
    probability: F64  # (n,) P(attack) as judged
    objected: Bool  # (n,) judged as not benign
    windows: I64  # (n,) ids
    devices: I64  # (n,) places
    label: I64  # (n,) what it was in truth: place in `Labels.names`, 0 = benign

    @property
    def attack(self) -> Bool:
        """Not benign in truth, (n,)."""
        return self.label > 0


class _Pending(NamedTuple):
    """Labels that wait to be contradicted; k samples."""

    due_ns: int
    windows: I64  # (k,) ids
    slots: I64  # (k,)
    devices: I64  # (k,)


class Labels:
    """The last windows of d devices as they were judged, and the labels that came for them.

    A label is given out once nobody has contradicted it for a while. A submission that contradicts a label
    which came before it is held back as a whole, and so are the labels it contradicts, where they still wait:
    which of the two is wrong cannot be told, and a burst of wrong labels (poisoning) is wrong beyond the few
    samples on which it is found out. What was contradicted stays so.
    """

    def __init__(self, windows: int, settle_ns: int) -> None:
        """`windows` that are kept; `settle_ns` that a label waits, in the time of the windows. ValueError."""
        if windows < 1 or settle_ns < 0:
            raise ValueError("labels need a window at least, and a time to settle that is not negative")
        self._n, self._settle_ns = windows, settle_ns
        self.names = ["benign"]  # labels seen so far
        self.joined = self.expired = self.held_back = 0  # over all
        self.first_ns = NEVER_NS  # start of the first window of all, whichever model judged it
        self.begin(0)

    def begin(self, devices: int) -> None:
        """Forget all windows: another model judges from now on."""
        shape = (self._n, devices)
        self._ids = np.zeros(self._n, np.int64)
        self._start, self._end = np.zeros(self._n, np.int64), np.zeros(self._n, np.int64)
        self._probability, self._objected = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
        self._state, self._label = np.zeros(shape, np.uint8), np.zeros(shape, np.int16)
        self._seen = self._last = 0
        self._pending: deque[_Pending] = deque()

    def see(self, window_id: int, start_ns: int, end_ns: int, probability: F32, objected: Bool) -> None:
        """A window as it was judged: P(attack) (d,), NaN = no verdict, and whether it was objected to (d,).

        An id that does not grow says that the clock was set back: what was kept before is forgotten.
        """
        if self._seen and window_id <= self._ids[self._last]:
            self.begin(len(probability))
        self.first_ns = min(self.first_ns, start_ns)
        self._last = at = self._seen % self._n
        self._ids[at], self._start[at], self._end[at] = window_id, start_ns, end_ns
        self._probability[at], self._objected[at], self._state[at] = probability, objected, _OPEN
        self._seen += 1

    def within(self, start_ns: int, end_ns: int) -> tuple[I64, int]:
        """Ids (k,) of the windows that lie within a stretch as a whole, and how many it has in all.

        All are those from the first window of all to the last one; of these some were never judged, or are no
        longer kept.
        """
        used = slice(0, min(self._seen, self._n))
        inside = (self._start[used] >= start_ns) & (self._end[used] <= end_ns)
        found = np.sort(self._ids[used][inside])
        length = int(self._end[self._last] - self._start[self._last])
        start_ns, end_ns = max(start_ns, self.first_ns), min(end_ns, int(self._end[self._last]))
        whole = end_ns // length + -start_ns // length if length > 0 else 0  # windows stand on a grid
        return found, max(whole, len(found))

    def number(self, name: str) -> int:
        """Place of a label in `names`: "benign", "attack", a category, or "category/type". ValueError."""
        if name not in self.names:
            if len(self.names) == MOST_NAMES:
                raise ValueError(f"label {name!r}: {MOST_NAMES} others were said already")
            self.names.append(name)
        return self.names.index(name)

    def join(self, windows: I64, devices: I64, label: I64) -> Receipt:
        """One submission: k labels (k,), by place in `names`, for windows, by id, and devices, by place.

        A device of -1 is unknown. No window and device stand in it twice. Labels contradict each other where
        one says benign and the other does not; of two kinds of attack the first stays.
        """
        slots = slots_of(windows, self._ids, self._seen)
        there = (slots >= 0) & (devices >= 0)
        there[there] = np.isfinite(self._probability[slots[there], devices[there]])
        expired = len(there) - int(there.sum())
        windows, slots, devices, label = windows[there], slots[there], devices[there], label[there]
        state, before = self._state[slots, devices], self._label[slots, devices]
        fresh, against = state == _OPEN, (state != _OPEN) & ((before > 0) != (label > 0))
        self.expired += expired
        if against.any():
            waits = against & (state == _PENDING)
            self._state[slots[waits], devices[waits]] = _DISPUTED
            held_back = int(fresh.sum() + against.sum())
            self.held_back += held_back + int(waits.sum())
            return Receipt(0, int(len(slots) - held_back), expired, held_back)
        slots, devices = slots[fresh], devices[fresh]
        self._state[slots, devices], self._label[slots, devices] = _PENDING, label[fresh]
        if len(slots):
            due_ns = int(self._end[self._last]) + self._settle_ns
            self._pending.append(_Pending(due_ns, windows[fresh], slots, devices))
        self.joined += len(slots)
        disputed = int((state == _DISPUTED).sum())
        self.held_back += disputed
        return Receipt(len(slots), int(len(state) - len(slots) - disputed), expired, disputed)

    @property
    def due(self) -> bool:
        """Whether `settled` has something to give."""
        return bool(self._pending) and self._pending[0].due_ns <= self._end[self._last]

    def settled(self, most: int) -> Labelled:
        """At most `most` samples whose labels have waited long enough, in the order of submission; once."""
        now_ns = int(self._end[self._last])
        found: list[_Pending] = []
        while self._pending and self._pending[0].due_ns <= now_ns and most > 0:
            due_ns, *rest = self._pending.popleft()
            found.append(_Pending(due_ns, *(part[:most] for part in rest)))
            if len(rest[0]) > most:
                self._pending.appendleft(_Pending(due_ns, *(part[most:] for part in rest)))
            most -= len(found[-1].windows)
        none = np.zeros(0, np.int64)
        windows, slots, devices = (np.concatenate([none, *(p[i] for p in found)]) for i in (1, 2, 3))
        kept = self._ids[slots] == windows
        self.expired += len(kept) - int(kept.sum())
        slots, devices = slots[kept], devices[kept]
        stand = self._state[slots, devices] == _PENDING
        slots, devices = slots[stand], devices[stand]
        self._state[slots, devices] = _LEARNT
        at = slots, devices
        p = self._probability[at].astype(np.float64)
        label = self._label[at].astype(np.int64)
        return Labelled(self._end[slots], p, self._objected[at], self._ids[slots], devices, label)
