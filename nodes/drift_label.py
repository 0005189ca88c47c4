"""`cellwatch drift label`: tell a running cell what a stretch of time really was."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from cellwatch.nodes.alarms_command import AsJson, Config, Reason, User, login, operator

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


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
        span = moment(since, now_ns, "--since"), moment(until, now_ns, "--until")
    except ValueError as error:
        raise fail(error) from None
    names = [name.strip() for name in devices.split(",") if name.strip()]
    with operator(config) as cell:
        accepted, expired, held_back = cell.label(what, span, names, login(user), reason)
    if as_json:
        print_json({"accepted": accepted, "expired": expired, "held_back": held_back})
    else:
        out.print(f"{accepted} samples are {what}; {expired} expired, {held_back} held back", highlight=False)


def moment(text: str, now_ns: int, option: str) -> int:
    """Nanoseconds of a time, or of so long ago. ValueError.

    >>> moment("2min", 300_000_000_000, "--since")
    180000000000
    """
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", text.strip())
    if ago:
        return now_ns - round(float(ago[1]) * UNITS[ago[2]] * 1e9)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} {text}: such as 2026-11-23T14:05:00, or 10min") from None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1e9)
