"""Who is logged in: tokens that only the browser and this process know."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from cellwatch.nodes.page.users import Role

IDLE_S = 8 * 3600.0  # a shift
MOST, MOST_OF_ONE = 500, 20  # in all, and of one user; the longest unused goes


@dataclass(slots=True)
class Session:
    """One log-in. `csrf` goes with every request that changes something."""

    user: str
    role: Role
    stamp: str  # of the user's password and role: another one ends the session
    csrf: str
    used_s: float
    key: str = field(repr=False)


def passing(user: str, role: Role) -> Session:
    """A session of one request, that nobody can come back to."""
    return Session(user, role, "", secrets.token_urlsafe(32), 0.0, "")


class Sessions:
    """All log-ins, by the hash of their token: a copy of the memory opens nothing. Times in s, monotonic."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def begin(self, user: str, role: Role, stamp: str, now_s: float) -> tuple[str, Session]:
        """A new session and its token."""
        token = secrets.token_urlsafe(32)
        session = Session(user, role, stamp, secrets.token_urlsafe(32), now_s, _key(token))
        self._open[session.key] = session
        own = [s for s in self._open.values() if s.user == user]
        for several, most in ((own, MOST_OF_ONE), (list(self._open.values()), MOST)):
            if len(several) > most:
                self.end(min(several, key=lambda s: s.used_s))
                break
        return token, session

    def find(self, token: str | None) -> Session | None:
        return self._open.get(_key(token)) if token else None

    def stands(self, session: Session, now_s: float) -> bool:
        """Is it still open? One that is idle for too long ends here."""
        if now_s - session.used_s > IDLE_S:
            self.end(session)
        return session.key in self._open

    def end(self, session: Session) -> None:
        self._open.pop(session.key, None)


def _key(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
