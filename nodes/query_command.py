"""`cellwatch query`: what the record of a cell holds, as a table, CSV, Parquet, JSON or a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.nodes.drivers.record_schema import BY_NAME, Field, field_of

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from cellwatch.nodes.history import History, Where


def query(
    measurement: Annotated[
        str, typer.Argument(help="What to read: tags, fused, alarms ...; without it, what there is.")
    ] = "",
    cell: Annotated[str, typer.Option(help="Name of the cell, as its file says.")] = "demo",
    run: Annotated[
        Path | None, typer.Option(help="Folder of a cell or of a record; without it that of --cell.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only this tag of a PLC; may be repeated.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Only this device; may be repeated.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only this value of any key: source=rules; may be repeated.")
    ] = None,
    column: Annotated[list[str] | None, typer.Option(help="Only this field; may be repeated.")] = None,
    since: Annotated[
        str, typer.Option(help="From when: 2026-11-23T14:05:00 (UTC), or 10min before the record's end.")
    ] = "",
    until: Annotated[str, typer.Option(help="Before when, likewise.")] = "",
    every: Annotated[
        str, typer.Option(help="One row in such a span (10s): mean, least and greatest; of codes the worst.")
    ] = "",
    rows: Annotated[int, typer.Option(min=1, help="How many of the last rows to show.")] = 40,
    csv: Annotated[Path | None, typer.Option(help="Write all rows into this CSV file; - is stdout.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write all rows into this Parquet file.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it into this file (.svg, .png, .pdf).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all rows as JSON.")] = False,
) -> None:
    """Read the history of a cell, also while it runs."""
    from cellwatch.nodes.cli import fail, out, print_json
    from cellwatch.nodes.history import History
    from cellwatch.nodes.moments import span_ns
    from cellwatch.nodes.record_folder import record_folder

    try:
        history = History(record_folder(cell, run))
        span = _range(history, since, until)
        if not measurement and not tag:
            _list(out, history, span, as_json=as_json)
            return
        name = measurement or "tags"
        wanted = {"tag": tag, "device": device} | _pairs(where or [])
        every_ns = span_ns(every, "--every") if every else None
        table = _read(history, name, column, {k: tuple(v) for k, v in wanted.items() if v}, span, every_ns)
        if csv is not None:
            _write_csv(table, csv)
        if parquet is not None:
            from pyarrow import parquet as files

            _folder_of(parquet)
            files.write_table(table, parquet)
        if picture is not None:
            from cellwatch.nodes.history_picture import draw

            _folder_of(picture)
            draw(table, name, picture)
    except (ValueError, OSError) as error:
        raise fail(error) from None
    if as_json:
        print_json(as_rows(table))
    elif not (csv and str(csv) == "-"):
        for path in filter(None, (csv, parquet, picture)):
            out.print(f"{table.num_rows} rows: {path}", highlight=False, markup=False, soft_wrap=True)
        if not (csv or parquet or picture):
            _print(out, table, name, rows)


def as_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as JSON has them: `time_ns` since 1970, nothing where there is no value."""
    import pyarrow as pa

    plain = table.set_column(0, "time_ns", table["time"].cast(pa.int64()))
    return [{k: v for k, v in row.items() if v is not None} for row in plain.to_pylist()]


def _range(history: History, since: str, until: str) -> tuple[int | None, int | None]:
    """First and last moment, None = open. ValueError."""
    from cellwatch.nodes.moments import moment_ns

    _, last_ns = history.span()
    start_ns = moment_ns(since, last_ns, "--since") if since else None
    end_ns = moment_ns(until, last_ns, "--until") if until else None
    if start_ns is not None and end_ns is not None and start_ns >= end_ns:
        raise ValueError(f"--since {since} is not before --until {until}")
    return start_ns, end_ns


def _read(
    history: History,
    name: str,
    columns: list[str] | None,
    wanted: Where,
    span: tuple[int | None, int | None],
    every_ns: int | None,
) -> pa.Table:
    """The rows asked for. ValueError if there are none."""
    table = history.table(name, columns, wanted, *span, every_ns)
    if not table.num_rows:
        raise ValueError(_nothing(history, name, wanted))
    return table


