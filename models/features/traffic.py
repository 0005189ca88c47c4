"""Packets to the traffic features of DataSense and ours, one row a device and window.

`add` folds packets (`fold.py`) and keeps the application messages in them; `close` turns the sums of the
windows that are over into columns. A device is its MAC address, else its IP address; windows lie on whole
multiples of their length since the epoch. What each column means: docs/features.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import ip_address
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features import fold
from cellwatch.models.features import packets as pk
from cellwatch.models.features.columns import (
    COUNT_COLUMNS,
    FLAGS,
    LIST_COLUMNS,
    NETWORK_COLUMNS,
    QUANTITIES,
    SETS,
    SIDES,
    TRAFFIC_COLUMNS,
)
from cellwatch.models.features.conversations import NOBODY, Rows
from cellwatch.models.features.flow_tables import FlowTables, Folded
from cellwatch.models.features.industrial import DATA_TYPES, TYPE_BITS, MessageWindows, gap_entropy
from cellwatch.models.features.packets import U64, Packets
from cellwatch.models.types import F32, F64, I64, U8, Conversations, Ragged, TrafficBatch

__all__ = ["COUNT_COLUMNS", "NETWORK_COLUMNS", "SET_BACK_NS", "TRAFFIC_COLUMNS", "TrafficWindows"]

SET_BACK_NS = (
    10_000_000_000  # older than what is closed by more: not late, another time. No lateness is longer
)


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of one window."""

    devices: tuple[str, ...]
    values: F32
    packets: int
    lists: Mapping[str, Ragged]
    conversations: Conversations


_NOBODY = _Table((), np.zeros((0, len(TRAFFIC_COLUMNS)), np.float32), 0, {}, NOBODY)
_PLACE = {name: i for i, name in enumerate(TRAFFIC_COLUMNS)}
_KINDS = {"ips": fold.IPS, "macs": fold.MACS, "ports": fold.PORT, "protocols": fold.PROTOCOL}


