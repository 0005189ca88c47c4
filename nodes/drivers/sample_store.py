"""Feature windows and settled labels on disk, as serialised messages: what models can be made anew from.

A segment `0000000000000007.samples` is a row of records, each behind a header of 40 bytes, little-endian::

    magic "CWS1" | kind | window id | time in ns | bytes | CRC-32 of the bytes | CRC-32 of this header

Durability: `append_*` hands a record to the kernel, so it survives the death of the process (kill -9); after
a power cut the newest ones may be gone. A torn tail is cut off on opening. A reader passes over what is
damaged, up to the next header that is whole, and counts it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SEGMENT_BYTES = 16 << 20
MAX_BYTES = 1 << 30
WINDOW, LABELS = 1, 2  # kinds

_SUFFIX = ".samples"
_MAGIC = b"CWS1"
_HEADER = struct.Struct("<4sIqqQII")  # magic, kind, window id, ns, bytes, CRC of the bytes, of the header
_CHECK = struct.Struct("<I")  # the last field


class Record(NamedTuple):
    """One message."""

    kind: int
    window_id: int  # 0 for labels
    time_ns: int  # end of the window; when the labels were settled
    data: bytes


@dataclass(frozen=True, slots=True)
class Samples:
    """What a store holds, in the order in which it came."""

    windows: list[bytes] = field(default_factory=list)
    labels: list[bytes] = field(default_factory=list)
    damaged: int = 0  # stretches that were passed over


class SampleStore:
    """Writing side. One owner at a time; `append_*` never raises: what cannot be written is counted as lost.

    The oldest segment goes when all of them are larger than `max_bytes`. OSError from the constructor if the
    folder cannot be used, or if another process writes there.
    """

    def __init__(
        self, folder: Path | str, *, max_bytes: int = MAX_BYTES, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.folder = Path(folder)
        self.max_bytes, self.segment_bytes = max_bytes, min(segment_bytes, max(max_bytes // 2, 1))
        self.windows = self.labels = self.lost = 0  # since the start
        self.warning = ""  # what is wrong with the disk now, "" if nothing
        self._file = -1
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(error.errno, "another process writes there", str(self.folder)) from None
            numbers = _segments(self.folder)
            self._number = numbers[-1] if numbers else 0
            self._sizes = {n: _path(self.folder, n).stat().st_size for n in numbers}
            self.torn_bytes = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def append_window(self, window_id: int, end_ns: int, data: bytes) -> None:
        """Keep a window, a serialised FeatureWindow."""
        self.windows += self._append(Record(WINDOW, window_id, end_ns, data))

    def append_labels(self, at_ns: int, data: bytes) -> None:
        """Keep labels, a serialised SettledLabels; they come after the windows that they speak of."""
        self.labels += self._append(Record(LABELS, 0, at_ns, data))

    def close(self) -> None:
        """Bring everything to the disk and give the folder free."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
            os.close(self._lock)
            self._file = -1

    def _append(self, record: Record) -> bool:
        head = _pack(record)
        try:
            if self._offset >= self.segment_bytes:
                self._rotate()
            size = len(head) + len(record.data)
            done = os.pwritev(self._file, (head, record.data), self._offset)
            while done < size:
                done += os.pwrite(self._file, (head + record.data)[done:], self._offset + done)
        except OSError as error:
            with contextlib.suppress(OSError):  # what stays behind is overwritten by the next record
                os.ftruncate(self._file, self._offset)
            self.lost += 1
            self.warning = f"samples cannot be written to {self.folder}: {error.strerror}; free space there"
            return False
        self._offset += size
        self._sizes[self._number] = self._offset
        self.warning = ""
        return True

    def _open(self) -> int:
        """Open the segment of `_number` behind its last whole record; returns the bytes cut off there."""
        path = _path(self.folder, self._number)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = max((end for _, end in _records(path.read_bytes())), default=0)
            torn = os.fstat(file).st_size - end
            if torn:
                os.ftruncate(file, end)
        except BaseException:
            os.close(file)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._offset = file, end
        self._sizes[self._number] = end
        return torn

    def _rotate(self) -> None:
        """Begin a new segment, and let the oldest ones go."""
        self._number += 1
        try:
            self._open()
        except OSError:
            self._number -= 1
            raise
        while len(self._sizes) > 1 and sum(self._sizes.values()) + self.segment_bytes > self.max_bytes:
            oldest = min(self._sizes)
            _path(self.folder, oldest).unlink(missing_ok=True)
            del self._sizes[oldest]


def read(folder: Path | str, since_ns: int = 0, until_ns: int = 0) -> Samples:
    """Windows with since_ns <= end and end <= until_ns (0: all), and all labels that came with or after them.

    Also while another process writes there. FileNotFoundError if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no store of samples in {folder}")
    windows, labels, damaged = [], [], 0
    for number in _segments(folder):
        try:
            content = _path(folder, number).read_bytes()
        except FileNotFoundError:  # the oldest one has gone since we listed it
            continue
        behind = 0
        for record, end in _records(content):
            damaged += end - _HEADER.size - len(record.data) != behind
            behind = end
            if record.kind == LABELS and record.time_ns >= since_ns:
                labels.append(record.data)
            elif record.kind == WINDOW and since_ns <= record.time_ns <= (until_ns or record.time_ns):
                windows.append(record.data)
        damaged += behind != len(content)
    return Samples(windows, labels, damaged)


def _pack(record: Record) -> bytes:
    """The header of a record."""
    check = zlib.crc32(record.data)
    head = _HEADER.pack(_MAGIC, *record[:3], len(record.data), check, 0)[: -_CHECK.size]
    return head + _CHECK.pack(zlib.crc32(head))


def _records(content: bytes) -> Iterator[tuple[Record, int]]:
    """Whole records, each with the place behind it; what is damaged is passed over."""
    at = 0
    while (at := content.find(_MAGIC, at)) >= 0 and at + _HEADER.size <= len(content):
        _, kind, window_id, time_ns, size, check, own = _HEADER.unpack_from(content, at)
        start = at + _HEADER.size
        if own == zlib.crc32(content[at : start - _CHECK.size]):
            data = content[start : start + size]
            if len(data) == size and zlib.crc32(data) == check:
                at = start + size
                yield Record(kind, window_id, time_ns, data), at
                continue
        at += 1


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:016d}{_SUFFIX}"


def _segments(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
