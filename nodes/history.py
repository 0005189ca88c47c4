"""The record of a cell as tables and curves: for `cellwatch query`, the operator's page and the REST face.

Values are read column by column, a few megabytes of lines at a time. Of two points with the same measurement,
tags and time the later recorded one wins, field by field, as on every server.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from cellwatch.models.types import F64, I64
from cellwatch.nodes.drivers.line_protocol import (
    escape_field,
    escape_name,
    parse_field,
    parse_line,
    parse_value,
)
from cellwatch.nodes.drivers.record_schema import field_of
from cellwatch.nodes.drivers.store import Store

Where: TypeAlias = Mapping[str, str | Collection[str]]  # tag key -> the value, or those, that it may have
Tags: TypeAlias = tuple[tuple[str, str], ...]  # (key, value), sorted

CHUNK_BYTES = 8 << 20
TIMESTAMP = pa.timestamp("ns", tz="UTC")
ROLE = b"cellwatch"  # metadata of a column that is a tag
SERIES, TIME = "", "time"  # columns of work; no field has such a name

# A name and a string with their escapes, unrolled: plain stretches go at once.
_NAME = rb"[^ ,=\\\n]*(?:\\.[^ ,=\\\n]*)*"
_STRING = rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_PAIR = re.compile(rb"(%b)=(%b|[^,\n]+)([,\n])" % (_NAME, _STRING))
_NUMBER = rb'([^",\n]+)'


@dataclass(frozen=True, slots=True)
class Series:
    """One numeric field over time; integers and booleans as floats."""

    time_ns: I64  # (n,), rising, each once; of a stretch its beginning
    low: F64  # (n,) least value at that time or in that stretch
    high: F64  # (n,) greatest


@dataclass(frozen=True, slots=True)
class _Rows:
    """Lines of one measurement."""

    series: I64  # (n,) index into the tag sets
    time_ns: I64  # (n,)
    fields: list[bytes]  # (n,) as they stand in the line


class History:
    """Reading side of a record, also while it is written. Keep one: it remembers what closed segments span.

    Times are ns since 1970; a range is start_ns <= time < end_ns, None = open. Raises FileNotFoundError if
    there is no such folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.store = Store(folder)

    def span(self) -> tuple[int, int]:
        """Least and greatest time of a point, (0, 0) if there is none."""
        return self.store.span()

    def measurements(self, start_ns: int | None = None, end_ns: int | None = None) -> dict[str, int]:
        """Points of each measurement."""
        return self.store.count(start_ns, end_ns)

    def tags(
        self, measurement: str, start_ns: int | None = None, end_ns: int | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Tag keys of a measurement with the values that occur, sorted."""
        sets: list[Tags] = []
        seen = {
            i
            for rows in self._rows(measurement, {}, start_ns, end_ns, sets)
            for i in set(rows.series.tolist())
        }
        found: dict[str, set[str]] = {}
        for i in seen:
            for key, value in sets[i]:
                found.setdefault(key, set()).add(value)
        return {key: tuple(sorted(values)) for key, values in sorted(found.items())}

    def series(
        self,
        measurement: str,
        column: str,
        where: Where | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        points: int | None = None,
    ) -> Series:
        """Return all points of a numeric field as one curve, where several series match their range.

        With `points` the time is cut into at most so many equal stretches, those without a value left out.
        """
        _, _, time_ns, value = self._numbers(measurement, column, where, start_ns, end_ns)
        return _reduce(time_ns, value, points, start_ns, end_ns)

    def curves(
        self,
        measurement: str,
        column: str,
        where: Where | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        points: int | None = None,
    ) -> dict[Tags, Series]:
        """As `series`, one curve for each set of tags, in their order; the log is read once."""
        sets, series, time_ns, value = self._numbers(measurement, column, where, start_ns, end_ns)
        order = np.argsort(series, kind="stable")
        which, starts = np.unique(series[order], return_index=True)
        parts = np.split(order, starts[1:])
        found = {
            sets[i]: _reduce(time_ns[part], value[part], points, start_ns, end_ns)
            for i, part in zip(which.tolist(), parts, strict=False)
        }
        return dict(sorted(found.items()))

    def table(
        self,
        measurement: str,
        columns: Collection[str] | None = None,
        where: Where | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        every_ns: int | None = None,
    ) -> pa.Table:
        """Return time, tags, then fields (`columns`, None = all) in the order of time; null where none is.

        With `every_ns` one row for each series and stretch of that length, from multiples of it on: of a
        measured quantity the mean, NAME_min and NAME_max, of an enumeration the greatest, else the last.
        A field that shares its name with a tag gets an underscore. Raises ValueError on a column that the
        matching points do not have.
        """
        sets: list[Tags] = []
        known: dict[str, None] = {}  # all fields, in order
        read = self._rows(measurement, where or {}, start_ns, end_ns, sets)
        whole = _merged(_concat([_columns(rows, columns, known) for rows in read]))
        if known and (missing := sorted(set(columns or ()) - known.keys())):
            raise ValueError(f"{measurement} has no field {missing[0]}; it has {', '.join(known)}")
        if every_ns is not None:
            whole = _resampled(whole, measurement, every_ns)
        return _named(whole, sets)

    def _numbers(
        self, measurement: str, column: str, where: Where | None, start_ns: int | None, end_ns: int | None
    ) -> tuple[list[Tags], I64, I64, F64]:
        """Tag sets, then series, time and value, each (n,), of every point by time; later ones win."""
        sets: list[Tags] = []
        series, times, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
        match = _field_pattern(column).match
        for rows in self._rows(measurement, where or {}, start_ns, end_ns, sets):
            found = [m and m[1] for m in map(match, rows.fields)]
            value = np.fromiter((_number(text) if text else np.nan for text in found), np.float64, len(found))
            there = np.isfinite(value)
            series.append(rows.series[there])
            times.append(rows.time_ns[there])
            values.append(value[there])
        which, time_ns, value = np.concatenate(series), np.concatenate(times), np.concatenate(values)
        order = np.lexsort((which, time_ns))
        which, time_ns, value = which[order], time_ns[order], value[order]
        last = np.ones(len(order), dtype=bool)
        last[:-1] = (which[1:] != which[:-1]) | (time_ns[1:] != time_ns[:-1])
        return sets, which[last], time_ns[last], value[last]

    def _rows(
        self, measurement: str, where: Where, start_ns: int | None, end_ns: int | None, sets: list[Tags]
    ) -> Iterator[_Rows]:
        """Matching lines in order of recording; new tag sets are added to `sets`."""
        pattern, needles = _line_pattern(measurement), list(_needles(where))
        known: dict[bytes, int] = {}  # series key -> index of its tags, -1: not wanted
        for lines in self._chunks(start_ns, end_ns):
            found = pattern.findall(_narrowed(lines, needles))
            if not found:
                continue
            keys, fields, stamps = zip(*found, strict=True)
            for key in dict.fromkeys(keys):  # as they come: the same record gives the same table
                if key in known:
                    continue
                tags = parse_line(key + b" _=0 0").tags
                known[key] = len(sets) if _wanted(tags, where) else -1
                if known[key] >= 0:
                    sets.append(tuple(sorted(tags.items())))
            series = np.fromiter(map(known.__getitem__, keys), np.int64, len(keys))
            time_ns = np.fromiter(map(int, stamps), np.int64, len(keys))
            inside = series >= 0
            if start_ns is not None:
                inside &= time_ns >= start_ns
            if end_ns is not None:
                inside &= time_ns < end_ns
            if inside.any():
                picked = [fields[i] for i in np.flatnonzero(inside).tolist()]
                yield _Rows(series[inside], time_ns[inside], picked)

    def _chunks(self, start_ns: int | None, end_ns: int | None) -> Iterator[bytes]:
        """Lines of many blocks together, each behind a newline."""
        parts, size = [b"\n"], 0
        for block in self.store.blocks(start_ns, end_ns):
            parts.append(block.lines)
            size += len(block.lines)
            if size > CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [b"\n"], 0
        yield b"".join(parts)


def _wanted(tags: Mapping[str, str], where: Where) -> bool:
    return all(
        tags.get(key, "") in ((values,) if isinstance(values, str) else values)
        for key, values in where.items()
    )


def _needles(where: Where) -> Iterator[bytes]:
    """What stands in every wanted line: tags that may have one value only."""
    for key, values in where.items():
        one = [values] if isinstance(values, str) else list(values)
        if len(one) == 1 and one[0]:
            yield f",{escape_name(key)}={escape_name(one[0])}".encode()


def _narrowed(lines: bytes, needles: list[bytes]) -> bytes:
    """Lines that may be wanted: where few hold a needle, these alone."""
    count, needle = min(((lines.count(each), each) for each in needles), default=(0, b""))
    if not needle or count > lines.count(b"\n") // 4:
        return lines
    parts, at = [], lines.find(needle)
    while at >= 0:
        end = lines.find(b"\n", at)
        parts.append(lines[lines.rfind(b"\n", 0, at) : end])
        at = lines.find(needle, end)
    return b"".join([*parts, b"\n"])


@lru_cache(maxsize=64)
def _line_pattern(measurement: str) -> re.Pattern[bytes]:
    """Series key, fields and time of each line of a measurement, each line behind a newline."""
    # It begins with a literal, which `re` looks for as fast as memory goes.
    head = re.escape(escape_name(measurement).encode())
    key = rb"%b(?:,[^ \\\n]*(?:\\.[^ \\\n]*)*)?" % head
    fields = rb'[^ "\\\n]*(?:(?:\\.|%b)[^ "\\\n]*)*' % _STRING
    return re.compile(rb"\n(%b) (%b) (-?\d+)(?=\n)" % (key, fields))


@lru_cache(maxsize=64)
def _field_pattern(column: str) -> re.Pattern[bytes]:
    """The fields of a line up to the number of one field."""
    skipped = rb'(?:%b=(?:%b|[^",\n]*),)*?' % (_NAME, _STRING)
    return re.compile(skipped + re.escape(escape_field(column).encode()) + b"=" + _NUMBER)


def _number(text: bytes) -> float:
    if text[0] in b"tTfF":
        return float(text[0] in b"tT")
    return float(text.rstrip(b"iu"))


def _reduce(time_ns: I64, value: F64, points: int | None, start_ns: int | None, end_ns: int | None) -> Series:
    """Times that rise and repeat to times once, or to at most `points` stretches."""
    if not len(time_ns):
        return Series(time_ns, value, value.copy())
    if points is None:
        at = time_ns
    else:
        start = int(time_ns[0]) if start_ns is None else start_ns
        end = int(time_ns[-1]) + 1 if end_ns is None else end_ns
        width = max(1, -(-(end - start) // max(1, points)))
        at = start + (time_ns - start) // width * width
    first = np.flatnonzero(np.diff(at, prepend=at[0] - 1))
    return Series(at[first], np.minimum.reduceat(value, first), np.maximum.reduceat(value, first))


def _columns(rows: _Rows, columns: Collection[str] | None, known: dict[str, None]) -> pa.Table:
    """Columns SERIES, TIME, then the fields, null where a row has none; all their names go into `known`."""
    names, values, ends = zip(*_PAIR.findall(b"\n".join(rows.fields) + b"\n"), strict=True)
    last = np.fromiter(map(b"\n".__eq__, ends), np.int64, len(ends))
    row = np.cumsum(last) - last
    codes = {name: i for i, name in enumerate(dict.fromkeys(names))}
    code = np.fromiter(map(codes.__getitem__, names), np.int64, len(names))
    found: dict[str, Any] = {SERIES: pa.array(rows.series), TIME: pa.array(rows.time_ns)}
    for written, i in codes.items():
        name = parse_field(written.decode("utf-8", "replace"))
        known.setdefault(name)
        if columns is None or name in columns:
            here = np.flatnonzero(code == i)
            place = np.full(len(rows.fields), -1, dtype=np.int64)
            place[row[here]] = np.arange(len(here))
            column = _column([values[k] for k in here.tolist()])
            found[name] = column.take(pa.array(place, mask=place < 0))
    return pa.table(found)


def _column(texts: list[bytes]) -> pa.Array:
    """Values of one field with the type that they all have; a mixture of types becomes text."""
    ends = {text[-1] for text in texts}
    if ends <= set(b"iu"):
        return pa.array([int(text[:-1]) for text in texts], pa.int64())
    if not ends & set(b'"eEtTfF'):
        return pa.array([float(text.rstrip(b"iu")) for text in texts], pa.float64())
    values = [parse_value(text.decode("utf-8", "replace")) for text in texts]
    if ends <= set(b"eEtTfF"):
        return pa.array(values, pa.bool_())
    return pa.array(map(str, values), pa.string())


def _concat(parts: list[pa.Table]) -> pa.Table:
    """One table; a field that changed its type becomes a float, or else text."""
    if not parts:
        return pa.table({SERIES: pa.array([], pa.int64()), TIME: pa.array([], pa.int64())})
    types: dict[str, set[pa.DataType]] = {}
    for part in parts:
        for each in part.schema:
            types.setdefault(each.name, set()).add(each.type)
    one = {name: _common(found) for name, found in types.items()}
    parts = [part.cast(pa.schema([(name, one[name]) for name in part.column_names])) for part in parts]
    return pa.concat_tables(parts, promote_options="default")


def _common(types: set[pa.DataType]) -> pa.DataType:
    if len(types) == 1:
        return next(iter(types))
    return pa.float64() if types == {pa.int64(), pa.float64()} else pa.string()


def _merged(table: pa.Table) -> pa.Table:
    """In the order of time; points that were recorded again are one."""
    series, time_ns = table[SERIES].to_numpy(), table[TIME].to_numpy()
    order = np.lexsort((series, time_ns))
    same = (np.diff(series[order]) == 0) & (np.diff(time_ns[order]) == 0)
    table = table.take(pa.array(order))
    if not same.any():
        return table
    names = table.column_names[2:]
    grouped = table.group_by([SERIES, TIME], use_threads=False).aggregate([(name, "last") for name in names])
    return grouped.rename_columns([SERIES, TIME, *names])


def _resampled(table: pa.Table, measurement: str, every_ns: int) -> pa.Table:
    """One row for each series and stretch; see `History.table`."""
    time_ns = table[TIME].to_numpy()
    table = table.set_column(1, TIME, pa.array(time_ns // every_ns * every_ns))
    steps, names = [], []
    for each in table.schema:
        if each.name in {SERIES, TIME}:
            continue
        field = field_of(measurement, each.name)
        ways = {"last": ""}
        if pa.types.is_floating(each.type):
            ways = {"mean": "", "min": "_min", "max": "_max"}
        elif field is not None and field.codes is not None:
            ways = {"max": ""}
        steps += [(each.name, way) for way in ways]
        names += [each.name + suffix for suffix in ways.values()]
    return (
        table.group_by([SERIES, TIME], use_threads=False)
        .aggregate(steps)
        .rename_columns([SERIES, TIME, *names])
    )


def _named(table: pa.Table, sets: list[Tags]) -> pa.Table:
    """Times, tags and fields under their names."""
    found: dict[str, tuple[pa.Field, Any]] = {
        "time": (pa.field("time", TIMESTAMP), table[TIME].cast(TIMESTAMP))
    }
    series = table[SERIES].combine_chunks()
    for key in sorted({key for tags in sets for key, _ in tags}):
        values = pa.array([dict(tags).get(key) for tags in sets], pa.string())
        found[key] = pa.field(key, pa.string(), metadata={ROLE: b"tag"}), values.take(series)
    for name in table.column_names[2:]:
        free = f"{name}_" if name in found else name
        found[free] = pa.field(free, table[name].type), table[name]
    return pa.table([values for _, values in found.values()], pa.schema([each for each, _ in found.values()]))


def is_tag(column: pa.Field) -> bool:
    """Whether a column of `History.table` is a tag, not a field."""
    return ROLE in (column.metadata or {})
