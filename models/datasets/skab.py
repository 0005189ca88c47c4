"""SKAB, a water circulation testbed: eight sensors, about one row a second, `anomaly` per row.

Katser, Kozitsin: Skoltech Anomaly Benchmark, 2020 (github.com/waico/SKAB).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.labelled_rows import LabelledRows, absent
from cellwatch.models.datasets.stream import (
    NORMAL,
    DatasetError,
    TagStream,
    columns,
    numbers,
    stream,
    times,
)
from cellwatch.models.types import F64, I64, Bool, TagInfo

SENSORS = {  # column -> (device, unit in UCUM)
    "Accelerometer1RMS": ("pump", "[g]"),
    "Accelerometer2RMS": ("pump", "[g]"),
    "Current": ("motor", "A"),
    "Pressure": ("loop", "bar"),
    "Temperature": ("motor", "Cel"),
    "Thermocouple": ("loop", "Cel"),
    "Voltage": ("motor", "V"),
    "Volume Flow RateRMS": ("loop", "L/min"),
}


PUBLISHED = ("valve1", "valve2", "other")  # the folders of the published comparison
TRAINING_ROWS = 400  # first rows of each run, which it learns from


def read(path: Path) -> TagStream:
    """One run. Rows are labelled `anomaly`; the anomaly-free run has no such column."""
    time_ns, values, wrong = _rows(path)
    tags = [TagInfo(name, name, device, unit, period_s=1.0) for name, (device, unit) in SENSORS.items()]
    return stream("skab", tags, time_ns, values, np.where(wrong, "anomaly", NORMAL))


def load(folder: Path) -> LabelledRows:
    """All runs of the published comparison; `group` is the run, `test` all but its first rows. DataError."""
    paths = [p for part in PUBLISHED for p in sorted((folder / "data" / part).glob("*.csv"), key=_number)]
    if not paths:
        raise absent("skab", folder / "data" / PUBLISHED[0])
    try:
        runs = [_rows(path) for path in paths]
    except DatasetError as error:
        raise DataError(str(error)) from None
    sizes = [len(run[0]) for run in runs]
    return LabelledRows(
        "skab",
        "SKAB (Katser and Kozitsin 2020), runs of a water circulation testbed",
        tuple(SENSORS),
        np.concatenate([values for _, values, _ in runs]).astype(np.float32),
        np.concatenate([wrong for _, _, wrong in runs]).astype(np.int64),
        np.repeat([f"{path.parent.name}/{path.stem}" for path in paths], sizes),
        np.concatenate([time_ns for time_ns, _, _ in runs]),
        np.concatenate([np.arange(n) >= TRAINING_ROWS for n in sizes]),
    )


def _rows(path: Path) -> tuple[I64, F64, Bool]:
    """Time (r,), sensors (r, 8) and anomaly (r,) of a run."""
    cells = columns(path, ";", ("datetime", *SENSORS))
    values = np.column_stack([numbers(path, name, cells[name]) for name in SENSORS])
    wrong = (
        numbers(path, "anomaly", cells["anomaly"]) > 0 if "anomaly" in cells else np.zeros(len(values), bool)
    )
    return times(path, cells["datetime"]), values, wrong


def _number(path: Path) -> tuple[int, str]:
    return (int(path.stem) if path.stem.isdigit() else -1, path.stem)
