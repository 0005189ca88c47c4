"""Sources of raw packets: capture files, a pcap stream through a FIFO, a live interface.

    with opened("traffic.pcap") as source:
        while not source.exhausted:
            for block in source.read(timeout_s=0.1):
                ...

Every source has `name`, `damage` ("" or what went wrong at which byte), `exhausted` (no packet will ever come
again), `dropped` (packets lost before they reached us), `read(timeout_s)` and `close()`.
"""

from __future__ import annotations

import errno
import gzip
import os
import select
import socket
import stat
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np

from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers.live_capture import LiveCapture
from cellwatch.nodes.drivers.pcap_file import CaptureError, Decoder, is_capture

__all__ = [
    "CaptureError",
    "FifoCapture",
    "FileCapture",
    "LiveCapture",
    "PacedCapture",
    "Source",
    "open_source",
    "opened",
    "read_all",
]

CHUNK = 2 << 20  # bytes read at a time
Clock = Callable[[], int]


class Source(Protocol):
    """What every source of packets offers."""

    @property
    def name(self) -> str:
        """File, FIFO or interface."""

    @property
    def damage(self) -> str:
        """What went wrong, at which byte; "" if nothing did."""

    @property
    def exhausted(self) -> bool:
        """Whether no packet will ever come again."""

    @property
    def dropped(self) -> int:
        """Packets lost before they reached us, since the start."""

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:
        """Blocks that are there; waits at most `timeout_s` for the first."""

    def close(self) -> None:
        """Release what is held."""


class FileCapture:
    """A pcap or pcapng file, gzipped or not; each `read` yields what is in the next 2 MiB.

    Raises CaptureError when there is no such file or it is no capture. A file damaged half-way is read up
    to the damage, then `exhausted` with `damage` set. An empty capture (header only) is fine; a file of 0
    bytes is not.
    """

    dropped = 0

    def __init__(self, path: str | Path, *, chunk: int = CHUNK) -> None:
        self.name = str(path)
        self.exhausted = False
        self._chunk = chunk
        self._decoder = Decoder(self.name)
        try:
            self._file: IO[bytes] = Path(path).open("rb")  # noqa: SIM115
        except OSError as error:
            raise CaptureError(f"{path}: cannot open the capture: {error.strerror}") from None
        try:
            head = self._file.read(4)
            self._file.seek(0)
            if head[:2] == b"\x1f\x8b":
                self._file = cast("IO[bytes]", gzip.open(self._file))  # noqa: SIM115
                head = self._file.read(4)
                self._file.seek(0)
        except (OSError, EOFError, zlib.error) as error:
            self._file.close()
            raise CaptureError(f"{path}: not a readable capture: {error}") from None
        if not is_capture(head):
            self._file.close()
            seen = f"it begins with {head.hex(' ')}" if head else "it is empty"
            raise CaptureError(f"{path}: not a capture ({seen}); need pcap or pcapng, gzipped or not")

    @property
    def damage(self) -> str:
        """Where and why reading had to stop, "" if it did not."""
        return self._decoder.damage

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:  # noqa: ARG002
        """Packets of the next chunk; [] at the end."""
        while not self.exhausted:
            try:
                chunk = self._file.read(self._chunk)
            except (OSError, EOFError, zlib.error) as error:
                self._decoder.fail(str(error))
                chunk = b""
            if not chunk:
                self._decoder.finish()
                self.exhausted = True
                break
            blocks = self._decoder.feed(chunk)
            if self._decoder.damage:
                self.exhausted = True
            if blocks:
                return blocks
        return []

    def close(self) -> None:
        """Close the file."""
        self.exhausted = True
        self._file.close()


class FifoCapture:
    """A pcap stream through a named pipe, e.g. from `tcpdump -w - > FIFO`.

    Never blocks on a missing writer and never ends: when a writer goes, the next one starts with its own
    header. A writer that sends no capture, or breaks off inside a packet, is noted in `damage` and skipped
    up to its end.
    """

    exhausted = False
    dropped = 0

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
        blocks: list[PacketBlock] = []
        while data and not self._deaf:
            try:
                blocks += self._decoder.feed(data)
            except CaptureError as error:
                self.damage, self._deaf = str(error), True
                break
            if self._decoder.damage:
                self.damage, self._deaf = self._decoder.damage, True
            data = self._decoder.restart
            if data:
                self._decoder = Decoder(self.name)
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
    """

    def __init__(self, source: Source, speed: float, clock: Clock = time.time_ns) -> None:
        if not speed >= 0:
            raise CaptureError(f"speed {speed}: must be 0 (top speed) or more")
        self.name = source.name
        self._source = source
        self._speed = speed
        self._clock = clock
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
    def exhausted(self) -> bool:
        """Whether the last packet has been played."""
        return self._source.exhausted and not self._waiting

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:
        """Packets that are due."""
        if self._speed == 0:
            return self._stamped(self._source.read(timeout_s))
        end = self._clock() + int(timeout_s * 1e9)
        while True:
            blocks = self._due(self._clock())
            left = end - self._clock()
            if blocks or left <= 0 or self.exhausted:
                return blocks
            time.sleep(min(left / 1e9, 0.005))

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
                for block in self._source.read():
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
                due.append(_part(block, slice(0, count)))
            if count < len(block.time_ns):
                self._waiting[0] = _part(block, slice(count, None))
                return due
            self._waiting.popleft()

    def close(self) -> None:
        """Close the file."""
        self._waiting.clear()
        self._source.close()


def _part(block: PacketBlock, pick: slice) -> PacketBlock:
    return replace(
        block,
        offset=block.offset[pick],
        length=block.length[pick],
        wire_length=block.wire_length[pick],
        time_ns=block.time_ns[pick],
    )


def open_source(where: str | Path, *, speed: float | None = None, clock: Clock = time.time_ns) -> Source:
    """Open what `where` names: a capture file, a FIFO or an interface.

    `speed` is for files only: None keeps the times of the file and reads as fast as it goes, 0 is top speed
    with the wall clock, X > 0 plays X times as fast. Raises CaptureError with one line that names `where`
    and the cure.
    """
    path = Path(where)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise CaptureError(f"{where}: cannot open: {error.strerror}") from None
        if "/" not in str(where) and str(where) in {name for _, name in socket.if_nameindex()}:
            return LiveCapture(str(where))
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise CaptureError(
            f"{where}: neither a capture file, nor a FIFO, nor an interface ({names})"
        ) from None
    if stat.S_ISFIFO(mode):
        return FifoCapture(path)
    if stat.S_ISDIR(mode):
        raise CaptureError(f"{where}: is a folder; name a capture file")
    source: Source = FileCapture(path)
    return source if speed is None else PacedCapture(source, speed, clock)


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
