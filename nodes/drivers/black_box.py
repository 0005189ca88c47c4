"""The black box of a cell: what was said in the minute before and after each alarm, in files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cellwatch.nodes.drivers.mcap_mending import MENDING, mend
from cellwatch.nodes.drivers.mcap_recording import PART, SUFFIX, McapRecording, RecordedTopic
from cellwatch.nodes.drivers.message_ring import Heard, MessageRing

JOIN_S = 300.0  # an alarm joins a recording that is no older, else it begins its own
WRITE_S = 1.0  # between two visits to the disk: a crash costs at most this much


@dataclass(frozen=True, slots=True)
class BoxSettings:
    """Spans in seconds, sizes in bytes."""

    before_s: float = 60.0
    after_s: float = 60.0
    memory_bytes: int = 64 << 20  # of what is kept; twice as much may wait for the disk
    max_bytes: int = 1 << 30  # of all recordings; the oldest go. One may take an eighth


class BoxStats(NamedTuple):
    """Since the start."""

    recordings: int = 0  # whole, on the disk
    open: int = 0  # being written
    lost: int = 0  # messages that should be in a recording and are not
    early: int = 0  # messages that left the memory before their time: it is too small


@dataclass(slots=True)
class _Open:
    recording: McapRecording
    began_ns: int  # monotonic
    until_ns: int


class BlackBox:
    """Owner of a folder of recordings; a thread of its own writes them.

    `hear`, `alarm` and `tick` belong to one thread; they never wait for the disk and never raise. Recordings
    that a crash cut short are mended at the start. OSError if the folder cannot be used, or another box does.
    """

    def __init__(
        self, folder: Path, topics: Sequence[RecordedTopic], settings: BoxSettings | None = None
    ) -> None:
        self.folder, self.settings = folder, settings or BoxSettings()
        self.warning = ""  # what is wrong with the disk now, "" if nothing
        self._topics = topics
        self._ring = MessageRing(self.settings.before_s, self.settings.memory_bytes)
        self._open: list[_Open] = []
        self._ended: list[_Open] = []  # not yet whole on the disk
        self._written = self._lost = 0
        self._wake = threading.Event()
        self._deadline = 0.0  # monotonic; not 0: the box is closing
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise OSError(error.errno, "another process records there", str(folder)) from None
        for stale in folder.glob(f"*{MENDING}"):
            stale.unlink(missing_ok=True)
        self._torn = sorted(folder.glob(f"*{PART}"))
        self._thread = threading.Thread(target=self._run, name="black box", daemon=True)
        self._thread.start()

    @property
    def stats(self) -> BoxStats:
        """Where the messages are now."""
        unfinished = sum(not one.recording.done for one in (*self._open, *self._ended))
        return BoxStats(self._written, unfinished, self._lost, self._ring.dropped)

    def hear(self, channel: int, data: bytes, source: str | None = None) -> None:
        """Take a message of the topic with this index; `source` of a latched one is who said it."""
        message = Heard(channel, time.time_ns(), time.monotonic_ns(), data, source)
        self._ring.add(message)
        for one in self._open:
            room = one.recording.waiting < 2 * self.settings.memory_bytes
            self._lost += not (room and one.recording.hear(message))

    def alarm(self, facts: dict[str, str]) -> None:
        """Record the time around now; `facts` are kept with it."""
        now = time.monotonic_ns()
        if not self._open or now - self._open[-1].began_ns > JOIN_S * 1e9:
            at_ns = time.time_ns()
            stem = time.strftime("%Y%m%dT%H%M%S", time.gmtime(at_ns // 10**9))
            path = self.folder / f"{stem}.{at_ns // 10**6 % 1000:03d}Z{SUFFIX}"
            recording = McapRecording(path, self._topics, self.settings.max_bytes // 8)
            for message in self._ring.messages():
                self._lost += not recording.hear(message)
            self._open.append(_Open(recording, now, now))
        newest = self._open[-1]
        newest.recording.note(facts)
        newest.until_ns = now + round(self.settings.after_s * 1e9)
        self._wake.set()

    def tick(self) -> None:
        """End what has lasted long enough."""
        self._end(time.monotonic_ns())

    def close(self, timeout: float = 10.0) -> BoxStats:
        """End all recordings, and wait until they are on the disk. Returns the last stats."""
        self._end(None)
        self._deadline = time.monotonic() + timeout
        self._wake.set()
        self._thread.join(timeout + WRITE_S)
        if not self._thread.is_alive():
            for one in self._ended:
                if not one.recording.done:  # the next start mends what is there
                    self._lost += one.recording.close()
            os.close(self._lock)
        return self.stats

    def _end(self, now: int | None) -> None:
        """End the recordings that have lasted long enough; None: all."""
        over = [one for one in self._open if now is None or now > one.until_ns]
        for one in over:
            one.recording.end()
        # The other thread may look between the two: it must find each of them.
        self._ended = [one for one in self._ended if not one.recording.done] + over
        self._open = [one for one in self._open if one not in over]

    def _run(self) -> None:
        while True:
            closing = self._deadline  # asked for first: the last visit comes after the last word
            self._visit()
            if closing and not (self.warning and time.monotonic() + WRITE_S < closing):
                return
            busy = self._open or self._ended or self._torn
            self._wake.wait(WRITE_S if busy else None)
            self._wake.clear()

    def _visit(self) -> None:
        try:
            self._write()
            self.warning = ""
        except OSError as error:
            self.warning = (
                f"recordings cannot be written to {self.folder}: {error.strerror}; free space there"
            )
        except BaseException:
            self.warning = "recordings are no longer written: an error, which the log of the node shows"
            raise

    def _write(self) -> None:
        """All that waits."""
        for one in (*self._open, *self._ended):
            if not one.recording.done and one.recording.write():
                self._written += 1
                self._retain()
        while self._torn:
            with contextlib.suppress(FileNotFoundError):
                mend(self._torn[0])
            self._torn.pop(0)

    def _retain(self) -> None:
        """Let the oldest recordings go; a quarter of the room is for those that are being written."""
        files = sorted(self.folder.glob(f"*{SUFFIX}"))
        sizes = [file.stat().st_size for file in files]
        while len(files) > 1 and sum(sizes) > self.settings.max_bytes * 3 // 4:
            with contextlib.suppress(FileNotFoundError):  # somebody else did
                files.pop(0).unlink()
            sizes.pop(0)
