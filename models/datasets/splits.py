"""Which rows train, validate and test: in their own order, whole sessions, never at random."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.types import I64

SHARES = (0.6, 0.15, 0.25)  # training, validation, test
PAUSE_S = 300.0  # a class that was silent for so long begins a new session,
PAUSE_STEPS = 20  # or for so many median steps of its table, if that is longer
CUT = -1
SPLIT = "within each class by the order of rows: first 60 % training, 15 % validation, last 25 % test"
SPLIT_RUNS = (
    "by time within each class: whole sessions, the last ones (25 % of the rows) are the test, and the last "
    "fifth of the rest is validation; where a class has one session, this is cut"
)


def in_order(
    y: I64, group: NDArray[np.str_] | None = None, time_ns: I64 | None = None, *, whole: bool = True
) -> I64:
    """Split (n,) of rows: 0 training, 1 validation, 2 test.

    Of every class the first rows (by time, else as they stand) are for training, the last for the test. With
    `group` each group goes to one split, once, as one of its rarest class; of the groups of a class, in the
    order in which they begin, the first trains, the last tests and one of three or more validates; a class
    with one group lacks in the test. Unless `whole`: then the only group of a class is cut, and validation
    is the last fifth of what a class has outside of the test.
    """
    order = np.argsort(time_ns, kind="stable") if time_ns is not None else np.arange(len(y))
    cuts = np.cumsum(SHARES)[:2]
    split = np.zeros(len(y), dtype=np.int64)
    if group is None:
        for label in np.unique(y):
            rows = order[y[order] == label]
            split[rows] = np.searchsorted(cuts, (np.arange(len(rows)) + 0.5) / len(rows))
        return split
    names, number = np.unique(group, return_inverse=True)
    rows_of_class = np.bincount(y)
    rarest = np.full(len(names), -1, dtype=np.int64)
    by_rows = np.argsort(-rows_of_class[y], kind="stable")
    rarest[number[by_rows]] = y[by_rows]  # the last one written has the fewest rows
    begins = np.zeros(len(names), dtype=np.int64)
    begins[number[order[::-1]]] = np.arange(len(y))[::-1]
    size = np.bincount(number)
    assigned = np.zeros(len(names), dtype=np.int64)
    for label in np.unique(rarest):
        mine = np.flatnonzero(rarest == label)
        mine = mine[np.argsort(begins[mine])]
        share = (np.cumsum(size[mine]) - size[mine] / 2) / size[mine].sum()
        assigned[mine] = np.searchsorted(cuts, share)
        if len(mine) > 1:
            assigned[mine[0]], assigned[mine[-1]] = 0, 2
            if len(mine) > 2 and 1 not in assigned[mine]:
                assigned[mine[-2]] = 1
        elif not whole:
            assigned[mine] = CUT
    split = assigned[number]
    for lone in np.flatnonzero(assigned == CUT):
        rows = order[number[order] == lone]
        split[rows[int(cuts[1] * len(rows)) :]] = 2
    if not whole:
        for label in np.unique(y):
            rows = order[(y[order] == label) & (split[order] != 2)]
            split[rows] = 0
            split[rows[math.ceil(cuts[0] / cuts[1] * len(rows)) :]] = 1
    return split


def runs(y: I64, names: tuple[str, ...], time_ns: I64) -> NDArray[np.str_]:
    """Session (n,) of each row, "dos-2": rows of one class without a pause between them."""
    steps = np.diff(np.sort(time_ns))
    typical = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    pause = max(PAUSE_S * 1e9, PAUSE_STEPS * typical)
    number = np.zeros(len(y), dtype=np.int64)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        rows = rows[np.argsort(time_ns[rows], kind="stable")]
        number[rows] = np.concatenate([[0], np.cumsum(np.diff(time_ns[rows]) > pause)])
    return np.array([f"{names[k]}-{i}" for k, i in zip(y.tolist(), number.tolist(), strict=True)])
