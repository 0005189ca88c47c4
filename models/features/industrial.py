"""Application messages to the `log_*` columns of DataSense and our `industrial_*` columns.

DataSense's `log_*` describe what a sensor publishes over MQTT; a PUBLISH counts for its sender on the way to
the broker. That the `data-ranges` are statistics of the values themselves, not of max - min, is what its
numbers say: a sensor that always sends 1023 has 1023 in all of them, and an accelerometer has negative ones.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from cellwatch.models.features import messages as ms
from cellwatch.models.features import speakers
from cellwatch.models.features.columns import INDUSTRIAL_COLUMNS, LOG_COLUMNS
from cellwatch.models.features.flow_tables import I32, distinct_rows
from cellwatch.models.features.packets import CODE, Packets
from cellwatch.models.features.protocols.application import TCP_TABLE, UDP_TABLE
from cellwatch.models.types import F64, I64, U8, U32, Bool

DATA_TYPES = ("array", "numeric", "string")  # in the order of a list column
TYPE_BITS = (ms.ARRAY, ms.NUMERIC, ms.STRING)
TABLES = np.stack([UDP_TABLE, TCP_TABLE])  # (2, 65536): PROTOCOLS code of the known ports
_PUBLISH = 3
# A register number means another register in each of Modbus' four tables.
_TABLE = np.zeros(256, dtype=np.uint8)
_TABLE[[1, 5, 15]], _TABLE[[2]], _TABLE[[4]] = 1, 2, 3
_LOG = {name: i for i, name in enumerate(LOG_COLUMNS)}
_INDUSTRIAL = {name: i for i, name in enumerate(INDUSTRIAL_COLUMNS)}
_SPAN = 1 << 34  # more than any register number


@dataclass(frozen=True, slots=True)
class Kept:
    """Messages that wait for their window to close; m rows."""

    ends: I32  # (m, 2) slots of sender and receiver, -1 = none
    protocol: U8
    service: I64  # protocol and function (its kind of message where it has none) in one number
    flags: U8
    unit: I32
    address: I64
    count: I32
    table: U8
    part: I32  # (m, 3) Role of sender and receiver, port of the server
    public: U8  # 1: the sender has a public address, 2: the receiver


@dataclass(frozen=True, slots=True)
class _Published:
    """What was published to a broker; p rows."""

    ends: I32  # (p, 1) slot of the sender
    time_ns: I64
    topic: U32
    count: I32  # numbers in the payload, and their sum, squares and extremes
    sums: F64
    squares: F64
    low: F64
    high: F64
    kinds: U8


Rows = TypeVar("Rows", Kept, _Published)


class MessageWindows:
    """Keeps messages until the windows of their packets close."""

    def __init__(self) -> None:
        self.dissector = ms.Dissector()
        self._kept: list[Kept] = []
        self._published: list[_Published] = []

    def add(self, packets: Packets, slots: I32) -> None:
        """Take in what `packets` complete; `slots` (n, 2) are the slots of each packet's ends."""
        m = self.dissector.messages(packets)
        if not len(m):
            return
        ends = slots[m.packet]
        service = m.protocol.astype(np.int64) << 34
        service += np.where(m.function >= 0, m.function, (1 << 33) + m.kind.astype(np.int64))
        table = np.where(m.protocol == CODE["mbtcp"], _TABLE[m.function & 0xFF], np.uint8(0))
        at = m.packet
        public = np.empty(len(m), dtype=np.uint8)
        speakers.outside(
            packets.src_hi[at], packets.src_lo[at], packets.dst_hi[at], packets.dst_lo[at], public
        )
        part = np.empty((len(m), 3), dtype=np.int32)
        speakers.parts(packets.src_port[at], packets.dst_port[at], packets.l4[at], TABLES, part)
        self._kept.append(
            Kept(ends, m.protocol, service, m.flags, m.unit, m.address, m.count, table, part, public)
        )
        out = np.flatnonzero((m.protocol == CODE["mqtt"]) & (m.function == _PUBLISH) & (ends[:, 0] >= 0))
        row = m.packet[out]
        out = out[packets.dst_port[row] < packets.src_port[row]]
        if len(out):
            self._published.append(
                _Published(
                    ends[out, :1], m.time_ns[out], m.topic[out], m.value_count[out], m.value_sum[out],
                    m.value_squares[out], m.value_low[out], m.value_high[out], m.value_kinds[out],
                )
            )  # fmt: skip

    def take(self, place: I32, slots: int) -> tuple[F64, F64, U8, tuple[Kept, I64] | None]:
        """`log_*` (g, 7), `industrial_*` (g, 14) and the kinds of data (g,) of the g slots that closed.

        And their messages, each that differs once, with how often it came; None without any.

        `place` says for each old slot its new row, or -1 - its new slot if its window is open.
        """
        log, industrial = _silent(slots)
        types = np.zeros(slots, dtype=np.uint8)
        kept, self._kept = _split(self._kept, place)
        published, self._published = _split(self._published, place)
        said = None
        if kept is not None:
            # Polls ask for the same again and again: take each kind of message once, with how often it came.
            first, times = distinct_rows(
                kept.ends[:, 0], kept.ends[:, 1], kept.service, kept.flags, kept.unit, kept.address,
                kept.count, kept.part[:, 0], kept.part[:, 2], kept.public,
            )  # fmt: skip
            said = Kept(*(getattr(kept, f.name)[first] for f in fields(Kept))), times
            _industrial(*said, industrial)
        if published is not None:
            _log(published, log, types)
        return log, industrial, types, said


