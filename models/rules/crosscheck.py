"""Cross-checks between the network and the process.

| rule | points | ATT&CK for ICS |
|---|---|---|
| `set-point-without-write` | 2 | T0836 modify parameter |
| `repeated-stretch` | 4 | T0856 spoof reporting message |

A set-point is a writable tag without a role of its own. Where the PLC's clients speak encrypted OPC UA a
write cannot be seen, and where nobody ever asked the PLC over the watched network it may come another way:
the rule is silent there. A repeated stretch: see `repeats.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cellwatch.models.features.tags import MAX, MIN
from cellwatch.models.rules.habits import Habits
from cellwatch.models.rules.repeats import RUN, RepeatWatch
from cellwatch.models.types import (
    CommandResult,
    Conversations,
    FeatureWindow,
    Role,
    TagBatch,
    TagCatalog,
    Violation,
)

Found = tuple[int, float, Violation]  # device row, points, violation
WRITE_POINTS, REPEAT_POINTS = 2.0, 4.0
_ENCRYPTED = "opcua:Message"
_SAME = 1e-6  # of the value: what float32 may differ by


class CrossChecks:
    """One cell: knows its tags by their catalogues, sees every sample and every window once, in order."""

    def __init__(self, habits: Mapping[str, Habits]) -> None:
        self._served = {device for device, mine in habits.items() if _asked_in_clear(mine)}
        self._catalogs: dict[str, TagCatalog] = {}
        self._repeats: dict[str, RepeatWatch] = {}
        self._points: dict[str, str] = {}  # set-point -> PLC
        self._before: dict[str, float] = {}
        self._commanded: dict[str, int] = {}  # set-point -> when the cell wrote it last, ns
        self._wrote: frozenset[str] = frozenset()  # devices that were written to in the window before

    def catalog(self, catalog: TagCatalog) -> None:
        """Take a PLC's catalogue, new or again."""
        if self._catalogs.get(catalog.plc) == catalog:
            return
        self._catalogs[catalog.plc] = catalog
        self._repeats[catalog.plc] = RepeatWatch(len(catalog.tags))
        names = [tag.name for known in self._catalogs.values() for tag in known.tags]
        self._points = {
            _name(tag.name, plc, names): plc
            for plc, known in self._catalogs.items()
            for tag in known.tags
            if tag.writable and not tag.role
        }

    def tags(self, batch: TagBatch) -> None:
        """Take samples in; those of a PLC without a catalogue are passed over."""
        watch = self._repeats.get(batch.plc)
        if watch is not None:
            watch.add(batch)

    def command(self, result: CommandResult) -> None:
        """Take what became of a command: a tag that the cell itself wrote moves with good reason."""
        self._commanded[result.tag] = result.decided_ns

    def judge(self, window: FeatureWindow) -> list[Found]:
        """What does not fit together."""
        return [*self._unwritten(window), *self._repeated(window)]

    def _unwritten(self, window: FeatureWindow) -> list[Found]:
        spoken = window.conversations
        wrote = _written(window, spoken) if spoken is not None else frozenset()
        found: list[Found] = []
        lately = 2 * window.start_ns - window.end_ns  # in this window or the one before
        for k, tag in enumerate(window.tags):
            if tag not in self._points:
                continue
            low, high = float(window.tag_values[k, MIN]), float(window.tag_values[k, MAX])
            if np.isnan(high):
                continue
            before = self._before.get(tag, high)
            self._before[tag] = high
            row = int(window.tag_device[k])
            room = _SAME * max(abs(high), abs(before))
            moved = high - low > room or abs(high - before) > room
            plc = self._points[tag]
            if not moved or spoken is None or plc not in self._served:
                continue
            if lately <= self._commanded.get(tag, -1) < window.end_ns:
                continue
            device = window.devices[row]
            if device in window.held or {plc, device} & (wrote | self._wrote):
                continue
            what = Violation(
                device, f"{tag}/avg", high, before, before, "set-point-without-write", "ics", "T0836"
            )
            found.append((row, WRITE_POINTS, what))
        self._wrote = wrote
        return found

    def _repeated(self, window: FeatureWindow) -> list[Found]:
        at = {name: i for i, name in enumerate(window.devices)}
        found: list[Found] = []
        for plc, watch in self._repeats.items():
            tags = self._catalogs[plc].tags
            for tag, run in zip(*(part.tolist() for part in watch.repeating()), strict=True):
                device = tags[tag].device
                if device in at:
                    what = Violation(
                        device,
                        f"{tags[tag].name}/repeats",
                        run,
                        0,
                        RUN - 1,
                        "repeated-stretch",
                        "ics",
                        "T0856",
                    )
                    found.append((at[device], REPEAT_POINTS, what))
        return _gravest(found)


def _asked_in_clear(habits: Habits) -> bool:
    """Whether clients asked the device, and what they asked for could be read."""
    services = {key.service for key in habits.conversations if key.role == Role.SERVER and key.service}
    return bool(services) and _ENCRYPTED not in services


def _written(window: FeatureWindow, spoken: Conversations) -> frozenset[str]:
    rows = np.flatnonzero((spoken.writes > 0) & (spoken.role == Role.SERVER))
    return frozenset(window.devices[i] for i in spoken.device[rows].tolist())


def _name(tag: str, plc: str, names: list[str]) -> str:
    """The tag as windows call it: with its PLC where two PLCs have a tag of that name."""
    return tag if names.count(tag) == 1 else f"{plc}:{tag}"


def _gravest(found: list[Found]) -> list[Found]:
    """One finding a device: the longest repetition."""
    best: dict[int, Found] = {}
    for row, points, what in found:
        if row not in best or what.observed > best[row][2].observed:
            best[row] = (row, points, what)
    return list(best.values())
