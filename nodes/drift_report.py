"""`cellwatch drift report`: what drifted, when, and what became of it, from the record of a cell."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellwatch.nodes.moments import moment

if TYPE_CHECKING:
    from rich.console import Console

    from cellwatch.nodes.drift_record import DriftRecord


def report(
    cell: Annotated[str, typer.Option(help="Name of the cell, as its file says.")] = "demo",
    run: Annotated[
        Path | None, typer.Option(help="Folder of a cell or of a record; without it that of --cell.")
    ] = None,
    hours: Annotated[float | None, typer.Option(min=0.01, help="Only the last hours of the record.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it into this file (.svg, .png, .pdf).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell the drift of a cell: alarms, scenarios, candidates, versions; loss and monitors as a picture."""
    from cellwatch.nodes.cli import fail, out, print_json
    from cellwatch.nodes.drift_record import read, to_json
    from cellwatch.nodes.record_folder import record_folder

    try:
        folder = record_folder(cell, run)
        found = read(folder)
        if hours is not None:
            found = read(folder, found.last_ns - _ns(hours))
        if picture is not None:
            from cellwatch.nodes.drift_picture import draw

            draw(found, picture)
    except (ValueError, OSError) as error:
        raise fail(error) from None
    if as_json:
        print_json(to_json(found))
    else:
        _print(out, found, folder)
        if picture is not None:
            out.print(f"picture: {picture}", highlight=False, markup=False)


def _ns(hours: float) -> int:
    """ValueError if it is not finite."""
    if not math.isfinite(hours):
        raise ValueError(f"--hours {hours:g}: a number of hours; without it the whole record")
    return round(hours * 3.6e12)


def _print(screen: Console, found: DriftRecord, folder: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not found.events and not found.curves:
        screen.print(f"nothing of drift in {folder}", highlight=False, markup=False, soft_wrap=True)
        return
    span = f"{moment(found.first_ns)} to {moment(found.last_ns)}"
    screen.print(f"{span}: {found.alarms} alarm{'s' * (found.alarms != 1)}\n", highlight=False)
    events = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("when", "of", "what", "version", "why"):
        events.add_column(column, no_wrap=column != "why")
    for e in found.events:
        events.add_row(moment(e.at_ns), e.kind, escape(e.what), e.version[:12] or "none", escape(e.detail))
    screen.print(events, highlight=False)
    versions = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("in service", "since", "until", "loss", "errors"):
        versions.add_column(column, no_wrap=True)
    for v in found.versions:
        figures = (found.figure(name, v) for name in ("loss", "errors"))
        texts = [f"{value:.4f}" if math.isfinite(value) else "-" for value in figures]
        versions.add_row(v.what[:12] or "none", moment(v.since_ns), moment(v.until_ns), *texts)
    screen.print()
    screen.print(versions, highlight=False)
