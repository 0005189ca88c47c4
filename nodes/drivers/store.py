"""`Recorder` writes every stream into a log on disk and forwards it if asked; `Store` reads it back."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cellwatch.nodes.drivers.line_protocol import INT64_MAX, Point, escape_name, parse_line
from cellwatch.nodes.drivers.wal import (
    MAX_BYTES,
    SEGMENT_BYTES,
    SEGMENT_S,
    Block,
    Wal,
    segment_path,
    segments,
    time_span,
    unpack,
)

if TYPE_CHECKING:
    from cellwatch.nodes.drivers.influx_forward import Forwarder

BLOCK_BYTES = 1 << 20
RETRY_S = 1.0  # between attempts to write on a full disk


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """How to record. Sizes are bytes, spans seconds."""

    influx: str = ""  # URL of a server to forward to, see `influx_forward.parse_url`; "" keeps the log only
    sync_s: float = 0.2  # a power cut costs at most this much
    segment_bytes: int = SEGMENT_BYTES
    segment_s: float = SEGMENT_S
    max_bytes: int = MAX_BYTES  # of the log; beyond it the oldest segment goes
    queue_bytes: int = 64 << 20  # in memory while the disk cannot take it; beyond it the oldest go


class ExportStats(NamedTuple):
    """Points since the start; with those pending from before, appended = written + pending + lost.

    written: durable on disk, or, when forwarding, confirmed by the server.
    pending: not yet so; when forwarding this includes what earlier runs left on disk.
    lost: dropped from a full queue, refused by the server, damaged, or deleted before it was sent.
    """

    written: int = 0
    pending: int = 0
    lost: int = 0


class Recorder:
    """Owner of one log: a thread that writes it and, with `settings.influx`, a thread that forwards it.

    `append` never blocks on the disk and never raises, so that recording cannot stop the cell.
    Raises WalError (see `Wal`) on a folder in use or unusable, ValueError on a wrong URL.
    """

    def __init__(self, folder: Path | str, settings: RecorderSettings | None = None) -> None:
        self.settings = settings or RecorderSettings()
        self.warning = ""  # what is wrong with the disk now, "" if nothing
        self._queue: deque[tuple[bytes, int]] = deque()
        self._queued_bytes = 0
        self._appended = 0
        self._dropped = 0
        self._wake = threading.Condition()
        self._synced = threading.Condition()
        self._closing, self._deadline = False, 0.0
        self._hurry = False  # somebody waits in `flush`
        self._unsynced: list[tuple[bytes, int]] = []
        self._forwarder: Forwarder | None = None
        target = None
        if self.settings.influx:
            from cellwatch.nodes.drivers.influx_forward import Forwarder, parse_url

            target = parse_url(self.settings.influx)
        self._wal = Wal(
            folder,
            segment_bytes=self.settings.segment_bytes,
            segment_s=self.settings.segment_s,
            max_bytes=self.settings.max_bytes,
        )
        self.torn_bytes = self._wal.torn_bytes
        self._wal.retain()
        self._start = self._wal.at
        if target is not None:
            self._forwarder = Forwarder(self._wal, target)
            self._forwarder.start()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def folder(self) -> Path:
        """Folder of the log."""
        return self._wal.folder

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong now with the disk and with the server, one sentence each."""
        server = self._forwarder.warning if self._forwarder else ""
        return tuple(text for text in (self.warning, server) if text)

    @property
    def stats(self) -> ExportStats:
        """Where the points are now."""
        with self._wake:
            appended, dropped = self._appended, self._dropped
        durable = self._wal.synced_at - self._start
        waiting = max(0, appended - dropped - durable)
        if self._forwarder is None:
            return ExportStats(durable, waiting, dropped)
        sent = self._forwarder.stats
        return ExportStats(sent.written, sent.pending + waiting, sent.lost + dropped)

    @property
    def appended(self) -> int:
        """Points taken since the start."""
        return self._appended

    @property
    def durable(self) -> int:
        """Of these, the first so many are on disk or lost."""
        return self._wal.synced_at - self._start + self._dropped

    def append(self, lines: bytes, points: int | None = None) -> None:
        """Queue whole lines for the log; `points` is their number, counted if not given."""
        if not lines:
            return
        if lines[-1:] != b"\n":
            lines += b"\n"
        if points is None:
            points = lines.count(b"\n")
        with self._wake:
            self._appended += points
            if self._closing:
                self._dropped += points
                return
            self._queue.append((lines, points))
            self._queued_bytes += len(lines)
            while self._queued_bytes > self.settings.queue_bytes and len(self._queue) > 1:
                old, count = self._queue.popleft()
                self._queued_bytes -= len(old)
                self._dropped += count
            self._wake.notify()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that was appended is durable on disk; False if that took longer than `timeout` s."""
        with self._wake:
            goal = self._appended
            self._hurry = True
            self._wake.notify()

        def done() -> bool:
            return self.durable >= goal

        with self._synced:
            return self._synced.wait_for(done, timeout)

    def close(self, timeout: float = 10.0) -> ExportStats:
        """Write what is queued, let the forwarder catch up for the rest of `timeout` s, and stop.

        What the server has not confirmed stays on disk for the next run. Returns the last stats.
        """
        deadline = self._deadline = time.monotonic() + timeout
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout + RETRY_S)
        if self._forwarder is not None:
            self._forwarder.close(max(0.0, deadline - time.monotonic()))
        if not self._thread.is_alive():
            self._wal.close()
        return self.stats

    def _run(self) -> None:
        due = 0.0
        while True:
            with self._wake:
                if not self._queue and not self._closing:
                    wait = max(0.0, due - time.monotonic()) if self._unsynced else None
                    self._wake.wait_for(lambda: self._queue or self._closing or self._hurry, wait)
                closing = self._closing
            error = self._attempt(self._write_block)
            with self._wake:
                hurry = self._hurry
                self._hurry = hurry and bool(self._queue)
            if self._unsynced and (error or closing or hurry or time.monotonic() >= due):
                error = self._attempt(self._sync) or error
                due = time.monotonic() + self.settings.sync_s
            if error is None:
                self.warning = ""
                if closing and not self._queue:
                    return
                continue
            self.warning = (
                f"cannot write to {self._wal.folder}: {error.strerror}; free space there. "
                f"Points wait in memory, up to {self.settings.queue_bytes >> 20} MiB"
            )
            if closing and time.monotonic() + RETRY_S > self._deadline:
                self._give_up()
                return
            time.sleep(RETRY_S)

    @staticmethod
    def _attempt(action: Callable[[], None]) -> OSError | None:
        """Run an action on the disk; returns what went wrong."""
        try:
            action()
        except OSError as error:
            return error
        return None

    def _write_block(self) -> None:
        """Write the oldest queued lines as one block. Raises OSError; then they are queued as before."""
        with self._wake:
            taken, size = [], 0
            while self._queue and size < BLOCK_BYTES:
                taken.append(self._queue.popleft())
                size += len(taken[-1][0])
            self._queued_bytes -= size
        if not taken:
            return
        block = b"".join([lines for lines, _ in taken]), sum(points for _, points in taken)
        try:
            self._wal.append(*block)
        except OSError:
            self._put_back([block])
            raise
        self._unsynced.append(block)

    def _sync(self) -> None:
        """Make what was written durable. Raises OSError; then it is queued as before."""
        try:
            rotated = self._wal.sync()
        except OSError:
            self._put_back(self._unsynced)
            self._unsynced = []
            self._wal.forget_unsynced()
            raise
        self._unsynced = []
        if rotated:
            self._wal.retain()
        with self._synced:
            self._synced.notify_all()
        if self._forwarder is not None:
            self._forwarder.notify()

    def _put_back(self, blocks: list[tuple[bytes, int]]) -> None:
        with self._wake:
            self._queue.extendleft(reversed(blocks))
            self._queued_bytes += sum(len(lines) for lines, _ in blocks)

    def _give_up(self) -> None:
        """Count what cannot be written as lost."""
        with self._wake:
            self._dropped += sum(points for _, points in self._queue)
            self._queue.clear()


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a log holds."""

    segments: int
    bytes: int
    points: int
    missing: int  # points of damaged blocks inside the log
    first_ns: int  # least and greatest time of a point, 0 if there is none
    last_ns: int
    measurements: dict[str, int] = field(default_factory=dict)  # points of each


