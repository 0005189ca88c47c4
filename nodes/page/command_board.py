"""Commands and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellwatch.models.types import CommandStatus
from cellwatch.nodes.page.values import CommandView

if TYPE_CHECKING:
    from cellwatch.models.types import Command, CommandResult

MOST_COMMANDS = 200
ANSWER_NS = 2_000_000_000  # for which an answer may come after the command's own time
WORDS = {
    "PENDING": "on its way",
    "ACCEPTED": "written",
    "REFUSED": "refused",
    "WITHHELD": "advised, not written",
    "LAPSED": "nobody answered in time",
}


class CommandBoard:
    """The last commands; a result may be heard before its command, or without it."""

    def __init__(self) -> None:
        self._commands: dict[str, tuple[Command | None, CommandResult | None]] = {}

    def ask(self, command: Command) -> None:
        """The response wants something written."""
        self._keep(command.command_id, command, self._commands.get(command.command_id, (None, None))[1])

    def answer(self, result: CommandResult) -> None:
        """What became of it."""
        self._keep(result.command_id, self._commands.get(result.command_id, (None, None))[0], result)

    def views(self, now_ns: int) -> tuple[CommandView, ...]:
        """Newest first."""
        return tuple(_view(*pair, now_ns) for pair in reversed(self._commands.values()))

    def _keep(self, key: str, command: Command | None, result: CommandResult | None) -> None:
        self._commands[key] = (command, result)
        while len(self._commands) > MOST_COMMANDS:
            del self._commands[next(iter(self._commands))]


def _view(command: Command | None, result: CommandResult | None, now_ns: int) -> CommandView:
    """One of the two is there."""
    known = command or result
    assert known is not None
    if result is not None and result.status != CommandStatus.UNKNOWN:
        status = result.status.name
    else:
        waits = command is not None and now_ns < command.issued_ns + command.valid_for_s * 1e9 + ANSWER_NS
        status = "PENDING" if waits else "LAPSED"
    words = WORDS[status] + (f": {result.error}" if result is not None and result.error else "")
    return CommandView(
        known.command_id, known.window_id, command.device if command else "", known.tag, known.value,
        command.reason if command else "", status, words, result.read_back if result else float("nan"),
        known.issued_ns, result.decided_ns if result else 0,
    )  # fmt: skip
