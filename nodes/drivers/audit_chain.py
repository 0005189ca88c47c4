"""The hash chain of an audit log, and the check of it.

Every line ends with ``"hash": sha256(hash of the line before + the line without its hash)``; the first one
follows `GENESIS`. So no line can be changed, left out, moved or slipped in without breaking the chain. What
the chain alone cannot tell is that its end was cut off: the head file beside the log holds the number of
lines and the last hash. Who can write both files can forge both: note the head elsewhere (`audit verify`
prints it) and give it to a later check.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

GENESIS = "0" * 64
_MARK = b', "hash": "'
_TAIL = len(_MARK) + 64 + len(b'"}')


@dataclass(frozen=True, slots=True)
class End:
    """Where a chain ends."""

    lines: int = 0
    hash: str = GENESIS  # of the last whole line
    size: int = 0  # bytes of the whole lines
    torn: bytes = b""  # what a crash left behind them
    contradiction: str = ""  # of the log and its head


@dataclass(frozen=True, slots=True)
class Check:
    """What `verify` found."""

    lines: int
    hash: str  # of the last whole line: the head to note elsewhere
    torn: bool  # the last line is cut short, as by a crash
    problems: tuple[str, ...]  # "line 7: ..." each


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def seal(row: dict[str, Any], previous: str) -> tuple[bytes, str]:
    """One line of the log, without line feed, and its hash."""
    body = json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    digest = sha256(previous.encode() + body)
    return body[:-1] + _MARK + digest.encode() + b'"}', digest


def record(line: bytes) -> dict[str, Any] | None:
    """The fields of a line, None where it is not a JSON object."""
    try:
        row = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def head_file(file: Path) -> Path:
    """Where the head of a log is kept."""
    return file.with_name(file.name + ".head")


def head_of(file: Path) -> tuple[int, str]:
    """Lines and last hash as the head file says; (0, GENESIS) without one, (-1, "") where it is damaged."""
    try:
        data = json.loads(head_file(file).read_text(encoding="utf-8", errors="replace"))
        return int(data["lines"]), str(data["hash"])
    except FileNotFoundError:
        return 0, GENESIS
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return -1, ""


def find_end(source: BinaryIO, known: End, head: tuple[int, str]) -> End:
    """Read on from `known` to the end. A head one line behind is what a crash leaves; else it must be met."""
    source.seek(known.size)
    lines, last, size, torn = known.lines, known.hash, known.size, b""
    met = head == (lines, last)
    for line in source:
        if not line.endswith(b"\n"):
            torn = line
            break
        lines, size = lines + 1, size + len(line)
        last = hash_of(line[:-1]) or last
        met = met or head == (lines, last)
    why = "" if met else f"the log does not hold line {head[0]} with hash {head[1]} that its head names"
    if head == (0, GENESIS) and lines > 1:
        why = f"the log has {lines} lines and no head"
    return End(lines, last, size, torn, why)


def hash_of(line: bytes) -> str:
    """The hash a line carries, "" if it carries none."""
    sealed = line.endswith(b'"}') and line[-_TAIL:].startswith(_MARK)
    return line[-66:-2].decode("ascii", "replace") if sealed else ""


def verify(file: Path, noted: str = "") -> Check:
    """Check a log and its head; `noted` is a hash that must be in the chain. OSError if it cannot be read.

    Nobody writes meanwhile: the log is locked, shared with other checks.
    """
    with file.open("rb") as source:
        fcntl.flock(source, fcntl.LOCK_SH)
        return _check(source, head_of(file), file, noted)


def _check(source: BinaryIO, head: tuple[int, str], file: Path, noted: str) -> Check:
    problems: list[str] = []
    number, last, stray, seen = 0, GENESIS, None, False
    for number, line, found, sound in _links(source):
        seen = seen or found == noted
        row = record(line) if sound else {}
        if row is None or (row.get("event") == "broken" and "error" not in row):
            problems.append(f"line {number}: not a record")
            row = {}
        elif found and not sound:
            problems.append(f"line {number}: edited, or a line before it is edited, missing, added or moved")
        elif row.get("event") == "broken":
            problems.append(f"line {number}: when it was written, {row['error']}")
        if stray is not None and (row.get("event"), row.get("sha256")) != ("torn", sha256(stray)):
            problems.append(f"line {number - 1}: not a line of this log")
        stray, last = (None, found) if found else (line.removesuffix(b"\n"), last)
    torn = stray is not None and not line.endswith(b"\n")
    if stray is not None and not torn:
        problems.append(f"line {number}: not a line of this log")
    problems += _against_head(source, head, file, number - torn)
    if noted and not seen:
        problems.append(f"no line has the hash {noted}: the log was cut or written anew")
    return Check(number, last, torn, tuple(problems))


def _links(source: BinaryIO) -> Iterator[tuple[int, bytes, str, bool]]:
    """Number, line, the hash it carries, and whether that is right."""
    previous = GENESIS
    for number, line in enumerate(source, 1):
        bare = line.removesuffix(b"\n")
        found = hash_of(bare)
        body = bare[:-_TAIL] + b"}"
        yield number, line, found, bool(found) and sha256(previous.encode() + body) == found
        previous = found or previous


def _against_head(source: BinaryIO, head: tuple[int, str], file: Path, lines: int) -> Iterator[str]:
    end = find_end(source, End(), head)
    if head[0] > lines:
        yield f"{head[0] - lines} lines are cut off at the end"
    elif head[0] < 0:
        yield f"{head_file(file).name} is damaged"
    elif end.contradiction:
        yield end.contradiction
