"""A capture file to a table of feature windows: what `cellwatch features` does.

Every device has a row in every window. One first seen in the midst of the capture gets its silent rows
before that at the end of the table, so that the memory stays flat however long the capture is.
"""

from __future__ import annotations

import csv
import time
from array import array
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cellwatch.models.features import datasense
from cellwatch.models.features.columns import (
    COUNT_COLUMNS,
    IDENTITY_COLUMNS,
    LIST_COLUMNS,
    TRAFFIC_COLUMNS,
    unit,
)
from cellwatch.models.features.packets import parse
from cellwatch.models.features.schema import Schema, named_schema
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.types import F32, I64, Bool, Ragged, TrafficBatch
from cellwatch.nodes.drivers.capture import FileCapture

ROWS = 32_768  # rows of a row group
LATENESS_S = 5.0  # how long a window waits for packets that the capture holds out of order
MAX_GRID = (
    1024  # devices that have a row in every window; those beyond (a flood of forged addresses) when seen
)
MAX_GAP = 10_000  # silent windows that a jump of the capture's clock may add
SILENT = np.array([0.0 if c in COUNT_COLUMNS else np.nan for c in TRAFFIC_COLUMNS], dtype=np.float32)
BENIGN = "benign"
Told = Callable[[int], None]


class FeatureFileError(ValueError):
    """Something that the user can mend; the message says how."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was read and written."""

    packets: int  # in the capture, unread ones included
    malformed: int
    windows: int
    devices: int
    seconds: float
    rows: int
    malicious: int | None  # windows that are not benign, None without labels
    late: int
    skipped: int  # silent windows that a jump of the clock would have added
    unlisted: int  # rows left out in windows with too many devices
    unread: int  # packets of a link type that is not supported
    strange: str  # which one; "" if none
    damage: str


def read_devices(path: Path) -> dict[str, str]:
    """MAC and IP address -> name, from a CSV with `mac` (and `ip`) and `device_name` columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FeatureFileError(f"{path}: cannot read the devices: {error}") from None
    if not rows or not {"mac", "device_name"} <= set(rows[0]):
        raise FeatureFileError(f"{path}: no device list: the columns mac and device_name are needed")
    names = {row["mac"].lower(): row["device_name"] for row in rows if row["mac"]}
    return names | {row["ip"]: row["device_name"] for row in rows if row.get("ip")}


@dataclass(frozen=True, slots=True)
class Labels:
    """Ground truth: of each packet, or of stretches of time."""

    packets: Bool | None = None  # (n,) malicious
    start_ns: I64 | None = None  # (s,) ascending
    end_ns: I64 | None = None
    texts: Mapping[str, list[str]] = field(default_factory=dict)  # column -> label of each stretch

    def of(self, start_ns: I64, end_ns: I64, malicious: Bool) -> dict[str, list[str]]:
        """Columns of windows: malicious if a packet is; or of the stretch over the middle of the window."""
        if self.start_ns is None or self.end_ns is None:
            return {"label1": np.where(malicious, "attack", BENIGN).tolist()}
        middle = (start_ns + end_ns) // 2
        at = np.maximum(np.searchsorted(self.start_ns, middle, side="right") - 1, 0)
        inside = (self.start_ns[at] <= middle) & (middle < self.end_ns[at])
        pairs = list(zip(at.tolist(), inside.tolist(), strict=True))
        return {name: [texts[i] if ok else BENIGN for i, ok in pairs] for name, texts in self.texts.items()}


def read_labels(path: Path) -> Labels:
    """Labels of a capture.

    Either a line `NUMBER;0` or `NUMBER;1` for each packet (1: malicious), or a table with `start_ns`,
    `end_ns` and `label1` (`label2` ...) as in the simulator's data sets. Raises FeatureFileError.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FeatureFileError(f"{path}: cannot read the labels: {error}") from None
    if lines and {"start_ns", "end_ns", "label1"} <= set(lines[0].split(",")):
        rows = sorted(csv.DictReader(lines), key=lambda row: int(row["start_ns"]))
        starts, ends = (np.array([int(r[k]) for r in rows], dtype=np.int64) for k in ("start_ns", "end_ns"))
        names = [name for name in rows[0] if name in IDENTITY_COLUMNS] if rows else ["label1"]
        return Labels(None, starts, ends, {name: [row[name] for row in rows] for name in names})
    labels = []
    for number, line in enumerate(lines, 1):
        cells = line.replace(";", ",").split(",")
        if len(cells) != 2 or cells[1].strip() not in {"0", "1"}:
            raise FeatureFileError(
                f"{path}: line {number} is no label: {line[:40]!r}; need NUMBER;0 or NUMBER;1"
            )
        labels.append(cells[1].strip() == "1")
    return Labels(np.array(labels, dtype=bool))


