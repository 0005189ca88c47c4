"""A table of sensor rows as the tag stream of one PLC."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.types import F64, I64, Bool, FeatureWindow, TagBatch, TagCatalog, TagInfo

BATCH_ROWS = 500
NORMAL = "normal"


class DatasetError(ValueError):
    """A file that is not the data set it should be; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class TagStream:
    """Samples in the order of time with the label of each row; r rows."""

    catalog: TagCatalog
    batches: tuple[TagBatch, ...]
    time_ns: I64  # (r,)
    labels: NDArray[np.str_]  # (r,) NORMAL, or what was wrong

    def window_labels(self, windows: Sequence[FeatureWindow]) -> list[str]:
        """Label of each window: the most frequent one that is not normal, if any row in it is not."""
        wrong = np.flatnonzero(self.labels != NORMAL)
        times, names = self.time_ns[wrong], self.labels[wrong]
        starts = np.searchsorted(times, [w.start_ns for w in windows])
        stops = np.searchsorted(times, [w.end_ns for w in windows])
        out = []
        for a, b in zip(starts.tolist(), stops.tolist(), strict=True):
            found, counts = np.unique(names[a:b], return_counts=True)
            out.append(str(found[counts.argmax()]) if b > a else NORMAL)
        return out


def stream(
    plc: str, tags: Sequence[TagInfo], time_ns: I64, values: F64, labels: NDArray[np.str_]
) -> TagStream:
    """Stream of rows (r, m), every value a sample of Good quality, NaN none; rows in any order of time."""
    order = np.argsort(time_ns, kind="stable")
    time_ns, values, labels = time_ns[order], values[order], labels[order]
    batches: list[TagBatch] = []
    for first in range(0, len(values), BATCH_ROWS):
        part = values[first : first + BATCH_ROWS]
        there: Bool = np.isfinite(part)
        row, tag = np.nonzero(there)
        at = time_ns[first : first + BATCH_ROWS][row]
        batches.append(
            TagBatch(
                plc,
                len(batches) + 1,
                tag.astype(np.uint32),
                part[there],
                np.zeros(len(row), dtype=np.uint32),
                at,
                at,
                int(time_ns[first : first + BATCH_ROWS][-1]),
            )
        )
    return TagStream(TagCatalog(plc, tuple(tags)), tuple(batches), time_ns, labels)


def columns(path: Path, separator: str, needed: Sequence[str]) -> dict[str, list[str]]:
    """Cells of a CSV by column, stripped. Raises DatasetError when it cannot be read or lacks a column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.reader(handle, delimiter=separator))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from None
    head = [cell.strip() for cell in rows[0]] if rows else []
    missing = [name for name in needed if name not in head]
    if missing:
        raise DatasetError(f"{path}: has no column {missing[0]!r}; columns: {', '.join(head)[:200]}")
    odd = next((i for i, row in enumerate(rows) if len(row) != len(head)), None)
    if odd is not None or len(rows) < 2:
        what = f"line {(odd or 0) + 1} has not {len(head)} cells" if odd is not None else "no rows"
        raise DatasetError(f"{path}: {what}")
    return {
        name: [cell.strip() for cell in cells]
        for name, cells in zip(head, zip(*rows[1:], strict=True), strict=True)
    }


def numbers(path: Path, name: str, cells: Sequence[str]) -> F64:
    """Cells as numbers; empty is NaN."""
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError as error:
        raise DatasetError(f"{path}: column {name!r}: {error}") from None


def times(path: Path, cells: Sequence[str]) -> I64:
    """`2020-03-09 10:14:33` as ns since the epoch, read as UTC."""
    try:
        return np.array(cells, dtype="datetime64[ns]").astype(np.int64)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None
