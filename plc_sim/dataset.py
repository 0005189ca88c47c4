"""Labelled data sets: a scenario played offline into a folder, window by window, never all of it in memory.

| file            | holds                                                                                 |
|-----------------|---------------------------------------------------------------------------------------|
| `capture.pcap`  | every frame, pcap with nanoseconds                                                    |
| `tags.parquet`  | a row per PLC scan: `time_ns`, each tag (float64), each `<tag>.status` (OPC UA)       |
| `labels.json`   | ground truth: incidents (onset, end, devices, technique), benign activities, chaos    |
| `labels.csv`    | a row per window, `label1` ... `label4` and `label_full` spelled like DataSense's     |
| `manifest.json` | scenario, seed, versions, devices, tags, size and SHA-256 of each file; written last  |

A row of tags is stamped with the end of its scan: window `[start, end)` has the frames of that time and the
rows with `start < time_ns <= end`. The same scenario, seed and windows give the same bytes.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np

import cellwatch
from cellwatch.plc_sim import pcap, scenario
from cellwatch.plc_sim.cell import SCAN_NS, Step
from cellwatch.plc_sim.incidents import Incident
from cellwatch.plc_sim.network.hosts import devices_of
from cellwatch.plc_sim.recording import Playback
from cellwatch.plc_sim.schedule import Event
from cellwatch.plc_sim.tags import TagSpec

FORMAT = 1
GROUP = 6000  # scans in one row group of the table: ten minutes
MAX_WINDOWS = 10_000_000
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DATA = ("capture.pcap", "tags.parquet", "labels.json", "labels.csv")
COLUMNS = (
    "window", "start_ns", "end_ns", "label1", "label2", "label3", "label4", "label_full", "attack_id",
    "devices", "incidents",
)  # fmt: skip


class DatasetError(ValueError):
    """A data set that cannot be written; the message says why and what to do."""


def write(
    out: Path,
    plan: scenario.Scenario,
    seed: int,
    windows: int,
    window_s: float = 1.0,
    max_bytes: int = 4 << 30,
    seen: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Write a data set of `windows` windows to the folder `out` and return its manifest.

    `seen` is told the windows done so far. When the capture reaches `max_bytes` the data set ends with the
    window at hand, and the manifest says `"complete": false`. Raises DatasetError, ValueError for a seed, and
    OSError; what was written is removed then.
    """
    scans = _scans(windows, window_s)
    run = Playback(plan, seed, windows * scans * SCAN_NS * 1e-9)
    with _folder(out):
        done, frames = _play(out, run, scans, max_bytes, seen)
        run.end_ns = run.start_ns + done * scans * SCAN_NS + 1
        incidents = run.incidents()
        _write_labels(out, run, incidents, done, scans)
        manifest = _manifest(out, run, incidents, done, windows, scans, frames)
        _dump(out / "manifest.json", manifest)
    return manifest


