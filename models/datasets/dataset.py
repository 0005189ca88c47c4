"""What detectors are trained on and judged by: rows with a class at each level, split once and for all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.types import F32, I64, Bool

SEQUENCE = 8  # windows of a device that sequence models see; the same as in `detectors.detector`
BENIGN_SHARE = 13_680 / (13_680 + 16_350)  # benign rows of DataSense's 10-s files, as in its test sets
L1 = ("benign", "attack")  # attack: anything that is not benign
L2 = ("benign", "fault", "dos", "ddos", "recon", "web", "mitm", "bruteforce", "malware", "ics")


class DataError(ValueError):
    """Data that cannot be used; the message names file and cure."""


@dataclass(frozen=True, slots=True)
class Part:
    """n rows of one split. Row i is `pool[before[i, -1]]`; the windows before it are `before[i, :-1]`."""

    pool: F32  # (m, f), NaN = missing
    before: I64  # (n, SEQUENCE) places in the pool, oldest first; the first window is repeated to the left
    y: Mapping[int, I64]  # level -> (n,) class index; -1: a class that training does not have
    group: NDArray[np.str_]  # (n,) session, capture or file
    device: NDArray[np.str_]  # (n,) "" where a table has none
    time_ns: I64 | None = None  # (n,)
    size: F32 | None = None  # (n,) how severe the incident is, 0..1, NaN where benign

    def __len__(self) -> int:
        return len(self.before)

    @property
    def x(self) -> F32:
        """Rows (n, f)."""
        return self.pool[self.before[:, -1]]

    def take(self, rows: I64 | Bool) -> Part:
        """Some of the rows."""
        return replace(
            self,
            before=self.before[rows],
            y={level: y[rows] for level, y in self.y.items()},
            group=self.group[rows],
            device=self.device[rows],
            time_ns=None if self.time_ns is None else self.time_ns[rows],
            size=None if self.size is None else self.size[rows],
        )

    def batches(self, pool: F32, *, sequence: bool, size: int = 8192) -> Iterator[F32]:
        """Rows (k, f), or sequences (k, SEQUENCE, f), of `pool` (this one, scaled), some at a time."""
        index = self.before if sequence else self.before[:, -1]
        for first in range(0, len(index), size):
            yield pool[index[first : first + size]]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A named data set with its splits."""

    name: str
    about: str
    columns: tuple[str, ...]  # f
    classes: Mapping[int, tuple[str, ...]]  # level -> names
    train: Part
    validation: Part
    tests: Mapping[str, Part]
    fingerprint: str
    split: str  # in words
    facts: Mapping[str, object] = field(default_factory=dict)  # for model cards
    in_time: bool = False  # whether training must lie before the tests in time


def standing_alone(x: F32, y: Mapping[int, I64], group: NDArray[np.str_], time_ns: I64 | None = None) -> Part:
    """Rows without a past: their sequence is the row itself, repeated."""
    index = np.repeat(np.arange(len(x))[:, None], SEQUENCE, axis=1)
    return Part(np.ascontiguousarray(x, dtype=np.float32), index, y, group, np.full(len(x), ""), time_ns)


def digest(*arrays: NDArray[np.generic]) -> str:
    """First 12 digits of the sha256 of some arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:12]


def levels_of(classes: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """Class names of all levels for those of level 3 ("benign", "dos/syn-flood", ...)."""
    there = {name.split("/")[0] for name in classes}
    return {1: L1, 2: tuple(name for name in L2 if name in there), 3: tuple(classes)}


def levels_y(y: I64, levels: Mapping[int, tuple[str, ...]]) -> dict[int, I64]:
    """Class index at each level for class indices of level 3."""
    category = np.array([levels[2].index(name.split("/")[0]) for name in levels[3]], dtype=np.int64)
    return {1: np.minimum(y, 1), 2: category[y], 3: y}


def from_sessions(
    sessions: Sequence[SessionWindows],
    classes: Sequence[str],
    columns: Sequence[str],
    *,
    name: str,
    about: str,
    fingerprint: str,
    benign: int = 40_000,
    seed: int = 0,
    facts: Mapping[str, object] | None = None,
) -> DataSet:
    """Clear-cut rows of each split, benign ones thinned.

    At most `benign` of them in training and a third of that in validation, in the test as many as DataSense's
    share asks for; `tests["benign"]` holds half of `benign` of the test's.
    """
    levels = levels_of(classes)
    rng = np.random.default_rng(seed)
    whole = {
        split: _part([s for s in sessions if s.split == split], levels)
        for split in ("train", "validation", "test")
    }
    quiet_rows = int((whole["validation"].y[1] == 0).sum())
    validation = _thinned(whole["validation"], benign // 3, rng)
    attacked = int((whole["test"].y[1] > 0).sum())
    test = _thinned(whole["test"], round(attacked * BENIGN_SHARE / (1 - BENIGN_SHARE)), rng)
    quiet = whole["test"].take(np.flatnonzero(whole["test"].y[1] == 0))
    return DataSet(
        name,
        about,
        tuple(columns),
        levels,
        _thinned(whole["train"], benign, rng),
        validation,
        {"test": test, "benign": _thinned(quiet, benign // 2, rng)},
        fingerprint,
        "by session: each run, with a seed of its own, belongs to one split",
        {**(facts or {}), "benign_hours": _hours(sessions) * _kept(validation, quiet_rows)},
    )


def _hours(sessions: Sequence[SessionWindows]) -> float:
    """Running time of the site in the validation sessions, h."""
    spans = [s.start_ns[-1] + s.start_ns[1] - 2 * s.start_ns[0] for s in sessions if s.split == "validation"]
    return float(sum(spans)) / 3.6e12


def _kept(part: Part, before: int) -> float:
    return int((part.y[1] == 0).sum()) / max(before, 1)


def _part(sessions: Sequence[SessionWindows], levels: Mapping[int, tuple[str, ...]]) -> Part:
    if not sessions:
        raise DataError("a split has no sessions: make the data set whole")
    pools, befores, ys, groups, devices, times, sizes = [], [], [], [], [], [], []
    offset = 0
    for one in sessions:
        w, d, f = one.values.shape
        past = np.maximum(np.arange(w)[:, None] + np.arange(1 - SEQUENCE, 1), 0)  # (w, SEQUENCE)
        row, device = np.nonzero(one.clear)
        pools.append(one.values.reshape(w * d, f))
        befores.append(offset + past[row] * d + device[:, None])
        ys.append(one.y[row, device])
        groups.append(np.full(len(row), one.name))
        devices.append(np.array(one.devices)[device])
        times.append(one.start_ns[row])
        which = one.incident[row, device]
        sizes.append(np.append(one.sizes, np.nan)[which].astype(np.float32))  # -1: the last, NaN
        offset += w * d
    y = np.concatenate(ys).astype(np.int64)
    return Part(
        np.concatenate(pools),
        np.concatenate(befores),
        levels_y(y, levels),
        np.concatenate(groups),
        np.concatenate(devices),
        np.concatenate(times),
        np.concatenate(sizes),
    )


def _thinned(part: Part, benign: int, rng: np.random.Generator) -> Part:
    quiet = np.flatnonzero(part.y[1] == 0)
    if len(quiet) > benign:
        quiet = rng.choice(quiet, benign, replace=False)
    kept = np.sort(np.concatenate([np.flatnonzero(part.y[1] > 0), quiet]))
    return _compact(part.take(kept))


def _compact(part: Part) -> Part:
    """Forget windows of the pool that no row needs."""
    used, index = np.unique(part.before, return_inverse=True)
    return replace(part, pool=part.pool[used], before=index.reshape(part.before.shape))