def read_schema(given: str) -> Schema:
    """Schema of a file (.json, as `features select` writes it) or by name. Raises FeatureFileError."""
    try:
        if not given.endswith(".json"):
            return named_schema(given)
        return Schema.from_json(Path(given).read_text(encoding="utf-8"), given)
    except (OSError, ValueError) as error:
        raise FeatureFileError(f"{given}: {error}" if given not in str(error) else str(error)) from None


def _chosen(columns: tuple[str, ...], schema: Schema | None) -> Schema:
    """Schema of the columns of a table: all, or those of `schema`. Raises FeatureFileError."""
    whole = Schema(columns, tuple(map(unit, columns)))
    if schema is None:
        return whole
    try:
        mine = whole.select(schema.names)
        mine.require(schema.schema_id, "file")
    except ValueError as error:
        raise FeatureFileError(f"the table cannot have the columns of this schema: {error}") from None
    return mine


def extract(
    capture: Path,
    out: Path,
    window_s: float,
    *,
    names: Mapping[str, str] | None = None,
    labels: Labels | None = None,
    as_datasense: bool = False,
    schema: Schema | None = None,
    told: Told = lambda _bytes: None,
) -> Extracted:
    """Write the windows of `capture` to `out`; `told` hears how many bytes were read.

    With `schema` only its columns, without lists. An `out` that ends in .csv needs `as_datasense`. Raises
    FeatureFileError, and CaptureError when `capture` is none; then no file is left.
    """
    begun = time.perf_counter()
    traffic = TrafficWindows(window_s, names, lists=schema is None, max_empty=MAX_GAP)
    sink = _Sink(out, traffic, as_datasense=as_datasense, labels=labels, schema=schema)
    truth = labels.packets if labels is not None else None
    done = unread = 0
    strange = ""
    try:
        with closing(FileCapture(capture)) as source:
            while not source.exhausted:
                for block in source.read():
                    n = len(block.time_ns)
                    if truth is not None:
                        mine = truth[done : done + n]
                        bad = block.time_ns[: len(mine)][mine] // traffic.window_ns + 1
                        sink.malicious.update(np.unique(bad).tolist())
                    done += n
                    told(int(block.length.sum()) + 16 * n)
                    try:
                        packets = parse(block)
                    except ValueError as error:  # a link type nobody knows; the rest may be fine
                        strange = str(error)
                        unread += n
                        continue
                    traffic.add(packets)
                    # The median: one packet with a wild time must not close the windows of all others.
                    for batch in traffic.close(int(np.median(block.time_ns) - LATENESS_S * 1e9)):
                        sink.add(batch)
            damage = source.damage
        for batch in traffic.close(None):
            sink.add(batch)
        if truth is not None and not damage:
            _require_as_many(len(truth), done)
        if unread == done:
            _require_readable(capture, strange)
        sink.finish()
    except BaseException:
        sink.drop()
        raise
    return Extracted(
        done, traffic.malformed, len(sink.windows), len(sink.first) + len(sink.others),
        time.perf_counter() - begun, sink.rows,
        len(sink.attacked) if labels is not None else None, traffic.late,
        traffic.skipped, traffic.unlisted, unread, strange, damage,
    )  # fmt: skip


