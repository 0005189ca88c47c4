"""`cellwatch audit`: show and verify the audit log of a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

audit = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Show or verify the audit log of a cell."
)
File = Annotated[
    Path | None, typer.Argument(help="Audit log; left out: the one of the cell that --config names.")
]
Config = Annotated[str, typer.Option(help="Cell file, or the name of a shipped cell.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@audit.command()
def verify(
    file: File = None,
    config: Config = "demo",
    head: Annotated[
        str, typer.Option(help="Hash that an earlier check printed: the log must still hold it.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Find every line that was edited, added, moved or taken away; exit code 1 if there is one."""
    from cellwatch.nodes.cli import fail, out, print_json
    from cellwatch.nodes.drivers import audit_chain

    path = _log(file, config)
    try:
        check = audit_chain.verify(path, head)
    except OSError as error:
        raise fail(f"{path}: {error.strerror}") from None
    if as_json:
        print_json(
            {
                "file": str(path), "ok": not check.problems, "lines": check.lines, "head": check.hash,
                "torn": check.torn, "problems": list(check.problems),
            }
        )  # fmt: skip
    else:
        for problem in check.problems:
            out.print(problem, style="red", highlight=False, markup=False, soft_wrap=True)
        if check.torn:
            out.print(f"line {check.lines} is cut short, as by a crash", highlight=False)
        verdict = "broken" if check.problems else "whole"
        out.print(
            f"{path}: {check.lines} lines, {verdict}; head {check.hash}", highlight=False, soft_wrap=True
        )
    if check.problems:
        raise typer.Exit(1)


@audit.command()
def show(
    file: File = None,
    config: Config = "demo",
    last: Annotated[int, typer.Option(min=1, help="How many lines, from the end.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Print the last lines of the log."""
    from cellwatch.nodes.cli import fail, out, print_json
    from cellwatch.nodes.drivers.audit_log import read

    path = _log(file, config)
    try:
        rows = read(path)[-last:]
    except OSError as error:
        raise fail(f"{path}: {error.strerror}") from None
    if as_json:
        print_json(rows)
        return
    for row in rows:
        rest = {k: v for k, v in row.items() if k not in {"time", "event", "hash"} and v not in ("", None)}
        words = "  ".join(f"{k}={v}" for k, v in rest.items())
        out.print(f"{row.get('time', '')}  {row.get('event', '')}  {words}", highlight=False, markup=False)


def _log(file: Path | None, config: str) -> Path:
    from cellwatch.nodes.cli import config_path, fail
    from cellwatch.nodes.config import ConfigError, load
    from cellwatch.nodes.runner import home

    if file is not None:
        return file
    try:
        return home() / "cells" / load(config_path(config)).cell / "audit.jsonl"
    except ConfigError as error:
        raise fail(error) from None
