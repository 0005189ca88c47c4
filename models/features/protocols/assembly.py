"""Messages out of the bytes of one stream, in order.

Only the first `KEPT` bytes of a message are kept and read: its length costs nothing. Lost bytes inside a
message whose length is known leave the stream in step; otherwise it looks for the next message that it can
tell for sure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features.protocols.compiled import compiled, frozen
from cellwatch.models.features.protocols.dispatch import CODES, describe, signature, size, tiles
from cellwatch.models.features.protocols.topics import intern, new_topics
from cellwatch.models.types import I64, U8

WAYS, SETS = 8, 512  # the table of streams
KEPT = 2048  # bytes of a message that are read
ALONE = 16  # bytes; some stacks send a header first
POOL, LARGEST = 64, 65536  # segments that wait, and the bytes of one

STREAM = np.dtype(
    [
        ("src_hi", "u8"),
        ("src_lo", "u8"),
        ("dst_hi", "u8"),
        ("dst_lo", "u8"),
        ("ports", "i8"),
        ("used", "i8"),  # when it was last used, 0 = free
        ("next", "i8"),  # sequence number of the next byte
        ("place", "i8"),  # in the catalogue
        ("total", "i8"),  # bytes of the message in progress, 0 = not known yet
        ("taken", "i8"),  # of them gone by, 0 = between messages
        ("kept", "i8"),  # of them in `prefix`
        ("memory", "i8"),  # what the protocol remembers
        ("waiting", "i8"),  # segments in the pool
        ("lost", "?"),  # out of step
        ("cut", "?"),  # bytes of the message in progress are missing: `prefix` ends before them
    ],
    align=True,
)
SEGMENT = np.dtype([(name, "i8") for name in ("time_ns", "slot", "length", "missing", "seq")])
COUNTS = ("bytes_lost", "bytes_unread", "bytes_repeated", "out_of_step", "streams_forgotten", "waiting")
LOST, UNREAD, REPEATED, SLIPS, FORGOTTEN, HELD, CLOCK = range(len(COUNTS) + 1)


class State(NamedTuple):
    """All that is kept from block to block: about 14 MiB, of which only what is used is touched."""

    streams: NDArray[Any]  # (SETS * WAYS,) STREAM
    prefix: U8  # (SETS * WAYS, KEPT)
    kept: U8  # the same, read-only like the packets: one type for the compiler
    pool: NDArray[Any]  # (POOL,) SEGMENT, slot -1 = free
    pool_bytes: U8  # (POOL, LARGEST)
    pool_kept: U8  # the same, read-only
    topics: NDArray[Any]
    counts: I64  # (len(COUNTS) + 1,), the last one the clock of `used`


def new_state() -> State:
    """Nothing seen yet."""
    prefix, waiting = np.zeros((SETS * WAYS, KEPT), np.uint8), np.zeros((POOL, LARGEST), np.uint8)
    pool = np.zeros(POOL, SEGMENT)
    pool["slot"] = -1
    return State(
        np.zeros(SETS * WAYS, STREAM),
        prefix,
        frozen(prefix, np.uint8),
        pool,
        waiting,
        frozen(waiting, np.uint8),
        new_topics(),
        np.zeros(len(COUNTS) + 1, np.int64),
    )


@compiled
def emit(
    topics: NDArray[Any], place: int, m: U8, total: int, memory: int, server: bool, packet: int, out: Any
) -> int:
    """Fill `out` with the message of `total` bytes that begins with m; returns the protocol's memory."""
    m = m[:KEPT]  # what is read of a message is not a matter of its segments
    out.packet, out.size, out.protocol = packet, total, CODES[place]
    out.kind, out.function, out.unit, out.address = -1, -1, -1, -1
    out.status, out.count, out.flags, out.qos, out.value_kinds = 0, 0, 0, 0, 0
    out.value_low, out.value_high, out.value_sum, out.value_squares = np.nan, np.nan, 0.0, 0.0
    out.value_count, out.topic, out.topic_length = 0, 0, 0
    memory = describe(place, m, server, memory, out)
    if out.topic_length:
        out.topic = intern(topics, m[out.topic_at : out.topic_at + out.topic_length])
    return memory


