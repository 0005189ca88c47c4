"""One recording of a black box: an MCAP file (https://mcap.dev/spec) with the profile of ROS 2.

Under its name with `.part` while it is written, renamed when it is whole and on the disk. What was handed to
the kernel survives the death of the process; `mcap_mending` makes a whole file of what a crash left.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mcap.writer import Writer

from cellwatch.nodes.drivers.message_ring import OVERHEAD, Heard
from cellwatch.nodes.drivers.wal import sync_folder

SUFFIX, PART = ".mcap", ".part"
PROFILE, LIBRARY = "ros2", "cellwatch"
NOTE = "alarm"  # name of the metadata of an alarm
SLICE = 4 << 20  # bytes that are packed before they are handed to the disk
_ENCODING = "ros2msg"


class RecordedTopic(NamedTuple):
    """What a reader has to know of a topic."""

    topic: str
    type: str  # package/msg/Name
    definition: str
    qos: str  # YAML, as rosbag2 writes it


class McapRecording:
    """A file that grows. `hear`, `note` and `end` are called by one thread, `write` by another.

    What the disk does not take waits in memory. A recording of `max_bytes` takes no more: `hear` says so.
    """

    def __init__(self, path: Path, topics: Sequence[RecordedTopic], max_bytes: int) -> None:
        self.path = path
        self.done = False  # it is whole, on the disk, under its name
        self._topics, self._max_bytes = topics, max_bytes
        self._inbox: deque[Heard | dict[str, str]] = deque()
        self._given = self._taken = 0  # bytes, each counted by one thread
        self._packed = 0  # messages that have left the inbox, and are not wholly on the disk
        self._ended = self._finished = False
        self._file = -1
        self._out = _Outbox()
        self._writer: Any = Writer(self._out)  # type: ignore[arg-type]
        self._writer.start(PROFILE, LIBRARY)
        self._schemas: dict[str, int] = {}
        self._channels: dict[int, int] = {}

    @property
    def waiting(self) -> int:
        """Bytes that wait in memory."""
        return self._given - self._taken + len(self._out.waiting)

    def hear(self, message: Heard) -> bool:
        """Take a message; False if there is no room for it."""
        if self._out.tell() > self._max_bytes:
            return False
        self._given += len(message.data) + OVERHEAD
        self._inbox.append(message)
        return True

    def note(self, facts: dict[str, str]) -> None:
        """Say for which alarm it is made."""
        self._inbox.append(facts)

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True

    def write(self) -> bool:
        """Bring what waits to the disk; whether it is whole now. OSError if the disk does not take it."""
        self._push()
        ended = self._ended  # asked for before the inbox is emptied, so that nothing comes behind it
        while self._inbox:
            self._pack()
            self._writer.flush()
            self._push()
        if not ended:
            return False
        if not self._finished:
            self._writer.finish()
            self._finished = True
        self._push()
        os.fsync(self._file)
        self.path.with_suffix(PART).rename(self.path)
        self.done = True
        self.close()
        with contextlib.suppress(OSError):  # it is there; a power cut right now might undo the renaming
            sync_folder(self.path.parent)
        return True

    def close(self) -> int:
        """Give the file up as it is; messages that are not in it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        return self._packed + sum(isinstance(one, Heard) for one in self._inbox)

    def _pack(self) -> None:
        """Into chunks, at most a slice: what the disk does not take must not pile up twice."""
        goal = self._taken + SLICE
        while self._inbox and self._taken < goal:
            one = self._inbox.popleft()
            if isinstance(one, dict):
                self._writer.add_metadata(NOTE, one)
                continue
            self._taken += len(one.data) + OVERHEAD
            self._packed += 1
            self._writer.add_message(
                self._channel(one.channel), one.log_ns or one.heard_ns, one.data, one.heard_ns
            )

    def _channel(self, index: int) -> int:
        if index not in self._channels:
            of = self._topics[index]
            if of.type not in self._schemas:
                text = of.definition.encode()
                self._schemas[of.type] = self._writer.register_schema(of.type, _ENCODING, text)
            schema, qos = self._schemas[of.type], {"offered_qos_profiles": of.qos}
            self._channels[index] = self._writer.register_channel(of.topic, "cdr", schema, qos)
        return self._channels[index]

    def _push(self) -> None:
        if self._file < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._file = os.open(self.path.with_suffix(PART), flags, 0o600)
        out = self._out
        while out.waiting:
            written = os.pwrite(self._file, out.waiting, out.gone)
            del out.waiting[:written]
            out.gone += written
        self._packed = 0


class _Outbox:
    """A stream that never fails: what was written waits for the disk."""

    def __init__(self) -> None:
        self.waiting = bytearray()
        self.gone = 0  # bytes before those

    def write(self, data: bytes) -> int:
        self.waiting += data
        return len(data)

    def tell(self) -> int:
        return self.gone + len(self.waiting)

    def flush(self) -> None:
        """Nothing to do: `McapRecording` brings it to the disk."""
