"""Rows that an EWAD is compared on: published sets and files by name, and their splits by protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from cellwatch.models.datasets import mnist, secom, skab
from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.labelled_rows import LabelledRows
from cellwatch.models.datasets.tables import encode, labels_of, read_table, texts, times_of
from cellwatch.models.ewad import protocols
from cellwatch.models.ewad.protocols import FOLDS, PROTOCOLS, Fold
from cellwatch.models.types import I64
from cellwatch.nodes.data_sources import data_root

LOADERS = {"secom": secom.load, "mnist": mnist.load, "skab": skab.load}
DIGITS = tuple(range(10))


@dataclass(frozen=True, slots=True)
class Limits:
    """What makes a run smaller than the whole; each is named in the output."""

    rows: int | None = None  # training rows of a fold, and test rows as well
    folds: int | None = None  # the first so many of them
    digits: tuple[int, ...] = DIGITS  # MNIST: digits that are normal in turn

    def said(self) -> dict[str, object]:
        """Those that limit something."""
        out: dict[str, object] = {"rows": self.rows, "folds": self.folds}
        if self.digits != DIGITS:
            out["digits"] = list(self.digits)
        return {name: value for name, value in out.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Splits:
    """The folds of a data set under a protocol, made one after the other."""

    folds: Iterator[Fold]
    count: int
    about: str  # in words
    pooled: bool = False  # what is called is counted over all folds, not averaged


def open_rows(
    spec: str, *, label: str = "", group: str = "", time: str = "", labelled: bool = True
) -> LabelledRows:
    """SECOM, MNIST, SKAB, or a table; without a label column, if it need not be `labelled`, all is normal.

    DataError; its text says `data absent` where files are not there.
    """
    if spec in LOADERS:
        return LOADERS[spec](data_root() / spec)
    path = Path(spec)
    if not path.suffix:
        raise DataError(f"no data set is called {spec!r}; there are: {', '.join(LOADERS)}; or give a file")
    if labelled and not label:
        raise DataError(f"{path}: say which column is the label: --label COLUMN")
    table = read_table(path)
    y = np.zeros(len(table), dtype=np.int64)
    if label:
        said = texts(table, label, path.name)
        if empty := int((said == "").sum()):
            raise DataError(f"{path}: column {label!r} has {empty} empty cells: every row needs a label")
        y = labels_of(said).y
    if labelled and len({*np.minimum(y, 1).tolist()}) < 2:
        raise DataError(f"{path}: column {label!r} needs normal rows and others")
    columns, (x,) = encode([table], None, [*filter(None, (label, group, time))])
    return LabelledRows(
        path.name,
        f"table {path.name}",
        columns,
        x,
        y,
        texts(table, group, path.name) if group else np.full(len(x), ""),
        times_of(table, time, path.name) if time else None,
    )


def splits(
    data: LabelledRows, protocol: str, limits: Limits, *, seed: int = 0, prequential: bool = False
) -> Splits:
    """The folds of a protocol. DataError if the data does not have what it needs."""
    if protocol not in PROTOCOLS:
        raise DataError(f"no protocol is called {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    if prequential and protocol != "time":
        raise DataError("--prequential goes with --protocol time")
    if data.name == "mnist":
        found = _digits(data, protocol, limits, seed)
    elif data.name == "skab" and protocol != "leaky":
        found = _runs(data)
    else:
        found = _shuffled(data, protocol, limits, seed, prequential)
    count = min(found.count, limits.folds or found.count)
    folds: Iterator[Fold] = (
        thin(fold, limits.rows) if limits.rows else fold for fold in islice(found.folds, count)
    )
    if protocol == "balanced":
        about = f"{found.about}; test rows of the larger class drawn to as many as of the smaller"
        found, folds = replace(found, about=about), protocols.balanced(folds, seed=seed)
    return replace(found, folds=folds, count=count)


def thin(fold: Fold, rows: int) -> Fold:
    """At most so many training and test rows, evenly spaced within each class, whose shares stay."""
    return replace(fold, train=_evenly(fold, fold.train, rows), test=_evenly(fold, fold.test, rows))


def _evenly(fold: Fold, rows: I64, most: int) -> I64:
    if len(rows) <= most:
        return rows
    kept = []
    for wrong in (False, True):
        places = np.flatnonzero(fold.y[rows] == wrong)
        n = round(most * len(places) / len(rows))
        kept.append(places[np.linspace(0, len(places) - 1, max(n, min(len(places), 1))).astype(np.int64)])
    return rows[np.sort(np.concatenate(kept))]


def _shuffled(data: LabelledRows, protocol: str, limits: Limits, seed: int, prequential: bool) -> Splits:
    group = data.group if (data.group != "").any() else None
    if protocol == "time":
        if data.time_ns is None:
            raise DataError(f"{data.name}: its rows have no time: --protocol time needs it (--time COLUMN)")
        share = f"first {100 * protocols.TIME_SHARE:.0f} % of the rows in time"
        if prequential:
            said = (
                f"{share}, then {protocols.BLOCKS} blocks, each judged by what was labelled a day before it"
            )
            blocks = protocols.prequential(data.x, data.y, data.time_ns)
            return Splits(blocks, protocols.BLOCKS, said)
        return Splits(
            protocols.by_time(data.x, data.y, data.time_ns), 1, f"{share} learnt from, the rest judged"
        )
    try:
        if protocol == "leaky":
            whole = thin(
                Fold("", data.x, data.y, np.arange(len(data)), np.zeros(0, np.int64)),
                limits.rows or len(data),
            )
            folds = protocols.leaky(data.x[whole.train], data.y[whole.train], seed=seed)
            return Splits(folds, FOLDS, f"SMOTE on all rows, then {FOLDS} stratified folds: INVALID")
        folds = protocols.honest(data.x, data.y, group, seed=seed)
        said = f"{FOLDS} stratified, shuffled folds" + (" of whole groups" if group is not None else "")
    except ValueError as error:
        raise DataError(f"{data.name}: {error}") from None
    return Splits(folds, FOLDS, said + (", natural share of anomalies" if protocol == "honest" else ""))


def _digits(data: LabelledRows, protocol: str, limits: Limits, seed: int) -> Splits:
    """One digit normal: learnt from its training images alone, judged on the publisher's test images."""
    if protocol == "time":
        raise DataError("mnist: its images have no time: --protocol honest, balanced or leaky")
    test = data.test
    assert test is not None

    def folds() -> Iterator[Fold]:
        for digit in limits.digits:
            y = np.asarray(data.label != digit)
            if protocol == "leaky":
                some = thin(
                    Fold("", data.x, y, np.arange(len(y)), np.zeros(0, np.int64)), limits.rows or len(y)
                ).train
                first = next(protocols.leaky(data.x[some], y[some], seed=seed))
                yield replace(first, name=f"digit {digit}")
            else:
                train = np.flatnonzero(~y & ~test)
                yield Fold(f"digit {digit}", data.x, y, train, np.flatnonzero(test), labelled=False)

    if protocol == "leaky":
        return Splits(
            folds(),
            len(limits.digits),
            "each digit normal in turn; SMOTE on all images, then one fifth judged: INVALID",
        )
    said = "each digit normal in turn: its training images learnt from, the 10,000 test images judged"
    return Splits(folds(), len(limits.digits), said)


def _runs(data: LabelledRows) -> Splits:
    """SKAB's published protocol: each run is learnt from its first rows and judged on the others."""
    test = data.test
    assert test is not None
    names: Sequence[str] = list(dict.fromkeys(data.group.tolist()))

    def folds() -> Iterator[Fold]:
        for name in names:
            mine = data.group == name
            train, rest = np.flatnonzero(mine & ~test), np.flatnonzero(mine & test)
            yield Fold(name, data.x, data.y, train, rest, labelled=False)

    said = (
        f"the first {skab.TRAINING_ROWS} rows of each run learnt from unlabelled, the rest judged, all pooled"
    )
    return Splits(folds(), len(names), said, pooled=True)