class TrafficWindows:
    """Per-device traffic of windows of `window_s` seconds.

    `names` maps a MAC or an IP address, as text, to a device name. At most `max_devices` rows a window (a
    flood with forged addresses must not fill the memory): named devices first, then those with most
    packets; the rest is counted in `unlisted`. With `lists`, the batches carry the list columns. `late`
    counts packets whose window was closed already, `malformed` broken ones.

    When packets are older than the closed windows by more than a window and `SET_BACK_NS`, and go on there
    for a whole window, the clock was set back: all is closed and begins anew with the next whole window
    (`clock_steps`).
    """

    def __init__(
        self,
        window_s: float,
        names: Mapping[str, str] | None = None,
        *,
        max_devices: int = 1024,
        max_empty: int = 10,
        lists: bool = False,
    ) -> None:
        if not window_s > 0:
            raise ValueError(f"window of {window_s} s: must be longer than 0")
        self.window_ns = round(window_s * 1e9)
        self.names = {_canonical(key): name for key, name in (names or {}).items()}
        self.max_devices = max_devices
        self.max_empty = max_empty
        self.lists = lists
        self.packets = self.malformed = self.unlisted = self.skipped = self.clock_steps = 0
        self._flows = FlowTables(self.window_ns, _alias(self.names))
        self._messages = MessageWindows()
        self._closed: int | None = None  # last window closed: its id (end / length)
        self._broken: dict[int, int] = {}  # malformed by window
        self._reported_late = 0
        self._newest_ns: int | None = None
        self._back_ns: int | None = None  # where packets went on that are far behind what is closed
        self._flushed: list[TrafficBatch] = []  # of the time before the clock was set back
        self._texts: dict[tuple[int, int, int], str] = {}

    @property
    def newest_ns(self) -> int:
        """Time of the newest packet, 0 before the first."""
        return self._newest_ns or 0

    @property
    def late(self) -> int:
        """Packets whose window was closed already."""
        return self._flows.late

    def add(self, packets: Packets) -> None:
        """Take in packets, in the order of the capture."""
        start = self._set_back(packets.time_ns)
        if start is None:
            self._take(packets)
            return
        self._take(_part(packets, slice(0, start)))
        self._flushed += self._close(None)
        self.clock_steps += 1
        self._newest_ns = self._back_ns = None
        self._closed = self._flows.closed = int(packets.time_ns[start]) // self.window_ns + 1  # seen in part
        self._take(_part(packets, slice(start, None)))

    def _set_back(self, time_ns: I64) -> int | None:
        """Place of the first packet of a clock that was set back; None while nothing shows that."""
        limit = (self._flows.closed - 1) * self.window_ns - SET_BACK_NS
        if self._closed is None or not len(time_ns) or time_ns[-1] >= limit:
            self._back_ns = None if len(time_ns) else self._back_ns
            return None
        near = np.flatnonzero(time_ns >= limit)
        start = int(near[-1]) + 1 if len(near) else 0
        if start or self._back_ns is None:
            self._back_ns = int(time_ns[start])
        self._back_ns = min(self._back_ns, int(time_ns[-1]))
        return start if time_ns[-1] - self._back_ns >= self.window_ns else None

    def _take(self, packets: Packets) -> None:
        n = len(packets)
        if not n:
            return
        self.packets += n
        newest = int(packets.time_ns.max())
        self._newest_ns = newest if self._newest_ns is None else max(self._newest_ns, newest)
        broken = np.flatnonzero(packets.malformed)
        if len(broken):
            self.malformed += len(broken)
            ids, counts = np.unique(packets.time_ns[broken] // self.window_ns + 1, return_counts=True)
            for key, count in zip(ids.tolist(), counts.tolist(), strict=True):
                if key > self._flows.closed:
                    self._broken[key] = self._broken.get(key, 0) + count
        slots = self._flows.add(packets)
        self._messages.add(packets, slots)

    def close(self, until_ns: int | None) -> list[TrafficBatch]:
        """Batches of all windows that end at or before `until_ns` (None: of all), oldest first.

        Windows without a packet yield a batch without rows, at most `max_empty` in one call (more:
        `skipped`). Those from before the clock was set back come first.
        """
        before, self._flushed = self._flushed, []
        return before + self._close(until_ns)

    def _close(self, until_ns: int | None) -> list[TrafficBatch]:
        if until_ns is None:
            if self._newest_ns is None:
                return []
            until_ns = (self._newest_ns // self.window_ns + 1) * self.window_ns
        last = until_ns // self.window_ns
        if self._closed is not None and last <= self._closed:
            return []
        ready = bool(self._flows.oldest) and self._flows.oldest <= last
        if not ready and self._closed is None:
            # Nothing has come yet; from now on a window without packets is known to be empty.
            if last > 0 and self._newest_ns is None:
                self._closed = self._flows.closed = last
            return []
        found = self._tables(last) if ready else {}
        first = min(found, default=last) if self._closed is None else self._closed + 1
        empty = [w for w in range(max(first, last - self.max_empty - len(found)), last + 1) if w not in found]
        empty = empty[-self.max_empty :] if self.max_empty else []
        self.skipped += max(0, last + 1 - first - len(found) - len(empty))
        batches = []
        for w in sorted([*found, *empty]):
            table = found.get(w, _NOBODY)
            batches.append(
                TrafficBatch(
                    w,
                    (w - 1) * self.window_ns,
                    w * self.window_ns,
                    TRAFFIC_COLUMNS,
                    table.devices,
                    table.values,
                    table.packets,
                    malformed=self._broken.pop(w, 0),
                    late=self.late - self._reported_late,
                    lists=table.lists,
                    conversations=table.conversations,
                )
            )
            self._reported_late = self.late
        self._closed = self._flows.closed = last
        return batches

    def _tables(self, last: int) -> dict[int, _Table]:
        """Rows of each window up to `last` that has packets."""
        folded, place = self._flows.take(last)
        log, industrial, types, said = self._messages.take(place, len(folded.slots.keys))
        values = np.concatenate([_network(folded), log, industrial], axis=1)
        values[:, _PLACE["industrial_new-peers_count"]] = folded.counts[:, fold.PEER, 1]
        values[:, _PLACE["industrial_interval_entropy"]] = gap_entropy(folded.slots.gaps)
        texts = self._names(folded.slots.keys[:, 1:])
        window = folded.slots.keys[:, fold.WINDOW].astype(np.int64)
        order = np.lexsort((texts, window))
        cuts = np.searchsorted(window[order], [*folded.packets, last + 1]).tolist()
        picks = [self._listed(order[a:b], texts, values) for a, b in pairwise(cuts)]
        rows = np.concatenate(picks) if picks else np.zeros(0, dtype=np.int64)
        lists = _lists(folded, types, rows) if self.lists else {}
        spoken = Rows(folded.flows, said, rows, texts)
        tables: dict[int, _Table] = {}
        stop = 0
        for (w, count), pick in zip(folded.packets.items(), picks, strict=True):
            start, stop = stop, stop + len(pick)
            mine = {name: ragged.part(start, stop) for name, ragged in lists.items()}
            tables[w] = _Table(
                tuple(texts[pick].tolist()),
                values[pick].astype(np.float32),
                count,
                mine,
                spoken.of(start, stop),
            )
        return tables

    def _listed(self, pick: I64, texts: NDArray[np.object_], values: F64) -> I64:
        """At most `max_devices` of the rows of a window."""
        if len(pick) <= self.max_devices:
            return pick
        self.unlisted += len(pick) - self.max_devices
        named = set(self.names.values())
        known = np.array([name in named for name in texts[pick].tolist()])
        rank = np.lexsort((-values[pick, _PLACE["network_packets_all_count"]], ~known))
        return pick[np.sort(rank[: self.max_devices])]

    def _names(self, ends: U64) -> NDArray[np.object_]:
        if len(self._texts) > 65_536:
            self._texts.clear()
        out = np.empty(len(ends), dtype=object)
        for i, end in enumerate(map(tuple, ends.tolist())):  # devices, not packets
            if end not in self._texts:
                text = pk.mac(end[0]) if end[0] else pk.address(end[1], end[2])
                self._texts[end] = self.names.get(text, text)
            out[i] = self._texts[end]
        return out


def _network(folded: Folded) -> F64:
    """NETWORK_COLUMNS (g, 64)."""
    stats = folded.slots.stats
    out = np.full((len(stats), len(NETWORK_COLUMNS)), np.nan)

    def put(name: str, values: NDArray[np.generic]) -> None:
        out[:, _PLACE["network_" + name]] = values

    with np.errstate(divide="ignore", invalid="ignore"):
        for q, name in enumerate(QUANTITIES):
            scale = 1e-9 if name == "time-delta" else 1.0
            n, total, square, low, high = stats[:, 5 * q : 5 * q + 5].T
            some = n > 0
            mean = total / n
            spread = np.sqrt(np.maximum((square - total * mean) / n, 0.0))
            # The smallest difference that 64-bit sums of squares can still show.
            spread = np.where((high == low) & some, 0.0, spread)
            for statistic, column in (("avg", mean), ("std_deviation", spread), ("min", low), ("max", high)):
                put(f"{name}_{statistic}", np.where(some, column * scale, np.nan))
        total = stats[:, fold.PACKETS]
        span = (folded.slots.last_ns - folded.slots.first_ns) / 1e6
        put("interval-packets", np.where(total > 1, span / (total - 1), np.nan))
        datagrams = stats[:, 5 * QUANTITIES.index("header-length")]
        put("fragmentation-score", np.where(datagrams > 0, stats[:, fold.FRAGMENTS] / datagrams, np.nan))
    put("fragmented-packets", stats[:, fold.FRAGMENTS])
    put("packets_all_count", total)
    put("packets_src_count", stats[:, fold.SENT])
    put("packets_dst_count", stats[:, fold.RECEIVED])
    for i, flag in enumerate(FLAGS):
        put(f"tcp-flags-{flag}_count", stats[:, fold.FLAG + i])
    for name, kind in _KINDS.items():
        for i, side in enumerate(SIDES):
            put(f"{name}_{side}_count", folded.counts[:, kind, i])
    return out


def _lists(folded: Folded, types: U8, rows: I64) -> dict[str, Ragged]:
    """LIST_COLUMNS of the slots `rows`; values in the order in which they first came."""
    place = np.full(len(folded.slots.keys), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    at = place[folded.things[:, 0].astype(np.int64)]
    out = {}
    for name in SETS:
        mine = np.flatnonzero((folded.things[:, 1] == _KINDS[name]) & (at >= 0))
        mine = mine[np.argsort(at[mine], kind="stable")]
        hi, lo = folded.things[mine, 2], folded.things[mine, 3]
        if hi.any():  # IPv6
            values, which = np.unique(folded.things[mine, 2:], axis=0, return_inverse=True)
            pairs = values.tolist()
        else:
            values, which = np.unique(lo, return_inverse=True)
            pairs = [(0, value) for value in values.tolist()]
        texts = np.array([_text(name, *pair) for pair in pairs], dtype=object)[which.reshape(-1)]
        for side, wanted in zip(SIDES, (fold.SRC | fold.DST, fold.DST, fold.SRC), strict=True):
            on = (folded.bits[mine] & wanted) > 0
            out[f"network_{name}_{side}"] = Ragged.of(at[mine][on], texts[on], len(rows))
    bits = np.array(TYPE_BITS, dtype=np.uint8)
    row, kind = np.nonzero(types[rows][:, None] & bits)
    out["log_data-types"] = Ragged.of(row, np.array(DATA_TYPES, dtype=object)[kind], len(rows))
    return {name: out[name] for name in LIST_COLUMNS}


def _text(name: str, hi: int, lo: int) -> str:
    if name == "ips":
        return pk.address(hi, lo)
    if name == "macs":
        return pk.mac(lo)
    return pk.PROTOCOLS[lo] if name == "protocols" else str(lo)


def _alias(names: Mapping[str, str]) -> U64:
    """(a, 6): addresses beyond the first of a device that has several, and that first one."""
    first: dict[str, tuple[int, int, int]] = {}
    rows = []
    for text, name in names.items():
        key = _key(text)
        if key is not None and first.setdefault(name, key) != key:
            rows.append((*key, *first[name]))
    return np.array(rows, dtype=np.uint64).reshape(-1, 6)


def _canonical(text: str) -> str:
    """A MAC or IP address as we write it; anything else in lower case."""
    key = _key(text)
    if key is None:
        return text.lower()
    return pk.mac(key[0]) if key[0] else pk.address(key[1], key[2])


def _part(packets: Packets, pick: slice) -> Packets:
    columns = {f.name: getattr(packets, f.name)[pick] for f in fields(packets) if f.name != "block"}
    b = packets.block
    block = replace(
        b,
        offset=b.offset[pick],
        length=b.length[pick],
        wire_length=b.wire_length[pick],
        time_ns=b.time_ns[pick],
    )
    return Packets(**columns, block=block)


def _key(text: str) -> tuple[int, int, int] | None:
    """(MAC, high, low half of the address) of a MAC or IP address as text; None for anything else."""
    digits = text.replace(":", "").replace("-", "")
    if len(digits) == 12 and len(text) > 12:
        try:
            return int(digits, 16), 0, 0
        except ValueError:
            return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    whole = int(found) if found.version == 6 else 0xFFFF << 32 | int(found)
    return 0, whole >> 64, whole & 0xFFFFFFFFFFFFFFFF
