"""Any labelled table as a data set: numbers as they are, words one-hot, rows split in their own order."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cellwatch.models.datasets.dataset import L1, DataError, DataSet, Part, digest, standing_alone
from cellwatch.models.datasets.splits import SPLIT, SPLIT_RUNS, in_order, runs
from cellwatch.models.types import F32, I64

BENIGN = frozenset({"benign", "normal", "0", "0.0", "false", "none", "benigntraffic"})
CALLED_BENIGN = "benign, normal, 0 ..."  # in messages
MAX_WORDS = 100  # a text column with more is a name, an address, a payload: left out
PARQUET = frozenset({".parquet", ".pq"})
_NOTHING = ("", "nan", "NaN", "NA", "null", "-", "Infinity", "inf")


@dataclass(frozen=True, slots=True)
class Labels:
    """n labels: what each row is at level 1, and the class names of level 2 ("benign" first)."""

    names: tuple[str, ...]
    y: I64  # (n,) index into names


def read_table(path: Path, names: Sequence[str] = ()) -> pa.Table:
    """A .csv (.gz, .tar.xz), .txt, .parquet or .pq; `names` for one without a header. DataError."""
    try:
        if path.suffix.lower() in PARQUET:
            return pq.read_table(path)
        options = arrow_csv.ReadOptions(column_names=list(names) or None)
        convert = arrow_csv.ConvertOptions(strings_can_be_null=True, null_values=list(_NOTHING))
        with _opened(path) as handle:
            table = arrow_csv.read_csv(handle, read_options=options, convert_options=convert)
    except FileNotFoundError:
        raise DataError(f"{path}: data absent") from None
    except (OSError, EOFError, tarfile.TarError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}") from None
    return table.rename_columns([name.strip().lstrip("\ufeff") for name in table.column_names])


def _opened(path: Path) -> Any:
    if not path.name.endswith((".tar.xz", ".tar.gz", ".tgz")):
        return pa.input_stream(str(path))
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix == ".csv":
                handle = archive.extractfile(member)
                assert handle is not None
                return pa.BufferReader(handle.read())
    raise DataError(f"{path}: no .csv in the archive")


def texts(table: pa.Table, column: str, whose: str) -> NDArray[np.str_]:
    """A column as text without blanks around. DataError when it is not there."""
    if column not in table.column_names:
        raise DataError(f"{whose}: no column {column!r}; columns: {', '.join(table.column_names)[:200]}")
    cells = pc.utf8_trim_whitespace(pc.fill_null(pc.cast(table[column], pa.string()), ""))
    return np.array(cells.to_pylist())


def labels_of(cells: NDArray[np.str_]) -> Labels:
    """Level-2 labels: every benign word is "benign"; the others are themselves, in alphabetical order.

    >>> labels_of(np.array(["normal", "dos", "Benign"])).names
    ('benign', 'dos')
    """
    word = np.array([w if (w := cell.lower()) not in BENIGN else "benign" for cell in cells.tolist()])
    names = ("benign", *sorted({*word.tolist()} - {"benign"}))
    return Labels(names, np.array([names.index(w) for w in word.tolist()], dtype=np.int64))


def listed(names: Sequence[str]) -> str:
    """For a message; of many the first ten.

    >>> listed(["a", "b"])
    'a, b'
    """
    return ", ".join([*names[:10], *(["..."] if len(names) > 10 else [])])


def encode(
    tables: Sequence[pa.Table], learn: NDArray[np.bool_] | None = None, drop: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[F32]]:
    """Columns and rows (n, f) of tables that belong together.

    Which columns there are, and which words a text column knows, is decided on the first table, of it on the
    rows `learn`, so that no test row has a say. A word that was not known is all zeros. Missing is NaN.
    """
    columns: list[str] = []
    parts: list[list[NDArray[np.float32]]] = [[] for _ in tables]
    for name in tables[0].column_names:
        if name in drop:
            continue
        numbers = [_numbers(table[name]) for table in tables]
        if all(values is not None for values in numbers):
            columns.append(name)
            for part, values in zip(parts, numbers, strict=True):
                part.append(values)  # type: ignore[arg-type]
            continue
        cells = [texts(table, name, name) for table in tables]
        known = sorted({*(cells[0] if learn is None else cells[0][learn]).tolist()} - {""})
        if len(known) > MAX_WORDS:
            continue
        columns += [f"{name}={word}" for word in known]
        for part, mine in zip(parts, cells, strict=True):
            part += [(mine == word).astype(np.float32) for word in known]
    if not columns:
        raise DataError("no column with numbers, and none with few words")
    return tuple(columns), [np.column_stack(part).astype(np.float32) for part in parts]


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float32] | None:
    kind = column.type
    if pa.types.is_boolean(kind):
        column, kind = pc.cast(column, pa.int8()), pa.int8()
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        return None
    with np.errstate(over="ignore"):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy().astype(np.float32)
    return np.where(np.isfinite(values), values, np.nan).astype(np.float32)


def data_set(
    name: str,
    about: str,
    table: pa.Table,
    label: str,
    *,
    drop: Sequence[str] = (),
    group: str = "",
    time: str = "",
    device: str = "",
) -> DataSet:
    """One table, split in its own order. `label` holds a benign word or the kind of attack. DataError.

    Sessions are the groups of column `group`, else with column `time` the runs of a class between pauses.
    `device` names a column with the device of each row.
    """
    labels = labels_of(texts(table, label, name))
    if not (labels.y == 0).any():
        raise DataError(
            f"{name}: column {label!r}: no row is called {CALLED_BENIGN}; labels: {listed(labels.names[1:])}"
        )
    if len(labels.names) < 2:
        raise DataError(f"{name}: column {label!r}: every row is called {CALLED_BENIGN}; others are needed")
    if len(labels.names) > 256:
        raise DataError(f"{name}: column {label!r} has {len(labels.names)} different labels; at most 256")
    groups = texts(table, group, name) if group else None
    stamps = times_of(table, time, name) if time else None
    if groups is not None and (groups == "").any():
        raise DataError(f"{name}: column {group!r} has empty cells: every row needs a group")
    derived = groups is None and stamps is not None
    if groups is None and stamps is not None:
        groups = runs(labels.y, labels.names, stamps)
    split = in_order(labels.y, groups, stamps, whole=not derived)
    columns, (x,) = encode([table], split == 0, [label, *drop, *filter(None, (group, time, device))])
    y = {1: np.minimum(labels.y, 1), 2: labels.y}
    classes = {1: L1, 2: labels.names}
    if len(labels.names) == 2:
        del y[2], classes[2]
    where = groups if groups is not None else np.full(len(labels.y), "")
    whole = standing_alone(x, y, where, stamps)
    if device:
        whole = replace(whole, device=texts(table, device, name))
    parts = [whole.take(split == k) for k in range(3)]
    if not all({0, 1} == {*part.y[1].tolist()} for part in (parts[0], parts[2])):
        raise DataError(
            f"{name}: too few rows or groups to split: training and test need benign and other rows"
        )
    said = f"whole groups of {group!r}, {SPLIT}" if group else SPLIT_RUNS if derived else SPLIT
    return DataSet(
        name, about, columns, classes, parts[0], parts[1], {"test": parts[2]}, digest(x, labels.y),
        said, in_time=stamps is not None,
    )  # fmt: skip


def given_parts(
    name: str,
    about: str,
    train: pa.Table,
    tests: Mapping[str, pa.Table],
    label: str,
    classes_of: Mapping[str, str],
    *,
    drop: Sequence[str] = (),
) -> DataSet:
    """A data set whose publishers made the split; validation is the last fifth of each class of training.

    `classes_of` maps labels (lower case) to level-2 classes, "benign" among them. DataError for others.
    """
    tables = [train, *tests.values()]
    names = ("benign", *sorted({*classes_of.values()} - {"benign"}))
    ys = []
    for table in tables:
        cells = [cell.lower() for cell in texts(table, label, name).tolist()]
        unknown = sorted({*cells} - {*classes_of})
        if unknown:
            raise DataError(f"{name}: unknown label {unknown[0]!r} in column {label!r}")
        ys.append(np.array([names.index(classes_of[cell]) for cell in cells], dtype=np.int64))
    late = np.zeros(len(train), dtype=bool)
    for kind in np.unique(ys[0]):
        rows = np.flatnonzero(ys[0] == kind)
        late[rows[int(0.8 * len(rows)) :]] = True
    columns, xs = encode(tables, ~late, [label, *drop])

    def part(x: F32, y: I64) -> Part:
        return standing_alone(x, {1: np.minimum(y, 1), 2: y}, np.full(len(y), ""))

    return DataSet(
        name, about, columns, {1: L1, 2: names},
        part(xs[0][~late], ys[0][~late]), part(xs[0][late], ys[0][late]),
        {key: part(x, y) for key, x, y in zip(tests, xs[1:], ys[1:], strict=True)},
        digest(*xs, *ys), "the publishers' files; validation: the last fifth of each class of training",
    )  # fmt: skip


def times_of(table: pa.Table, column: str, whose: str) -> I64:
    """A column of seconds since the epoch, or of dates, as ns. DataError for anything else."""
    if column not in table.column_names:
        raise DataError(f"{whose}: no column {column!r}; columns: {', '.join(table.column_names)[:200]}")
    cells = table[column]
    empty = pc.sum(pc.is_null(cells, nan_is_null=True)).as_py()
    if empty:
        raise DataError(f"{whose}: column {column!r} has {empty} empty cells: every row needs a time")
    try:
        if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
            return np.asarray(cells.to_numpy() * 1e9).astype(np.int64)  # seconds since the epoch
        stamps = pc.cast(pc.cast(cells, pa.timestamp("ns")), pa.int64()).to_numpy()
        return np.asarray(stamps, dtype=np.int64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{whose}: column {column!r} is no time: {error}") from None