def _pairs(texts: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ValueError(f"--where {text}: such as source=rules")
        found.setdefault(key, []).append(value)
    return found


def _nothing(history: History, name: str, wanted: Where) -> str:
    """Why there are no rows."""
    from cellwatch.nodes.moments import moment

    folder = history.store.folder
    known = history.measurements()
    if name not in known:
        return f"no {name} in {folder}; there are {', '.join(known) or 'no points at all'}"
    for key, values in wanted.items():
        there = history.tags(name).get(key, ())
        if missing := [value for value in values if value not in there]:
            return f"no {key} {missing[0]} in {name}; there are {', '.join(there) or 'none'}"
    first, last = map(moment, history.span())
    return f"no such rows; the record reaches from {first} to {last}"


def _folder_of(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)


def _write_csv(table: pa.Table, path: Path) -> None:
    import sys

    from pyarrow import csv as files

    if str(path) == "-":
        files.write_csv(table, sys.stdout.buffer)
        return
    _folder_of(path)
    files.write_csv(table, path)


def _list(screen: Console, history: History, span: tuple[int | None, int | None], *, as_json: bool) -> None:
    """What there is to read."""
    from rich.table import Table

    from cellwatch.nodes.cli import print_json
    from cellwatch.nodes.moments import moment

    first_ns, last_ns = history.span()
    found = history.measurements(*span)
    if as_json:
        print_json({"first_ns": first_ns, "last_ns": last_ns, "measurements": found})
        return
    reach = f"{moment(first_ns)} to {moment(last_ns)}"
    screen.print(f"{history.store.folder}: {reach}\n", highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("measurement", "points", "what", "keys"):
        table.add_column(name, justify="right" if name == "points" else "left")
    for name, points in found.items():
        schema = BY_NAME.get(name)
        about = (schema.text, ", ".join(schema.tags)) if schema else ("", "")
        table.add_row(name, f"{points:,}", *about)
    screen.print(table, highlight=False, markup=False)


def _print(screen: Console, table: pa.Table, measurement: str, rows: int) -> None:
    """The last rows and what they hold: on a terminal as many columns as fit, elsewhere all."""
    import pyarrow as pa
    from rich.cells import cell_len, set_cell_size

    from cellwatch.nodes.moments import moment

    last = table.slice(max(0, table.num_rows - rows))
    room = screen.width if screen.is_terminal else math.inf
    shown: list[list[str]] = []
    left_out = []
    for each in last.schema:
        if last[each.name].null_count == last.num_rows:
            continue
        if each.name == "time":
            texts = [moment(at, 3) for at in last["time"].cast(pa.int64()).to_pylist()]
        else:
            field = field_of(measurement, each.name)
            texts = [_text(value, field) for value in last[each.name].to_pylist()]
        width = max(map(cell_len, (each.name, *texts)))
        if width > room and shown:
            left_out.append(each.name)
            continue
        room -= width + 2
        aligned = (each.name, *texts)
        if pa.types.is_floating(each.type):
            aligned = tuple(" " * (width - cell_len(text)) + text for text in aligned)
        shown.append([set_cell_size(text, width) for text in aligned])
    for row in zip(*shown, strict=True):
        screen.print("  ".join(row).rstrip(), highlight=False, markup=False, soft_wrap=True)
    notes = [f"the last {rows} of {table.num_rows} rows"] if table.num_rows > rows else []
    if left_out:
        notes.append(f"no room for {', '.join(left_out)} (--column, --csv, --json)")
    if notes:
        screen.print("; ".join(notes), highlight=False, markup=False, style="dim")


def _text(value: object, field: Field | None) -> str:
    """A value, codes by their name."""
    if value is None:
        return ""
    if field and field.codes and isinstance(value, int):
        names = {code.value: code.name for code in field.codes}
        return names.get(value, str(value))
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
