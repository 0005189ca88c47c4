"""The report of an evaluation as files: a page, JSON, and tables for a spreadsheet and `cellwatch select`."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellwatch.models.evaluation.dimensions import DIMENSIONS, METRICS
from cellwatch.nodes.evaluation_page import page, scores_of

Row = Mapping[str, Any]

_FIRST = ("data", "test", "level", "name")  # columns, whatever the rows have
_LONGEST = 80  # letters of a file's name


def write_report(found: Row, folder: Path) -> list[Path]:
    """Write what `cellwatch evaluate --json` prints into a folder, made if absent; the files. OSError.

    report.html needs nothing but itself; report.json is `found` with null for what is not a number. Of each
    data set there are NAME-rows.csv (what failed is a row with its error), NAME-metrics.csv and
    NAME-scores.csv, which `cellwatch select --scores` reads: without the models that lack a score in a
    dimension, whom the page names.
    """
    clean = _clean(found)
    texts = {"report.html": page(clean), "report.json": json.dumps(clean, indent=1) + "\n"}
    sets = clean.get("data") or []
    for data, name in zip(sets, _file_names(str(data.get("name") or "data") for data in sets), strict=True):
        rows, failed, metrics, scores = (
            data.get(key) or [] for key in ("rows", "failed", "metrics", "scores")
        )
        columns = dict.fromkeys([*_FIRST, *(key for row in (*rows, *failed) for key in row)])
        texts[f"{name}-rows.csv"] = _csv([*columns], [*rows, *failed])
        texts[f"{name}-metrics.csv"] = _csv(["level", "name", *(metric.name for metric in METRICS)], metrics)
        whole = [row for row in scores if scores_of(row)]
        texts[f"{name}-scores.csv"] = _csv(["model", "level", *DIMENSIONS], whole)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="replace", newline="")
    return [folder / name for name in texts]


def _clean(value: Any) -> Any:
    """As JSON takes it, with None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): _clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    if hasattr(value, "tolist"):  # of numpy
        return _clean(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _file_names(names: Iterable[str]) -> list[str]:
    """Names any file system takes, each another one, even where A and a are the same.

    >>> _file_names(["sim:factory", "../sim/factory", "SIM factory"])
    ['sim-factory', 'sim-factory-2', 'SIM-factory-3']
    """
    found: list[str] = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:_LONGEST] or "data"
        taken, free, n = {each.lower() for each in found}, stem, 1
        while free.lower() in taken:
            n += 1
            free = f"{stem}-{n}"
        found.append(free)
    return found
