"""Hard cases on disk: one file of equal slots, so its size is bounded and no crash can harm more than one."""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cellwatch.models.types import HardCase, Screening

if TYPE_CHECKING:
    from pathlib import Path

SLOT = 4096  # bytes: a page, and about nine hundred features
_HEADER = struct.Struct("<IIQ")  # bytes of the payload, its CRC-32, number of the case + 1
_META = ("window_id", "end_ns", "device", "schema_id", "rules_confidence", "probability", "category")


class Placement(Protocol):
    """Which slot a case gets, see `cellwatch.models.fusion.hard_cases.HardCases`."""

    capacity: int
    seen: int

    def place(self) -> tuple[int, int | None]:
        """The slot of the next case, and the slot that the one in it moves to."""


class HardCaseStore:
    """Keeps cases where `placement` says. One writer; a torn or damaged slot counts as empty.

    The cases that the file holds go on counting: `placement.seen` is set from it. OSError if the file cannot
    be used.
    """

    def __init__(self, path: Path, placement: Placement) -> None:
        self._placement = placement
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        placement.seen = max((number for number, _ in self._slots()), default=-1) + 1

    def add(self, case: HardCase) -> None:
        """Keep a case. ValueError if it is too large for a slot."""
        meta = {name: getattr(case, name) for name in _META} | {"screening": int(case.screening)}
        payload = json.dumps(meta).encode() + b"\n" + np.asarray(case.values, "<f4").tobytes()
        if len(payload) > SLOT - _HEADER.size:
            raise ValueError(f"a hard case of {len(case.values)} features does not fit into {SLOT} bytes")
        number = self._placement.seen
        slot, moved_to = self._placement.place()
        if moved_to is not None:  # first the old one: a crash between the two leaves a copy, never a loss
            os.pwrite(self._file, os.pread(self._file, SLOT, slot * SLOT), moved_to * SLOT)
        record = _HEADER.pack(len(payload), zlib.crc32(payload), number + 1) + payload
        os.pwrite(self._file, record.ljust(SLOT, b"\0"), slot * SLOT)

    def cases(self) -> list[HardCase]:
        """All that are kept, the oldest first."""
        return [_case(payload) for _, payload in sorted(dict(self._slots()).items())]

    def close(self) -> None:
        """Bring everything to the disk."""
        os.fsync(self._file)
        os.close(self._file)

    def _slots(self) -> list[tuple[int, bytes]]:
        """Number and payload of every whole slot."""
        found = []
        for slot in range(self._placement.capacity):
            record = os.pread(self._file, SLOT, slot * SLOT)
            if len(record) < SLOT:
                if not record:
                    break  # beyond the end
                continue
            size, check, number = _HEADER.unpack_from(record)
            payload = record[_HEADER.size : _HEADER.size + size]
            if number and len(payload) == size and zlib.crc32(payload) == check:
                found.append((number - 1, payload))
        return found


def _case(payload: bytes) -> HardCase:
    text, _, values = payload.partition(b"\n")
    meta = json.loads(text)
    screening = Screening(meta.pop("screening"))
    return HardCase(values=np.frombuffer(values, "<f4").astype(np.float32), screening=screening, **meta)
