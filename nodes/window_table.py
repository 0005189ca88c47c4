"""Feature windows from tables in DataSense's form (.csv, .csv.gz, .csv.tar.xz, .parquet) and in ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cellwatch.models.features import datasense
from cellwatch.models.features.columns import DATASENSE_COLUMNS
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.types import F32, I64, Bool, FeatureWindow

BENIGN = "benign"
ADDRESSES = ("network_ips_all", "network_macs_all")


class WindowTableError(ValueError):
    """A table that cannot be judged; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class WindowTable:
    """n device windows in the order of time; columns that the table lacks are NaN."""

    name: str
    devices: NDArray[np.object_]  # (n,) names
    start_ns: I64  # (n,)
    window_s: float
    values: F32  # (n, features) of the default schema
    attack: Bool | None  # (n,) by the column `label1`; None without labels
    addresses: tuple[frozenset[str], ...]  # (n,) IP and MAC addresses seen; () when the table has no lists

    def __len__(self) -> int:
        return len(self.devices)

    def part(self, since: float, until: float) -> WindowTable:
        """The windows of a share of time, 0 <= since < until <= 1. WindowTableError when none is left."""
        if not 0.0 <= since < until <= 1.0:
            raise WindowTableError(f"part {since:g} to {until:g}: need 0 <= from < to <= 1")
        times = np.unique(self.start_ns)
        cuts = [round(share * len(times)) for share in (since, until)]
        chosen = times[cuts[0] : cuts[1]]
        if not len(chosen):
            raise WindowTableError(f"{self.name}: no window lies in part {since:g} to {until:g}")
        return self.where((self.start_ns >= chosen[0]) & (self.start_ns <= chosen[-1]))

    def where(self, keep: Bool) -> WindowTable:
        """The rows to keep (n,)."""
        return replace(
            self,
            devices=self.devices[keep],
            start_ns=self.start_ns[keep],
            values=self.values[keep],
            attack=None if self.attack is None else self.attack[keep],
            addresses=tuple(a for a, k in zip(self.addresses, keep.tolist(), strict=False) if k),
        )

    def carrying(self, addresses: frozenset[str]) -> Bool:
        """Which rows (n,) name one of the addresses. WindowTableError when the table has no lists."""
        if not self.addresses:
            raise WindowTableError(f"{self.name}: has no lists of addresses ({', '.join(ADDRESSES)})")
        return np.array([not addresses.isdisjoint(seen) for seen in self.addresses], dtype=bool)

    def windows(self) -> Iterator[FeatureWindow]:
        """Windows over all devices that have a row in them, in the order of time, without tags."""
        schema_id = default_schema().schema_id
        length = round(self.window_s * 1e9)
        nobody, nothing = np.zeros(0, dtype=np.uint32), np.zeros((0, len(TAG_COLUMNS)), dtype=np.float32)
        edges = np.flatnonzero(np.diff(self.start_ns, prepend=self.start_ns[0] - 1)).tolist()
        for first, stop in zip(edges, [*edges[1:], len(self)], strict=True):
            start = int(self.start_ns[first])
            yield FeatureWindow(
                start // length, start, start + length, start + length, schema_id,
                tuple(self.devices[first:stop]), self.values[first:stop], (), nobody, nothing,
            )  # fmt: skip


def read(path: Path) -> WindowTable:
    """Read a table of windows. WindowTableError, or TableError of `datasense`, says what is wrong with it."""
    if path.suffix == ".parquet":
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise WindowTableError(f"{path}: cannot be read: {error}") from None
    else:
        table = datasense.read(path)
    if all(name in table.column_names for name in DATASENSE_COLUMNS):
        labels = table["label1"]
        table = pa.table(
            [_cast(path, name, table[name], kind)
             for name, kind in zip(DATASENSE_COLUMNS, datasense.schema().types, strict=True)],
            names=list(DATASENSE_COLUMNS),
        )  # fmt: skip
        table = datasense.to_ours(table)
        table = table.set_column(table.column_names.index("label1"), "label1", labels)
    return _ours(path, table)


def _cast(path: Path, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return pc.cast(column, kind)
    except (pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
        raise WindowTableError(
            f"{path}: column {name!r}: {column.type} does not do as {kind}: {error}"
        ) from None


def _ours(path: Path, table: pa.Table) -> WindowTable:
    who = next((name for name in ("device_name", "device_mac") if name in table.column_names), None)
    for need in (who or "device_name", "timestamp_start", "timestamp_end"):
        if need not in table.column_names:
            raise WindowTableError(f"{path}: not a table of feature windows: it lacks the column {need!r}")
    if not len(table):
        raise WindowTableError(f"{path}: has no rows")
    names = default_schema().names
    if not any(name in table.column_names for name in names):
        raise WindowTableError(f"{path}: not a table of feature windows: no column is a feature")
    if table[who].null_count:
        raise WindowTableError(f"{path}: column {who!r}: {table[who].null_count} rows name no device")
    start, end = (_ns(path, name, table[name]) for name in ("timestamp_start", "timestamp_end"))
    lengths = np.unique(end - start)
    if len(lengths) != 1 or lengths[0] <= 0:
        raise WindowTableError(f"{path}: its windows are not of one length")
    order = np.argsort(start, kind="stable")
    values = np.full((len(table), len(names)), np.nan, dtype=np.float32)
    for j, name in enumerate(names):
        if name in table.column_names:
            values[:, j] = _cast(path, name, table[name], pa.float64()).to_numpy()[order]
    lists = [table[name].to_pylist() for name in ADDRESSES if name in table.column_names]
    addresses = [frozenset(a for some in row for a in some or ()) for row in zip(*lists, strict=True)]
    return WindowTable(
        str(path),
        np.array([str(device) for device in table[who].to_pylist()], dtype=object)[order],
        start[order],
        float(lengths[0] / 1e9),
        values,
        _attacks(table, order),
        tuple(addresses[i] for i in order) if addresses else (),
    )


def _attacks(table: pa.Table, order: I64) -> Bool | None:
    """Rows that `label1` calls something else than benign; None without labels."""
    if "label1" not in table.column_names:
        return None
    labels = ["" if x is None else str(x).strip().lower() for x in table["label1"].to_pylist()]
    if not any(labels):
        return None
    return np.array([label not in {BENIGN, "0", "0.0", "false"} for label in labels], dtype=bool)[order]


def _ns(path: Path, name: str, column: pa.ChunkedArray) -> I64:
    """Times (n,) in ns: of a column of times, of texts in ISO 8601 or of whole ns."""
    if column.null_count:
        raise WindowTableError(f"{path}: column {name!r}: {column.null_count} rows have no time")
    stamps = _cast(path, name, column, pa.timestamp("ns", tz="UTC"))
    return np.asarray(pc.cast(stamps, pa.int64()).to_numpy(), dtype=np.int64)
