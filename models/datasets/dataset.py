"""What detectors are trained on and judged by: rows with a class at each level, split once and for all."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.types import F32, I64, SEQUENCE, Bool

BENIGN_SHARE = 13_680 / (13_680 + 16_350)  # benign rows of DataSense's 10-s files, as in its test sets
L1 = ("benign", "attack")  # attack: anything that is not benign
L2 = ("benign", "fault", "dos", "ddos", "recon", "web", "mitm", "bruteforce", "malware", "ics")


Scalar = TypeVar("Scalar", bound=np.generic)


class DataError(ValueError):
    """Data that cannot be used; the message names file and cure."""


@dataclass(frozen=True, slots=True)
class Part:
    """n rows of one split. Row i is `pool[before[i, -1]]`; the windows before it are `before[i, :-1]`."""

    pool: F32  # (m, f), NaN = missing
    before: I64  # (n, SEQUENCE) places in the pool, oldest first; the first window is repeated to the left
    y: Mapping[int, I64]  # level -> (n,) class index; -1: a class that training does not have
    group: NDArray[np.str_]  # (n,) session or capture, "" where it is not known
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
    in_time: bool = False  # of each class, training must lie before the tests in time
    running: Part | None = None  # validation with all benign rows: what a site shows in `benign_hours`

    def only(self, levels: Collection[int]) -> DataSet:
        """The data set with the classes of some levels alone."""
        return replace(self, classes={level: c for level, c in self.classes.items() if level in levels})


def standing_alone(x: F32, y: Mapping[int, I64], group: NDArray[np.str_], time_ns: I64 | None = None) -> Part:
    """Rows without a past: their sequence is the row itself, repeated."""
    index = np.repeat(np.arange(len(x))[:, None], SEQUENCE, axis=1)
    return Part(np.ascontiguousarray(x, dtype=np.float32), index, y, group, np.full(len(x), ""), time_ns)


def histories(session: NDArray[np.str_], device: NDArray[np.str_], time_ns: I64, window_ns: int) -> I64:
    """Places (n, SEQUENCE) of the last windows of each row's device, without a gap, within its session."""
    order = np.lexsort((time_ns, device, session))
    follows = np.zeros(len(order), dtype=bool)
    follows[1:] = (
        (session[order[1:]] == session[order[:-1]])
        & (device[order[1:]] == device[order[:-1]])
        & (np.diff(time_ns[order]) == window_ns)
    )
    start = np.maximum.accumulate(np.where(follows, 0, np.arange(len(order))))
    place = np.maximum(np.arange(len(order))[:, None] + np.arange(1 - SEQUENCE, 1), start[:, None])
    before = np.empty((len(order), SEQUENCE), dtype=np.int64)
    before[order] = order[place]
    return before


def concat(parts: Sequence[Part]) -> Part:
    """The rows of all parts (at least one), with the levels of the first one; -1 where another lacks one.

    `time_ns` and `size` are kept only if all parts have them.
    """
    offsets = np.cumsum([0, *(len(part.pool) for part in parts[:-1])])
    return Part(
        np.concatenate([part.pool for part in parts]),
        np.concatenate([part.before + at for part, at in zip(parts, offsets, strict=True)]),
        {
            level: np.concatenate([part.y.get(level, np.full(len(part), -1)) for part in parts])
            for level in parts[0].y
        },
        np.concatenate([part.group for part in parts]),
        np.concatenate([part.device for part in parts]),
        _all([part.time_ns for part in parts]),
        _all([part.size for part in parts]),
    )


def _all(columns: Sequence[NDArray[Scalar] | None]) -> NDArray[Scalar] | None:
    there = [column for column in columns if column is not None]
    return np.concatenate(there) if len(there) == len(columns) else None


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
    share asks for; `tests["benign"]` holds half of `benign` of the test's, `tests["natural"]` whole sessions
    of the test at level 1, up to `benign` rows.
    """
    levels = levels_of(classes)
    rng = np.random.default_rng(seed)
    whole = {
        split: _part([s for s in sessions if s.split == split], levels)
        for split in ("train", "validation", "test")
    }
    validation = _thinned(whole["validation"], benign // 3, rng)
    test = _as_published(whole["test"], rng)
    return DataSet(
        name,
        about,
        tuple(columns),
        levels,
        _thinned(whole["train"], benign, rng),
        validation,
        {
            "test": test,
            "benign": _quiet(whole["test"], benign // 2, rng),
            "natural": _natural(whole["test"], benign),
        },
        fingerprint,
        "by session: each run, with a seed of its own, belongs to one split",
        {**(facts or {}), "benign_hours": _benign_hours([s for s in sessions if s.split == "validation"])},
        running=whole["validation"],
    )


def drawn_tests(
    sessions: Sequence[SessionWindows], classes: Sequence[str], *, benign: int = 40_000, seed: int = 0
) -> dict[str, Part]:
    """The tests that `from_sessions` would make of these sessions."""
    rng = np.random.default_rng(seed)
    whole = _part(sessions, levels_of(classes))
    return {
        "test": _as_published(whole, rng),
        "benign": _quiet(whole, benign // 2, rng),
        "natural": _natural(whole, benign),
    }


def _as_published(part: Part, rng: np.random.Generator) -> Part:
    """With the share of benign rows that DataSense's tests have."""
    attacked = int((part.y[1] > 0).sum())
    return _thinned(part, round(attacked * BENIGN_SHARE / (1 - BENIGN_SHARE)), rng)


def _quiet(part: Part, most: int, rng: np.random.Generator) -> Part:
    return _thinned(part.take(np.flatnonzero(part.y[1] == 0)), most, rng)


def _natural(part: Part, most: int) -> Part:
    """Sessions with all their rows, evenly spread, at level 1: attacks are as rare as they are there."""
    names, size = np.unique(part.group, return_counts=True)
    count = max(1, min(len(names), int(most / size.mean())))
    kept = names[np.linspace(0, len(names) - 1, count).round().astype(np.int64)]
    return compact(replace(part.take(np.isin(part.group, kept)), y={1: part.y[1][np.isin(part.group, kept)]}))


def _benign_hours(sessions: Sequence[SessionWindows]) -> float:
    """Running time of the site behind the clear-cut benign rows of the sessions, h."""
    spans = [s.start_ns[-1] + s.start_ns[1] - 2 * s.start_ns[0] for s in sessions]
    shares = [float((s.clear & (s.y == 0)).mean()) for s in sessions]
    return float(np.dot(spans, shares)) / 3.6e12


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
    return compact(part.take(kept))


def compact(part: Part) -> Part:
    """Forget windows of the pool that no row needs."""
    used, index = np.unique(part.before, return_inverse=True)
    return replace(part, pool=part.pool[used], before=index.reshape(part.before.shape))
