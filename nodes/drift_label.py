"""`cellwatch drift label`: tell a running cell what a stretch of time really was."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cellwatch.nodes.alarms_command import AsJson, Config, Reason, User, login, operator
from cellwatch.nodes.moments import moment_ns


def label(
    what: Annotated[str, typer.Argument(help="benign, attack, a category (dos), or a type (dos/syn-flood).")],
    since: Annotated[
        str, typer.Option(help="From when: 2026-11-23T14:05:00 (UTC without +01:00), or 10min ago as 10min.")
    ],
    until: Annotated[str, typer.Option(help="Till when, likewise; without it now.")] = "0s",
    devices: Annotated[str, typer.Option(help="Names, separated by commas; without it all.")] = "",
    config: Config = "demo",
    user: User = "",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Say what the windows within a stretch of time were; it counts once nobody contradicts it."""
    from cellwatch.nodes.cli import fail, out, print_json

    now_ns = time.time_ns()
    try:
        span = moment_ns(since, now_ns, "--since"), moment_ns(until, now_ns, "--until")
    except ValueError as error:
        raise fail(error) from None
    names = [name.strip() for name in devices.split(",") if name.strip()]
    with operator(config) as cell:
        accepted, expired, held_back = cell.label(what, span, names, login(user), reason)
    if as_json:
        print_json({"accepted": accepted, "expired": expired, "held_back": held_back})
    else:
        out.print(f"{accepted} samples are {what}; {expired} expired, {held_back} held back", highlight=False)
