"""Which rows are learnt from and which are judged: four protocols, always named, never mixed.

honest: split first, natural share of anomalies, stratified folds (whole runs where runs are known).
time: learn from the first 70 %, judge the rest, which is what a plant would see.
balanced: the folds of `honest`, normal test rows drawn until there are as many as anomalies; real rows only.
leaky: SMOTE before the split, so test rows are mixtures of training rows. Invalid; it shows where figures
like those of EWAD-IIoT (JCDE 2025, Table 4) come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from cellwatch.models.ewad.balancing import smote
from cellwatch.models.types import F32, I64, Bool

PROTOCOLS = ("honest", "time", "balanced", "leaky")
FOLDS = 5
TIME_SHARE = 0.7
BLOCKS = 5  # of the prequential test
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Fold:
    """One split of n rows."""

    name: str
    x: F32  # (n, f), NaN = missing
    y: Bool  # (n,) anomalous
    train: I64  # rows in their order
    test: I64
    labelled: bool = True  # training may see the labels of its rows
    counted: I64 | None = None  # places in `test` of the rows whose scores count; None: all

    def train_y(self) -> Bool | None:
        """Labels of the training rows; None where there are none."""
        return self.y[self.train] if self.labelled else None


def honest(
    x: F32, y: Bool, group: NDArray[np.str_] | None = None, *, folds: int = FOLDS, seed: int = 0
) -> Iterator[Fold]:
    """Stratified, shuffled folds; a group (n,) stays in one. ValueError for fewer than `folds` anomalies."""
    if min(int(y.sum()), int((~y).sum())) < folds:
        raise ValueError(
            f"{folds} folds need as many normal and anomalous rows; there are {int(y.sum())} anomalies"
        )
    if group is None:
        cuts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y)
    else:
        cuts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(x, y, group)
    for k, (train, test) in enumerate(cuts):
        yield Fold(f"fold {k + 1}", x, y, train, test)


def by_time(x: F32, y: Bool, time_ns: I64, *, share: float = TIME_SHARE) -> Iterator[Fold]:
    """One fold: the first `share` of the rows in time is learnt from, the rest judged."""
    order = np.argsort(time_ns, kind="stable")
    cut = int(share * len(order))
    yield Fold(f"first {100 * share:.0f} %", x, y, order[:cut], order[cut:])


def prequential(
    x: F32,
    y: Bool,
    time_ns: I64,
    *,
    share: float = TIME_SHARE,
    blocks: int = BLOCKS,
    delay_ns: int = DAY_NS,
) -> Iterator[Fold]:
    """The rest after the first `share` in blocks, each judged by what was labelled when it began.

    A label is there `delay_ns` after its row (Gama et al., Machine Learning 2013, 90, 317: test, then train).
    """
    order = np.argsort(time_ns, kind="stable")
    for k, block in enumerate(np.array_split(order[int(share * len(order)) :], blocks)):
        known = order[time_ns[order] <= time_ns[block[0]] - delay_ns]
        yield Fold(f"block {k + 1}", x, y, known, block)


def balanced(folds: Iterable[Fold], *, seed: int = 0) -> Iterator[Fold]:
    """The same folds, of whose test rows the larger class is thinned to the size of the smaller.

    ValueError for a fold with no test row of one class.
    """
    rng = np.random.default_rng(seed)
    for fold in folds:
        truth = fold.y[fold.test]
        sides = [np.flatnonzero(truth), np.flatnonzero(~truth)]
        least = min(map(len, sides))
        if not least:
            raise ValueError(f"{fold.name}: {truth.sum()} anomalies among {len(truth)} test rows: no balance")
        yield replace(
            fold, counted=np.sort(np.concatenate([rng.choice(s, least, replace=False) for s in sides]))
        )


def leaky(x: F32, y: Bool, *, folds: int = FOLDS, seed: int = 0) -> Iterator[Fold]:
    """Stratified folds of rows that were filled in and balanced by SMOTE as a whole. INVALID by design."""
    middle = np.nan_to_num(np.nanmedian(x, axis=0))
    filled = np.where(np.isnan(x), middle, x).astype(np.float32)
    many_anomalies = 2 * int(y.sum()) > len(y)
    mixed, rare = smote(filled, ~y if many_anomalies else y, 1.0, seed)
    return honest(mixed, (rare > 0) != many_anomalies, folds=folds, seed=seed)
