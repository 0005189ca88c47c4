"""Where the packets of a capture lie, compiled.

The place of a record follows from the length of the one before, so numpy alone cannot find them. numba walks
the records of pcap, pcapng and the kernel's ring, and writes all columns on the way.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, the kernel's packet_mmap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np
from numba import types

MAX_PACKET = 262_144  # bytes; libpcap's MAXIMUM_SNAPLEN
MAX_BLOCK = 16 * 1024 * 1024  # bytes; longest pcapng block, and longest packet on the wire, that is believed
LAST_S = 9_223_372_035  # s; what int64 ns can hold

# Why a walk stopped.
MORE, ABSURD_LENGTH, BAD_RECORD, BAD_BLOCK, BAD_PACKET, CONTROL = range(6)
SHB, IDB, PB, SPB, EPB = 0x0A0D0D0A, 1, 2, 3, 6

nt: Any = types  # without type hints of its own
_BYTES = nt.Array(nb.uint8, 1, "C", readonly=True)
_I64 = nb.int64[::1]
_U32 = nb.uint32[::1]
_STOP = nt.Tuple((nb.int64, nb.int64, nb.int64))


def _compiled(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile now, or load what an earlier run compiled; never in the middle of a capture."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            kept: Callable[..., Any] = nb.njit(signature, cache=True, nogil=True)(function)
        except RuntimeError:  # no folder to keep it in: compiled at each start
            kept = nb.njit(signature, nogil=True)(function)
        return kept

    return decorate


@_compiled(nb.uint32(_BYTES, nb.int64, nb.boolean))
def word(raw: Any, at: Any, big: Any) -> Any:
    """Four bytes as a number."""
    a, b, c, d = nb.uint32(raw[at]), nb.uint32(raw[at + 1]), nb.uint32(raw[at + 2]), nb.uint32(raw[at + 3])
    if big:
        return (a << 24) | (b << 16) | (c << 8) | d
    return (d << 24) | (c << 16) | (b << 8) | a


@_compiled(_STOP(_BYTES, nb.int64, nb.int64, nb.boolean, nb.int64, _I64, _U32, _U32, _I64))
def pcap_records(
    raw: Any, size: Any, position: Any, big: Any, tick_ns: Any, at: Any, length: Any, wire: Any, time_ns: Any
) -> Any:
    """Walk pcap records in `raw[position:size]`, fractions of a second in ticks of `tick_ns`.

    Fills the columns from their start and returns how many, where it stopped and why.
    """
    n = 0
    while position + 16 <= size:
        captured = word(raw, position + 8, big)
        if captured > MAX_PACKET:
            return n, position, ABSURD_LENGTH
        part, whole = word(raw, position + 4, big), word(raw, position + 12, big)
        if part * tick_ns >= 1_000_000_000 or whole == 0 or whole > MAX_BLOCK:
            return n, position, BAD_RECORD
        if position + 16 + captured > size:
            break
        at[n], length[n], wire[n] = position + 16, captured, whole
        time_ns[n] = nb.int64(word(raw, position, big)) * 1_000_000_000 + part * tick_ns
        n += 1
        position += 16 + captured
    return n, position, MORE


@_compiled(
    _STOP(
        _BYTES, nb.int64, nb.int64, nb.boolean, nb.int64[:, ::1], _I64, nb.int64, _I64, _U32, _U32, _I64, _I64
    )
)
def pcapng_blocks(
    raw: Any, size: Any, position: Any, big: Any, faces: Any, clock: Any, n: Any,
    at: Any, length: Any, wire: Any, time_ns: Any, link: Any,
) -> Any:  # fmt: skip
    """Walk pcapng blocks in `raw[position:size]` up to the next section header or interface (CONTROL).

    `faces` (k, 4): link type, ticks a second, offset in s and snap length of each interface. `clock` (1,) is
    the time of the last packet, for Simple Packet Blocks, which have none. Fills the columns from row `n` on.
    """
    while position + 12 <= size:
        kind, total = word(raw, position, big), nb.int64(word(raw, position + 4, big))
        if kind in (SHB, IDB):
            return n, position, CONTROL
        if total < 12 or total > MAX_BLOCK or total % 4:
            return n, position, ABSURD_LENGTH
        if position + total > size:
            break
        if word(raw, position + total - 4, big) != total:
            return n, position, BAD_BLOCK
        if kind not in (EPB, PB, SPB):
            position += total
            continue
        head = 12 if kind == SPB else 28
        room = total - head - 4
        if room < 0:
            return n, position, BAD_PACKET
        face = nb.int64(0)
        if kind == SPB:
            whole = nb.int64(word(raw, position + 8, big))
            captured = min(whole, room)
        else:
            face = nb.int64(word(raw, position + 8, big))
            if kind == PB:  # two bytes of interface, two of drops
                face = face >> 16 if big else face & 0xFFFF
            captured, whole = nb.int64(word(raw, position + 20, big)), nb.int64(word(raw, position + 24, big))
        if face >= len(faces) or captured > room or whole > MAX_BLOCK:
            return n, position, BAD_PACKET
        if kind == SPB:
            if faces[0, 3] > 0:
                captured = min(captured, faces[0, 3])
        else:
            ticks = (nb.uint64(word(raw, position + 12, big)) << nb.uint64(32)) | nb.uint64(
                word(raw, position + 16, big)
            )
            rate = nb.uint64(faces[face, 1])
            seconds = ticks // rate
            if seconds > LAST_S or not 0 <= nb.int64(seconds) + faces[face, 2] <= LAST_S:
                return n, position, BAD_PACKET
            part = np.rint(nb.float64(ticks % rate) / nb.float64(rate) * 1e9)
            clock[0] = (nb.int64(seconds) + faces[face, 2]) * 1_000_000_000 + nb.int64(part)
        at[n], length[n], wire[n] = position + head, captured, whole
        time_ns[n], link[n] = clock[0], faces[face, 0]
        n += 1
        position += total
    return n, position, MORE


@_compiled(nb.boolean(nb.uint8[::1], nb.int64, nb.int64, _I64, _U32, _U32, _I64))
def ring_packets(raw: Any, position: Any, count: Any, at: Any, length: Any, wire: Any, time_ns: Any) -> Any:
    """Walk `count` packets (tpacket3_hdr, little-endian) of one block of the ring; whether all lie inside it.

    A VLAN tag that the network card or the kernel took off is put back: `raw` changes, the two MAC addresses
    move four bytes down, where the ring keeps room for them.
    """
    size = len(raw)
    for n in range(count):
        if position < 0 or position + 68 > size:
            return False
        status = word(raw, position + 20, False)
        captured, whole = word(raw, position + 12, False), word(raw, position + 16, False)
        start = position + raw[position + 24] + (nb.int64(raw[position + 25]) << 8)
        if start + captured > size:
            return False
        if status & 0x10 and captured >= 12:  # TP_STATUS_VLAN_VALID
            for i in range(12):
                raw[start - 4 + i] = raw[start + i]
            known = status & 0x40 != 0  # TP_STATUS_VLAN_TPID_VALID
            raw[start + 8] = raw[position + 37] if known else 0x81
            raw[start + 9] = raw[position + 36] if known else 0x00
            raw[start + 10], raw[start + 11] = raw[position + 33], raw[position + 32]
            start, captured, whole = start - 4, captured + 4, whole + 4
        at[n], length[n], wire[n] = start, captured, whole
        time_ns[n] = nb.int64(word(raw, position + 4, False)) * 1_000_000_000 + word(raw, position + 8, False)
        position += nb.int64(word(raw, position, False))
    return True
