"""Cross-checks between the network and the process.

| rule | points | ATT&CK for ICS |
|---|---|---|
| `set-point-without-write` | 2 | T0836 modify parameter |
| `repeated-stretch` | 4 | T0856 spoof reporting message |

A set-point is a writable tag without a role of its own. A write explains its move if it was not refused and
came from someone who is known to write there, or from the cell itself. Where the PLC's clients speak
encrypted OPC UA a write cannot be seen, and where nobody ever asked the PLC over the watched network it may
come another way: the rule is silent there. A repeated stretch: see `repeats.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cellwatch.models.features.tags import MAX, MIN
from cellwatch.models.rules.habits import Habits
from cellwatch.models.rules.repeats import RUN, RepeatWatch
from cellwatch.models.rules.rule import Finding
from cellwatch.models.types import (
    CommandResult,
    CommandStatus,
    Conversations,
    FeatureWindow,
    Role,
    TagBatch,
    TagCatalog,
    Violation,
)

WRITE_POINTS, REPEAT_POINTS = 2.0, 4.0
_ENCRYPTED = "opcua:Message"
_SAME = 1e-6  # of the value: what float32 may differ by


class CrossChecks:
    """One cell: knows its tags by their catalogues, sees every sample and every window once, in order."""

    def __init__(self, habits: Mapping[str, Habits]) -> None:
        self.adopt(habits)
        self._catalogs: dict[str, TagCatalog] = {}
        self._repeats: dict[str, RepeatWatch] = {}
        self._points: dict[str, str] = {}  # set-point -> PLC
        self._before: dict[str, float] = {}
        self._commanded: dict[str, int] = {}  # set-point -> when the cell wrote it last, ns
        self._wrote: frozenset[str] | None = None  # devices written to in the window before, None = not known
        self._last = -1  # window

    def adopt(self, habits: Mapping[str, Habits]) -> None:
        """Go by other habits from now on; what was seen of the cell stays."""
        self._writers = {device: _writers(mine) for device, mine in habits.items()}
        self._served = {device for device, mine in habits.items() if _asked_in_clear(mine)}

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
        if result.status == CommandStatus.ACCEPTED:
            self._commanded[result.tag] = result.decided_ns

    def judge(self, window: FeatureWindow) -> list[Finding]:
        """What does not fit together."""
        return [*self._unwritten(window), *self._repeated(window)]

    def _unwritten(self, window: FeatureWindow) -> list[Finding]:
        spoken = window.conversations
        wrote = self._written(window, spoken) if spoken is not None else None
        lately_wrote = self._wrote if window.window_id == self._last + 1 else None
        self._wrote, self._last = wrote, window.window_id
        # Who wrote in a window that nobody saw is not known: what moved since then is taken as it is.
        authorised = wrote | lately_wrote if wrote is not None and lately_wrote is not None else None
        found: list[Finding] = []
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
            if not moved or authorised is None or plc not in self._served:
                continue
            if lately <= self._commanded.get(tag, -1) < window.end_ns:
                continue
            device = window.devices[row]
            if device in window.held or {plc, device} & authorised:
                continue
            what = Violation(
                device, f"{tag}/avg", high, before, before, "set-point-without-write", "ics", "T0836"
            )
            found.append(Finding(row, WRITE_POINTS, what))
        return found

    def _written(self, window: FeatureWindow, spoken: Conversations) -> frozenset[str]:
        """Devices to which a known writer wrote, and not every request was refused."""
        rows = np.flatnonzero((spoken.writes > spoken.refused) & (spoken.role == Role.SERVER))
        return frozenset(
            device
            for row in rows.tolist()
            if spoken.names[spoken.peer[row]]
            in self._writers.get(device := window.devices[spoken.device[row]], ())
        )

    def _repeated(self, window: FeatureWindow) -> list[Finding]:
        at = {name: i for i, name in enumerate(window.devices)}
        found: list[Finding] = []
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
                    found.append(Finding(at[device], REPEAT_POINTS, what))
        return _gravest(found)


def _asked_in_clear(habits: Habits) -> bool:
    """Whether clients asked the device, and what they asked for could be read."""
    services = {key.service for key in habits.conversations if key.role == Role.SERVER and key.service}
    return bool(services) and _ENCRYPTED not in services


def _writers(habits: Habits) -> frozenset[str]:
    """Who writes to a device."""
    said = habits.conversations.items()
    return frozenset(key.peer for key, habit in said if key.role == Role.SERVER and habit.writes)


def _name(tag: str, plc: str, names: list[str]) -> str:
    """The tag as windows call it: with its PLC where two PLCs have a tag of that name."""
    return tag if names.count(tag) == 1 else f"{plc}:{tag}"


def _gravest(found: list[Finding]) -> list[Finding]:
    """One finding a device: the longest repetition."""
    best: dict[int, Finding] = {}
    for one in found:
        if one.row not in best or one.violation.observed > best[one.row].violation.observed:
            best[one.row] = one
    return list(best.values())
