"""Decoder for the bytes of a capture: pcap and pcapng, both byte orders, micro- and nanoseconds.

Fed with chunks of any size it returns whole packets and keeps what is cut for the next chunk, so that a file,
a gzip stream and a FIFO are read alike, in flat memory.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import numpy as np

from cellwatch.models.types import I64, U32, PacketBlock
from cellwatch.nodes.drivers import records

PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_FILE_HEADER = 24  # bytes of a pcap file header; a section header is longer
_RUNS = 64  # most changes of the link type in one chunk that are kept apart
_SPAN_NS = 200_000_000  # over how long a time packets of several link types are sorted by type

_WHY = {
    records.ABSURD_LENGTH: f"a record of {{length}} bytes (a packet has at most {records.MAX_PACKET})",
    records.BAD_RECORD: "a record without a sane time and length",
    records.BAD_BLOCK: "a block whose two lengths differ",
    records.BAD_PACKET: "a packet that does not fit its block, its interface or its clock",
}


class CaptureError(ValueError):
    """The source cannot be read at all; the text names it and the cure."""


def is_capture(head: bytes) -> bool:
    """Whether `head` (4 bytes or more) begins a pcap or pcapng stream."""
    return head[:4] in PCAP_MAGIC or head[:4] == PCAPNG_MAGIC


def _begins(head: bytes) -> bool:
    """Whether `head` (24 bytes) is the header of another capture, where a record should stand."""
    if head[:4] == PCAPNG_MAGIC:
        return head[8:12] in _BYTE_ORDER
    # Time zone and accuracy are 0 in practice: read as a record, an empty packet, which nobody sends.
    return head[:4] in PCAP_MAGIC and head[8:16] == bytes(8)


class Decoder:
    """One capture stream; another capture may follow in it without a break (`cat a.pcap b.pcap`).

    `feed` takes bytes, `finish` says that no more come. `damage` is empty, or the text that tells at which
    byte reading had to stop; after damage everything fed is ignored.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.damage = ""
        self._rest = b""
        self._place = 0  # byte of the stream at which `_rest` begins
        self._kind = ""
        self._order = "<"
        self._tick_ns = 1000
        self._link_type = 1
        self._faces = np.empty((0, 4), np.int64)  # pcapng interfaces, see records.pcapng_blocks
        self._clock = np.zeros(1, np.int64)

    @property
    def started(self) -> bool:
        """Whether the header of the capture has been seen."""
        return bool(self._kind)

    def feed(self, chunk: bytes) -> list[PacketBlock]:
        """Whole packets in the stream so far, [] while none is complete.

        Blocks of one chunk are in the order of the file; where link types take turns quickly, packets are
        sorted by link type within 0.2 s. Raises CaptureError when the stream does not begin like a capture.
        """
        if self.damage:
            return []
        size = len(self._rest) + len(chunk)
        raw = b"".join((self._rest, chunk))
        position = 0
        blocks: list[PacketBlock] = []
        again = True
        while again:
            if not self._kind:
                begin = self._header(raw[position : min(position + _FILE_HEADER, size)])
                if begin is None:
                    break
                position += begin
            walk = self._pcap if self._kind == "pcap" else self._pcapng
            found, position, problem = walk(raw, size, position)
            blocks += found
            again = self._judge(raw, size, position, problem)
        self._rest = b"" if self.damage else raw[position:size]
        self._place += position
        return blocks

    def finish(self) -> None:
        """Note the end of the stream: half a record is damage."""
        if self._rest and not self.damage:
            what = "record" if self._kind else "header"
            self.damage = (
                f"{self.name}: cut off at byte {self._place + len(self._rest)}, "
                f"inside the {what} that begins at byte {self._place}"
            )

    def fail(self, why: str) -> None:
        """Note that the bytes behind the decoder failed (gzip)."""
        self.damage = f"{self.name}: damaged at byte {self._place + len(self._rest)}: {why}"

    def _header(self, head: bytes) -> int | None:
        """Take the header in; bytes to skip, or None while it is not whole."""
        if len(head) < 4:
            return None
        if not is_capture(head):
            raise CaptureError(
                f"{self.name}: not a capture (it begins with {head[:4].hex(' ')}), need pcap or pcapng"
            )
        if head[:4] == PCAPNG_MAGIC:
            self._kind = "pcapng"
            return 0
        if len(head) < _FILE_HEADER:
            return None
        self._kind = "pcap"
        self._order, self._tick_ns = PCAP_MAGIC[head[:4]]
        # The upper half tells whether frames end with a checksum (FCS); nobody keeps it.
        self._link_type = struct.unpack_from(self._order + "I", head, 20)[0] & 0xFFFF
        return _FILE_HEADER

    def _judge(self, raw: bytes, size: int, position: int, problem: int) -> bool:
        """Whether to walk on from `position`: another capture begins there. Else note the damage, if any."""
        if problem == records.MORE or size - position < _FILE_HEADER:
            return False
        head = raw[position : position + _FILE_HEADER]
        if _begins(head) and not (self._kind == "pcapng" and head[:4] == PCAPNG_MAGIC):
            self._kind = ""
            return True
        length = struct.unpack_from(self._order + "I", raw, position + (8 if self._kind == "pcap" else 4))[0]
        why = _WHY[problem].format(length=length)
        self.damage = f"{self.name}: damaged at byte {self._place + position}: {why}"
        return False

    def _pcap(self, raw: bytes, size: int, position: int) -> tuple[list[PacketBlock], int, int]:
        data = np.frombuffer(raw, dtype=np.uint8)
        at, length, wire, time_ns, _ = _columns((size - position) // 16)
        n, position, problem = records.pcap_records(
            data, size, position, self._order == ">", self._tick_ns, at, length, wire, time_ns
        )
        block = PacketBlock(data, at[:n], length[:n], wire[:n], time_ns[:n], self._link_type)
        return [block] if n else [], position, problem

    def _pcapng(self, raw: bytes, size: int, position: int) -> tuple[list[PacketBlock], int, int]:
        data = np.frombuffer(raw, dtype=np.uint8)
        at, length, wire, time_ns, link = columns = _columns((size - position) // 16)
        n, problem = 0, records.CONTROL
        while problem == records.CONTROL:
            n, position, problem = records.pcapng_blocks(
                data, size, position, self._order == ">", self._faces, self._clock, n, *columns
            )
            if problem == records.CONTROL:
                position, problem = self._control(raw, size, position)
        if not n:
            return [], position, problem
        whole = PacketBlock(data, at[:n], length[:n], wire[:n], time_ns[:n], int(link[0]))
        return _by_link(whole, link[:n]), position, problem

    def _control(self, raw: bytes, size: int, position: int) -> tuple[int, int]:
        """Take a section header or an interface in; where to go on, and CONTROL or why not."""
        if raw[position : position + 4] == PCAPNG_MAGIC:
            order = _BYTE_ORDER.get(raw[position + 8 : position + 12])
            if order is None:
                return position, records.BAD_BLOCK
            section = True
        else:
            order, section = self._order, False
        length = struct.unpack_from(order + "I", raw, position + 4)[0]
        if not 20 <= length <= records.MAX_BLOCK or length % 4:
            return position, records.ABSURD_LENGTH
        if position + length > size:
            return position, records.MORE
        if struct.unpack_from(order + "I", raw, position + length - 4)[0] != length:
            return position, records.BAD_BLOCK
        self._order = order
        if section:
            self._faces = np.empty((0, 4), np.int64)
        else:
            self._faces = np.vstack([self._faces, _interface(order, raw, position, length)])
        return position + length, records.CONTROL


def _columns(rows: int) -> tuple[I64, U32, U32, I64, I64]:
    """Room for places, lengths, lengths on the wire, times and link types."""
    return (
        np.empty(rows, np.int64),
        np.empty(rows, np.uint32),
        np.empty(rows, np.uint32),
        np.empty(rows, np.int64),
        np.empty(rows, np.int64),
    )


def _interface(order: str, raw: bytes, position: int, length: int) -> tuple[int, int, int, int]:
    """Link type, ticks a second, offset in s and snap length (0 = none) of an Interface Description Block."""
    link, snap = struct.unpack_from(order + "HxxI", raw, position + 8)
    ticks, offset_s = 1_000_000, 0
    at, end = position + 16, position + length - 4
    while at + 4 <= end:
        code, size = struct.unpack_from(order + "HH", raw, at)
        if code == 0 or at + 4 + size > end:
            break
        if code == 9 and size == 1:  # if_tsresol
            power = raw[at + 4]
            exponent = min(power & 0x7F, 62 if power & 0x80 else 18)
            ticks = 1 << exponent if power & 0x80 else 10**exponent
        elif code == 14 and size == 8:  # if_tsoffset
            offset_s = struct.unpack_from(order + "q", raw, at + 4)[0]
            offset_s = max(-(1 << 40), min(offset_s, 1 << 40))
        at += 4 + (size + 3) // 4 * 4
    return link, ticks, offset_s, snap


def part_of(block: PacketBlock, pick: Any) -> PacketBlock:
    """The packets `pick` (slice or places) of `block`, over the same bytes."""
    return PacketBlock(
        block.data,
        block.offset[pick],
        block.length[pick],
        block.wire_length[pick],
        block.time_ns[pick],
        block.link_type,
    )


def _by_link(block: PacketBlock, link: I64) -> list[PacketBlock]:
    """`block` cut into blocks of one link type each."""
    cuts = np.flatnonzero(np.diff(link)) + 1
    if len(cuts) <= _RUNS:
        picks: list[Any] = [slice(a, b) for a, b in pairwise([0, *cuts.tolist(), len(link)])]
    else:  # sorted by type, but not farther than a late packet may come
        steps = np.flatnonzero(np.diff(block.time_ns // _SPAN_NS)) + 1
        spans = [np.arange(a, b) for a, b in pairwise([0, *steps.tolist(), len(link)])]
        picks = [span[link[span] == kind] for span in spans for kind in np.unique(link[span])]
    kinds = [int(link[pick][0]) for pick in picks]
    return [
        PacketBlock(p.data, p.offset, p.length, p.wire_length, p.time_ns, kind)
        for p, kind in zip((part_of(block, pick) for pick in picks), kinds, strict=True)
    ]