class Store:
    """Reading side of a log; also while it is being written, without a lock.

    A point that was recorded twice (a replay) is in the log twice; `nodes.history` keeps the later one.
    Raises FileNotFoundError if there is no such folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no recording in {self.folder}; name the folder of a recording")
        self._spans: dict[int, tuple[int, int]] = {}  # times of closed segments

    def span(self) -> tuple[int, int]:
        """Least and greatest time of a point, (0, 0) if there is none."""
        found = [span for begin in segments(self.folder) if (span := self._span(begin))]
        return min((first for first, _ in found), default=0), max((last for _, last in found), default=0)

    def _span(self, begin: int, data: bytes | None = None) -> tuple[int, int] | None:
        """Times of a segment, as its headers say; None if it holds no point."""
        if begin not in self._spans:
            found = time_span(_read(self.folder, begin) if data is None else data)
            if found is None or begin == max(segments(self.folder), default=begin):  # still written
                return found
            self._spans[begin] = found
        return self._spans[begin]

    def blocks(self, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[Block]:
        """Blocks that may hold points with start_ns <= time < end_ns, in order of recording."""
        low = -INT64_MAX - 1 if start_ns is None else start_ns
        high = INT64_MAX if end_ns is None else end_ns
        for begin in segments(self.folder):
            known = self._spans.get(begin)
            data = _read(self.folder, begin) if known is None else b""
            first, last = known or self._span(begin, data) or (high, low)
            if last >= low and first < high:
                for block in unpack(data or _read(self.folder, begin)):
                    if block.last_ns >= low and block.first_ns < high:
                        yield block

    def lines(
        self,
        measurement: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Iterator[bytes]:
        """Lines of a measurement, with start_ns <= time < end_ns and these tag values, as recorded."""
        wanted = [
            b",%b=%b" % (escape_name(k).encode(), escape_name(v).encode()) for k, v in (tags or {}).items()
        ]
        head = escape_name(measurement).encode() if measurement is not None else rb""
        pattern = re.compile(rb"^%b[, ].*" % re.escape(head) if head else rb"^[^#\n].*", re.MULTILINE)
        for block in self.blocks(start_ns, end_ns):
            inside = (start_ns is None or block.first_ns >= start_ns) and (
                end_ns is None or block.last_ns < end_ns
            )
            for row in pattern.findall(block.lines):
                if wanted and not all(_has_tag(row, tag) for tag in wanted):
                    continue
                if not inside:
                    time_ns = int(row.rpartition(b" ")[2])
                    if (start_ns is not None and time_ns < start_ns) or (
                        end_ns is not None and time_ns >= end_ns
                    ):
                        continue
                yield row

    def points(
        self,
        measurement: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Iterator[Point]:
        """Parse `lines`."""
        return map(parse_line, self.lines(measurement, start_ns, end_ns, tags))

    def count(
        self, start_ns: int | None = None, end_ns: int | None = None, tags: Mapping[str, str] | None = None
    ) -> dict[str, int]:
        """Points of each measurement."""
        heads = Counter(_MEASUREMENT.match(row)[0] for row in self.lines(None, start_ns, end_ns, tags))  # type: ignore[index]
        return {head.decode(): number for head, number in sorted(heads.items())}

    def stats(self) -> StoreStats:
        """Read the whole log and sum it up."""
        begins = segments(self.folder)
        size = sum(segment_path(self.folder, b).stat().st_size for b in begins)
        points = missing = 0
        expected = begins[0] if begins else 0
        first, last = [], []
        heads: Counter[bytes] = Counter()
        for block in self.blocks():
            missing += max(0, block.at - expected)
            expected = block.at + block.points
            points += block.points
            first.append(block.first_ns)
            last.append(block.last_ns)
            heads.update(_MEASUREMENTS.findall(block.lines))
        measurements = {head.decode(): number for head, number in sorted(heads.items())}
        return StoreStats(
            len(begins), size, points, missing, min(first, default=0), max(last, default=0), measurements
        )


def _read(folder: Path, begin: int) -> bytes:
    """A segment, b"" if retention has deleted it since it was listed."""
    try:
        return segment_path(folder, begin).read_bytes()
    except FileNotFoundError:
        return b""


_MEASUREMENT = re.compile(rb"(?:[^\\, ]|\\.)+")
_MEASUREMENTS = re.compile(rb"^(?:[^\\, \n]|\\.)+", re.MULTILINE)


def _has_tag(row: bytes, tag: bytes) -> bool:
    """Whether the series key of a line holds `,key=value`."""
    at = row.find(tag)
    if at < 0 or row[at + len(tag) : at + len(tag) + 1] not in {b",", b" "}:
        return False
    space = row.find(b" ")
    while row[space - 1 : space] == b"\\":
        space = row.find(b" ", space + 1)
    return at < space