def _require_as_many(labels: int, packets: int) -> None:
    if labels != packets:
        raise FeatureFileError(f"{labels} labels for {packets} packets: these are another capture's labels")


def _require_readable(capture: Path, strange: str) -> None:
    if strange:
        raise FeatureFileError(f"{capture}: no packet can be read: {strange}")


class _Sink:
    """Rows to row groups of a parquet file."""

    def __init__(
        self,
        path: Path,
        traffic: TrafficWindows,
        *,
        as_datasense: bool,
        labels: Labels | None,
        schema: Schema | None,
    ) -> None:
        self.rows = 0
        self.windows = array("q")
        self.malicious: set[int] = set()  # windows with a malicious packet
        self.attacked: set[int] = set()  # windows whose label is not benign
        names = traffic.names
        self.first = dict.fromkeys(names.values(), 0)  # device -> place of its first window
        self.others: set[int] = set()  # hashes of the devices beyond MAX_GRID: a flood has many long names
        self._listed = frozenset(self.first)
        self._address = {name: key for key, name in reversed(names.items())}
        self._named = bool(names)
        self._window_ns = traffic.window_ns
        self._as_datasense = as_datasense
        self._labels = labels
        self._lists = LIST_COLUMNS if schema is None else ()
        self._schema = _chosen(TRAFFIC_COLUMNS, schema)
        self._parts: list[tuple[int, list[str], F32, Mapping[str, Ragged], int]] = []
        self._waiting = 0
        self._path = path
        self._part_path = path.with_name(path.name + ".part")
        self._writer: pq.ParquetWriter | datasense.CsvWriter | None = None

    def add(self, batch: TrafficBatch) -> None:
        """Take the rows of a window, and silent rows for the devices of which it has none."""
        for device in batch.devices:
            if device not in self.first:
                if len(self.first) < MAX_GRID:
                    self.first[device] = len(self.windows)
                else:
                    self.others.add(hash(device))
        self.windows.append(batch.window_id)
        here = set(batch.devices)
        silent = [device for device in self.first if device not in here]
        self._put(batch.window_id, list(batch.devices), batch.values, batch.lists, silent)

    def _put(
        self, window: int, devices: list[str], values: F32, lists: Mapping[str, Ragged], silent: list[str]
    ) -> None:
        if devices or silent:
            rows = np.concatenate([values, np.broadcast_to(SILENT, (len(silent), len(SILENT)))])
            self._parts.append((window, devices + silent, rows, lists, len(silent)))
            self._waiting += len(rows)
        if self._waiting >= ROWS:
            self._flush()

    def finish(self) -> None:
        """Write the silent rows of late comers and what is left, and name the file."""
        nothing = np.zeros((0, len(SILENT)), dtype=np.float32)
        late = sorted((place, name) for name, place in self.first.items() if place)
        for i in range(late[-1][0] if late else 0):
            late = [one for one in late if one[0] > i]
            self._put(self.windows[i], [], nothing, {}, [name for _, name in late])
        self._flush()
        assert self._writer is not None
        self._writer.close()
        self._part_path.replace(self._path)

    def drop(self) -> None:
        """Leave no half file."""
        if self._writer is not None:
            self._writer.close()
        self._part_path.unlink(missing_ok=True)

    def _flush(self) -> None:
        table = self._table()
        if self._writer is None:
            try:
                self._writer = _writer(self._part_path, self._path.suffix, table.schema)
            except OSError as error:
                raise FeatureFileError(f"{self._path}: cannot be written: {error}") from None
        if len(table):
            self._writer.write_table(table)
        self.rows += len(table)
        self._parts, self._waiting = [], 0

    def _table(self) -> pa.Table:
        parts = self._parts
        sizes = np.array([len(p[1]) for p in parts], dtype=np.int64)
        end = np.repeat(np.array([p[0] for p in parts], dtype=np.int64), sizes) * self._window_ns
        devices = [device for p in parts for device in p[1]]
        values = np.concatenate([p[2] for p in parts]) if parts else np.zeros((0, len(SILENT)), np.float32)
        stamp = pa.timestamp("ns", tz="UTC")
        columns: dict[str, Any] = {}
        if self._named or self._as_datasense:
            columns["device_name"] = pa.array(devices, pa.string())
        columns["device_mac"] = pa.array([self._address.get(d, d) for d in devices], pa.string())
        columns["timestamp_start"] = pa.array(end - self._window_ns, stamp)
        columns["timestamp_end"] = pa.array(end, stamp)
        if self._labels is not None:
            windows = np.array([p[0] for p in parts], dtype=np.int64)
            bad = np.array([p[0] in self.malicious for p in parts], dtype=bool)
            ends = windows * self._window_ns
            for name, texts in self._labels.of(ends - self._window_ns, ends, bad).items():
                columns[name] = pa.array(texts, pa.string()).take(
                    pa.array(np.repeat(np.arange(len(parts)), sizes))
                )
                if name == "label1":
                    self.attacked.update(windows[[text != BENIGN for text in texts]].tolist())
        for name in self._schema.names:
            columns[name] = pa.array(values[:, TRAFFIC_COLUMNS.index(name)])
        for name in self._lists:
            columns[name] = _ragged([(p[3].get(name), p[4]) for p in parts])
        table = pa.table(columns)
        if self._as_datasense:
            table, schema = datasense.from_ours(_with_period(table)), _chosen(datasense.NUMERIC, None)
        else:
            schema = self._schema
        return _described(table, schema, self._window_ns / 1e9)


