"""The people who may use the page: names, roles and salted hashes of their passwords, in one file.

{"users": {"anna": {"role": "operator", "n": 32768, "r": 8, "p": 3, "salt": "5f1c..", "hash": "09ab.."}}}
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import unicodedata
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from cellwatch.nodes.drivers.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# RFC 7914; cost as OWASP's cheat sheet on password storage names it: 32 MiB, about a third of a second
N, R, P = 2**15, 8, 3
MAX_MEMORY = 2**27  # bytes; a file cannot make the page take more
SHORTEST, LONGEST = 10, 256  # characters of a password
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Role(IntEnum):
    """What somebody may do; the larger, the more."""

    VIEWER = 1  # look
    OPERATOR = 2  # also: alarms, labels, disarm
    ENGINEER = 3  # also: arm, models, out of service, override, maintenance


class UsersError(ValueError):
    """The file cannot be used, or what is asked cannot be done; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class User:
    """One person; the hash is scrypt's."""

    role: str
    n: int
    r: int
    p: int
    salt: str
    hash: str

    @classmethod
    def with_password(cls, role: Role, password: str) -> User:
        """A user with a fresh salt. UsersError for a password that is too short or too long."""
        if not SHORTEST <= len(password) <= LONGEST:
            raise UsersError(f"a password has {SHORTEST} to {LONGEST} characters")
        salt = secrets.token_bytes(16)
        return cls(role.name.lower(), N, R, P, salt.hex(), _scrypt(password, salt, N, R, P).hex())

    def knows(self, password: str) -> bool:
        """Is this the password? Takes as long for any."""
        found = _scrypt(password, bytes.fromhex(self.salt), self.n, self.r, self.p)
        return hmac.compare_digest(found, bytes.fromhex(self.hash))

    @property
    def level(self) -> Role:
        return Role[self.role.upper()]


NOBODY = User("viewer", N, R, P, secrets.token_hex(16), secrets.token_hex(32))  # whom no password fits


class UsersFile:
    """The file of users; made with the first of them, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        return self.path.exists()

    def load(self) -> dict[str, User]:
        """All users, {} without a file. UsersError where it is damaged or others can read it."""
        try:
            with self.path.open(encoding="utf-8") as source:
                open_to_others = os.fstat(source.fileno()).st_mode & 0o077
                rows = json.load(source)["users"]
            found = {name: User(**row) for name, row in rows.items()}
            for name, user in found.items():
                _check(name, user)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UsersError(f"{self.path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsersError(
                f"{self.path}: damaged ({error!r}); mend it, or remove it and add all anew"
            ) from None
        if open_to_others:
            raise UsersError(f"{self.path}: others than its owner can read or write it: chmod 600")
        return found

    def add(self, name: str, role: Role, password: str) -> None:
        if not NAME.fullmatch(name):
            raise UsersError(
                f"'{name}': a name has up to 64 letters, digits and . _ @ -, and begins without them"
            )
        user = User.with_password(role, password)
        with self._changing() as users:
            if name in users:
                raise UsersError(
                    f"there is a user {name} already; `cellwatch users passwd` and `role` change it"
                )
            users[name] = user

    def remove(self, name: str) -> None:
        """The file stays, also without any user: the page then lets nobody in."""
        with self._changing() as users:
            del users[_known(name, users)]

    def set_password(self, name: str, password: str) -> None:
        with self._changing() as users:
            users[name] = User.with_password(users[_known(name, users)].level, password)

    def set_role(self, name: str, role: Role) -> None:
        with self._changing() as users:
            users[name] = User(**asdict(users[_known(name, users)]) | {"role": role.name.lower()})

    @contextmanager
    def _changing(self) -> Iterator[dict[str, User]]:
        """The users, written back when the block ends; two that change the file wait for each other."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise UsersError(f"{self.path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            users = self.load()
            yield users
            rows = {name: asdict(users[name]) for name in sorted(users)}
            write_whole(self.path, json.dumps({"users": rows}, indent=1) + "\n", 0o600)
        except OSError as error:
            raise UsersError(f"{self.path}: {error.strerror}") from None
        finally:
            os.close(lock)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # The same letter can be typed as one sign or as two (NIST SP 800-63B, 3.1.1.2).
    text = unicodedata.normalize("NFKC", password).encode()
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=MAX_MEMORY, dklen=32)


def _check(name: str, user: User) -> None:
    """A hash that a file cannot have from here would be an error at log-in, or let in who should not."""
    sizes = len(bytes.fromhex(user.salt)) >= 16 and len(bytes.fromhex(user.hash)) == 32
    powers = user.n >= N and user.n & (user.n - 1) == 0 and user.r >= R and 1 <= user.p <= 16
    costs = powers and 128 * user.r * (user.n + user.p + 2) <= MAX_MEMORY
    if not (NAME.fullmatch(name) and user.role.upper() in Role.__members__ and sizes and costs):
        raise ValueError(f"user {name}")


def _known(name: str, users: dict[str, User]) -> str:
    if name not in users:
        raise UsersError(f"there is no user {name}; there is: {', '.join(users) or 'nobody'}")
    return name