def _split(parts: list[Rows], place: I32) -> tuple[Rows | None, list[Rows]]:
    """Rows of the slots that closed, and those that wait on."""
    if not parts:
        return None, []
    kind = type(parts[0])
    columns = [np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(kind)]
    ends = columns[0]
    done = np.append(place >= 0, False)[ends].any(axis=1)
    wait = np.append(place < 0, False)[ends].any(axis=1)

    def some(pick: Bool, moved: I32) -> Rows | None:
        if not pick.any():
            return None
        chosen = columns if pick.all() else [c[pick] for c in columns]
        return kind(np.append(moved, np.int32(-1)).astype(np.int32)[chosen[0]], *chosen[1:])

    rest = some(wait, -1 - place)
    return some(done, place), [] if rest is None else [rest]


def _silent(slots: int) -> tuple[F64, F64]:
    """Columns of devices without messages: counts 0, all else NaN."""
    log, industrial = (
        np.full((slots, len(LOG_COLUMNS)), np.nan),
        np.full((slots, len(INDUSTRIAL_COLUMNS)), np.nan),
    )
    log[:, [i for name, i in _LOG.items() if name.endswith("_count")]] = 0.0
    industrial[:, [i for name, i in _INDUSTRIAL.items() if name.endswith("_count")]] = 0.0
    return log, industrial


