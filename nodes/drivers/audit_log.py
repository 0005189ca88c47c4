"""Append-only record of every command and its result: one JSON object a line, synced to disk.

{"time": "2025-01-01T12:00:00.000000Z", "event": "command", "source": "fusion", "command_id": "c1", ...}
{"time": "2025-01-01T12:00:00.041000Z", "event": "result", "command_id": "c1", "status": "ACCEPTED", ...}
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cellwatch.models.types import Command, CommandResult


class AuditError(OSError):
    """The audit log cannot be written; no command may be sent."""


class AuditLog:
    """One open log file, safe to call from several threads.

    A line is on disk when the call returns. A line cut short by a crash is closed off on opening, so that
    the next one starts clean. Raises `AuditError` where the disk is full or the file is not writable.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self._lock = threading.Lock()
        self._torn = False
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            size = os.fstat(self._fd).st_size
            self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
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
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._lock:
            try:
                self._write(b"\n" + line if self._torn else line)
                os.fsync(self._fd)
            except OSError as error:
                raise AuditError(f"{self.file}: cannot write the audit log: {error.strerror}") from error

    def _write(self, line: bytes) -> None:
        while line:
            self._torn = True  # until the whole line is in the file
            line = line[os.write(self._fd, line) :]
        self._torn = False


def read(file: str | Path) -> list[dict[str, Any]]:
    """All whole lines of an audit log; a line cut short by a crash is left out."""
    rows = []
    for line in Path(file).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
