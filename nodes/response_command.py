"""`cellwatch response`: arm, override and maintain a running cell."""

from __future__ import annotations

from typing import Annotated

import typer

from cellwatch.nodes.alarms_command import AsJson, Config, Reason, User, login, operator

response = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Say what a running cell may write: arm or disarm it, override it, put a device into maintenance.",
)
Target = Annotated[str, typer.Argument(help="A tag, a device, or '*' for the whole cell.")]
Off = Annotated[bool, typer.Option("--end", help="End it.")]


@response.command()
def status(config: Config = "demo", as_json: AsJson = False) -> None:
    """Show which links to the PLCs are armed, what is overridden and what is in maintenance."""
    from cellwatch.nodes.cli import out, print_json

    with operator(config) as cell:
        overridden, maintenance = cell.taken()
        armed = cell.armed(_links(config))
    if as_json:
        print_json({"armed": armed, "overridden": overridden, "maintenance": maintenance})
    else:
        words = {True: "armed", False: "disarmed", None: "not heard, so not known"}
        for link, state in armed.items():
            out.print(f"{link}: {words[state]}", highlight=False)
        out.print(f"overridden: {', '.join(overridden) or 'nothing'}", highlight=False)
        out.print(f"in maintenance: {', '.join(maintenance) or 'nothing'}", highlight=False)


@response.command()
def override(
    target: Target, config: Config = "demo", end: Off = False, user: User = "", reason: Reason = ""
) -> None:
    """Keep the cell's hands off something: no command is written there."""
    with operator(config) as cell:
        cell.set_override(target, login(user), reason, on=not end)


@response.command()
def maintenance(
    target: Target, config: Config = "demo", end: Off = False, user: User = "", reason: Reason = ""
) -> None:
    """Put something into maintenance: no commands, and its alarms are suppressed."""
    with operator(config) as cell:
        cell.set_maintenance(target, login(user), reason, on=not end)


@response.command()
def arm(config: Config = "demo", user: User = "", reason: Reason = "") -> None:
    """Let the cell write its commands into the PLCs."""
    from cellwatch.nodes.ros.operator import NoAnswerError

    armed: list[str] = []
    with operator(config) as cell:
        for link in _links(config):
            try:
                cell.arm(link, login(user), reason)
            except NoAnswerError as error:
                raise NoAnswerError(
                    f"{link} is not armed: {error}; armed: {', '.join(armed) or 'nothing'}"
                ) from None
            armed.append(link)


@response.command()
def disarm(config: Config = "demo", user: User = "", reason: Reason = "") -> None:
    """Withhold every command."""
    from cellwatch.nodes.cli import fail

    with operator(config) as cell:
        links = _links(config)
        silent = cell.disarm(links, login(user), reason)
    if silent:
        done = ", ".join(link for link in links if link not in silent) or "nothing"
        raise fail(f"no answer from {', '.join(silent)}, which may be armed still; disarmed: {done}")


def _links(config: str) -> list[str]:
    from cellwatch.nodes.cell import link_names
    from cellwatch.nodes.cli import config_path
    from cellwatch.nodes.config import load

    return link_names(load(config_path(config)))
