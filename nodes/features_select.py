"""Labelled tables in, the chosen schema and the picture of the front out: `cellwatch features select`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cellwatch.models.features.columns import IDENTITY_COLUMNS, unit
from cellwatch.models.features.schema import Schema
from cellwatch.models.features.selection import Candidate, Front
from cellwatch.models.types import F64
from cellwatch.nodes.features_file import FeatureFileError


def read_labelled(
    path: Path, labels: str, sessions: str = ""
) -> tuple[F64, NDArray[np.str_], tuple[str, ...], NDArray[Any] | None]:
    """Values (rows, features), labels, names and sessions of a table, in the order of its time if it has one.

    Features are all numeric columns that are neither identity nor labels; one that never varies is left out.
    """
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else pa.csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise FeatureFileError(f"{path}: cannot be read: {error}") from None
    for name in filter(None, (labels, sessions)):
        if name not in table.column_names:
            raise FeatureFileError(
                f"{path}: has no column {name!r}; columns: {', '.join(table.column_names)[:200]}"
            )
    if "timestamp_start" in table.column_names:
        table = table.sort_by("timestamp_start")
    names, columns = [], []
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not numeric or name in (*IDENTITY_COLUMNS, labels, sessions):
            continue
        values = table[name].to_numpy().astype(np.float64)
        if np.isfinite(values).any() and np.nanmin(values) < np.nanmax(values):
            names.append(name)
            columns.append(values)
    if not columns:
        raise FeatureFileError(f"{path}: no numeric column that varies")
    y = np.array([str(label) for label in table[labels].to_pylist()])
    groups = np.array([str(s) for s in table[sessions].to_pylist()]) if sessions else None
    return np.column_stack(columns), y, tuple(names), groups


def as_dict(front: Front) -> dict[str, Any]:
    """The front for JSON."""

    def one(c: Candidate) -> dict[str, Any]:
        return {
            "features": list(c.names),
            "count": len(c.names),
            "cost": c.cost,
            "quality": c.quality,
            "standard_error": c.error,
            "held_out": c.held_out,
        }

    return {
        "rows": front.rows,
        "classes": list(front.classes),
        "chosen": one(front.choice),
        "all": one(front.everything),
        "front": [one(c) for c in front.candidates],
    }


def write_schema(path: Path, front: Front, table: Path) -> None:
    """The chosen columns as a schema file, which `Schema.from_json` reads."""
    names = front.choice.names
    schema = Schema(names, tuple(unit(name) for name in names))
    about = {"table": table.name, "quality": front.choice.quality, "held_out": front.choice.held_out}
    path.write_text(schema.to_json(chosen_from=about) + "\n")


def draw(front: Front, path: Path, title: str) -> None:
    """Quality over the number of features; colour is the cost."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    several = front.candidates
    count = [len(c.names) for c in several]
    axes.errorbar(
        count, [c.quality for c in several], [c.error for c in several], fmt="none", ecolor="0.8", zorder=1
    )
    dots = axes.scatter(
        count, [c.quality for c in several], c=[c.cost for c in several], cmap="viridis", s=42, zorder=3
    )
    axes.scatter(
        count, [c.held_out for c in several], marker="x", c="0.45", s=26, zorder=2, label="set aside"
    )
    chosen, whole = front.choice, front.everything
    axes.scatter(
        [len(chosen.names)], [chosen.quality], s=170, facecolors="none", edgecolors="tab:red", linewidths=1.8,
        zorder=4, label=f"chosen: {len(chosen.names)} features",
    )  # fmt: skip
    axes.axhline(
        whole.quality, color="0.6", linewidth=0.8, linestyle="--", label=f"all {len(whole.names)} features"
    )
    axes.set(xlabel="features", ylabel="macro F1", title=f"Feature sets of {title}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.colorbar(dots, label="cost")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise FeatureFileError(f"{path}: cannot draw the picture: {error}") from None
    finally:
        plt.close(figure)
