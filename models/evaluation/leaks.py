"""Whether a test was fair: what of the training shows again in the test.

Each check finds a number and says whether it speaks against the figures. They run with every evaluation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.types import F32, I64, Bool

NAMES = ("duplicate rows", "session overlap", "time order")


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a split."""

    name: str  # one of NAMES
    ok: bool | None  # None: cannot be checked
    found: float | None  # share of the test rows, or a count
    detail: str

    def to_dict(self) -> dict[str, object]:
        """Names and values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rows:
    """n rows of a split, as the checks need them."""

    x: F32  # (n, f), NaN = missing
    y: I64  # (n,) class at the finest level, 0 = benign
    group: NDArray[np.str_]  # (n,) session or capture, "" where it is not known
    time_ns: I64 | None = None  # (n,)

    def __len__(self) -> int:
        return len(self.y)


def check(train: Rows, test: Rows, *, in_time: bool) -> list[Check]:
    """All checks of a test against what was trained on (training and validation together, if both were used).

    `in_time`: the split promises that of each class training lies before the test.
    """
    return [_duplicates(train, test), _sessions(train, test), _order(train, test, in_time=in_time)]


def duplicates(train: Rows, test: Rows) -> tuple[I64, I64]:
    """Places of test rows that training holds to the last bit, and those of them with another label there.

    Rows whose every number is missing say nothing and are passed over.
    """
    seen: dict[bytes, set[int]] = {}
    rows = np.ascontiguousarray(train.x)
    for key, label in zip(_keys(rows), train.y.tolist(), strict=True):
        seen.setdefault(key, set()).add(label)
    x = np.ascontiguousarray(test.x)
    says: Bool = np.asarray(np.isfinite(x).any(axis=1))
    found, other = [], []
    for i, (key, label) in enumerate(zip(_keys(x), test.y.tolist(), strict=True)):
        labels = seen.get(key)
        if labels is None or not says[i]:
            continue
        found.append(i)
        if label not in labels:
            other.append(i)
    return np.array(found, dtype=np.int64), np.array(other, dtype=np.int64)


def _keys(x: F32) -> list[bytes]:
    width = x.shape[1] * x.itemsize
    held = (x + np.float32(0.0)).tobytes()  # -0.0 and 0.0 are one number
    return [held[i : i + width] for i in range(0, len(held), width)]


def _duplicates(train: Rows, test: Rows) -> Check:
    found, other = duplicates(train, test)
    attacked = int((test.y[found] > 0).sum())
    share = len(found) / max(len(test), 1)
    return Check(
        NAMES[0],
        share <= 0.01,
        share,
        f"{len(found)} of {len(test)} test rows also stand in training, {attacked} of them attacked, "
        f"{len(other)} with another label there",
    )


def unknown(why: str) -> list[Check]:
    """All checks when it is not known what a model was trained on."""
    return [Check(name, None, None, f"not known: {why}") for name in NAMES]


def _sessions(train: Rows, test: Rows) -> Check:
    ours, theirs = {*train.group.tolist()}, {*test.group.tolist()}
    if "" in ours | theirs:
        return Check(NAMES[1], None, None, "not checkable: it is not known which rows belong together")
    both = sorted(ours & theirs)
    return Check(
        NAMES[1],
        not both,
        float(len(both)),
        f"{len(both)} of {len(theirs)} sessions of the test are in both: {', '.join(both[:3])}"
        if both
        else f"none of the {len(theirs)} sessions of the test is in both",
    )


def _order(train: Rows, test: Rows, *, in_time: bool) -> Check:
    if train.time_ns is None or test.time_ns is None:
        return Check(NAMES[2], None, None, "not checkable: the rows have no time")
    if not in_time:
        return Check(NAMES[2], None, None, "not checkable: runs of their own, not one stretch of time")
    classes = 1 + max(train.y.max(initial=0), test.y.max(initial=0))
    ends = np.full(classes, np.iinfo(np.int64).min)
    known = train.y >= 0
    np.maximum.at(ends, train.y[known], train.time_ns[known])
    early = float(((test.y >= 0) & (test.time_ns < ends[test.y])).mean())
    return Check(
        NAMES[2],
        early == 0.0,
        early,
        f"{100 * early:.1f} % of the test rows lie before the end of the training rows of their class",
    )
