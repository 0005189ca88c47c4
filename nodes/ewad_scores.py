"""What an EWAD says of rows, line by line."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.labelled_rows import LabelledRows
from cellwatch.models.ewad.judgement import Judgement
from cellwatch.models.types import F32, I64, Bool


class Aligned(NamedTuple):
    """n rows in the f columns of a model."""

    x: F32  # (n, f), NaN = missing
    empty: Bool  # (n,) rows that hold nothing the model knows
    missing: tuple[str, ...]  # columns that the table lacks, or that hold words where numbers were


def check_output(path: Path) -> None:
    """Whether scores can be written there, before they are made. ValueError."""
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{path}: scores are written as .csv")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")


def aligned(rows: LabelledRows, columns: Sequence[str]) -> Aligned:
    """The rows in the columns of a model; a column that they lack is missing. DataError if all are.

    A word that a column of words (`column=word`) never holds is not missing: no row has it. An empty cell is
    NaN among numbers, and none of the words.
    """
    place = {name: i for i, name in enumerate(rows.columns)}
    if not place.keys() & {*columns}:
        raise DataError(f"{rows.name}: none of the model's columns ({', '.join(columns)[:200]})")
    here, there = _of_words(rows.columns), _of_words(columns)
    x = np.full((len(rows), len(columns)), np.nan, dtype=np.float32)
    missing = []
    for j, name in enumerate(columns):
        if name in place:
            x[:, j] = rows.x[:, place[name]]
        elif there.get(name) in here.values():
            x[:, j] = 0.0
        else:
            missing.append(there.get(name, name))
    known = [i for name, i in place.items() if name in columns or here.get(name) in there.values()]
    words = [rows.columns[i] in here for i in known]
    cells = rows.x[:, known]
    empty = (np.isnan(cells) | (np.array(words) & (cells == 0))).all(axis=1)
    return Aligned(x, empty, tuple(dict.fromkeys(missing)))


def silence(said: Judgement, empty: Bool) -> None:
    """Let nothing be said of empty rows (n,): NaN in all outputs."""
    for part in said:
        part[empty] = np.nan


def _of_words(columns: Sequence[str]) -> dict[str, str]:
    """The column of each `column=word`."""
    return {name: name.partition("=")[0] for name in columns if "=" in name}


def lines(
    said: Judgement, places: I64, columns: Sequence[str], threshold: float, top: int
) -> list[dict[str, Any]]:
    """One dict a row, `places` (n,) in the data; of the columns the `top` that are farthest off.

    A score that is NaN is no alarm, and names no columns.
    """
    far = np.argsort(-np.abs(said.features), axis=1)[:, :top]
    return [
        {
            "row": int(places[i]),
            "score": score,
            "p_value": p,
            "alarm": score > threshold,
            "parts": parts,
            "features": {columns[j]: float(said.features[i, j]) for j in far[i] if not math.isnan(score)},
        }
        for i, (score, p, parts) in enumerate(
            zip(said.score.tolist(), said.p_value.tolist(), said.parts.tolist(), strict=True)
        )
    ]


def write_csv(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """All lines as CSV: row, score, p_value, alarm, features (`name value;...`); NaN is blank. OSError."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.writer(handle)
        out.writerow(["row", "score", "p_value", "alarm", "features"])
        for line in found:
            said = ";".join(f"{name} {value:.4g}" for name, value in line["features"].items())
            figures = ["" if math.isnan(line[key]) else line[key] for key in ("score", "p_value")]
            out.writerow([line["row"], *figures, int(line["alarm"]), said])
