"""What an EWAD says of rows, line by line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.labelled_rows import LabelledRows
from cellwatch.models.ewad.judgement import Judgement
from cellwatch.models.types import F32, I64


def aligned(rows: LabelledRows, columns: Sequence[str]) -> F32:
    """The rows in the columns of a model (n, f); a column that they lack is missing. DataError if all are.

    A word that a column of words (`column=word`) never holds is not missing: no row has it.
    """
    place = {name: i for i, name in enumerate(rows.columns)}
    of_words = {name.partition("=")[0] for name in rows.columns if "=" in name}
    if not place.keys() & {*columns}:
        raise DataError(f"{rows.name}: none of the model's columns ({', '.join(columns)[:200]})")
    x = np.full((len(rows), len(columns)), np.nan, dtype=np.float32)
    for j, name in enumerate(columns):
        if name in place:
            x[:, j] = rows.x[:, place[name]]
        elif "=" in name and name.partition("=")[0] in of_words:
            x[:, j] = 0.0
    return x


def lines(
    said: Judgement, places: I64, columns: Sequence[str], threshold: float, top: int
) -> list[dict[str, Any]]:
    """One dict a row, `places` (n,) in the data; of the columns the `top` that are farthest off."""
    far = np.argsort(-np.abs(said.features), axis=1)[:, :top]
    return [
        {
            "row": int(places[i]),
            "score": score,
            "p_value": p,
            "alarm": score > threshold,
            "parts": parts,
            "features": {columns[j]: float(said.features[i, j]) for j in far[i]},
        }
        for i, (score, p, parts) in enumerate(
            zip(said.score.tolist(), said.p_value.tolist(), said.parts.tolist(), strict=True)
        )
    ]


def write_csv(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """All lines as a table: row, score, p_value, alarm, features (`name value;...`). OSError."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.writer(handle)
        out.writerow(["row", "score", "p_value", "alarm", "features"])
        for line in found:
            said = ";".join(f"{name} {value:.4g}" for name, value in line["features"].items())
            out.writerow([line["row"], line["score"], line["p_value"], int(line["alarm"]), said])
