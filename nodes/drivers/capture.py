"""Sources of raw packets: capture files, a pcap stream through a FIFO, a live interface.

    with opened("traffic.pcap") as source:
        while not source.exhausted:
            for block in source.read(timeout_s=0.1):
                ...

Every source has `name`, `damage` ("" or what is wrong: at which byte, or with the interface), `exhausted` (no
packet will ever come again), `dropped` (packets the kernel lost), `frozen` (times its ring was full),
`read(timeout_s)` and `close()`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers.gunzip import MAGIC as GZIP_MAGIC
from cellwatch.nodes.drivers.gunzip import GzipStream
from cellwatch.nodes.drivers.live_capture import LiveCapture, LiveSettings
from cellwatch.nodes.drivers.pcap_file import CaptureError, Decoder, is_capture, part_of

__all__ = [
    "CaptureError",
    "FifoCapture",
    "FileCapture",
    "LiveCapture",
    "LiveSettings",
    "PacedCapture",
    "Source",
    "open_source",
    "opened",
    "read_all",
]

CHUNK = 1 << 20  # bytes read at a time; twice that no longer stays in a core's cache
Clock = Callable[[], int]


class Source(Protocol):
    """What every source of packets offers."""

    @property
    def name(self) -> str:
        """File, FIFO or interface."""

    @property
    def damage(self) -> str:
        """What is wrong: at which byte, or with the interface; "" if nothing is."""

    @property
    def exhausted(self) -> bool:
        """Whether no packet will ever come again."""

    @property
    def dropped(self) -> int:
        """Packets lost before they reached us, since the start."""

    @property
    def frozen(self) -> int:
        """Times the kernel found its ring full, since the start."""

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:
        """Blocks that are there; waits at most `timeout_s` for the first."""

    def close(self) -> None:
        """Release what is held."""


class FileCapture:
    """A pcap or pcapng file, gzipped or not; each `read` yields what is in the next 1 MiB.

    Raises CaptureError when there is no such file or it is no capture. A file damaged half-way is read up
    to the damage, then `exhausted` with `damage` set. An empty capture (header only) is fine; a file of 0
    bytes is not.
    """

    dropped = frozen = 0

    def __init__(self, path: str | Path, *, chunk: int = CHUNK) -> None:
        self.name = str(path)
        self.exhausted = False
        self._chunk = chunk
        self._decoder = Decoder(self.name)
        try:
            file = Path(path).open("rb")  # noqa: SIM115
        except OSError as error:
            raise CaptureError(f"{path}: cannot open the capture: {error.strerror}") from None
        self._file: IO[bytes] | GzipStream = file
        try:
            if file.read(2) == GZIP_MAGIC:
                self._file = GzipStream(file)
            file.seek(0)
            self._first = b""
            while len(self._first) < 4 and (more := self._file.read(chunk)):
                self._first += more
        except OSError as error:
            file.close()
            raise CaptureError(f"{path}: not a readable capture: {error}") from None
        if not is_capture(self._first):
            file.close()
            why = getattr(self._file, "damage", "")
            seen = f"it begins with {self._first[:4].hex(' ')}" if self._first else "it is empty"
            raise CaptureError(f"{path}: not a capture ({why or seen}); need pcap or pcapng, gzipped or not")

    @property
    def damage(self) -> str:
        """Where and why reading had to stop, "" if it did not."""
        return self._decoder.damage

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:  # noqa: ARG002
        """Packets of the next chunk; [] at the end."""
        while not self.exhausted:
            chunk, self._first = self._first, b""
            why = ""
            if not chunk:
                try:
                    chunk = self._file.read(self._chunk)
                except OSError as error:
                    why = str(error)
            if chunk:
                blocks = self._decoder.feed(chunk)
                self.exhausted = bool(self._decoder.damage)
                if blocks:
                    return blocks
                continue
            why = why or getattr(self._file, "damage", "")
            if why:
                self._decoder.fail(why)
            self._decoder.finish()
            self.exhausted = True
        return []

    def close(self) -> None:
        """Close the file."""
        self.exhausted = True
        self._file.close()


class FifoCapture:
    """A pcap stream through a named pipe, e.g. from `tcpdump -w - > FIFO`.

    Never blocks on a missing writer and never ends: when a writer goes, the next one starts with its own
    header. A writer that sends no capture, or breaks off inside a packet, is noted in `damage` and skipped
    up to its end; the packets of the next one clear it.
    """

    exhausted = False
    dropped = frozen = 0

    def __init__(self, path: str | Path, *, chunk: int = CHUNK) -> None:
        self.name = str(path)
        self.damage = ""
        self._chunk = chunk
        self._decoder = Decoder(self.name)
        self._deaf = False  # this writer cannot be understood
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise CaptureError(f"{path}: cannot open the FIFO: {error.strerror}") from None
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise CaptureError(f"{path}: is no FIFO; make one with mkfifo")
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:
        """Whole packets that have come; half a packet waits for its other half."""
        end = time.monotonic() + timeout_s
        while True:
            parts: list[bytes] = []
            gone = False
            while sum(map(len, parts)) < self._chunk:  # a pipe yields 64 KiB at a time
                try:
                    part = os.read(self._fd, self._chunk)
                except BlockingIOError:
                    break
                if not part:
                    gone = True
                    break
                parts.append(part)
            blocks = self._take(b"".join(parts)) if parts else []
            if gone:
                self._next_writer()
            left = end - time.monotonic()
            if blocks or left <= 0:
                return blocks
            if gone:  # poll would report the hang-up again and again
                time.sleep(min(left, 0.02))
            else:
                self._poll.poll(max(1, int(left * 1000)))

    def _take(self, data: bytes) -> list[PacketBlock]:
        if self._deaf:
            return []
        try:
            blocks = self._decoder.feed(data)
        except CaptureError as error:
            self.damage, self._deaf = str(error), True
            return []
        if self._decoder.damage:
            self.damage, self._deaf = self._decoder.damage, True
        elif blocks:
            self.damage = ""
        return blocks

    def _next_writer(self) -> None:
        if self._decoder.started or self._deaf:
            self._decoder.finish()
            self.damage = self._decoder.damage or self.damage
            self._decoder, self._deaf = Decoder(self.name), False

    def close(self) -> None:
        """Close the pipe."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.exhausted = True


