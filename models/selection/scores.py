"""Scores of models in the four dimensions of DeepSense (Sensors 2026, section 4.7.2), level by level."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

import numpy as np

from cellwatch.models.evaluation.dimensions import DIMENSIONS
from cellwatch.models.types import F64

LEVELS = (1, 2, 3)
_COLUMNS = ("model", "level", *DIMENSIONS)


class ScoresError(ValueError):
    """A table of scores that cannot be used; the text names file, line and column."""


@dataclass(frozen=True, slots=True)
class Scores:
    """N models of one level. `values` (N, 4) lies in 0..1, columns as in DIMENSIONS, high is good."""

    level: int
    models: tuple[str, ...]
    values: F64


def parse(text: str, name: str) -> dict[int, Scores]:
    """Scores by level from CSV with a header: model, level and DIMENSIONS; other columns are passed over."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), skipinitialspace=True, strict=True)
    found: dict[int, dict[str, list[float]]] = {}
    try:
        missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise ScoresError(f"{name}: no column {missing[0]}; it needs {', '.join(_COLUMNS)}")
        for row in rows:
            where = f"{name}, line {rows.line_num}"
            level, model = _level(row["level"], where), (row["model"] or "").strip()
            if not model:
                raise ScoresError(f"{where}: the model has no name")
            if model in found.setdefault(level, {}):
                raise ScoresError(f"{where}: {model} stands twice at level {level}")
            found[level][model] = [_score(row[column], f"{where}, {column}") for column in DIMENSIONS]
    except csv.Error as error:
        raise ScoresError(f"{name}, after line {rows.line_num}: {error}") from None
    if not found:
        raise ScoresError(f"{name}: no rows")
    return {
        level: Scores(level, tuple(found[level]), np.array([*found[level].values()]))
        for level in sorted(found)
    }


def check(scores: Scores, name: str) -> None:
    """Raises ScoresError if there is nothing to choose from."""
    where = f"{name}: level {scores.level}"
    if len(scores.models) < 2:
        raise ScoresError(f"{where} has one model only ({scores.models[0]}): nothing to choose from")
    if (scores.values == scores.values[0]).all():
        raise ScoresError(
            f"{where}: all {len(scores.models)} models have the same scores: nothing to choose from"
        )


def _level(text: str | None, where: str) -> int:
    for level in LEVELS:
        if (text or "").strip() == str(level):
            return level
    raise ScoresError(f"{where}: level {text or 'is empty'}: levels are {', '.join(map(str, LEVELS))}")


def _score(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise ScoresError(f"{where}: {text!r} is not a number" if text else f"{where}: empty") from None
    if not math.isfinite(value) or not 0.0 <= value <= 1.0:
        raise ScoresError(f"{where}: {text.strip() if text else ''}: a score lies in 0..1")
    return value
