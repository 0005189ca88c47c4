"""Write-ahead log on disk: line protocol in rotating segments that survive `kill -9` and a power cut.

A segment ``0000000000001200.lp`` is a plain line protocol file; its name is the number of points that were in
the log before it. Each block of lines follows a header, which line protocol reads as a comment::

    #cellwatch at=1200 points=2 first=1700000000000000000 last=1700000000100000000 bytes=98 crc32=5f1c3a07

so `grep` and `wc` read a log, and `curl --data-binary @FILE` sends it. `at` is the place in the log (points
before this block), and the checksum covers the header and the lines: a jump of `at` is a loss that every
reader sees.

Durability: `append` hands a block to the kernel (it survives the death of the process), `sync` makes all
blocks durable (they survive a power cut). A torn tail is cut off on opening.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SEGMENT_BYTES = 16 << 20
SEGMENT_S = 3600.0
MAX_BYTES = 4 << 30

_MARK = b"#cellwatch "
_HEADER = re.compile(
    rb"#cellwatch at=(\d+) points=(\d+) first=(-?\d+) last=(-?\d+) bytes=(\d+) crc32=([0-9a-f]{8})\n"
)
_SUFFIX = ".lp"


class WalError(OSError):
    """The log cannot be used."""


class WalLockedError(WalError):
    """Another process writes this log."""


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that were appended together; they are whole and their checksum is right."""

    at: int  # points in the log before this block
    points: int
    first_ns: int  # least and greatest time of the points
    last_ns: int
    lines: bytes
    end: int  # bytes from the start of the segment to the end of this block


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a forwarder has come; `segment` and `offset` only save the search for `at`."""

    destination: str
    at: int = 0
    segment: int = 0
    offset: int = 0


def segment_path(folder: Path, at: int) -> Path:
    """File of the segment that begins at point `at`."""
    return folder / f"{at:016d}{_SUFFIX}"


def segments(folder: Path) -> list[int]:
    """Places at which the segments of a log begin, in order."""
    return sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())


def _time_span(lines: bytes) -> tuple[int, int]:
    """Least and greatest time of the lines; a line without a time does not count."""
    rows = lines.split(b"\n")
    stamps = [row[-20:] for row in rows if row]
    # Nanoseconds of 2001..2286 have 19 digits, so the texts sort as the numbers do.
    if all(s[:1] == b" " and s[1:].isdigit() for s in stamps):
        return int(min(stamps, default=b"0")), int(max(stamps, default=b"0"))
    texts = [row.rpartition(b" ")[2] for row in rows]
    times = [int(t) for t in texts if t.removeprefix(b"-").isdigit()] or [0]
    return min(times), max(times)


def pack(at: int, lines: bytes, points: int) -> bytes:
    """Block as it stands on disk."""
    first, last = _time_span(lines)
    head = b"#cellwatch at=%d points=%d first=%d last=%d bytes=%d" % (at, points, first, last, len(lines))
    return b"%b crc32=%08x\n%b" % (head, zlib.crc32(lines, zlib.crc32(head)), lines)


def unpack(data: bytes, offset: int = 0, base: int = 0) -> Iterator[Block]:
    """Whole blocks of `data` from `offset` on; what is damaged or not yet complete is passed over.

    `base` is the place of data[0] in its segment.
    """
    while (offset := data.find(_MARK, offset)) >= 0:
        match = _HEADER.match(data, offset)
        if match is not None:
            at, points, first, last, size = (int(g) for g in match.groups()[:5])
            start = match.end()
            lines = data[start : start + size]
            if zlib.crc32(lines, zlib.crc32(data[offset : match.start(6) - 7])) == int(match[6], 16):
                offset = start + size
                yield Block(at, points, first, last, lines, base + offset)
                continue
        offset += 1


def time_span(data: bytes) -> tuple[int, int] | None:
    """Least and greatest time of a segment, as the headers of its blocks say; None if there is none."""
    found = _HEADER.findall(data)
    if not found:
        return None
    _, _, first, last, *_ = zip(*found, strict=True)
    return min(map(int, first)), max(map(int, last))


class Wal:
    """Writing side of a log. One owner at a time; not thread-safe, except for its integer attributes.

    Raises WalLockedError if another process has the log, WalError if the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_s: float = SEGMENT_S,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder = Path(folder)
        self.segment_bytes, self.segment_s, self.max_bytes = segment_bytes, segment_s, max_bytes
        self.torn_bytes = 0  # cut off a torn tail on opening
        self._file = -1
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise WalError(
                f"cannot record into {self.folder}: {error.strerror}; free or choose another folder"
            ) from error
        try:
            self._take_lock()
            self._recover()
        except BaseException:
            os.close(self._lock)
            raise

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "?"
            raise WalLockedError(
                f"{self.folder} is recorded into by process {owner}; stop it or choose another folder"
            ) from error
        with contextlib.suppress(OSError):  # a full disk must not stop us here
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)

    def _recover(self) -> None:
        """Open the last segment behind its last whole block."""
        begins = segments(self.folder)
        cursor = load_cursor(self.folder)
        begin = begins[-1] if begins else (cursor.at if cursor else 0)
        self.at, end = begin, 0
        path = segment_path(self.folder, begin)
        try:
            if begins:
                data = path.read_bytes()
                for block in unpack(data):
                    self.at, end = block.at + block.points, block.end
                self.torn_bytes = len(data) - end
            self._open(begin, end)
            if self.torn_bytes:
                os.ftruncate(self._file, end)
            os.fsync(self._file)
        except OSError as error:
            raise WalError(
                f"cannot record into {path}: {error.strerror}; free or choose another folder"
            ) from error
        self.synced_at, self._synced_offset = self.at, end
        self.first_at = begins[0] if begins else begin

    def _open(self, begin: int, offset: int = 0) -> None:
        """Make the segment at `begin` the active one, to be written from `offset`."""
        file = os.open(segment_path(self.folder, begin), os.O_RDWR | os.O_CREAT, 0o644)
        sync_folder(self.folder)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._begin, self._offset, self._synced_offset = file, begin, offset, offset
        self._opened = time.monotonic()

    def append(self, lines: bytes, points: int) -> None:
        """Write one block behind the last one.

        `lines` are whole lines, `points` their number. Raises OSError (no space, ...) with the log unchanged.
        """
        data = memoryview(pack(self.at, lines, points))
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._file, data[done:], self._offset + done)
        except OSError:
            with contextlib.suppress(OSError):  # what stays behind is overwritten by the next block
                os.ftruncate(self._file, self._offset)
            raise
        self._offset += done
        self.at += points

    def sync(self) -> bool:
        """Make all blocks durable, then begin a new segment if this one is full or old; True if so.

        Raises OSError; then call `forget_unsynced` and append the blocks since the last sync again.
        """
        os.fsync(self._file)
        self.synced_at, self._synced_offset = self.at, self._offset
        old = time.monotonic() - self._opened >= self.segment_s
        if self._offset and (self._offset >= self.segment_bytes or old):
            with contextlib.suppress(OSError):  # no room for a new file: go on with this one
                self._open(self.at)
                return True
        return False

    def forget_unsynced(self) -> None:
        """Go back to the last synced block, on a new segment: the kernel may have dropped pages of this one.

        Raises OSError.
        """
        self.at, self._offset = self.synced_at, self._synced_offset
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._offset)
        if self._begin != self.at:
            self._open(self.at)

    def retain(self) -> int:
        """Delete the oldest segments until the log is within `max_bytes`; returns the points deleted.

        The active segment always stays.
        """
        begins, before = segments(self.folder), self.first_at
        sizes = [_size(segment_path(self.folder, b)) for b in begins]
        excess = sum(sizes) - self.max_bytes
        for begin, following, size in zip(begins, begins[1:], sizes, strict=False):
            if excess <= 0:
                break
            segment_path(self.folder, begin).unlink(missing_ok=True)
            self.first_at = following
            excess -= size
        return self.first_at - before

    def close(self) -> None:
        """Close the files and give the log free; call `sync` before."""
        if self._file >= 0:
            os.close(self._file)
            os.close(self._lock)
            self._file = -1


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def sync_folder(folder: Path) -> None:
    """Make new, renamed and deleted names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_cursor(folder: Path) -> Cursor | None:
    """Cursor of the forwarder of a log, None if it never forwarded or the file is unreadable."""
    try:
        return Cursor(**json.loads((folder / "cursor.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def save_cursor(folder: Path, cursor: Cursor) -> None:
    """Replace the cursor in one step: after a crash the old or the new one is there. Raises OSError."""
    partial = folder / "cursor.json.new"
    with partial.open("w", encoding="utf-8") as file:
        json.dump(asdict(cursor), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / "cursor.json")
    sync_folder(folder)
