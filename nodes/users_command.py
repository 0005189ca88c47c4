"""`cellwatch users`: who may log in to the operator's page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cellwatch.nodes.alarms_command import AsJson
from cellwatch.nodes.page.users import Role, UsersError, UsersFile

if TYPE_CHECKING:
    from collections.abc import Callable

users = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Who may log in to the operator's page: viewer, operator or engineer.",
)
Name = Annotated[str, typer.Argument(help="As the audit log will name them.")]
RoleName = Annotated[str, typer.Option("--role", help="viewer, operator or engineer.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
]


@users.command()
def add(name: Name, role: RoleName = "viewer", password_stdin: FromStdin = False) -> None:
    """Add a user; the password is asked for."""
    with _file() as file:
        if name in file.load():
            raise UsersError(f"there is a user {name} already; `passwd` and `role` change it")
        file.add(name, _role(role), _password(name, password_stdin))


@users.command("list")
def list_users(as_json: AsJson = False) -> None:
    """Show the users and their roles."""
    from cellwatch.nodes.cli import out, print_json

    with _file() as file:
        found = {name: user.role for name, user in file.load().items()}
    if as_json:
        print_json(found)
        return
    for name, role in found.items():
        out.print(f"{name}: {role}", highlight=False, markup=False)
    if not found:
        out.print("no users: the page is for who runs the cell, on this machine only", highlight=False)


@users.command()
def remove(name: Name) -> None:
    """Remove a user, whose sessions end."""
    _change(lambda file: file.remove(name))


@users.command()
def passwd(name: Name, password_stdin: FromStdin = False) -> None:
    """Set a password; the user's sessions end."""
    with _file() as file:
        if name not in file.load():
            raise UsersError(f"there is no user {name}")
        file.set_password(name, _password(name, password_stdin))


@users.command("role")
def set_role(name: Name, role: Annotated[str, typer.Argument(help="viewer, operator or engineer.")]) -> None:
    """Set a role; the user's sessions end."""
    _change(lambda file: file.set_role(name, _role(role)))


def _change(what: Callable[[UsersFile], None]) -> None:
    with _file() as file:
        what(file)


@contextmanager
def _file() -> Iterator[UsersFile]:
    """The file of users; one clear line where it cannot be used."""
    from cellwatch.nodes.cli import fail
    from cellwatch.nodes.runner import users_file

    try:
        yield UsersFile(users_file())
    except UsersError as error:
        raise fail(error) from None


def _role(name: str) -> Role:
    if name.upper() not in Role.__members__:
        raise UsersError(f"--role {name}: viewer, operator or engineer")
    return Role[name.upper()]


def _password(name: str, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True))