def _log(part: _Published, out: F64, types: U8) -> None:
    g = len(out)
    slot = part.ends[:, 0]

    def put(name: str, column: F64 | I64, where: Bool | slice = slice(None)) -> None:
        out[where, _LOG[f"log_{name}"]] = column[where]

    put("messages_count", np.bincount(slot, minlength=g))
    np.bitwise_or.at(types, slot, part.kinds)
    put("data-types_count", np.sum([(types & bit) > 0 for bit in TYPE_BITS], axis=0))
    # Cadence: the time between two messages of one topic, ms.
    order = np.lexsort((part.time_ns, part.topic, slot))
    by, topic, at = slot[order], part.topic[order], part.time_ns[order]
    same = (by[1:] == by[:-1]) & (topic[1:] == topic[:-1])
    gaps = np.bincount(by[1:][same], minlength=g)
    total = np.bincount(by[1:][same], weights=(at[1:] - at[:-1])[same], minlength=g)
    some = part.count > 0
    low, high = np.full(g, np.inf), np.full(g, -np.inf)
    np.minimum.at(low, slot[some], part.low[some])
    np.maximum.at(high, slot[some], part.high[some])
    n, sums, squares = (
        np.bincount(slot[some], weights=column[some], minlength=g)
        for column in (part.count, part.sums, part.squares)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        put("interval-messages", total / gaps / 1e6, gaps > 0)
        mean = np.clip(sums / n, low, high)
        spread = np.where(low == high, 0.0, np.sqrt(np.maximum(squares / n - mean * mean, 0.0)))
    for name, column in (("avg", mean), ("max", high), ("min", low), ("std_deviation", spread)):
        put(f"data-ranges_{name}", column, n > 0)


def _industrial(part: Kept, times: I64, out: F64) -> None:
    g = len(out)
    src, dst = part.ends[:, 0], part.ends[:, 1]
    sent, got = np.flatnonzero(src >= 0), np.flatnonzero((dst >= 0) & (dst != src))
    slot = np.concatenate([src[sent], dst[got]]).astype(np.int64)
    row = np.concatenate([sent, got])
    flags, came = part.flags[row], times[row]
    request = (flags & ms.REQUEST) > 0

    def put(name: str, column: F64 | I64) -> None:
        out[:, _INDUSTRIAL[f"industrial_{name}"]] = column

    def count(mask: Bool) -> F64:
        return np.asarray(np.bincount(slot[mask], weights=came[mask], minlength=g), dtype=np.float64)

    def share(mask: Bool) -> F64:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(requests > 0, count(mask) / requests, np.nan)

    requests = count(request)
    read, write = request & ((flags & ms.READ) > 0), request & ((flags & ms.WRITE) > 0)
    put("messages_count", np.bincount(slot, weights=came, minlength=g))
    put("requests_count", requests)
    put("read_ratio", share(read))
    put("write_ratio", share(write))
    put("writes_count", count(write))
    put("controls_count", count(request & ((flags & ms.CONTROL) > 0)))
    put("exceptions_count", count((flags & ms.EXCEPTION) > 0))
    found, times = distinct_rows(slot, part.service[row], came=came)
    put("services_count", np.bincount(slot[found], minlength=g))
    put("services_entropy", _entropy(slot[found], times, g))
    has_unit = (part.unit[row] >= 0).nonzero()[0]
    found, _ = distinct_rows(
        slot[has_unit], part.protocol[row[has_unit]].astype(np.int64), part.unit[row[has_unit]]
    )
    put("units_count", np.bincount(slot[has_unit[found]], minlength=g))
    addressed = request & (part.address[row] >= 0)
    put("registers_count", _registers(part, slot, row, addressed, g))
    put("registers-written_count", _registers(part, slot, row, addressed & write, g))


def _registers(part: Kept, slot: I64, row: I64, mask: Bool, g: int) -> I64:
    """Distinct registers of each slot: the length of the union of the ranges that its messages name."""
    slot, row = slot[mask], row[mask]
    if not len(slot):
        return np.zeros(g, dtype=np.int64)
    space = (
        part.protocol[row].astype(np.int64) << 40
        | (part.unit[row].astype(np.int64) & 0xFFFFFFFF) << 8
        | part.table[row]
    )
    order = np.lexsort((part.address[row], space, slot))
    slot, row, space = slot[order], row[order], space[order]
    border = np.append(False, (slot[1:] != slot[:-1]) | (space[1:] != space[:-1]))
    begin = np.cumsum(border) * _SPAN + np.minimum(part.address[row], _SPAN >> 1)
    end = begin + np.clip(part.count[row], 1, 1 << 16)
    reached = np.maximum.accumulate(np.concatenate([[0], end]))[:-1]
    fresh = np.maximum(end - np.maximum(begin, reached), 0)
    return np.bincount(slot, weights=fresh, minlength=g).astype(np.int64)


def _entropy(slot: I64, times: I64, g: int) -> F64:
    """Shannon entropy, bits, of the `times` that each slot's things came; NaN for a slot without any."""
    total = np.bincount(slot, weights=times, minlength=g)
    p = times / total[slot]
    sums = np.bincount(slot, weights=-p * np.log2(p), minlength=g)
    return np.where(total > 0, np.maximum(sums, 0.0), np.nan)


def gap_entropy(gaps: U32) -> F64:
    """Entropy (g,), bits, of the octaves of the time between packets of one flow; NaN below two gaps."""
    total = gaps.sum(axis=1, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = gaps / total[:, None]
        bits = -np.where(gaps > 0, p * np.log2(np.where(gaps > 0, p, 1.0)), 0.0).sum(axis=1)
    return np.where(total > 1, np.maximum(bits, 0.0), np.nan)
