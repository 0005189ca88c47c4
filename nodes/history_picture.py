"""A table of the record over time: one panel a field, one line a series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cellwatch.nodes.drivers.record_schema import Field, field_of
from cellwatch.nodes.history import is_tag

PANELS = 8  # at most, and likewise lines in one
LINES = 12
NUMBERS = {"window_id", "sequence", "command_id", "status"}  # that say nothing over time, but for codes


def draw(table: pa.Table, measurement: str, path: Path) -> None:
    """Into a file; its suffix says which kind of picture. ValueError if there is nothing to draw. OSError."""
    import matplotlib as mpl
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    if path.suffix.lstrip(".") not in Figure().canvas.get_supported_filetypes():
        raise ValueError(f"{path}: a picture ends in .svg, .png or .pdf")
    columns = list(_numeric(table, measurement))
    if not columns:
        raise ValueError(f"{measurement} has no numbers to draw; it holds {', '.join(table.column_names)}")
    if len(columns) > PANELS:
        raise ValueError(
            f"{len(columns)} fields are too many for a picture: choose up to {PANELS} by --column"
        )
    keys, lines = _lines(table)
    if len(lines) > LINES:
        raise ValueError(
            f"{len(lines)} series are too many for a picture of at most {LINES}; choose some of the values "
            f"of {', '.join(keys)} by --tag, --device or --where"
        )
    with mpl.rc_context({"svg.hashsalt": "cellwatch", "font.size": 8}):
        figure = Figure(figsize=(9.6, 1.2 + 1.8 * len(columns)), layout="constrained")
        panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, field) in zip(panels, columns, strict=True):
            for i, (label, rows) in enumerate(lines):
                _plot(axes, table.take(pa.array(rows)), name, field, label, f"C{i % 10}")
            axes.set_ylabel(f"{name}, {field.unit}" if field and field.unit else name)
            axes.spines[["top", "right"]].set_visible(False)
            if field and field.codes:
                axes.set_yticks([c.value for c in field.codes], [c.name.lower() for c in field.codes])
        if any(label for label, _ in lines):
            figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        panels[-1].set_xlabel("time, UTC")
        figure.align_ylabels(panels)
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)


def _numeric(table: pa.Table, measurement: str) -> Iterator[tuple[str, Field | None]]:
    """Fields with something to draw; extremes go with their mean, running numbers say nothing."""
    for each in table.schema:
        name = each.name
        if name.endswith(("_min", "_max")) and name[:-4] in table.column_names:
            continue
        field = field_of(measurement, name)
        if not (field and field.codes) and (name in NUMBERS or name.endswith("_ns")):
            continue
        if (
            pa.types.is_floating(each.type)
            or pa.types.is_integer(each.type)
            or pa.types.is_boolean(each.type)
        ):
            yield name, field


def _lines(table: pa.Table) -> tuple[list[str], list[tuple[str, Any]]]:
    """Keys that tell the series apart, and for each series what it is called and its rows."""
    keys = [each.name for each in table.schema if is_tag(each) and len(table[each.name].unique()) > 1]
    if not keys:
        return [], [("", np.arange(table.num_rows))]
    which = table.select(keys).append_column("row", pa.array(np.arange(table.num_rows)))
    grouped = which.group_by(keys, use_threads=False).aggregate([("row", "list")]).to_pylist()
    found = [
        (" ".join(str(each[k]) for k in keys if each[k] is not None), each["row_list"]) for each in grouped
    ]
    return keys, sorted(found)


def _plot(axes: Any, rows: pa.Table, name: str, field: Field | None, label: str, colour: str) -> None:
    value = rows[name].cast(pa.float64()).to_numpy()
    there = np.isfinite(value)
    at = rows["time"].to_numpy()[there].astype("datetime64[us]")
    value = value[there]
    if f"{name}_min" in rows.column_names:
        low, high = (rows[name + end].to_numpy()[there] for end in ("_min", "_max"))
        axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    step = "steps-post" if field and field.codes else "default"
    axes.plot(
        at,
        value,
        color=colour,
        linewidth=0.9,
        drawstyle=step,
        label=label,
        marker="." if len(at) < 60 else "",
    )
