"""The tables that packets are folded into, from the first packet of a window to its close."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features import fold
from cellwatch.models.features.packets import U64, Packets
from cellwatch.models.types import F64, I64, U8, U32

I32 = NDArray[np.int32]
STEP = 16_384  # packets folded at once; the tables grow between
MAX_PEERS = 1 << 17  # pairs of device and peer that are remembered; those beyond stay new


@dataclass(slots=True)
class Flows:
    """One row a flow; rows beyond those in use are room."""

    keys: U64  # (f, 9): fold.WINDOW ... fold.KIND
    slots: I32  # (f, 2) of source and destination, -1 = nobody
    last_ns: I64  # (f,)
    packets: I64  # (f,)
    seen: U8  # (f,) fold.SYN | SYN_ACK | RST | PAYLOAD


@dataclass(slots=True)
class Slots:
    """One row a device and window."""

    keys: U64  # (s, 4): window, MAC, address
    stats: F64  # (s, fold.WIDTH)
    first_ns: I64  # (s,)
    last_ns: I64  # (s,)
    gaps: U32  # (s, fold.GAPS)


@dataclass(frozen=True, slots=True)
class Folded:
    """Windows that were closed: g slots, t things that are distinct in one of them."""

    slots: Slots
    flows: Flows  # of the closed windows, ascending in window
    counts: I64  # (g, 5, 3): kind of thing; in all, as destination, as source. Of peers: in all, new
    things: U64  # (t, 4): slot, kind, value, in the order in which they came
    bits: U8  # (t,) fold.SRC | fold.DST
    packets: dict[int, int]  # window -> packets


class FlowTables:
    """Folds packets; `alias` (a, 6) maps (MAC, address) to that under which a device counts."""

    def __init__(self, window_ns: int, alias: U64) -> None:
        self.closed = int(np.iinfo(np.int64).min)  # last window closed; packets of it and before are late
        self.late = 0
        self.oldest = 0  # window, of what is held; 0 = nothing
        self._window_ns = window_ns
        self._alias = alias
        self._before: int | None = None
        self._used = np.zeros(2, dtype=np.int64)  # rows of flows and of slots
        self._room = [0, 0]
        self._flows = Flows(*_rows(0, ((9,), "u8"), ((2,), "i4"), ((), "i8"), ((), "i8"), ((), "u1")))
        self._slots = Slots(
            *_rows(0, ((4,), "u8"), ((fold.WIDTH,), "f8"), ((), "i8"), ((), "i8"), ((fold.GAPS,), "u4"))
        )
        self._flow_index = self._slot_index = np.full(1, fold.EMPTY, dtype=np.int32)
        self._peers = np.empty((MAX_PEERS, 5), dtype=np.uint64)
        self._peer_index = np.full(cells(MAX_PEERS), fold.EMPTY, dtype=np.int32)
        self._peers_used = np.zeros(1, dtype=np.int64)

    def add(self, packets: Packets) -> I32:
        """Fold packets; the slots (n, 2) of their two ends, -1 for nobody and for late packets."""
        n = len(packets)
        slots = np.empty((n, 2), dtype=np.int32)
        columns = [
            _plain(a)
            for a in (
                packets.time_ns, packets.wire_length, packets.src_mac, packets.dst_mac, packets.ip_version,
                packets.ip_header, packets.ip_length, packets.ip_flags, packets.fragment, packets.ttl,
                packets.src_hi, packets.src_lo, packets.dst_hi, packets.dst_lo, packets.l4, packets.src_port,
                packets.dst_port, packets.tcp_flags, packets.window, packets.mss, packets.payload_length,
                packets.app,
            )
        ]  # fmt: skip
        for start in range(0, n, STEP):
            part = [a[start : start + STEP] for a in columns]
            time_ns = part[0]
            if self._before is None:
                self._before = int(time_ns[0])  # the first packet follows none: its time-delta is 0
            self._grow(len(time_ns))
            rows = int(self._used[0])
            self.late += fold.fold(
                self._flow_index, *_arrays(self._flows), self._slot_index, *_arrays(self._slots), self._used,
                self._alias, slots[start : start + STEP], self._window_ns, self.closed, self._before, *part,
            )  # fmt: skip
            self._before = int(time_ns[-1])
            if self._used[0] > rows:
                oldest = int(self._flows.keys[rows : self._used[0], fold.WINDOW].min())
                self.oldest = min(self.oldest, oldest) if self.oldest else oldest
        return slots

    def take(self, last: int) -> tuple[Folded, I32]:
        """Take out all windows up to `last`. Also says where each old slot went: row, or -1 - new slot."""
        flows = Flows(*(a[: self._used[0]] for a in _arrays(self._flows)))
        slots = Slots(*(a[: self._used[1]] for a in _arrays(self._slots)))
        gone = slots.keys[:, fold.WINDOW].astype(np.int64) <= last
        place = np.where(gone, np.cumsum(gone) - 1, -np.cumsum(~gone, dtype=np.int64)).astype(np.int32)
        window = flows.keys[:, fold.WINDOW].astype(np.int64)
        done, left = np.flatnonzero(window <= last), np.flatnonzero(window > last)
        if (np.diff(window[done]) < 0).any():
            done = done[np.argsort(window[done], kind="stable")]
        closed = Slots(*(np.ascontiguousarray(a[gone]) for a in _arrays(slots)))
        over = Flows(*(a[done] for a in _arrays(flows)))
        over.slots = _moved(place, over.slots)
        folded = self._distinct(closed, over, window[done])
        self.oldest = int(window[left].min()) if len(left) else 0
        kept = Flows(*(a[left] for a in _arrays(flows)))
        kept.slots = _moved(-1 - place, kept.slots)
        self._keep(kept, Slots(*(a[~gone] for a in _arrays(slots))))
        return folded, place

    def _distinct(self, slots: Slots, flows: Flows, window: I64) -> Folded:
        counts = np.zeros((len(slots.keys), 5, 3), dtype=np.int64)
        most = 16 * len(window)
        things, bits = np.empty((most, 4), dtype=np.uint64), np.empty(most, dtype=np.uint8)
        found = fold.distinct(
            flows.keys, flows.slots, slots.keys, counts,
            np.full(cells(most), fold.EMPTY, dtype=np.int32), things, bits,
            self._peer_index, self._peers, self._peers_used,
        )  # fmt: skip
        firsts = np.flatnonzero(np.diff(window, prepend=-1))
        by_window = dict(
            zip(window[firsts].tolist(), np.add.reduceat(flows.packets, firsts).tolist(), strict=True)
        )
        return Folded(slots, flows, counts, things[:found], bits[:found], by_window)

    def _keep(self, flows: Flows, slots: Slots) -> None:
        """Make these the contents; a flood's tables are given back once its windows are closed."""
        self._used[:] = len(flows.keys), len(slots.keys)
        if self._room[0] > 8 * max(STEP, len(flows.keys)):
            self._room = [0, 0]
            self._flows, self._slots = flows, slots
            self._grow(STEP)
            return
        for new, old in zip(_arrays(self._flows), _arrays(flows), strict=True):
            new[: len(old)] = old
        for new, old in zip(_arrays(self._slots), _arrays(slots), strict=True):
            new[: len(old)] = old
        self._reindex()

    def _grow(self, more: int) -> None:
        """Make room for `more` packets."""
        flows, slots = (int(used) for used in self._used)
        if flows + more <= self._room[0] and slots + 2 * more <= self._room[1]:
            return
        self._room = [
            max(2 * flows, flows + more, self._room[0]),
            max(2 * slots, slots + 2 * more, self._room[1]),
        ]
        self._flows = Flows(*(_grown(a, flows, self._room[0]) for a in _arrays(self._flows)))
        self._slots = Slots(*(_grown(a, slots, self._room[1]) for a in _arrays(self._slots)))
        self._flow_index = np.empty(cells(self._room[0]), dtype=np.int32)
        self._slot_index = np.empty(cells(self._room[1]), dtype=np.int32)
        self._reindex()

    def _reindex(self) -> None:
        fold.reindex(self._flow_index, self._flows.keys, int(self._used[0]))
        fold.reindex(self._slot_index, self._slots.keys, int(self._used[1]))


