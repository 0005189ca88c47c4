"""`cellwatch alarms`: the alarms of a running cell, and what an operator does with them."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cellwatch.models.types import Alarm
    from cellwatch.nodes.ros.operator import Operator

alarms = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List the alarms of a running cell; acknowledge, shelve, or take one out of service.",
)
Config = Annotated[str, typer.Option(help="Cell file, or the name of a shipped cell, that is running.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Key = Annotated[str, typer.Argument(help="DEVICE/CATEGORY, as `alarms list` shows it.")]
User = Annotated[str, typer.Option(help="Who does it; the log-in name if left out.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log.")]


@contextmanager
def operator(config: str) -> Iterator[Operator]:
    """A line to the running cell of a cell file; one clear line where that fails."""
    from cellwatch.nodes.cell import namespace
    from cellwatch.nodes.cli import config_path, err, fail
    from cellwatch.nodes.config import ConfigError, load
    from cellwatch.nodes.ros.operator import NoAnswerError, Operator

    def warn(text: str) -> None:
        err.print(f"cellwatch: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)

    try:
        with Operator(namespace(load(config_path(config))), warn=warn) as line:
            yield line
    except (ConfigError, NoAnswerError) as error:
        raise fail(error) from None


def login(user: str) -> str:
    """The user named, or who is logged in."""
    return user or getpass.getuser()


@alarms.command("list")
def list_alarms(
    config: Config = "demo",
    every: Annotated[bool, typer.Option("--all", help="Also the ones that are back to normal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the alarms, what is announced first."""
    from cellwatch.nodes.cli import out, print_json

    with operator(config) as cell:
        found, flooded = cell.alarms()
    shown = [a for a in found if every or a.state.name != "NORMAL"]
    if as_json:
        print_json({"flooded": flooded, "alarms": [_row(a) for a in shown]})
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("alarm", "state", "priority", "NE 107", "since", "times", "what"):
        table.add_column(column, no_wrap=column != "what")
    for a in shown:
        table.add_row(
            a.key, _words(a.state.name), _words(a.priority.name), _words(a.ne107.name),
            datetime.fromtimestamp(a.raised_ns / 1e9, tz=UTC).strftime("%H:%M:%S"), str(a.occurrences),
            a.message,
        )  # fmt: skip
    out.print(table if shown else "no alarms", highlight=False)
    if flooded:
        out.print(f"a flood holds back {flooded} more that are no graver", highlight=False)


@alarms.command()
def ack(key: Key, config: Config = "demo", user: User = "", reason: Reason = "") -> None:
    """Acknowledge an alarm."""
    _do(config, lambda cell: cell.acknowledge(key, login(user), reason))


@alarms.command()
def shelve(
    key: Key,
    minutes: Annotated[float, typer.Option(min=0.01, help="For how long.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    config: Config = "demo",
    user: User = "",
) -> None:
    """Put an alarm aside for a time."""
    _do(config, lambda cell: cell.shelve(key, minutes * 60, login(user), reason))


@alarms.command()
def unshelve(key: Key, config: Config = "demo", user: User = "", reason: Reason = "") -> None:
    """Take a shelved alarm back before its time."""
    _do(config, lambda cell: cell.shelve(key, 0.0, login(user), reason))


@alarms.command("out-of-service")
def out_of_service(
    key: Key,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    config: Config = "demo",
    user: User = "",
) -> None:
    """Take an alarm out of service until somebody returns it."""
    _do(config, lambda cell: cell.set_out_of_service(key, login(user), reason, out=True))


@alarms.command("return")
def return_to_service(key: Key, config: Config = "demo", user: User = "", reason: Reason = "") -> None:
    """Bring an alarm back into service."""
    _do(config, lambda cell: cell.set_out_of_service(key, login(user), reason, out=False))


def _do(config: str, what: Callable[[Operator], None]) -> None:
    with operator(config) as cell:
        what(cell)


def _row(alarm: Alarm) -> dict[str, object]:
    names = {k: getattr(alarm, k).name for k in ("state", "priority", "ne107")}
    return asdict(alarm) | names


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
