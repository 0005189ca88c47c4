"""Who may see the page and do what: log-ins, roles, and the one user of a page without log-ins."""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from cellwatch.nodes.page.attempts import Attempts
from cellwatch.nodes.page.sessions import Sessions, passing
from cellwatch.nodes.page.users import NOBODY, Role, UsersError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellwatch.nodes.page.sessions import Session
    from cellwatch.nodes.page.users import User, UsersFile

RELOAD_S = 1.0
AT_ONCE = 2  # passwords that are tried at the same time: each takes 32 MiB


class AccessError(Exception):
    """Refused; `status` is HTTP's. `wait_s`: when it may be tried again, 0 = whenever."""

    def __init__(self, status: int, text: str, wait_s: float = 0.0) -> None:
        super().__init__(text)
        self.status, self.wait_s = status, wait_s


class Access:
    """Log-ins against a file of users, which may change meanwhile.

    `local` names the user that needs no log-in while there is no file of users: who runs the cell, on a page
    that only this machine can reach ("" = nobody). `owner(address, port)` is the user id behind a connection.
    `audit(event, user, reason)` puts log-ins on record and says nothing if it cannot.
    """

    def __init__(
        self,
        users: UsersFile,
        *,
        local: str = "",
        owner: Callable[[str, int], int | None] | None = None,
        audit: Callable[[str, str, str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.attempts = Attempts()
        self.cookie = "cellwatch"
        self.trouble = ""  # with the file of users
        self._file, self._local, self._owner, self._clock = users, local, owner, clock
        self._audit = audit or (lambda *_: None)
        self._sessions = Sessions()
        self._lock = threading.Lock()
        self._trying = threading.BoundedSemaphore(AT_ONCE)
        self._users: dict[str, User] = {}
        self._closed = not local  # once log-ins are needed they stay so: a lost file opens nothing
        self._loaded: tuple[int, ...] | None = None
        self._next_s = float("-inf")
        self._reload()
        if self._closed and not self._users:
            raise UsersError(
                self.trouble
                or f"{users.path}: the page needs a log-in, and there is no user: "
                "`cellwatch users add NAME --role engineer`"
            )

    @property
    def needs_login(self) -> bool:
        with self._lock:
            self._reload()
            return self._closed

    def login(self, user: str, password: str, address: str) -> tuple[str, Session]:
        """A token and its session. AccessError: 401 wrong, 429 too many wrong ones, 503 no file."""
        with self._lock:
            self._next_s = float("-inf")  # a user added a moment ago may come in
            self._reload()
            wait_s = self.attempts.wait_s(address, user, self._clock())
            known = self._users.get(user, NOBODY)
        if self.trouble:
            raise AccessError(503, "the file of users cannot be used; the log of the page says why")
        if wait_s:
            raise AccessError(429, f"too many wrong passwords: wait {wait_s:.0f} s", wait_s)
        if not self._trying.acquire(timeout=5.0):
            raise AccessError(429, "too many log-ins at once", 1.0)
        try:
            fits = known.knows(password) and known is not NOBODY
        finally:
            self._trying.release()
        if not fits:
            with self._lock:
                self.attempts.failed(address, user, self._clock())
            # What is no name may be a password typed into the wrong field.
            self._audit("login_failed", "" if known is NOBODY else user, f"from {address}")
            raise AccessError(401, "wrong name or password")
        with self._lock:
            self.attempts.succeeded(address, user)
            token, session = self._sessions.begin(user, known.level, _stamp(known), self._clock())
        self._audit("login", user, f"from {address}, {known.role}")
        return token, session

    def logout(self, session: Session) -> None:
        with self._lock:
            self._sessions.end(session)
        self._audit("logout", session.user, "")

    def enter(self, token: str | None, address: str, port: int) -> tuple[str, Session]:
        """The session of a token, or a new one where none is needed. AccessError 401 or 403."""
        found = self._find(token)
        if found is not None:
            found.used_s = self._clock()
            return token or "", found
        self._check_local(address, port)
        with self._lock:
            return self._sessions.begin(self._local, Role.ENGINEER, "", self._clock())

    def who(self, request: Any) -> Session:
        """Whose request it is (of Starlette). AccessError 401 or 403."""
        found = self._find(request.cookies.get(self.cookie))
        if found is None:
            peer = request.client
            self._check_local(peer.host if peer else "", peer.port if peer else 0)
            found = passing(self._local, Role.ENGINEER)
        return found

    def alive(self, session: Session) -> bool:
        """May a stream of this session go on? One that only looks stays as long as it looks."""
        with self._lock:
            self._reload()
            if session.role == Role.VIEWER:
                session.used_s = self._clock()
            return self._stands(session)

    def check_change(self, session: Session, csrf: str | None) -> None:
        """Check the token that goes with whatever changes something, which is use. AccessError 403."""
        if not csrf or not hmac.compare_digest(csrf.encode(), session.csrf.encode()):
            raise AccessError(403, "X-CSRF-Token is missing or wrong: GET /api/v1/session gives it")
        session.used_s = self._clock()

    # Within -------------------------------------------------------------------
    def _find(self, token: str | None) -> Session | None:
        with self._lock:
            self._reload()
            session = self._sessions.find(token)
            if session is None or not self._stands(session):
                return None
            if session.role == Role.VIEWER:
                session.used_s = (
                    self._clock()
                )  # who can only look uses it so; for others a page reads by itself
            return session

    def _stands(self, session: Session) -> bool:
        if not self._closed:
            return not session.stamp
        user = self._users.get(session.user)
        if user is None or session.stamp != _stamp(user):
            self._sessions.end(session)
        return self._sessions.stands(session, self._clock())

    def _check_local(self, address: str, port: int) -> None:
        if self._closed:
            raise AccessError(401, "log in")
        if self._owner is None:
            return
        try:
            found = self._owner(address, port)
        except (OSError, ValueError):
            return  # no such table on this system: as open as any service on its loopback
        if found != os.getuid():
            raise AccessError(
                403, f"without users only {self._local} may use this page: `cellwatch users add` makes users"
            )

    def _reload(self) -> None:
        """Look at the file again, at most once a second; what is damaged lets nobody in."""
        now_s = self._clock()
        if now_s < self._next_s:
            return
        self._next_s = now_s + RELOAD_S
        try:
            seen = self._file.path.stat()
            state: tuple[int, ...] = (seen.st_ino, seen.st_mtime_ns, seen.st_size, seen.st_mode)
        except FileNotFoundError:
            state = ()
        except OSError:
            state = (0,)
        self._closed |= bool(state)
        if not self._closed or state == self._loaded:
            return
        lost = not state and self._loaded is not None
        try:
            self._users = self._file.load()
            self.trouble = f"{self._file.path}: it is gone, and nobody can log in" if lost else ""
        except UsersError as error:
            self._users, self.trouble = {}, str(error)
        self._loaded = state


def _stamp(user: User) -> str:
    return hashlib.sha256(f"{user.role} {user.salt} {user.hash}".encode()).hexdigest()