class PacedCapture:
    """Plays a file like tcpreplay: its packets are stamped with the wall clock.

    `speed` > 0: the rate times `speed`; time 0 of the file is the first `read`, spans are divided by `speed`.
    `speed` = 0: as fast as it goes; the packets of a chunk are spread over the time since the chunk before.
    The first `skip` packets are left out, and the file begins behind them.
    """

    def __init__(self, source: Source, speed: float, clock: Clock = time.time_ns, *, skip: int = 0) -> None:
        if not speed >= 0:
            raise CaptureError(f"speed {speed}: must be 0 (top speed) or more")
        self.name = source.name
        self._source = source
        self._speed = speed
        self._clock = clock
        self._skip = skip
        self._waiting: deque[PacketBlock] = deque()
        self._origin_ns: tuple[int, int] | None = None  # (file, wall)
        self._last_ns = 0

    @property
    def damage(self) -> str:
        """Damage of the file."""
        return self._source.damage

    @property
    def dropped(self) -> int:
        """Packets lost by the source."""
        return self._source.dropped

    @property
    def frozen(self) -> int:
        """Times the source was full."""
        return self._source.frozen

    @property
    def exhausted(self) -> bool:
        """Whether the last packet has been played."""
        return self._source.exhausted and not self._waiting

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:
        """Packets that are due."""
        if self._speed == 0:
            return self._stamped(self._fresh())
        end = self._clock() + int(timeout_s * 1e9)
        while True:
            blocks = self._due(self._clock())
            left = end - self._clock()
            if blocks or left <= 0 or self.exhausted:
                return blocks
            time.sleep(min(left / 1e9, 0.005))

    def _fresh(self) -> list[PacketBlock]:
        """What the file has next, behind the packets to skip."""
        while True:
            blocks = self._source.read()
            if not self._skip or not blocks:
                return blocks
            kept = []
            for block in blocks:
                over = min(self._skip, len(block.time_ns))
                self._skip -= over
                if over < len(block.time_ns):
                    kept.append(part_of(block, slice(over, None)))
            if kept:
                return kept

    def _stamped(self, blocks: list[PacketBlock]) -> list[PacketBlock]:
        now = self._clock()
        total = sum(len(b.time_ns) for b in blocks)
        start = max(self._last_ns, now - 1_000_000_000) if self._last_ns else now
        start = min(start, now)
        self._last_ns = now
        done = 0
        stamped = []
        for block in blocks:
            n = len(block.time_ns)
            place = np.arange(done + 1, done + n + 1, dtype=np.float64) / total
            stamped.append(replace(block, time_ns=start + (place * (now - start)).astype(np.int64)))
            done += n
        return stamped

    def _due(self, now: int) -> list[PacketBlock]:
        due: list[PacketBlock] = []
        while True:
            if not self._waiting:
                for block in self._fresh():
                    if self._origin_ns is None:
                        self._origin_ns = (int(block.time_ns.min()), now)
                    start, wall = self._origin_ns
                    span = (block.time_ns - start).astype(np.float64) / self._speed
                    self._waiting.append(replace(block, time_ns=wall + span.astype(np.int64)))
                if not self._waiting:
                    return due
            block = self._waiting[0]
            # Packets leave in the order of the file, as from tcpreplay, even where its clock steps back.
            late = np.flatnonzero(block.time_ns > now)
            count = int(late[0]) if len(late) else len(block.time_ns)
            if count:
                due.append(part_of(block, slice(0, count)))
            if count < len(block.time_ns):
                self._waiting[0] = part_of(block, slice(count, None))
                return due
            self._waiting.popleft()

    def close(self) -> None:
        """Close the file."""
        self._waiting.clear()
        self._source.close()


