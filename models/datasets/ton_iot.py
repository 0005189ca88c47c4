"""TON_IoT telemetry: a table a device, seconds since the epoch, `type` names the attack or is `normal`.

Alsaedi et al., IEEE Access 2020, 8, 165130. `false` and `true` are 0 and 1, other texts
(`high`, `low`) the place of the word in the alphabet; an empty cell is no sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cellwatch.models.datasets.stream import TagStream, columns, numbers, stream
from cellwatch.models.types import F64, TagInfo

_TRUTH = {"false": 0.0, "true": 1.0, "": np.nan}
_NOT_SENSORS = ("ts", "date", "time", "label", "type")


def read(path: Path) -> TagStream:
    """One device, named after its file: `Train_Test_IoT_Fridge.csv` is `fridge`."""
    cells = columns(path, ",", ("ts", "label", "type"))
    names = [name for name in cells if name not in _NOT_SENSORS]
    values = np.column_stack([_values(cells[name]) for name in names])
    device = path.stem.rsplit("_", 1)[-1].lower()
    tags = [TagInfo(name, name, device, period_s=1.0) for name in names]
    time_ns = (numbers(path, "ts", cells["ts"]) * 1e9).astype(np.int64)
    return stream("ton_iot", tags, time_ns, values, np.array(cells["type"]))


def _values(cells: Sequence[str]) -> F64:
    lower = [cell.lower() for cell in cells]
    try:
        return np.array([float(_TRUTH.get(cell, cell)) for cell in lower])
    except ValueError:
        words = {word: float(i) for i, word in enumerate(sorted({*lower} - {""}))} | {"": np.nan}
        return np.array([words[cell] for cell in lower])
