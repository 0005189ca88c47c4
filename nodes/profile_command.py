"""`cellwatch commission` and `cellwatch profile show|diff|edit`: what is normal, learned and reviewed."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cellwatch.models.rules.difference import Change
    from cellwatch.models.rules.profile import Profile

profile = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Show, compare and edit what RuleSense holds to be normal. PROFILE: a file, or the name of a cell.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProfileName = Annotated[str, typer.Argument(metavar="PROFILE", help="A profile, or the name of a cell.")]


def commission(
    out: Annotated[Path, typer.Option("-o", "--output", help="Profile to write: .yaml or .json.")],
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Learn from the running plant for so long.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Learn from a table of windows: .csv, .csv.tar.xz, .parquet.")
    ] = None,
    config: Annotated[str, typer.Option(help="Cell file, or the name of a shipped cell.")] = "demo",
    plant: Annotated[
        str | None, typer.Option(help="sim:SCENARIO without incidents, or none (a real cell).")
    ] = None,
    since: Annotated[
        float,
        typer.Option("--from", min=0.0, max=1.0, help="With --data: learn from this share of the time on."),
    ] = 0.0,
    until: Annotated[
        float, typer.Option("--to", min=0.0, max=1.0, help="With --data: up to this share of the time.")
    ] = 1.0,
    margin: Annotated[
        float,
        typer.Option(min=0.0, max=10.0, help="How far limits lie outside what was seen, in its spreads."),
    ] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Learn what is normal from a benign period: live (--minutes) or from a table (--data)."""
    from cellwatch.nodes.cli import config_path, err, fail, print_json
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.commission import commission_cell, commission_table

    if out.suffix not in {".yaml", ".yml", ".json"}:
        raise fail(f"{out}: a profile is written as .yaml or .json")
    if (minutes is None) == (data is None):
        raise fail("say what to learn from: --minutes N (the running plant) or --data FILE (a table)")
    try:
        if data is not None:
            learned = commission_table(data, since, until, margin)
        else:
            assert minutes is not None
            learned = commission_cell(config_path(config), minutes, plant, margin, out, err)
        write_profile(out, learned)
    except (OSError, ValueError, RuntimeError) as error:
        raise fail(error) from None
    if as_json:
        print_json(summary(learned))
    else:
        screen.print(
            f"{out}: {len(learned.devices)} devices, learned from {learned.windows:,} windows "
            f"of {learned.window_s:g} s",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


@profile.command()
def show(
    name: ProfileName,
    device: Annotated[str, typer.Option(help="The limits of one device.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show a profile: its devices, or the limits of one device."""
    from rich.table import Table

    from cellwatch.nodes.cli import fail, print_json
    from cellwatch.nodes.cli import out as screen

    found = _open(name)
    if device and device not in {*found.devices, *found.habits}:
        raise fail(f"{name}: no device is called {device!r}; there are: {', '.join(found.devices)}")
    body = found.to_dict()
    if as_json:
        print_json(body["devices"][device] if device else body)
        return
    if not device:
        rows = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("device", "mode", "windows", "features", "tags", "habits"):
            rows.add_column(column, justify="left" if column in {"device", "habits"} else "right")
        for one, modes in sorted(found.devices.items()):
            for mode, normal in sorted(modes.items()):
                limits = len(body["devices"][one]["modes"][str(mode)]["features"])
                known = "learned" if one in found.habits else ""
                rows.add_row(one, str(mode), str(normal.windows), str(limits), str(len(normal.tags)), known)
        screen.print(rows, highlight=False)
        screen.print(
            f"version {body['version']}, schema {found.schema_id}, "
            f"{found.windows:,} windows of {found.window_s:g} s",
            highlight=False,
        )
        return
    rows = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("mode", "limit", "low", "high", "scale"):
        rows.add_column(column, justify="left" if column == "limit" else "right")
    for mode, one in body["devices"][device]["modes"].items():
        tags = {f"{tag}/{c}": r for tag, columns in one["tags"].items() for c, r in columns.items()}
        for limit, row in (one["features"] | tags).items():
            rows.add_row(mode, limit, *(_said(value) for value in row))
    screen.print(rows, highlight=False)
    if device in found.habits:
        import yaml

        screen.print(
            yaml.safe_dump({"habits": body["devices"][device]["habits"]}), highlight=False, markup=False
        )


@profile.command()
def diff(before: ProfileName, after: ProfileName, as_json: AsJson = False) -> None:
    """Say what two profiles hold differently; exit code 1 when they differ."""
    from cellwatch.models.rules.difference import differences

    found = differences(_open(before), _open(after))
    _print_changes(found, as_json=as_json)
    if found:
        raise typer.Exit(1)


@profile.command()
def edit(name: ProfileName) -> None:
    """Edit a profile in $VISUAL or $EDITOR: checked, signed anew, and the change shown."""
    from cellwatch.models.rules.difference import differences
    from cellwatch.models.rules.profile import Profile
    from cellwatch.nodes.cli import fail
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.text_file import read_text

    path = _place(name)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise fail("set EDITOR to the editor that you want to use")
    try:
        words = shlex.split(editor)
    except ValueError as error:
        raise fail(f"EDITOR: {editor}: {error}") from None
    try:
        text = read_text(path)
        before = Profile.parse(text, str(path), edited=True)
    except ValueError as error:
        raise fail(error) from None
    try:
        Profile.parse(text)
        signed = True
    except ValueError:  # changed by hand; what the user sees and leaves now is on purpose
        signed = False
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_text(_text(copy, before), encoding="utf-8")
        try:
            done = subprocess.run([*words, str(copy)], check=False).returncode
        except OSError as error:
            raise fail(f"{editor}: cannot be started: {error.strerror}") from None
        if done:
            raise fail(f"{editor} ended with exit code {done}; {path} stays as it was")
        try:
            after = Profile.parse(read_text(copy), path.name, edited=True)
        except ValueError as error:
            if not copy.is_file():
                raise fail(f"{editor} removed the text; {path} stays as it was") from None
            kept = path.with_name(f"{path.stem}.rejected{path.suffix}")
            kept.write_bytes(copy.read_bytes())
            raise fail(f"{error}; {path} stays as it was, your text is in {kept}") from None
    found = differences(before, after)
    if found or not signed:
        try:
            write_profile(path, after)
        except OSError as error:
            raise fail(f"{path}: cannot be written: {error.strerror}") from None
    if found:
        _print_changes(found, as_json=False)
    else:
        said = "nothing changed" if signed else "signed anew, with the changes made by hand"
        screen.print(f"{path}: {said}", highlight=False, soft_wrap=True)


def write_profile(path: Path, learned: Profile) -> None:
    """Write a profile as its suffix says, whole or not at all. OSError if it cannot."""
    from cellwatch.nodes.drivers.whole_file import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _text(path, learned))


def summary(learned: Profile) -> dict[str, Any]:
    """What a profile holds, in numbers."""
    return {
        "schema_id": learned.schema_id,
        "window_s": learned.window_s,
        "windows": learned.windows,
        "devices": {
            name: {str(mode): one.windows for mode, one in modes.items()}
            for name, modes in sorted(learned.devices.items())
        },
        "habits": sorted(learned.habits),
    }


def _place(name: str) -> Path:
    """A file, or the profile that the cell of this name learned."""
    from cellwatch.nodes.runner import home

    own = home() / "cells" / name / "profile.json"
    return own if not Path(name).suffix and own.is_file() else Path(name)


def _open(name: str) -> Profile:
    from cellwatch.models.rules.profile import Profile
    from cellwatch.nodes.cli import fail
    from cellwatch.nodes.text_file import read_text

    path = _place(name)
    try:
        return Profile.parse(read_text(path), str(path))
    except ValueError as error:
        raise fail(error) from None


def _text(path: Path, learned: Profile) -> str:
    return learned.to_json() if path.suffix == ".json" else learned.to_yaml()


def _print_changes(found: list[Change], *, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.cli import print_json

    if as_json:
        print_json([{"place": c.place, "before": c.before, "after": c.after} for c in found])
        return
    if not found:
        screen.print("no difference")
        return
    rows = Table("place", "before", "after", box=None, padding=(0, 2, 0, 0))
    for change in found:
        rows.add_row(*(Text(_said(x)) for x in (change.place, change.before, change.after)))
    screen.print(rows, highlight=False)


def _said(value: Any) -> str:
    """A value in a cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(_said(v) for v in value) + "]"
    return str(value)