def distinct_rows(*columns: NDArray[np.integer[Any]], came: I64 | None = None) -> tuple[I64, I64]:
    """Places of the rows (n,) that differ from all before, and how often each came.

    `came` (n,) says how often each of the rows came; without it, once.
    """
    keys = np.stack([c.astype(np.uint64) for c in columns], axis=1)
    n = len(keys)
    rows, times = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    index = np.full(cells(n), fold.EMPTY, dtype=np.int32)
    used = fold.first_rows(index, keys, np.ones(n, dtype=np.int64) if came is None else came, rows, times)
    return rows[:used], times[rows[:used]]


def _arrays(rows: Flows | Slots) -> list[NDArray[Any]]:
    return [getattr(rows, field.name) for field in fields(rows)]


def _rows(n: int, *kinds: tuple[tuple[int, ...], str]) -> list[NDArray[Any]]:
    return [np.empty((n, *shape), dtype=kind) for shape, kind in kinds]


def _moved(place: I32, slots: I32) -> I32:
    """New slots by `place`; nobody stays nobody."""
    return np.append(place, fold.EMPTY).astype(np.int32)[slots]


def cells(rows: int) -> int:
    """Cells of an index over `rows` rows: a power of two, at most half full."""
    return 1 << max(4, (2 * max(rows, 1) - 1).bit_length())


def _grown(a: NDArray[Any], rows: int, room: int) -> NDArray[Any]:
    out = np.empty((room, *a.shape[1:]), dtype=a.dtype)
    out[:rows] = a[:rows]
    return out


def _plain(a: NDArray[Any]) -> NDArray[Any]:
    """A contiguous read-only view: another kind of array would be compiled for once more."""
    view = np.ascontiguousarray(a).view()
    view.flags.writeable = False
    return view