def _writer(path: Path, suffix: str, schema: pa.Schema) -> pq.ParquetWriter | datasense.CsvWriter:
    return datasense.CsvWriter(path) if suffix == ".csv" else pq.ParquetWriter(path, schema)


def _described(table: pa.Table, schema: Schema, window_s: float) -> pa.Table:
    return table.replace_schema_metadata({"schema_id": schema.schema_id, "window_s": str(window_s)})


def _ragged(parts: list[tuple[Ragged | None, int]]) -> pa.Array:
    """One list column of several windows, each followed by its silent rows."""
    sizes: list[I64] = [np.zeros(1, dtype=np.int64)]
    texts: list[Any] = []
    for ragged, silent in parts:
        if ragged is not None:
            sizes.append(np.diff(ragged.offsets))
            texts.append(ragged.values)
        sizes.append(np.zeros(silent, dtype=np.int64))
    offsets = np.cumsum(np.concatenate(sizes)).astype(np.int32)
    values = np.concatenate(texts) if texts else np.zeros(0, dtype=object)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.string()))


def _with_period(table: pa.Table) -> pa.Table:
    """Add DataSense's `timestamp`: both ends of the window in one text."""
    import pyarrow.compute as pc

    ends = [datasense.stamped(table[f"timestamp_{end}"].combine_chunks()) for end in ("start", "end")]
    return table.append_column("timestamp", pc.binary_join_element_wise(*ends, "_"))


def convert(source: Path, out: Path, *, as_datasense: bool, schema: Schema | None = None) -> int:
    """Write a DataSense table in our form (with `schema` only its columns) or its own; returns its rows."""
    table = datasense.read(source)
    window_s = datasense.window_s(table, source)
    chosen = _chosen(datasense.NUMERIC, schema)
    if not as_datasense:
        table = datasense.to_ours(table)
    if schema is not None:
        table = table.select([*IDENTITY_COLUMNS, *chosen.names])
    table = _described(table, chosen, window_s)
    try:
        with closing(_writer(out, out.suffix, table.schema)) as writer:
            writer.write_table(table)
    except OSError as error:
        raise FeatureFileError(f"{out}: cannot be written: {error}") from None
    return len(table)
