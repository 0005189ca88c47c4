"""Recordings of a black box, looked at without reading their messages."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from mcap.exceptions import McapError
from mcap.reader import make_reader

from cellwatch.nodes.drivers.mcap_recording import NOTE, SUFFIX


class RecordingError(ValueError):
    """A file is no recording, or not a whole one; the text names it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a file says of itself. Times are nanoseconds since the epoch."""

    path: Path
    bytes: int
    start_ns: int
    end_ns: int
    alarms: tuple[dict[str, str], ...]  # see `black_box_node`
    topics: dict[str, tuple[str, int]]  # type and number of messages


def look(path: Path) -> Recording:
    """Read the summary of a file. RecordingError if it has none, OSError if it cannot be opened."""
    with path.open("rb") as stream:
        try:
            reader = make_reader(stream)
            summary = reader.get_summary()
            notes = tuple(note.metadata for note in reader.iter_metadata() if note.name == NOTE)
        except (McapError, struct.error, ValueError, OSError) as error:  # OSError: too short to seek in
            raise RecordingError(f"{path}: not a whole MCAP file: {error}") from None
    if summary is None or (said := summary.statistics) is None:
        raise RecordingError(f"{path}: not a whole MCAP file: it has no summary")
    topics = {
        channel.topic: (summary.schemas[channel.schema_id].name, said.channel_message_counts.get(index, 0))
        for index, channel in sorted(summary.channels.items())
    }
    return Recording(path, path.stat().st_size, said.message_start_time, said.message_end_time, notes, topics)


def recordings(folder: Path) -> tuple[list[Recording], list[str]]:
    """All recordings of a folder, the oldest first, and what is wrong with the files that are none."""
    found, wrong = [], []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found.append(look(path))
        except FileNotFoundError:  # the box let it go since we listed it
            continue
        except (RecordingError, OSError) as error:
            wrong.append(str(error))
    return found, wrong
