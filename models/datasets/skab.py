"""SKAB, a water circulation testbed: eight sensors, about one row a second, `anomaly` per row.

Katser, Kozitsin: Skoltech Anomaly Benchmark, 2020 (github.com/waico/SKAB).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellwatch.models.datasets.stream import NORMAL, TagStream, columns, numbers, stream, times
from cellwatch.models.types import TagInfo

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


def read(path: Path) -> TagStream:
    """One run. Rows are labelled `anomaly`; the anomaly-free run has no such column."""
    cells = columns(path, ";", ("datetime", *SENSORS))
    values = np.column_stack([numbers(path, name, cells[name]) for name in SENSORS])
    wrong = (
        numbers(path, "anomaly", cells["anomaly"]) > 0 if "anomaly" in cells else np.zeros(len(values), bool)
    )
    tags = [TagInfo(name, name, device, unit, period_s=1.0) for name, (device, unit) in SENSORS.items()]
    return stream("skab", tags, times(path, cells["datetime"]), values, np.where(wrong, "anomaly", NORMAL))
