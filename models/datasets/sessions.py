"""Labelled windows by session: which rows are clear-cut, and how rows and sequences are picked from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.types import F32, I64, Bool

I16 = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class SessionWindows:
    """One run: w windows of d devices, f features. `y` is 0 where benign."""

    name: str
    split: str  # "train" | "validation" | "test"
    seed: int
    devices: tuple[str, ...]  # d
    start_ns: I64  # (w,), one window after the other
    values: F32  # (w, d, f), NaN = missing
    y: I16  # (w, d) class of the incident that touches the device for at least half of the window
    clear: Bool  # (w, d) touched by no incident, or by one alone and for at least half of the window
    incident: I16  # (w, d) place of that incident in `sizes`, -1 = none
    sizes: F32  # (incidents,) 0 mild .. 1 severe

    def save(self, path: Path) -> None:
        """Write it as one compressed file."""
        np.savez_compressed(
            path, name=self.name, split=self.split, seed=self.seed, devices=np.array(self.devices),
            start_ns=self.start_ns, values=self.values, y=self.y, clear=self.clear, incident=self.incident,
            sizes=self.sizes,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> SessionWindows:
        """Read it back."""
        with np.load(path, allow_pickle=False) as held:
            return cls(
                str(held["name"]), str(held["split"]), int(held["seed"]), tuple(held["devices"].tolist()),
                held["start_ns"], held["values"], held["y"], held["clear"], held["incident"], held["sizes"],
            )  # fmt: skip


def label_windows(
    start_ns: I64,
    window_ns: int,
    devices: Sequence[str],
    incidents: Sequence[tuple[int, int, int, Collection[str]]],
) -> tuple[I16, Bool, I16]:
    """Class (w, d), whether it is clear-cut, and which incident, for incidents (class, onset, end, devices).

    A row has the class of the incident that touches its device for at least half of the window. It is not
    clear-cut when that is less than half, or when incidents of two classes touch it.
    """
    shape = (len(start_ns), len(devices))
    most = np.zeros(shape, dtype=np.int64)
    kind = np.zeros(shape, dtype=np.int16)
    which = np.full(shape, -1, dtype=np.int16)
    mixed = np.zeros(shape, dtype=bool)
    names = np.array(devices)
    for i, (number, onset, end, touched) in enumerate(incidents):
        overlap = np.minimum(start_ns + window_ns, end) - np.maximum(start_ns, onset)
        here = (overlap[:, None] > 0) & np.isin(names, sorted(touched))
        mixed |= here & (kind != 0) & (kind != number)
        more = here & (overlap[:, None] > most)
        most = np.where(more, overlap[:, None], most)
        kind[more], which[more] = number, i
    enough = 2 * most >= window_ns
    clear = ~mixed & (enough | (most == 0))
    kind[~enough], which[~enough] = 0, -1
    return kind, clear, which
