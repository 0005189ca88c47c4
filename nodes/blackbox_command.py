"""`cellwatch blackbox`: the recordings of a cell, made around each of its alarms."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.nodes.moments import moment

if TYPE_CHECKING:
    from cellwatch.nodes.drivers.recordings import Recording

blackbox = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List or show what was recorded around each alarm of a cell: MCAP files, for Foxglove or rosbags.",
)
Config = Annotated[str, typer.Option(help="Cell file, or the name of a shipped cell.")]
Folder = Annotated[Path | None, typer.Option(help="Folder of recordings, instead of those of --config.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@blackbox.command("list")
def list_recordings(config: Config = "demo", folder: Folder = None, as_json: AsJson = False) -> None:
    """Show the recordings, the oldest first."""
    from cellwatch.nodes.cli import err, out, print_json
    from cellwatch.nodes.drivers.mcap_recording import PART
    from cellwatch.nodes.drivers.recordings import recordings

    where = _folder(folder, config)
    found, wrong = recordings(where)
    unfinished = [part.stem for part in sorted(where.glob(f"*{PART}"))]
    if as_json:
        rows = [_row(r) for r in found]
        print_json({"folder": str(where), "recordings": rows, "unfinished": unfinished, "damaged": wrong})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("recording", "seconds", "messages", "MB", "alarms"):
        number = column in {"seconds", "messages", "MB"}
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for r in found:
        table.add_row(
            r.path.stem, f"{(r.end_ns - r.start_ns) / 1e9:.0f}",
            f"{sum(n for _, n in r.topics.values()):,}", f"{r.bytes / 1e6:.1f}",
            escape("\n".join(_alarms(r))),
        )  # fmt: skip
    out.print(table if found else f"no recordings in {where}", highlight=False, soft_wrap=not found)
    for name in unfinished:
        out.print(
            f"{name} is not whole yet: it is being written, or the next start mends it", highlight=False
        )
    for text in wrong:
        err.print(f"cellwatch: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)


@blackbox.command()
def show(
    name: Annotated[str, typer.Argument(help="A file, or (the beginning of) a name of `blackbox list`.")],
    config: Config = "demo",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show what a recording holds: its alarms, and the messages of each topic."""
    from rich.markup import escape
    from rich.table import Table

    from cellwatch.nodes.cli import fail, out, print_json
    from cellwatch.nodes.drivers.recordings import RecordingError, look

    try:
        r = look(_file(name, folder, config))
    except OSError as error:
        raise fail(f"{name}: {error.strerror}") from None
    except RecordingError as error:
        raise fail(error) from None
    if as_json:
        print_json(_row(r))
        return
    span = f"{moment(r.start_ns)} to {moment(r.end_ns)}"
    out.print(f"{r.path}\n{span}, {r.bytes / 1e6:.1f} MB", highlight=False, markup=False, soft_wrap=True)
    for note in r.alarms:
        text = f"  {note.get('raised', '')[11:23]}  {note.get('alarm', '')}  {note.get('message', '')}"
        out.print(text, highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("topic", "type", "messages"):
        table.add_column(column, justify="right" if column == "messages" else "left", no_wrap=True)
    for topic, (kind, number) in r.topics.items():
        table.add_row(escape(topic), kind, f"{number:,}")
    out.print(table)


def _folder(folder: Path | None, config: str) -> Path:
    from cellwatch.nodes.cli import config_path, fail
    from cellwatch.nodes.config import ConfigError, load
    from cellwatch.nodes.runner import home

    if folder is not None:
        if not folder.is_dir():
            raise fail(f"{folder}: no such folder")
        return folder
    try:
        return home() / "cells" / load(config_path(config)).cell / "black_box"
    except ConfigError as error:
        raise fail(error) from None


def _file(name: str, folder: Path | None, config: str) -> Path:
    """The file of that name, or the one recording whose name begins so."""
    from cellwatch.nodes.cli import fail
    from cellwatch.nodes.drivers.mcap_recording import SUFFIX

    if Path(name).is_file():
        return Path(name)
    where = _folder(folder, config)
    begins = sorted(p for p in where.glob(f"*{SUFFIX}") if p.name.startswith(name))
    if len(begins) != 1:
        what = f"{len(begins)} recordings begin with {name}" if begins else f"no recording {name}"
        raise fail(f"{where}: {what}; see `cellwatch blackbox list`")
    return begins[0]


def _row(r: Recording) -> dict[str, Any]:
    return {
        **asdict(r),
        "path": str(r.path),
        "alarms": list(r.alarms),
        "topics": {t: {"type": kind, "messages": n} for t, (kind, n) in r.topics.items()},
    }


def _alarms(r: Recording) -> list[str]:
    """Keys, each once."""
    return list(dict.fromkeys(note.get("alarm", "") for note in r.alarms))
