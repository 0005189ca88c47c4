"""A recorded table (CSV) as tags, rows and labels: what `--replay` serves."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
LABELS = ("anomaly", "changepoint")  # never served
_TIME_NAMES = {"datetime", "timestamp", "time", "date", "ts", "date_time"}
_TRUE = {"1", "1.0", "true", "yes"}


class TableError(ValueError):
    """A file that cannot be replayed; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Table:
    """n rows of m numeric columns."""

    path: str
    names: tuple[str, ...]  # m, blanks replaced by "_"
    values: F64  # (n, m), NaN where the cell is empty or not a number
    step_s: float  # median time step of the file, 1 s if it has no time
    anomalies: tuple[tuple[int, int], ...]  # rows [first, last + 1) with anomaly = 1
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)


def read_table(path: Path) -> Table:
    """Read a table separated by comma, semicolon or tab; TableError says why it cannot be replayed."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise TableError(f"{path}: not a table: not text in UTF-8; give a CSV file") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}") from None
    if "\0" in text:
        raise TableError(f"{path}: not a table: it holds binary data; give a CSV file")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise TableError(f"{path}: empty; a header and at least two rows are needed")
    separator = max(",;\t", key=lambda mark: min(line.count(mark) for line in lines[:20]))
    try:
        rows = [
            [cell.strip() for cell in row]
            for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)
        ]
    except csv.Error as error:
        raise TableError(f"{path}: not a table: {error}") from None
    header = rows.pop(0)
    if all(_is_number(cell, separator) for cell in header):  # no header line
        rows.insert(0, header)
        header = [f"C{i + 1}" for i in range(len(header))]
    if len(rows) < 2:
        raise TableError(f"{path}: {len(rows)} rows below the header; at least two are needed")
    return _build(path, header, rows, separator)


def _build(path: Path, header: list[str], rows: list[list[str]], separator: str) -> Table:
    width = len(header)
    odd = [i for i, row in enumerate(rows) if len(row) != width]
    if len(odd) > len(rows) / 10:
        raise TableError(
            f"{path}: not a table: {len(odd)} of {len(rows)} rows do not have the header's {width} cells"
        )
    warnings = (
        [f"{path}: {len(odd)} rows do not have {width} cells; missing cells are served as bad"] if odd else []
    )
    columns = [[row[i] if i < len(row) else "" for row in rows] for i in range(width)]
    time_at, step_s = _time_column(header, columns)
    names: list[str] = []
    series: list[F64] = []
    anomalies: tuple[tuple[int, int], ...] = ()
    for i, (name, cells) in enumerate(zip(header, columns, strict=True)):
        if name.lower() in LABELS:
            if name.lower() == "anomaly":
                anomalies = stretches(np.array([cell.lower() in _TRUE for cell in cells]))
            continue
        if i == time_at:
            continue
        numbers, filled = _numbers(cells, separator)
        if not filled or np.isfinite(numbers).sum() * 2 < filled:
            warnings.append(f"{path}: column {name!r} is not numeric and is skipped")
            continue
        names.append(_tag_name(name, names, i))
        series.append(numbers)
    if not series:
        raise TableError(f"{path}: no numeric column; columns: {', '.join(header)[:200]}")
    return Table(str(path), tuple(names), np.column_stack(series), step_s, anomalies, tuple(warnings))


def stretches(marked: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Return runs of True as [first, last + 1).

    >>> stretches(np.array([False, True, True, False, True]))
    ((1, 3), (4, 5))
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2))


def _tag_name(name: str, taken: list[str], at: int) -> str:
    tag = re.sub(r"\s+", "_", name) or f"C{at + 1}"
    while tag in taken:
        tag += "_"
    return tag


def _number(cell: str, separator: str) -> float:
    """Read a number, NaN for anything else; a decimal comma where commas do not separate."""
    try:
        value = float(cell if separator == "," else cell.replace(",", "."))
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")


def _is_number(cell: str, separator: str) -> bool:
    return bool(np.isfinite(_number(cell, separator)))


def _numbers(cells: list[str], separator: str) -> tuple[F64, int]:
    filled = sum(1 for cell in cells if cell and cell.lower() not in {"nan", "na", "null", "none"})
    return np.array([_number(cell, separator) for cell in cells]), filled


def _time_column(header: list[str], columns: list[list[str]]) -> tuple[int, float]:
    """Index of the time column (-1 if none) and the median step in seconds."""
    for i, (name, cells) in enumerate(zip(header, columns, strict=True)):
        if name.lower().replace(" ", "_") in _TIME_NAMES or (i == 0 and not _is_number(cells[0], ";")):
            seconds = _seconds(cells)
            if seconds is not None:
                steps = np.diff(seconds)
                steps = steps[steps > 0]
                return i, float(np.median(steps)) if len(steps) else 1.0
    return -1, 1.0


def _seconds(cells: list[str]) -> F64 | None:
    """Read times in seconds: ISO 8601 text, or numbers (s, ms, us or ns since the epoch by their size)."""
    try:
        return np.array([datetime.fromisoformat(cell).timestamp() for cell in cells if cell])
    except ValueError:
        pass
    numbers = np.array([_number(cell, ",") for cell in cells])
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) < 2 or (np.diff(numbers) < 0).any():
        return None
    size = abs(numbers[0])
    scale = 1e9 if size > 1e17 else 1e6 if size > 1e14 else 1e3 if size > 1e11 else 1.0
    return np.asarray(numbers / scale)
