"""Labelled rows of the running cell, as models are trained on them: windows and settled labels, joined.

They are parted by time: what comes first is learnt from, what comes last is held out, to judge by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.datasets.dataset import Part, compact, histories
from cellwatch.models.drift.adaptation import AdaptationSet
from cellwatch.models.types import I64, SEQUENCE, Bool, FeatureWindow, SettledLabels

BENIGN = "benign"
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class LiveRows:
    """n labelled rows, in the order of time; `part.group` counts the stretches without a missing window."""

    part: Part
    window_id: I64  # (n,)
    names: tuple[str, ...]  # classes as they were labelled, "benign" first
    label: I64  # (n,) place in `names`, 0 = benign
    window_ns: int  # length of a window

    def __len__(self) -> int:
        return len(self.part)

    @property
    def time_ns(self) -> I64:
        """End of the window of each row (n,)."""
        assert self.part.time_ns is not None
        return self.part.time_ns

    @property
    def attack(self) -> Bool:
        """(n,)."""
        return self.label > 0

    def take(self, rows: I64 | Bool) -> LiveRows:
        """Some of the rows."""
        return replace(
            self, part=self.part.take(rows), window_id=self.window_id[rows], label=self.label[rows]
        )

    def adaptation(self) -> AdaptationSet:
        """D_benign and D_attack; a sample is known by "WINDOW/DEVICE", its class is its place in `names`."""
        ids = np.char.add(np.char.add(self.window_id.astype(np.str_), "/"), self.part.device)
        return AdaptationSet.of(self.part.x, self.label, ids)


def live_rows(
    windows: Sequence[FeatureWindow],
    labels: Sequence[SettledLabels],
    classes: Mapping[int, Sequence[str]],
) -> LiveRows:
    """Join labels to windows, both in the order in which they came; of two that fit the later one counts.

    `classes`: names by level (1, 2, 3; 0 is benign). A label that says less than a level asks for ("attack"
    has no category), or names a class that is none of it, is UNKNOWN there. Windows of the commissioning, and
    what has no label, give no row, but they are part of the history of others. ValueError for windows of
    several schemas or lengths.
    """
    if len({(w.schema_id, w.end_ns - w.start_ns) for w in windows}) > 1:
        raise ValueError("windows of several schemas or lengths do not make one set")
    found = {w.window_id: w for w in windows}
    kept = [found[number] for number in sorted(found)]
    sizes = np.array([len(w.devices) for w in kept], dtype=np.int64)
    number, end_ns = (
        np.repeat(np.array(column, dtype=np.int64), sizes)
        for column in ([w.window_id for w in kept], [w.end_ns for w in kept])
    )
    devices = np.array([name for w in kept for name in w.devices], dtype=np.str_)
    learnt = np.repeat(np.array([w.commissioning for w in kept], dtype=np.bool_), sizes)
    names, label = _labels(number, devices, labels)
    rows = np.flatnonzero((label != UNKNOWN) & ~learnt)
    label = label[rows]
    length = kept[0].end_ns - kept[0].start_ns if kept else 1
    run = np.cumsum(np.diff(np.array([w.end_ns for w in kept], dtype=np.int64), prepend=0) != length)
    group = np.repeat(np.char.add("live-", run.astype(np.str_)), sizes)
    pool = np.concatenate([w.values for w in kept]) if kept else np.zeros((0, 0), dtype=np.float32)
    before = histories(group, devices, end_ns, length) if len(pool) else np.zeros((0, SEQUENCE), np.int64)
    part = Part(
        np.ascontiguousarray(pool, dtype=np.float32),
        before[rows],
        {level: at_level(names, level, said)[label] for level, said in classes.items()},
        group[rows],
        devices[rows],
        end_ns[rows],
    )
    return LiveRows(compact(part), number[rows], names, label, length)


def _labels(
    number: I64, devices: NDArray[np.str_], labels: Sequence[SettledLabels]
) -> tuple[tuple[str, ...], I64]:
    """Names of classes, benign first, and the place (rows,) of the label of each row, UNKNOWN without one."""
    said = sorted({name for one in labels for name in one.classes} - {BENIGN})
    names = (BENIGN, *said)
    out = np.full(len(number), UNKNOWN, dtype=np.int64)
    if not len(number) or not labels:
        return names, out
    known, row_device = np.unique(devices, return_inverse=True)
    place = {name: i for i, name in enumerate(known.tolist())}
    key = number * len(known) + row_device
    order = np.argsort(key, kind="stable")
    key = key[order]
    for one in labels:
        device = np.array([place.get(name, UNKNOWN) for name in one.devices], dtype=np.int64)[one.device]
        wanted = one.window_ids * len(known) + device
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        hit = (device != UNKNOWN) & (key[at] == wanted)
        what = np.array([names.index(name) for name in one.classes], dtype=np.int64)[one.label]
        out[order[at[hit]]] = what[hit]
    return names, out


def at_level(names: Sequence[str], level: int, classes: Sequence[str]) -> I64:
    """Class of a level for each name; UNKNOWN where the name does not say, or the level has none such."""
    said = {1: "attack", 2: "", 3: ""}[level]
    place = {name: i for i, name in enumerate(classes)}

    def at(name: str) -> int:
        if name == BENIGN:
            return 0
        return place.get(said or (name.partition("/")[0] if level == 2 else name), UNKNOWN)

    return np.array([at(name) for name in names], dtype=np.int64)


def parted(rows: LiveRows, share: float, *, attacks: bool) -> tuple[LiveRows, LiveRows]:
    """What comes before and after the moment at which `share` of the benign rows (attack rows) have passed.

    A stretch of time with attacks is not cut where that can be helped: its second half is no new attack to be
    judged by. Both may be empty.
    """
    wanted = rows.time_ns[rows.attack == attacks]
    if not len(wanted):
        return rows, rows.take(np.zeros(0, dtype=np.int64))
    cut = int(np.sort(wanted)[min(int(share * len(wanted)), len(wanted) - 1)])
    first, last = _stretches(np.unique(rows.time_ns[rows.attack]), rows)
    inside = np.flatnonzero((first < cut) & (cut <= last))
    if len(inside):
        edges = (int(first[inside[0]]), int(last[inside[0]]) + 1)
        whole = [edge for edge in edges if (wanted < edge).any() and (wanted >= edge).any()]
        cut = min(whole, key=lambda edge: abs(edge - cut), default=cut)
    return rows.take(rows.time_ns < cut), rows.take(rows.time_ns >= cut)


def _stretches(time_ns: I64, rows: LiveRows) -> tuple[I64, I64]:
    """First and last time of each stretch of windows with attacks, less than SEQUENCE windows apart."""
    if not len(time_ns):
        return time_ns, time_ns
    begins = np.concatenate([[True], np.diff(time_ns) > SEQUENCE * rows.window_ns])
    return time_ns[begins], time_ns[np.concatenate([begins[1:], [True]])]
