"""Whole recordings of those that a crash cut short."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from mcap.records import Channel, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import Writer

from cellwatch.nodes.drivers.mcap_recording import LIBRARY, PROFILE, SUFFIX
from cellwatch.nodes.drivers.wal import sync_folder

MENDING = ".mend"  # suffix of what is not whole yet


def mend(part: Path) -> bool:
    """Make a recording of what is left of one, and remove that; False if it holds no message.

    OSError if the disk does not take it; then it stays as it was.
    """
    beside = part.with_suffix(MENDING)
    try:
        with part.open("rb") as source, beside.open("wb") as target:
            os.fchmod(target.fileno(), 0o600)
            number = _copy(source, target)
            target.flush()
            os.fsync(target.fileno())
        if number:
            beside.rename(part.with_suffix(SUFFIX))
            with contextlib.suppress(OSError):
                sync_folder(part.parent)
        part.unlink()
    finally:
        beside.unlink(missing_ok=True)
    return number > 0


def _copy(source: Any, target: Any) -> int:
    """Copy what has not suffered; the number of messages."""
    writer: Any = Writer(target)
    writer.start(PROFILE, LIBRARY)
    schemas: dict[int, int] = {}
    channels: dict[int, int] = {}
    number = 0
    try:
        for one in StreamReader(source, validate_crcs=True).records:
            if isinstance(one, Schema):
                schemas[one.id] = writer.register_schema(one.name, one.encoding, one.data)
            elif isinstance(one, Channel):
                channels[one.id] = writer.register_channel(
                    one.topic, one.message_encoding, schemas[one.schema_id], one.metadata
                )
            elif isinstance(one, Message):
                writer.add_message(channels[one.channel_id], one.log_time, one.data, one.publish_time)
                number += 1
            elif isinstance(one, Metadata):
                writer.add_metadata(one.name, one.metadata)
    except OSError:
        raise
    except Exception:  # noqa: S110 - however a torn end looks to the reader, what is before it has a checksum
        pass
    writer.finish()
    return number