def open_source(
    where: str | Path,
    *,
    speed: float | None = None,
    clock: Clock = time.time_ns,
    skip: int = 0,
    live: LiveSettings | None = None,
) -> Source:
    """Open what `where` names: a capture file, a FIFO or an interface.

    `speed` is for files only: None keeps the times of the file and reads as fast as it goes, 0 is top speed
    with the wall clock, X > 0 plays X times as fast, from behind the first `skip` packets. `live` is for
    interfaces. Raises CaptureError with one line that names `where` and the cure.
    """
    path = Path(where)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise CaptureError(f"{where}: cannot open: {error.strerror}") from None
        if "/" not in str(where) and str(where) in {name for _, name in socket.if_nameindex()}:
            return LiveCapture(str(where), live)
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise CaptureError(
            f"{where}: neither a capture file, nor a FIFO, nor an interface ({names})"
        ) from None
    if stat.S_ISFIFO(mode):
        return FifoCapture(path)
    if stat.S_ISDIR(mode):
        raise CaptureError(f"{where}: is a folder; name a capture file")
    source: Source = FileCapture(path)
    return source if speed is None else PacedCapture(source, speed, clock, skip=skip)


@contextmanager
def opened(where: str | Path, *, speed: float | None = None) -> Iterator[Source]:
    """`open_source` that closes by itself."""
    source = open_source(where, speed=speed)
    try:
        yield source
    finally:
        source.close()


def read_all(where: str | Path) -> Iterator[PacketBlock]:
    """Every block of a capture file, with the times of the file; memory stays flat."""
    with opened(where) as source:
        while not source.exhausted:
            yield from source.read()
