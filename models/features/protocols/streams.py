"""The streams of a capture: one compiled pass over the packets of a block.

Each direction of a connection has a place in a table of fixed size (sets of 8, the least recently used goes
first). A segment that comes too early waits in a pool, until the hole before it is filled, or 16 wait in its
stream, or one has waited for a second: then the bytes of the hole are lost. Bytes seen before are dropped, so
that of overlapping segments the first one counts. A UDP datagram stands alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features.protocols.application import TCP_TABLE, UDP_TABLE
from cellwatch.models.features.protocols.assembly import (
    CLOCK,
    FORGOTTEN,
    HELD,
    LARGEST,
    POOL,
    REPEATED,
    SETS,
    UNREAD,
    WAYS,
    State,
    emit,
    feed,
    skip,
)
from cellwatch.models.features.protocols.codes import MESSAGE
from cellwatch.models.features.protocols.compiled import compiled, entry, fingerprint
from cellwatch.models.features.protocols.dispatch import PLACE, size
from cellwatch.models.features.protocols.headers import SYN, TCP, U16, U64, UDP
from cellwatch.models.types import I64, U8, U32, Bool

WAITING = 16  # segments of one stream
PATIENCE_NS = 1_000_000_000
FAR = 1 << 20  # bytes; a jump beyond is another connection
_WRAP = 1 << 32


class Segments(NamedTuple):
    """What is read of the packets; n rows."""

    offset: I64
    length: U32
    time_ns: I64
    src_hi: U64
    src_lo: U64
    dst_hi: U64
    dst_lo: U64
    src_port: U16
    dst_port: U16
    l4: U8
    app: U8
    tcp_flags: U16
    fragment: Bool
    seq: U32
    payload: I64
    payload_length: U32


@compiled
def _from_server(place: int, tcp: bool, src_port: int, dst_port: int) -> bool:
    """By the protocol's own port, else the lower one is the server's."""
    table = TCP_TABLE if tcp else UDP_TABLE
    source, target = PLACE[table[src_port]] == place, PLACE[table[dst_port]] == place
    return bool(source if source != target else src_port < dst_port)


@compiled
def _ahead(seq: int, following: int) -> int:
    """Bytes from one sequence number to another; they wrap."""
    return (seq - following + _WRAP // 2) % _WRAP - _WRAP // 2


@compiled
def _find(streams: NDArray[Any], src_hi: int, src_lo: int, dst_hi: int, dst_lo: int, ports: int) -> int:
    """Place of a stream in the table, else -1 - the place that it may have."""
    odd = np.uint64(0x9E3779B97F4A7C15)
    h = (src_lo * odd ^ dst_lo) * odd ^ np.uint64(ports)
    h = (h ^ src_hi) * odd ^ dst_hi
    first = int(np.int64((h * odd) >> np.uint64(40)) % SETS) * WAYS
    oldest = first
    for slot in range(first, first + WAYS):
        stream = streams[slot]
        if (
            stream.used
            and stream.ports == ports
            and stream.src_lo == src_lo
            and stream.dst_lo == dst_lo
            and stream.src_hi == src_hi
            and stream.dst_hi == dst_hi
        ):
            return slot
        if stream.used < streams[oldest].used:
            oldest = slot
    return -1 - oldest


@compiled
def _free(state: State, k: int) -> None:
    """Give a place in the pool back."""
    state.streams[state.pool[k].slot].waiting -= 1
    state.counts[HELD] -= 1
    state.pool[k].slot = -1


@compiled
def _restart(state: State, slot: int, seq: int, lost: bool) -> None:
    """A connection begins, or is met, at `seq`."""
    stream = state.streams[slot]
    if stream.waiting:
        for k in range(POOL):
            if state.pool[k].slot == slot:
                state.counts[UNREAD] += state.pool[k].length
                _free(state, k)
    stream.next, stream.lost, stream.taken, stream.total, stream.memory = seq, lost, 0, 0, 0


@compiled
def _wait(state: State, slot: int, m: U8, missing: int, seq: int, now: int) -> bool:
    """Put a segment that came too early into the pool; False = no room."""
    place = -1
    for k in range(POOL):
        row = state.pool[k]
        if row.slot >= 0 and row.slot != slot and abs(now - row.time_ns) > PATIENCE_NS:
            state.counts[UNREAD] += row.length  # its stream has fallen silent
            _free(state, k)
        if row.slot == slot and row.seq == seq and row.length >= len(m):
            state.counts[REPEATED] += len(m)
            return True
        if row.slot < 0:
            place = k
    if place < 0:
        return False
    row = state.pool[place]
    row.slot, row.seq, row.time_ns, row.length = slot, seq, now, min(len(m), LARGEST)
    row.missing = missing + len(m) - row.length
    for j in range(row.length):
        state.pool_bytes[place, j] = m[j]
    state.streams[slot].waiting += 1
    state.counts[HELD] += 1
    return True


@compiled
def _advance(
    state: State, slot: int, m: U8, missing: int, seq: int, server: bool, packet: int, out: Any, n: int
) -> int:
    """Feed what is new of a segment that begins at or before the next byte."""
    stream = state.streams[slot]
    old = -_ahead(seq, stream.next)
    state.counts[REPEATED] += min(old, len(m))
    if old >= len(m) + missing:
        return n
    m, missing = m[min(old, len(m)) :], missing - max(0, old - len(m))
    stream.next = (stream.next + len(m) + missing) % _WRAP
    return feed(state, slot, m, missing, server, packet, out, n)


@compiled
def _drain(state: State, slot: int, now: int, server: bool, packet: int, out: Any, n: int) -> int:
    """Feed the waiting segments whose turn has come; give up a hole that nobody fills."""
    stream, pool = state.streams[slot], state.pool
    while stream.waiting:
        nearest, distance, oldest = 0, FAR * 4, now
        for k in range(POOL):
            if pool[k].slot == slot:
                ahead = _ahead(pool[k].seq, stream.next)
                if ahead < distance:
                    nearest, distance = k, ahead
                oldest = min(oldest, pool[k].time_ns)
        row = pool[nearest]
        if distance > 0:
            if stream.waiting <= WAITING and now - oldest <= PATIENCE_NS:
                break
            stream.next = row.seq
            n = skip(state, slot, distance, server, packet, out, n)
        m = state.pool_kept[nearest][: row.length]
        n = _advance(state, slot, m, row.missing, row.seq, server, packet, out, n)
        _free(state, nearest)
    return n


@compiled
def _segment(
    state: State,
    slot: int,
    m: U8,
    missing: int,
    seq: int,
    now: int,
    server: bool,
    packet: int,
    out: Any,
    n: int,
) -> int:
    """Take a TCP segment: m, and `missing` bytes that were not captured; returns the rows filled."""
    stream = state.streams[slot]
    ahead = _ahead(seq, stream.next)
    if ahead == 0 and stream.waiting == 0:  # as nearly always
        stream.next = (seq + len(m) + missing) % _WRAP
        return feed(state, slot, m, missing, server, packet, out, n)
    if abs(ahead) > FAR:
        _restart(state, slot, seq, True)
        ahead = 0
    waits = ahead > 0 and not (stream.lost and stream.waiting == 0)
    if not (waits and _wait(state, slot, m, missing, seq, now)):
        if ahead > 0:
            stream.next = seq
            n = skip(state, slot, ahead, server, packet, out, n)
        n = _advance(state, slot, m, missing, seq, server, packet, out, n)
    return _drain(state, slot, now, server, packet, out, n)


@compiled
def _datagram(
    state: State, place: int, m: U8, missing: int, server: bool, packet: int, out: Any, n: int
) -> int:
    """Take a UDP datagram; returns the rows filled."""
    at = 0
    while at < len(m):
        total = size(place, m[at:])
        if total <= 0 or total > len(m) - at + missing:
            state.counts[UNREAD] += len(m) - at
            break
        emit(state.topics, place, m[at : min(at + total, len(m))], total, 0, server, packet, out[n])
        n += 1
        at += total
    return n


@compiled
def _room(state: State, slot: int, length: int, out: NDArray[Any], n: int) -> NDArray[Any]:
    """`out` with place for all that a payload can hold, and what waits for it; two bytes are the least."""
    most = n + length // 2 + 2
    if slot >= 0 and state.streams[slot].waiting:
        for k in range(POOL):
            if state.pool[k].slot == slot:
                most += state.pool[k].length // 2 + 3
    if most <= len(out):
        return out
    larger = np.empty(max(most, 2 * len(out)), MESSAGE)
    for i in range(n):  # a slice would bring in the text of its error, and a second of compiling
        larger[i] = out[i]
    return larger


def _build(version: str) -> Callable[..., tuple[NDArray[Any], int]]:
    @entry
    def follow(data: U8, t: Segments, state: State, out: NDArray[Any]) -> tuple[NDArray[Any], int]:
        """Rows (`codes.MESSAGE`) of the messages that the packets complete, and how many there are."""
        version  # noqa: B018
        n = 0
        for i in range(len(t.l4)):
            tcp, place = t.l4[i] == TCP, PLACE[t.app[i]]
            syn = tcp and t.tcp_flags[i] & SYN != 0
            length = int(np.int64(t.payload_length[i]))
            if t.fragment[i] or (length == 0 and not syn) or not (tcp or (t.l4[i] == UDP and place >= 0)):
                continue
            m = data[t.payload[i] : min(t.payload[i] + length, t.offset[i] + np.int64(t.length[i]))]
            missing = length - len(m)
            if not tcp:
                server = _from_server(place, False, t.src_port[i], t.dst_port[i])
                out = _room(state, -1, len(m), out, n)
                n = _datagram(state, place, m, missing, server, i, out, n)
                continue
            ports = int(np.int64(t.src_port[i])) << 16 | int(np.int64(t.dst_port[i]))
            slot = _find(state.streams, t.src_hi[i], t.src_lo[i], t.dst_hi[i], t.dst_lo[i], ports)
            seq = int(np.int64(t.seq[i]))
            if syn:
                seq = (seq + 1) % _WRAP
                if slot >= 0:
                    _restart(state, slot, seq, False)
                if length == 0:
                    continue
            if slot < 0:
                if place < 0:
                    continue
                slot = -1 - slot
                stream = state.streams[slot]
                state.counts[FORGOTTEN] += stream.used > 0
                _restart(state, slot, seq, True)
                stream.src_hi, stream.src_lo = t.src_hi[i], t.src_lo[i]
                stream.dst_hi, stream.dst_lo = t.dst_hi[i], t.dst_lo[i]
                stream.ports, stream.place = ports, place
            stream = state.streams[slot]
            if stream.lost and place >= 0:
                stream.place = place
            state.counts[CLOCK] += 1
            stream.used = state.counts[CLOCK]
            server = _from_server(stream.place, True, t.src_port[i], t.dst_port[i])
            out = _room(state, slot, len(m), out, n)
            n = _segment(state, slot, m, missing, seq, t.time_ns[i], server, i, out, n)
        return out, n

    return follow


follow = _build(fingerprint())
