"""Tables in DataSense's form and in ours.

DataSense (Firouzi et al., Electronics 2025, 14, 4095) writes a row for every device and window, with 0 and
`[]` where nothing came; its files are CSV with lists as Python literals. Our tables write NaN there, so that
"no TCP segment" and "window size 0" differ. The way there and back changes no value.
"""

from __future__ import annotations

import csv
import lzma
import math
import tarfile
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from cellwatch.models.features.columns import (
    DATASENSE_COLUMNS,
    IDENTITY_COLUMNS,
    LIST_COLUMNS,
    LOG_COLUMNS,
    NETWORK_COLUMNS,
)
from cellwatch.models.types import F64, Bool

NUMERIC = (*LOG_COLUMNS, *NETWORK_COLUMNS)
INTEGERS = tuple(c for c in NUMERIC if c.endswith("_count") or c == "network_fragmented-packets")
# Columns that say nothing unless one of these is above 0.
_NEEDS = (
    (("network_packets_all_count",), ("network_packet-size", "network_time-delta")),
    (
        ("network_header-length_max",),
        ("network_header-length", "network_ip-length", "network_ip-flags", "network_ttl", "network_frag"),
    ),
    (("network_mss_max",), ("network_mss",)),
    # Where TCP segments came, flags, window and payload of 0 are numbers.
    (("network_tcp-flags_max", "network_window-size_max"), ("network_tcp-flags_", "network_window-size")),
    (
        ("network_tcp-flags_max", "network_window-size_max", "network_payload-length_max"),
        ("network_payload-length",),
    ),
    (("log_messages_count",), ("log_data-ranges", "log_interval-messages")),
)


class TableError(ValueError):
    """A file that is not a DataSense table; the message names it and says why."""


def schema() -> pa.Schema:
    """The 94 columns in DataSense's order: text, lists of text, whole numbers and float64."""
    kinds: dict[str, Any] = dict.fromkeys(IDENTITY_COLUMNS, pa.string())
    kinds |= dict.fromkeys(LIST_COLUMNS, pa.list_(pa.string())) | dict.fromkeys(INTEGERS, pa.int64())
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in DATASENSE_COLUMNS])


def read(path: Path) -> pa.Table:
    """Read a table of DataSense: .csv, .csv.gz, .csv.tar.xz. Raises TableError."""
    try:
        with _opened(path) as handle:
            kinds = {f.name: pa.string() if pa.types.is_list(f.type) else f.type for f in schema()}
            table = arrow_csv.read_csv(
                handle,
                convert_options=arrow_csv.ConvertOptions(
                    column_types=kinds, strings_can_be_null=False, null_values=[]
                ),
            )
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
        raise TableError(f"{path}: cannot be read: {error}") from None
    except pa.ArrowInvalid as error:
        raise TableError(f"{path}: not a table of DataSense: {error}") from None
    missing = [name for name in DATASENSE_COLUMNS if name not in table.column_names]
    if missing:
        raise TableError(f"{path}: not a table of DataSense: it lacks {missing[0]!r} (94 columns are needed)")
    arrays = [
        _lists(table[name]) if name in LIST_COLUMNS else table[name].combine_chunks()
        for name in DATASENSE_COLUMNS
    ]
    return pa.table(arrays, schema=schema())


def _opened(path: Path) -> Any:
    if not path.name.endswith((".tar.xz", ".tar.gz", ".tgz")):
        return pa.input_stream(str(path))  # a .gz is unpacked on the way
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and name.endswith(".csv") and not name.startswith("."):
                handle: BinaryIO | None = archive.extractfile(member)  # type: ignore[assignment]
                assert handle is not None
                return pa.BufferReader(handle.read())
    raise TableError(f"{path}: no .csv in the archive")


def _lists(texts: pa.ChunkedArray) -> pa.Array:
    """`['a', 'b']` to a list of texts."""
    plain = pc.replace_substring(pc.utf8_trim(texts.combine_chunks(), "[]"), "'", "")
    split = pc.split_pattern(plain, ", ")
    return pc.if_else(pc.equal(plain, ""), pa.scalar([], pa.list_(pa.string())), split)


def to_ours(table: pa.Table) -> pa.Table:
    """DataSense's form to ours: NaN where a device had nothing to take the number of."""
    values = {name: table[name].to_numpy().astype(np.float64) for name in NUMERIC}
    blank = {name: np.zeros(len(table), dtype=bool) for name in NUMERIC}
    for needed, starts in _NEEDS:
        nothing = sum(values[name] for name in needed) == 0
        for name in NUMERIC:
            if name.startswith(starts) and name not in INTEGERS:
                blank[name] |= nothing
    blank["network_interval-packets"] |= values["network_packets_all_count"] < 2
    blank["log_interval-messages"] |= values["log_messages_count"] < 2
    arrays = []
    for field in schema():
        column = table[field.name].combine_chunks()
        if field.name in NUMERIC:
            nothing = blank[field.name] & (values[field.name] == 0)
            column = pa.array(np.where(nothing, np.nan, values[field.name]))
        arrays.append(column)
    return pa.table(arrays, names=list(DATASENSE_COLUMNS))


def from_ours(table: pa.Table) -> pa.Table:
    """Our form to DataSense's: 0 for NaN, its 94 columns in its order; text that we lack is empty."""
    arrays = []
    for field in schema():
        if field.name in NUMERIC:
            values: F64 = table[field.name].to_numpy().astype(np.float64)
            missing: Bool = np.isnan(values)
            arrays.append(pa.array(np.where(missing, 0.0, values)).cast(field.type))
        elif field.name in table.column_names:
            column = table[field.name].combine_chunks()
            arrays.append(stamped(column) if pa.types.is_timestamp(column.type) else column.cast(field.type))
        else:
            arrays.append(pa.array([""] * len(table), pa.string()))
    return pa.table(arrays, schema=schema())


def stamped(times: pa.Array) -> pa.Array:
    """Times as DataSense writes them: 2025-09-09T14:09:40.400000Z."""
    micro = pc.cast(times, pa.timestamp("us"), safe=False)
    return pc.strftime(micro, format="%Y-%m-%dT%H:%M:%SZ")


def window_s(table: pa.Table, whose: Path) -> float:
    """Length of the windows in s, by the first row; NaN for a table without rows. Raises TableError."""
    if not len(table):
        return math.nan
    try:
        start, end = (datetime.fromisoformat(table[f"timestamp_{e}"][0].as_py()) for e in ("start", "end"))
        return (end - start).total_seconds()
    except (TypeError, ValueError) as error:
        raise TableError(f"{whose}: not a table of DataSense: {error}") from None


class CsvWriter:
    """Writes tables in DataSense's form, one behind the other, as its own CSV."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(DATASENSE_COLUMNS)

    def write_table(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        columns = [table[name].to_pylist() for name in DATASENSE_COLUMNS]
        for row in zip(*columns, strict=True):
            self._rows.writerow([cell if isinstance(cell, str) else repr(cell) for cell in row])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
