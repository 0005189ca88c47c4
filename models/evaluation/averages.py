"""Several runs of one evaluation as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

SPREAD = ("accuracy", "f1_macro", "mcc")  # figures that also get their standard deviation

Row = dict[str, Any]


def averaged(runs: Sequence[Sequence[Row]], keys: Sequence[str], spread: Sequence[str] = SPREAD) -> list[Row]:
    """Rows with the same `keys`, one a run: the mean of their numbers, in the order of the first run.

    A figure that is NaN in some runs is the mean of the others; a row that some runs lack, that of those that
    have it. With more than one run `spread` gets its deviation as NAME_std.

    >>> averaged([[{"name": "a", "mcc": 0.5}], [{"name": "a", "mcc": 0.7}]], ["name"])
    [{'name': 'a', 'mcc': 0.6, 'mcc_std': 0.1414213562}]
    """
    found: dict[tuple[Any, ...], list[Row]] = {}
    for rows in runs:
        for row in rows:
            found.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return [_one(rows, keys, spread, len(runs)) for rows in found.values()]


def _one(rows: list[Row], keys: Sequence[str], spread: Sequence[str], runs: int) -> Row:
    out = dict(rows[0])
    if runs == 1:
        return out
    for name, value in rows[0].items():
        if name in keys or isinstance(value, (bool, str, int)) or value is None:
            continue
        numbers = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
        out[name] = round(fmean(numbers), 10) if numbers else math.nan
        if name in spread:
            out[f"{name}_std"] = round(stdev(numbers), 10) if len(numbers) > 1 else math.nan
    return out
