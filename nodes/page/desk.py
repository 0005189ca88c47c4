"""What people do from the page: the role is checked, then the services of the command line are called.

Every service puts what was done on record, with the user; what has no service (a comment, a log-in) is put on
record here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cellwatch.nodes.drivers.audit_chain import record
from cellwatch.nodes.drivers.audit_log import AuditError, AuditLog
from cellwatch.nodes.page.users import Role
from cellwatch.nodes.page.values import CommentView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from cellwatch.nodes.page.live_cell import LiveCell
    from cellwatch.nodes.page.sessions import Session

MOVES = (
    "promote",
    "hold",
    "release",
    "reject",
    "roll_back",
)  # of the candidate, as MoveCandidate counts them
BUSY_S = 10.0  # for which a call waits for the one before
DISARM_BUSY_S = 1.0  # who disarms does not wait for an answer to somebody else: a line of its own is opened
KEPT_COMMENTS = 200


class DeskError(Exception):
    """Not done; `status` is HTTP's: 403 role, 404 unknown, 409 the cell refuses, 503 it does not answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Desk:
    """Calls of the page's people, from any thread, one at a time.

    `open_line(warn)` gives an `Operator`, which is a context manager; it is opened with the first call and
    kept. `links` are the nodes that hold the links to the PLCs. Each call returns what is to be known
    besides, such as that it could not be put on record.
    """

    def __init__(
        self,
        live: LiveCell,
        open_line: Callable[[Callable[[str], object]], Any],
        links: Iterable[str],
        audit_file: Path | None = None,
    ) -> None:
        self.links = tuple(links)
        self._live, self._open_line, self._file = live, open_line, audit_file
        self._lock, self._lock_log = threading.Lock(), threading.Lock()
        self._line: Any = None
        self._log: AuditLog | None = None
        self._warnings: list[str] = []
        if audit_file is not None and audit_file.exists():
            for key, comment in _comments(audit_file):
                live.on_comment(key, comment)

    # Alarms -------------------------------------------------------------------
    def acknowledge(self, who: Session, key: str, reason: str = "") -> list[str]:
        return self._do(who, Role.OPERATOR, lambda cell: cell.acknowledge(key, who.user, reason), key)

    def shelve(self, who: Session, key: str, seconds: float, reason: str) -> list[str]:
        """For 0 s: take it back."""
        return self._do(who, Role.OPERATOR, lambda cell: cell.shelve(key, seconds, who.user, reason), key)

    def out_of_service(self, who: Session, key: str, reason: str, *, out: bool) -> list[str]:
        def do(cell: Any) -> None:
            cell.set_out_of_service(key, who.user, reason, out=out)

        return self._do(who, Role.ENGINEER, do, key)

    def comment(self, who: Session, key: str, text: str) -> list[str]:
        _need(who, Role.OPERATOR)
        self._known(key)
        try:
            self.record("comment", who.user, text, alarm=key)
        except AuditError as error:
            raise DeskError(503, str(error)) from None
        self._live.on_comment(key, CommentView(time.time_ns(), who.user, text))
        return []

    # The response -------------------------------------------------------------
    def arm(self, who: Session, reason: str, links: Sequence[str] = ()) -> list[str]:
        """Arm these links, or all; it ends with the first that refuses."""
        wanted = self._links(links)

        def do(cell: Any) -> None:
            armed: list[str] = []
            for link in wanted:
                try:
                    cell.arm(link, who.user, reason)
                except Exception as error:
                    done = ", ".join(armed) or "nothing"
                    error.args = (f"{link} is not armed: {error}; armed: {done}",)
                    raise
                armed.append(link)

        return self._do(who, Role.ENGINEER, do)

    def disarm(self, who: Session, reason: str, links: Sequence[str] = ()) -> list[str]:
        """Disarm these links, or all; it does not wait for other calls."""
        wanted = self._links(links)

        def do(cell: Any) -> None:
            silent = cell.disarm(wanted, who.user, reason)
            if silent:
                done = ", ".join(link for link in wanted if link not in silent) or "nothing"
                text = f"no answer from {', '.join(silent)}, which may be armed still; disarmed: {done}"
                raise DeskError(503, text)

        return self._do(who, Role.OPERATOR, do, urgent=True)

    def override(self, who: Session, target: str, reason: str, *, on: bool) -> list[str]:
        return self._do(who, Role.ENGINEER, lambda cell: cell.set_override(target, who.user, reason, on=on))

    def maintenance(self, who: Session, target: str, reason: str, *, on: bool) -> list[str]:
        return self._do(
            who, Role.ENGINEER, lambda cell: cell.set_maintenance(target, who.user, reason, on=on)
        )

    # Models ---------------------------------------------------------------------
    def move_candidate(self, who: Session, move: str, reason: str) -> list[str]:
        """`move`: one of MOVES."""
        action = MOVES.index(move) + 1
        return self._do(who, Role.ENGINEER, lambda cell: cell.move_candidate(action, who.user, reason))

    def label(
        self, who: Session, label: str, start_ns: int, end_ns: int, devices: Sequence[str], comment: str
    ) -> tuple[tuple[int, int, int], list[str]]:
        """Say what a stretch of time was: samples accepted, expired, held back; and the warnings."""
        counts: list[tuple[int, int, int]] = []

        def do(cell: Any) -> None:
            counts.append(cell.label(label, (start_ns, end_ns), devices, who.user, comment))

        warnings = self._do(who, Role.OPERATOR, do)
        return counts[0], warnings

    # Record -----------------------------------------------------------------------
    def record(self, event: str, user: str, reason: str, **what: Any) -> None:
        """One line in the audit log. AuditError."""
        if self._file is not None:
            with self._lock_log:
                self._log = self._log or AuditLog(self._file)
            self._log.operator(event, user=user, reason=reason, **what)

    def close(self) -> None:
        """Hang up."""
        self._hang_up()
        log, self._log = self._log, None
        if log is not None:
            log.close()

    # Within -----------------------------------------------------------------------
    def _do(
        self, who: Session, least: Role, what: Callable[[Any], None], key: str = "", *, urgent: bool = False
    ) -> list[str]:
        _need(who, least)
        if key:
            self._known(key)
        warnings: list[str] = []
        if not self._lock.acquire(timeout=DISARM_BUSY_S if urgent else BUSY_S):
            if not urgent:
                raise DeskError(503, "the cell has not answered somebody else yet; try again")
            self._do_alone(what, warnings)
            return warnings
        try:
            if self._line is None:
                self._line = self._open_line(self._warn).__enter__()
            self._warnings = warnings
            _call(self._line, what)
        except DeskError:
            raise
        except Exception as error:  # the line is broken: the next call opens another
            self._hang_up()
            if not urgent:
                raise DeskError(503, f"the line to the cell broke, try again: {error}") from error
            self._do_alone(what, warnings)
        finally:
            self._lock.release()
        return warnings

    def _do_alone(self, what: Callable[[Any], None], warnings: list[str]) -> None:
        """Over a line of its own."""
        try:
            with self._open_line(warnings.append) as own:
                _call(own, what)
        except DeskError:
            raise
        except Exception as error:
            raise DeskError(503, f"the line to the cell broke: {error}") from error

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        with suppress(Exception):  # what is broken need not close well
            if line is not None:
                line.__exit__(None, None, None)

    def _warn(self, text: str) -> None:
        self._warnings.append(text)

    def _known(self, key: str) -> None:
        if all(alarm.key != key for alarm in self._live.alarms()[0]):
            raise DeskError(404, f"there is no alarm {key}")

    def _links(self, links: Sequence[str]) -> Sequence[str]:
        if unknown := [link for link in links if link not in self.links]:
            raise DeskError(404, f"there is no link {unknown[0]}; there is: {', '.join(self.links)}")
        return links or self.links


def _comments(file: Path) -> list[tuple[str, CommentView]]:
    """Those of earlier runs, oldest first."""
    rows: deque[dict[str, Any]] = deque(maxlen=KEPT_COMMENTS)
    with file.open("rb") as lines:
        rows.extend(row for line in lines if b'"comment"' in line and (row := record(line)) is not None)
    return [
        (row["alarm"], CommentView(_moment_ns(row["time"]), row["source"], row["reason"]))
        for row in rows
        if row.get("event") == "comment" and {"alarm", "time", "source", "reason"} <= row.keys()
    ]


def _moment_ns(text: str) -> int:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
    except (TypeError, ValueError):
        return 0


def _need(who: Session, least: Role) -> None:
    if who.role < least:
        raise DeskError(
            403, f"this needs the role {least.name.lower()}; {who.user} is {who.role.name.lower()}"
        )


def _call(cell: Any, what: Callable[[Any], None]) -> None:
    from cellwatch.nodes.ros.operator import NoAnswerError, RefusedError

    try:
        what(cell)
    except RefusedError as error:
        raise DeskError(409, str(error)) from None
    except NoAnswerError as error:
        raise DeskError(503, str(error)) from None
