"""Append-only record of commands, results and operators' doings: one JSON object a line, chained, synced.

{"time": "2025-01-01T12:00:00.000000Z", "event": "command", "command_id": "c1", ... "hash": "5f1c.."}
{"time": "2025-01-01T12:00:00.041000Z", "event": "result", "command_id": "c1", ... "hash": "09ab.."}
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import math
import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cellwatch.models.types import Command, CommandResult
from cellwatch.nodes.drivers.audit_chain import End, find_end, head_file, head_of, record, seal, sha256
from cellwatch.nodes.drivers.whole_file import write_whole


class AuditError(OSError):
    """The audit log cannot be written; no command may be sent."""


class AuditLog:
    """One open log file, safe to call from several threads and processes.

    A line is on disk, and chained to the one before, when the call returns (see `audit_chain`). A line cut
    short by a crash is closed off and accounted for by a line of its own before the next one is written.
    Raises `AuditError` where the disk is full, or the file is not writable or was moved or removed meanwhile.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self._lock = threading.Lock()
        self._end = End()
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise AuditError(f"{self.file}: cannot open the audit log: {error.strerror}") from error

    def command(self, command: Command, *, armed: bool, source: str = "", now_ns: int | None = None) -> None:
        """Record a command before anything is sent; `source`: who or what asked for it."""
        self._append(
            now_ns,
            "command",
            source=source,
            command_id=command.command_id,
            window_id=command.window_id,
            device=command.device,
            tag=command.tag,
            value=command.value,
            issued_ns=command.issued_ns,
            valid_for_s=command.valid_for_s,
            reason=command.reason,
            armed=armed,
        )

    def result(self, result: CommandResult, *, source: str = "", now_ns: int | None = None) -> None:
        """Record what became of a command."""
        self._append(
            now_ns,
            "result",
            source=source,
            command_id=result.command_id,
            window_id=result.window_id,
            tag=result.tag,
            value=result.value,
            status=result.status.name,
            error=result.error,
            read_back=result.read_back,
        )

    def armed(self, armed: bool, *, user: str, reason: str = "", now_ns: int | None = None) -> None:
        """Record that a user has armed or disarmed the cell."""
        self._append(now_ns, "armed" if armed else "disarmed", source=user, reason=reason)

    def operator(
        self, event: str, *, user: str, reason: str = "", now_ns: int | None = None, **what: Any
    ) -> None:
        """Record what an operator did: an alarm acknowledged, an override, maintenance."""
        self._append(now_ns, event, source=user, reason=reason, **what)

    def close(self) -> None:
        """Close the file; calling twice is fine."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, now_ns: int | None, event: str, **fields: Any) -> None:
        now_ns = time.time_ns() if now_ns is None else now_ns
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}
        moment = datetime.fromtimestamp(now_ns // 10**9, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
        row = {"time": f"{moment}.{now_ns % 10**9 // 1000:06d}Z", "event": event, **clean}
        with self._lock:
            if self._fd < 0:
                raise AuditError(f"{self.file}: the audit log is closed")
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX)  # other processes of the cell write here too
                try:
                    self._check_place()
                    self._chain(row)
                finally:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
            except OSError as error:
                raise AuditError(f"{self.file}: cannot write the audit log: {error.strerror}") from error

    def _check_place(self) -> None:
        """An open file takes lines even after it was unlinked; nobody would ever read them."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self.file.stat(), os.fstat(self._fd)):
                return
        raise OSError(errno.ESTALE, "it was moved or removed; put it back, or start the cell anew")

    def _chain(self, row: dict[str, Any]) -> None:
        end = self._find_end()
        told = {"time": row["time"]}
        if end.torn:
            self._write(b"\n")
            end = replace(end, lines=end.lines + 1, size=end.size + len(end.torn) + 1)
            self._seal({**told, "event": "torn", "bytes": len(end.torn), "sha256": sha256(end.torn)}, end)
            end = self._end
        if end.contradiction:
            self._seal({**told, "event": "broken", "error": end.contradiction}, end)
            end = self._end
        self._seal(row, end)
        os.fsync(self._fd)
        # After the line: a crash in between leaves a head that is a line behind, which is no contradiction.
        head = {"lines": self._end.lines, "hash": self._end.hash}
        write_whole(head_file(self.file), json.dumps(head) + "\n")

    def _seal(self, row: dict[str, Any], end: End) -> None:
        line, digest = seal(row, end.hash)
        self._write(line + b"\n")
        self._end = End(end.lines + 1, digest, end.size + len(line) + 1)

    def _find_end(self) -> End:
        """Where the chain ends now; only what other processes have added is read."""
        size = os.fstat(self._fd).st_size
        known = self._end if size >= self._end.size else End()
        head = head_of(self.file)
        with self.file.open("rb") if size > known.size else io.BytesIO() as source:
            end = find_end(source, known, head)
        if end.contradiction and known.size:  # the head may lie before what is known: a write of it failed
            with self.file.open("rb") as source:
                end = find_end(source, End(), head)
        return end

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._fd, line) :]


def read(file: str | Path) -> list[dict[str, Any]]:
    """All records of an audit log; a line cut short by a crash, or that is no record, is left out."""
    return [row for line in Path(file).read_bytes().split(b"\n") if (row := record(line)) is not None]
