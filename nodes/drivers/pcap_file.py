"""Decoder for the bytes of a capture: pcap and pcapng, both byte orders, micro- and nanoseconds.

Fed with chunks of any size it returns whole packets and keeps what is cut for the next chunk, so that a file,
a gzip stream and a FIFO are read alike, in flat memory. Only the record lengths are walked in Python (each
record's place depends on the one before); every other field is gathered with numpy.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cellwatch.models.types import BLOCK_PADDING, I64, U8, PacketBlock

MAX_PACKET = 262_144  # bytes; libpcap's MAXIMUM_SNAPLEN
MAX_BLOCK = 16 * 1024 * 1024  # bytes; longest pcapng block that is believed
PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
_SHB, _IDB, _PB, _SPB, _EPB = 0x0A0D0D0A, 1, 2, 3, 6


class CaptureError(ValueError):
    """The source cannot be read at all; the text names it and the cure."""


@dataclass
class _Interface:
    link_type: int
    ticks_per_s: int = 1_000_000
    offset_s: int = 0


def is_capture(head: bytes) -> bool:
    """Whether `head` (4 bytes or more) begins a pcap or pcapng stream."""
    return head[:4] in PCAP_MAGIC or head[:4] == PCAPNG_MAGIC


def _view(data: U8, at: I64, kind: str) -> np.ndarray:
    """Numbers of dtype `kind` at the byte places `at`, shape (n,)."""
    dtype = np.dtype(kind)
    spread = np.ndarray((len(data) - dtype.itemsize + 1,), dtype, buffer=data.data, strides=(1,))
    return spread[at]


class Decoder:
    """One capture stream.

    `feed` takes bytes, `finish` says that no more come. `damage` is empty, or the text that tells at which
    byte reading had to stop; after damage everything fed is ignored.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.damage = ""
        self.restart = b""  # bytes of a new stream that followed without a break (FIFO)
        self._rest = b""
        self._place = 0  # byte of the stream at which `_rest` begins
        self._kind = ""
        self._order = "<"
        self._scale = 1000
        self._interfaces: list[_Interface] = []
        self._link_type = 1
        self._last_ns = 0

    @property
    def started(self) -> bool:
        """Whether the header of the capture has been seen."""
        return bool(self._kind)

    def feed(self, chunk: bytes) -> list[PacketBlock]:
        """Whole packets in the stream so far, [] while none is complete.

        Raises CaptureError when the stream does not begin like a capture.
        """
        if self.damage:
            return []
        size = len(self._rest) + len(chunk)
        raw = b"".join((self._rest, chunk, bytes(BLOCK_PADDING)))
        if not self._kind:
            if size < 4:
                self._rest = raw[:size]
                return []
            if not is_capture(raw):
                raise CaptureError(
                    f"{self.name}: not a capture (it begins with {raw[:4].hex(' ')}), need pcap or pcapng"
                )
            if raw[:4] == PCAPNG_MAGIC:
                self._kind = "pcapng"
            elif size < 24:
                self._rest = raw[:size]
                return []
            else:
                self._kind = "pcap"
                self._order, self._scale = PCAP_MAGIC[raw[:4]]
                self._link_type = struct.unpack_from(self._order + "I", raw, 20)[0] & 0xFFFF
                return self._pcap(raw, size, 24)
        return self._pcap(raw, size, 0) if self._kind == "pcap" else self._pcapng(raw, size)

    def finish(self) -> None:
        """Note the end of the stream: half a record is damage."""
        if self._rest and not self.damage:
            self.damage = (
                f"{self.name}: cut off at byte {self._place + len(self._rest)}, "
                f"inside the record that begins at byte {self._place}"
            )

    def fail(self, why: str) -> None:
        """Note that the bytes behind the decoder failed (gzip)."""
        self.damage = f"{self.name}: damaged at byte {self._place + len(self._rest)}: {why}"

    def _keep(self, raw: bytes, size: int, position: int) -> None:
        self._rest = raw[position:size]
        self._place += position

    def _pcap(self, raw: bytes, size: int, position: int) -> list[PacketBlock]:
        length_at = struct.Struct(self._order + "I").unpack_from
        places: list[int] = []
        note = places.append
        bad, length = False, 0
        last = size - 16
        while position <= last:
            length = length_at(raw, position + 8)[0]
            if length > MAX_PACKET:
                bad = True
                break
            after = position + 16 + length
            if after > size:
                break
            note(position)
            position = after
        data = np.frombuffer(raw, dtype=np.uint8)
        at = np.array(places, dtype=np.int64)
        why = f"a record claims {length} bytes (a packet has at most {MAX_PACKET})" if bad else ""
        if len(at):
            seconds = _view(data, at, self._order + "u4")
            part = _view(data, at + 4, self._order + "u4")
            wire = _view(data, at + 12, self._order + "u4")
            # A FIFO's next writer may follow without a gap: its file header stands where a record should.
            again = (seconds == 0xA1B2C3D4) | (seconds == 0xA1B23C4D)
            wrong = np.flatnonzero(again | (part >= 1_000_000_000 // self._scale) | (wire == 0))
            if len(wrong):
                keep = int(wrong[0])
                position = int(at[keep])
                if again[keep]:
                    self.restart, why = raw[position:size], ""
                    size = position
                else:
                    why = "a record without a sane time and length"
                at, seconds, part, wire = at[:keep], seconds[:keep], part[:keep], wire[:keep]
        self._keep(raw, size, position)
        if why:
            self.damage = f"{self.name}: damaged at byte {self._place}: {why}"
            self._rest = b""
        if not len(at):
            return []
        return [
            PacketBlock(
                data,
                at + 16,
                _view(data, at + 8, self._order + "u4").astype(np.uint32),
                wire.astype(np.uint32),
                seconds.astype(np.int64) * 1_000_000_000 + part.astype(np.int64) * self._scale,
                self._link_type,
            )
        ]

    def _pcapng(self, raw: bytes, size: int) -> list[PacketBlock]:
        blocks: list[PacketBlock] = []
        places: list[int] = []
        position = 0
        head = struct.Struct(self._order + "II").unpack_from
        last = size - 12
        why = ""
        while position <= last:
            kind, length = head(raw, position)
            if kind == _SHB:  # the same in both byte orders
                mark = raw[position + 8 : position + 12]
                if mark not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                    why = "a section without a byte-order mark"
                    break
                blocks += self._packets(raw, places)
                places = []
                self._order = "<" if mark[0] == 0x4D else ">"
                head = struct.Struct(self._order + "II").unpack_from
                length = head(raw, position)[1]
            if length < 12 or length > MAX_BLOCK or length % 4:
                why = f"a block claims {length} bytes"
                break
            if position + length > size:
                break
            if kind == _EPB:
                if length < 32:
                    why = "a packet block that is too short"
                    break
                places.append(position)
            elif kind == _SHB:
                self._interfaces = []
            elif kind == _IDB:
                self._interfaces.append(self._interface(raw, position, length))
            elif kind in (_PB, _SPB):
                blocks += self._packets(raw, places)
                places = []
                blocks += self._old_packet(raw, position, kind, length)
            position += length
        blocks += self._packets(raw, places)
        self._keep(raw, size, position)
        if why and not self.damage:
            self.damage = f"{self.name}: damaged at byte {self._place}: {why}"
        if self.damage:
            self._rest = b""
        return blocks

    def _interface(self, raw: bytes, position: int, length: int) -> _Interface:
        face = _Interface(struct.unpack_from(self._order + "H", raw, position + 8)[0])
        at, end = position + 16, position + length - 4
        while at + 4 <= end:
            code, size = struct.unpack_from(self._order + "HH", raw, at)
            if code == 0 or at + 4 + size > end:
                break
            if code == 9 and size == 1:  # if_tsresol
                power = raw[at + 4]
                exponent = min(power & 0x7F, 62 if power & 0x80 else 18)
                face.ticks_per_s = 1 << exponent if power & 0x80 else 10**exponent
            elif code == 14 and size == 8:  # if_tsoffset
                face.offset_s = struct.unpack_from(self._order + "q", raw, at + 4)[0]
            at += 4 + (size + 3) // 4 * 4
        return face

    def _packets(self, raw: bytes, places: list[int]) -> list[PacketBlock]:
        """Enhanced Packet Blocks at `places`, one PacketBlock for each link type."""
        if not places:
            return []
        data = np.frombuffer(raw, dtype=np.uint8)
        at = np.array(places, dtype=np.int64)
        order = self._order + "u4"
        face = _view(data, at + 8, order).astype(np.int64)
        length = _view(data, at + 20, order).astype(np.int64)
        room = _view(data, at + 4, order).astype(np.int64) - 32
        wrong = np.flatnonzero((length > room) | (face >= len(self._interfaces)))
        if len(wrong):  # believe nothing behind it
            self.damage = (
                f"{self.name}: damaged at byte {self._place + places[wrong[0]]}: "
                "a packet that does not fit its block"
            )
            keep = int(wrong[0])
            at, face, length = at[:keep], face[:keep], length[:keep]
            if not keep:
                return []
        ticks = (_view(data, at + 12, order).astype(np.uint64) << np.uint64(32)) | _view(data, at + 16, order)
        rate = np.array([i.ticks_per_s for i in self._interfaces], dtype=np.uint64)[face]
        shift = np.array([i.offset_s for i in self._interfaces], dtype=np.int64)[face]
        whole = (ticks // rate).astype(np.int64) + shift
        part = (ticks % rate).astype(np.float64) / rate.astype(np.float64) * 1e9
        time_ns = whole * 1_000_000_000 + np.rint(part).astype(np.int64)
        self._last_ns = int(time_ns[-1])
        links = np.array([i.link_type for i in self._interfaces], dtype=np.int64)[face]
        wire = _view(data, at + 24, order)
        cuts = np.flatnonzero(np.diff(links)) + 1  # runs of one link type keep the order of the packets
        bounds = [0, *cuts.tolist(), len(at)] if len(cuts) < 1000 else []
        if not bounds:  # two links taking turns: one block each
            picks = [np.flatnonzero(links == kind) for kind in np.unique(links)]
        else:
            picks = [np.arange(a, b) for a, b in pairwise(bounds)]
        return [
            PacketBlock(
                data,
                at[pick] + 28,
                length[pick].astype(np.uint32),
                wire[pick].astype(np.uint32),
                time_ns[pick],
                int(links[pick[0]]),
            )
            for pick in picks
        ]

    def _old_packet(self, raw: bytes, position: int, kind: int, length: int) -> list[PacketBlock]:
        """Decode a Simple or obsolete Packet Block; rare, a simple one has no time of its own."""
        if kind == _PB and length >= 32:
            face, _, high, low, captured, wire = struct.unpack_from(self._order + "HHIIII", raw, position + 8)
            offset = position + 28
        elif kind == _SPB and length >= 16:
            face, wire = 0, struct.unpack_from(self._order + "I", raw, position + 8)[0]
            captured, offset, high, low = min(wire, length - 16), position + 12, 0, 0
        else:
            return []
        if face >= len(self._interfaces) or captured > length - (offset - position) - 4:
            return []
        interface = self._interfaces[face]
        if kind == _PB:
            ticks = (high << 32) | low
            self._last_ns = (
                ticks * 1_000_000_000 // interface.ticks_per_s + interface.offset_s * 1_000_000_000
            )
        return [
            PacketBlock(
                np.frombuffer(raw, dtype=np.uint8),
                np.array([offset], dtype=np.int64),
                np.array([captured], dtype=np.uint32),
                np.array([wire], dtype=np.uint32),
                np.array([self._last_ns], dtype=np.int64),
                interface.link_type,
            )
        ]