def _scans(windows: int, window_s: float) -> int:
    """Scans in one window."""
    if not 1 <= windows <= MAX_WINDOWS:
        raise DatasetError(f"--windows is {windows}; allowed: 1..{MAX_WINDOWS}")
    scan_s = SCAN_NS * 1e-9
    scans = round(window_s / scan_s) if math.isfinite(window_s) else 0
    if not 1 <= scans <= 36_000 or abs(scans * scan_s - window_s) > 1e-9:
        raise DatasetError(f"--window is {window_s:g} s; it must be a multiple of {scan_s:g} s, up to 3600 s")
    return scans


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make the folder, or take an empty one; empty it again if the data set fails."""
    made = not out.exists()
    if not made and not out.is_dir():
        raise DatasetError(f"{out} is a file; choose a folder")
    if not made and any(out.iterdir()):
        raise DatasetError(f"{out} is not empty; choose another folder, or empty it")
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException as error:
        for name in (*DATA, "manifest.json"):
            (out / name).unlink(missing_ok=True)
        if made:
            out.rmdir()
        if isinstance(error, OSError) and error.errno in FULL:
            raise DatasetError(f"{out}: the disk is full; free space, or ask for fewer windows") from None
        raise


def _play(
    out: Path, run: Playback, scans: int, max_bytes: int, seen: Callable[[int], None]
) -> tuple[int, int]:
    """Play the run into capture and table: windows done, frames written."""
    written, frames, done = len(pcap.HEADER), 0, 0
    with ExitStack() as stack:
        capture = stack.enter_context((out / "capture.pcap").open("wb", buffering=1 << 20))
        table = stack.enter_context(_Table(out / "tags.parquet", run.cell.tags))
        capture.write(pcap.HEADER)
        for i, step in enumerate(run, start=1):
            data = pcap.encode(step.frames)
            capture.write(data)
            written += len(data)
            frames += len(step.frames)
            table.add(run.cell.time_ns, step)
            if i % scans == 0:
                done = i // scans
                seen(done)
                if written >= max_bytes:
                    break
    return done, frames


class _Table:
    """The tags as a Parquet file, a row group at a time."""

    def __init__(self, path: Path, tags: Sequence[TagSpec]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = pa.schema(
            [("time_ns", pa.int64())]
            + [(tag.name, pa.float64()) for tag in tags]
            + [(f"{tag.name}.status", pa.uint32()) for tag in tags]
        )
        self._file = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._times: list[int] = []
        self._values: list[tuple[float, ...]] = []
        self._status: list[tuple[int, ...]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
            self._writer.close()
        self._file.close()

    def add(self, time_ns: int, step: Step) -> None:
        """One scan."""
        self._times.append(time_ns)
        self._values.append(step.values)
        self._status.append(step.status)
        if len(self._times) == GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._times:
            return
        columns = [np.array(self._times, np.int64)]
        columns += list(np.array(self._values, np.float64).T)
        columns += list(np.array(self._status, np.uint32).T)
        self._writer.write_table(pa.table(columns, schema=self._schema))
        self._times, self._values, self._status = [], [], []


def label_rows(
    incidents: Sequence[Incident], start_ns: int, window_ns: int, windows: int
) -> list[list[object]]:
    """One row of COLUMNS per window: the incident that fills most of it, if it fills at least half.

    `devices` and `incidents` name those of all incidents that touch the window at all. Attacks go before
    faults where both fill the same share.
    """
    starts = start_ns + window_ns * np.arange(windows + 1)
    touching: list[list[Incident]] = [[] for _ in range(windows)]
    for incident in incidents:
        first = max(int(np.searchsorted(starts, incident.onset_ns, "right")) - 1, 0)
        last = int(np.searchsorted(starts[:-1], incident.end_ns, "left"))
        for i in range(first, last):
            touching[i].append(incident)
    rows: list[list[object]] = []
    for i, here in enumerate(touching):
        begin, end = int(starts[i]), int(starts[i + 1])
        filled = {
            (min(end, each.end_ns) - max(begin, each.onset_ns), each.kind == "attack"): each for each in here
        }
        (most, _), chief = max(filled.items(), default=((0, False), None), key=lambda item: item[0])
        labels = ["benign"] * 4 + ["benign", ""]
        if chief is not None and 2 * most >= window_ns:
            kind, category, name = chief.kind, chief.category, chief.type
            labels = [kind, category, name, f"{category}_{name}", f"{kind}_{category}_{name}_{chief.device}"]
            labels.append(chief.attack_id or "")
        devices = dict.fromkeys(name for each in here for name in each.devices if ":" not in name)
        rows.append([i, begin, end, *labels, ";".join(devices), ";".join(each.name for each in here)])
    return rows


def _write_labels(out: Path, run: Playback, incidents: Sequence[Incident], windows: int, scans: int) -> None:
    def timed(events: Sequence[Event]) -> list[dict[str, object]]:
        return [
            {"name": e.name, "at_ns": run.start_ns + round(e.at_s * 1e9)}
            | ({"plc": e.plc, "duration_s": e.duration_s} if e.plc else {})
            for e in events
            if run.start_ns + round(e.at_s * 1e9) < run.end_ns
        ]

    _dump(
        out / "labels.json",
        {
            "scenario": run.plan.name,
            "seed": run.seed,
            "start_ns": run.start_ns,
            "end_ns": run.end_ns,
            "window_s": scans * SCAN_NS / 1e9,
            "windows": windows,
            "incidents": [each.to_json() for each in incidents],
            "activities": timed(run.cell.activities),
            "chaos": timed(run.cell.chaos),
        },
    )
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(label_rows(incidents, run.start_ns, scans * SCAN_NS, windows))


def _manifest(
    out: Path, run: Playback, incidents: Sequence[Incident], done: int, windows: int, scans: int, frames: int
) -> dict[str, Any]:
    files = {}
    for name in DATA:
        with (out / name).open("rb") as file:
            files[name] = {
                "bytes": (out / name).stat().st_size,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
    return {
        "format": FORMAT,
        "versions": {
            "cellwatch": cellwatch.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "pyarrow")},
        },
        "scenario": run.plan.name,
        "about": run.plan.about,
        "site": run.plan.site,
        "seed": run.seed,
        "start_ns": run.start_ns,
        "window_s": scans * SCAN_NS / 1e9,
        "windows": done,
        "windows_asked": windows,
        "complete": done == windows,
        "scans": done * scans,
        "packets": frames,
        "incidents": len(incidents),
        "devices": devices_of(run.cell.site),
        "tags": [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(tag).items()}
            for tag in run.cell.tags
        ],
        "files": files,
    }


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
