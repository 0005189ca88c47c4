"""Which batches a record holds, so that one that is killed can say what it missed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from cellwatch.nodes.drivers.store import Recorder
from cellwatch.nodes.drivers.whole_file import write_whole
from cellwatch.nodes.sequence import Sequence


class Heard:
    """Counts the batches that a record lacks, also those of the time between two lives of its writer.

    The numbers of the last batches are noted beside the log, once these are on disk. What came in the last
    moments before a `kill -9` may be on disk and not noted: it counts as missed, so the count is never too
    low.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._path = recorder, recorder.folder / "heard.json"
        self.sequence = Sequence(_read(self._path))
        self.missed = 0
        self._noted = dict(self.sequence.last)
        self._waiting: tuple[int, dict[str, int]] | None = None  # points appended, and the batches in them

    def take(self, source: str, number: int) -> int:
        """Take batch `number` of a source; batches missing between it and the one before."""
        lost = self.sequence.lost(source, number)
        self.missed += lost
        return lost

    def note(self) -> None:
        """Note what has come to the disk since the last call; call it now and then."""
        if self._waiting is not None and self._recorder.durable >= self._waiting[0]:
            with suppress(OSError):  # a full disk: the recorder warns of it
                write_whole(self._path, json.dumps(self._waiting[1]))
                self._noted = self._waiting[1]
            self._waiting = None
        if self._waiting is None and self.sequence.last != self._noted:
            self._waiting = self._recorder.appended, dict(self.sequence.last)


def _read(path: Path) -> dict[str, int]:
    """The note of the life before, nothing if there is none or it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
        return {str(source): int(number) for source, number in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
