"""NAB's machine temperature: one sensor, a row every five minutes, four windows around known failures.

Lavin, Ahmad: Evaluating Real-time Anomaly Detection Algorithms, ICMLA 2015 (github.com/numenta/NAB).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cellwatch.models.datasets.stream import NORMAL, DatasetError, TagStream, columns, numbers, stream, times
from cellwatch.models.types import TagInfo

PERIOD_S = 300.0


def read(path: Path, windows: Path) -> TagStream:
    """One series; `windows` is NAB's `combined_windows.json`. Rows in a window are labelled `failure`."""
    cells = columns(path, ",", ("timestamp", "value"))
    time_ns = times(path, cells["timestamp"])
    try:
        spans = next(v for k, v in json.loads(windows.read_text()).items() if k.endswith(path.name))
    except (OSError, json.JSONDecodeError, StopIteration) as error:
        raise DatasetError(f"{windows}: no failure windows of {path.name}: {error}") from None
    wrong = np.zeros(len(time_ns), dtype=bool)
    for begin, end in spans:
        start, stop = times(windows, [begin, end])
        wrong |= (time_ns >= start) & (time_ns <= stop)
    tags = [TagInfo(path.stem, path.stem, "machine", period_s=PERIOD_S)]
    values = numbers(path, "value", cells["value"])[:, None]
    return stream("nab", tags, time_ns, values, np.where(wrong, "failure", NORMAL))