@compiled
def _in_step(place: int, m: U8, length: int, first: bool) -> bool:
    """Whether a message surely begins at m[0], which is the `first` byte of a segment or not.

    Within a segment, lengths that add up are chance: one of many places is tried. A header that comes in a
    segment of its own is believed.
    """
    total = size(place, m)
    if total > 0 and (signature(place, m) or (first and tiles(place, m, length))):
        return True
    return first and 0 <= total <= KEPT and length < ALONE


@compiled
def _slip(state: State, slot: int) -> None:
    stream = state.streams[slot]
    stream.taken, stream.total, stream.lost = 0, 0, True
    state.counts[SLIPS] += 1


@compiled
def _keep(state: State, slot: int, m: U8) -> None:
    """Add bytes to the message in progress."""
    stream = state.streams[slot]
    take = 0 if stream.cut else min(len(m), KEPT - stream.kept)
    for i in range(take):
        state.prefix[slot, stream.kept + i] = m[i]
    stream.kept += take
    stream.taken += len(m)


@compiled
def _complete(state: State, slot: int, server: bool, packet: int, out: Any) -> None:
    """Report the message in progress."""
    stream = state.streams[slot]
    m = state.kept[slot][: stream.kept]
    stream.memory = emit(state.topics, stream.place, m, stream.total, stream.memory, server, packet, out)
    stream.taken = 0


@compiled
def feed(state: State, slot: int, m: U8, missing: int, server: bool, packet: int, out: Any, n: int) -> int:
    """Take a stream's next bytes: m, and then `missing` that were not captured; returns the rows filled."""
    stream, at = state.streams[slot], 0
    while at < len(m):
        if stream.lost:
            start = at
            while at < len(m) and not _in_step(stream.place, m[at:], len(m) - at + missing, at == 0):
                at += 1
            state.counts[UNREAD] += at - start
            if at == len(m):
                break
            stream.lost, stream.memory = False, 0
        if stream.taken == 0:
            total = size(stream.place, m[at:])
            if total < 0:
                _slip(state, slot)
            elif 0 < total <= len(m) - at:
                whole = m[at : at + total]
                stream.memory = emit(
                    state.topics, stream.place, whole, total, stream.memory, server, packet, out[n]
                )
                n += 1
                at += total
            else:
                stream.kept, stream.total, stream.cut = 0, total, False
                _keep(state, slot, m[at:])
                at = len(m)
            continue
        if stream.total == 0:  # its header is not complete
            _keep(state, slot, m[at : at + 1])
            at += 1
            stream.total = size(stream.place, state.kept[slot][: stream.kept])
            if stream.total < 0:
                state.counts[UNREAD] += stream.taken
                _slip(state, slot)
        else:
            take = min(stream.total - stream.taken, len(m) - at)
            _keep(state, slot, m[at : at + take])
            at += take
        if stream.taken and stream.taken == stream.total:
            _complete(state, slot, server, packet, out[n])
            n += 1
    return skip(state, slot, missing, server, packet, out, n)


@compiled
def skip(state: State, slot: int, missing: int, server: bool, packet: int, out: Any, n: int) -> int:
    """Pass over bytes that nobody will see; returns the rows filled."""
    stream, left = state.streams[slot], 0
    if missing <= 0:
        return n
    state.counts[LOST] += missing
    if stream.taken and stream.total:
        left = stream.total - stream.taken
        stream.cut = True
        stream.taken += min(missing, left)
        if missing < left:
            return n
        _complete(state, slot, server, packet, out[n])
        n += 1
    if missing > left and not stream.lost:
        _slip(state, slot)
    return n
