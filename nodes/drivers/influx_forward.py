"""Forward a write-ahead log to InfluxDB or VictoriaMetrics, through outages of the server and of this node.

``http://host:8086?org=ORG&bucket=BUCKET`` is the v2 API (token in INFLUXDB_TOKEN), ``http://host:8086?db=NAME``
the 1.x API (INFLUXDB_USER and INFLUXDB_PASSWORD, or both in the URL). Points go at least once; one that goes
twice overwrites itself. The cursor moves only when the server has confirmed.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from cellwatch.nodes.drivers.wal import Cursor, Wal, load_cursor, save_cursor, segment_path, segments, unpack

BATCH_BYTES = 1 << 20  # greatest body of one request, before gzip
LEAST_BATCH_BYTES = 1 << 16
INTERVAL_S = 0.25  # between requests while little is pending, so that they are not tiny
TIMEOUT_S = 20.0  # of one request
BACKOFF_S = (0.5, 30.0)  # first and longest wait after a failure, doubling between
CURSOR_S = 1.0  # between two saves of the cursor
LOOPBACK = {"localhost", "127.0.0.1", "::1"}  # bodies go there as they are: packing costs more than it saves
REJECTED_BYTES = 64 << 20  # greatest size of the file of rejected lines

_FORMS = "http://HOST:8086?org=ORG&bucket=BUCKET (v2) or http://HOST:8086?db=NAME (1.x)"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to write. Secrets are kept out of `repr`."""

    scheme: str  # "http" | "https"
    host: str
    port: int
    path: str  # in front of /write or /api/v2/write, "" at most servers
    version: int  # 1 | 2
    bucket: str  # or database
    org: str = ""
    retention: str = ""  # retention policy of 1.x, "" = the default one
    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def base(self) -> str:
        """URL without API path, query and secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def name(self) -> str:
        """Names the destination in messages and in the cursor; no secrets."""
        query = {"org": self.org, "bucket": self.bucket} if self.version == 2 else {"db": self.bucket}
        return f"{self.base}?{urlencode({k: v for k, v in query.items() if v})}"


def parse_url(url: str, environ: Mapping[str, str] = os.environ) -> Target:
    """Target of `--influx URL`; `bucket` makes it v2, `db` 1.x. The API path may be given or left out.

    Raises ValueError that names the URL and the two forms.

    >>> parse_url("http://localhost:8086?db=plant", {}).name
    'http://localhost:8086?db=plant'
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 8086)
    except ValueError as error:
        raise ValueError(f"--influx {url}: {error}; write {_FORMS}") from error
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    shown = url.replace(f"{parts.password}@", "...@") if parts.password else url
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"--influx {shown}: not a web address; write {_FORMS}")
    if ("bucket" in query) == ("db" in query):
        raise ValueError(f"--influx {shown}: name either a bucket or a database: {_FORMS}")
    path = parts.path.rstrip("/")
    common = {"scheme": parts.scheme, "host": parts.hostname}
    if "bucket" in query:
        path = path.removesuffix("/write").removesuffix("/api/v2")
        token = environ.get("INFLUXDB_TOKEN", "")
        return Target(
            **common,
            port=port,
            path=path,
            version=2,
            bucket=query["bucket"],
            org=query.get("org", ""),
            token=token,
        )
    return Target(
        **common,
        port=port,
        path=path.removesuffix("/write"),
        version=1,
        bucket=query["db"],
        retention=query.get("rp", ""),
        user=unquote(parts.username or "") or query.get("u", "") or environ.get("INFLUXDB_USER", ""),
        password=unquote(parts.password or "") or query.get("p", "") or environ.get("INFLUXDB_PASSWORD", ""),
    )


class RefusedError(Exception):
    """The server refuses these lines and would refuse them again."""


class UnavailableError(Exception):
    """The server cannot take lines now; `wait_s` is how long it asked to wait, 0 if it did not."""

    def __init__(self, text: str, wait_s: float = 0.0, *, slow: bool = False) -> None:
        super().__init__(text)
        self.wait_s = wait_s
        self.slow = slow  # it did not answer in time


class Writer(Protocol):
    """One way to write lines. Raises RefusedError or UnavailableError."""

    def write(self, lines: bytes) -> None: ...

    def close(self) -> None: ...


_HINTS = {
    401: "set INFLUXDB_TOKEN, or INFLUXDB_USER and INFLUXDB_PASSWORD",
    403: "give the token or user the right to write there",
    404: "create the bucket or database, or mend the name",
}


def _judge(
    target: Target, status: int, body: str, retry_after: str | None
) -> RefusedError | UnavailableError:
    """Judge an answer that is not 2xx."""
    text = body
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(body)
        text = answer.get("error") or answer.get("message") or body
    text = " ".join(text.split())[:300]
    if status in {400, 413, 422}:
        return RefusedError(f"{status} {text}")
    hint = f"; {_HINTS[status]}" if status in _HINTS else ""
    wait = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    if status in _HINTS:
        wait = BACKOFF_S[1] / 3  # a person must act: ask seldom
    return UnavailableError(f"{target.name} answers {status} {text}{hint}", wait)


def _packs(target: Target) -> bool:
    return target.host not in LOOPBACK


class V1Writer:
    """`/write` of InfluxDB 1.x over one kept connection; makes the database where it is missing and may."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: http.client.HTTPConnection | None = None
        query = {"db": target.bucket, "precision": "ns", "rp": target.retention}
        self._path = f"{target.path}/write?{urlencode({key: value for key, value in query.items() if value})}"
        self._headers = {"Content-Type": "text/plain; charset=utf-8"}
        self._packs = _packs(target)
        if self._packs:
            self._headers["Content-Encoding"] = "gzip"
        if target.user:
            secret = base64.b64encode(f"{target.user}:{target.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {secret}"

    def write(self, lines: bytes) -> None:
        status, text, retry_after = self._post(self._path, lines)
        if status == 404 and "database not found" in text:
            database = self._target.bucket.replace("\\", "\\\\").replace('"', '\\"')
            create = quote(f'CREATE DATABASE "{database}"')
            self._post(f"{self._target.path}/query?q={create}", b"")
            status, text, retry_after = self._post(self._path, lines)
        if not 200 <= status < 300:
            raise _judge(self._target, status, text, retry_after)

    def _post(self, path: str, lines: bytes) -> tuple[int, str, str | None]:
        target = self._target
        body = gzip.compress(lines, 1, mtime=0) if self._packs else lines
        if self._connection is None:
            kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(target.host, target.port, timeout=TIMEOUT_S)
        try:
            self._connection.request("POST", path, body, self._headers)
            answer = self._connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            self.close()
            slow = isinstance(error, TimeoutError)
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnavailableError(f"no answer from {target.name}: {reason}", slow=slow) from error
        return answer.status, text, answer.headers.get("Retry-After")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class V2Writer:
    """`/api/v2/write` through influxdb-client, imported only here: in the thread that forwards."""

    def __init__(self, target: Target) -> None:
        from influxdb_client.client.influxdb_client import InfluxDBClient
        from influxdb_client.client.write_api import SYNCHRONOUS
        from influxdb_client.domain.write_precision import WritePrecision

        self._target = target
        self._precision: Any = WritePrecision.NS
        self._client: Any = InfluxDBClient(
            url=target.base,
            token=target.token,
            org=target.org,
            enable_gzip=_packs(target),
            timeout=int(TIMEOUT_S * 1000),
        )
        self._api = self._client.write_api(write_options=SYNCHRONOUS)

    def write(self, lines: bytes) -> None:
        from influxdb_client.rest import ApiException
        from urllib3.exceptions import HTTPError
        from urllib3.exceptions import TimeoutError as SlowError

        try:
            self._api.write(
                bucket=self._target.bucket,
                org=self._target.org,
                record=lines,
                write_precision=self._precision,
            )
        except ApiException as error:
            body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body)
            wait = error.headers.get("Retry-After") if error.headers else None
            raise _judge(self._target, int(error.status or 0), body, wait) from error
        except (HTTPError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            slow = isinstance(error, SlowError)
            raise UnavailableError(f"no answer from {self._target.name}: {reason}", slow=slow) from error

    def close(self) -> None:
        self._client.close()


class ForwardStats(NamedTuple):
    """Points of the log: confirmed by the server in this run, still to send, given up in this run."""

    written: int
    pending: int
    lost: int


class Forwarder:
    """One thread that sends a log from its cursor on; only what is durable on disk is sent.

    A log that was recorded for another server, or for none, is sent from its oldest point.
    Lines that the server refuses are put aside in ``rejected.lp`` and count as lost.
    """

    def __init__(self, wal: Wal, target: Target) -> None:
        self.target = target
        self.warning = ""  # what is wrong with the server now, "" if nothing
        self._wal = wal
        saved = load_cursor(wal.folder)
        if saved is None or saved.destination != target.name or saved.at > wal.at:
            saved = Cursor(target.name, wal.first_at, wal.first_at)
        self._cursor = self._saved = saved
        self._written = 0
        self._lost = 0
        self._batch_bytes = BATCH_BYTES
        self._news = threading.Event()
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    @property
    def stats(self) -> ForwardStats:
        """Where the points of the log are; those deleted before they were sent are lost."""
        at, expired = self._cursor.at, max(0, self._wal.first_at - self._cursor.at)
        return ForwardStats(self._written, max(0, self._wal.synced_at - at - expired), self._lost + expired)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def notify(self) -> None:
        """Tell that the log has grown."""
        self._news.set()

    def close(self, timeout: float) -> None:
        """Send what is left, for at most `timeout` s, save the cursor and stop."""
        self._deadline = time.monotonic() + timeout
        self._stop.set()
        self._news.set()
        self._thread.join(timeout + 1.0)

    def _run(self) -> None:
        writer: Writer | None = None
        pause, longest = BACKOFF_S
        while not self._done():
            try:
                if writer is None:
                    writer = V2Writer(self.target) if self.target.version == 2 else V1Writer(self.target)
                more = self._step(writer)
                pause = BACKOFF_S[0]
                if not more and not self._stop.is_set():
                    self._save(force=True)
                    self._news.wait()
                    self._news.clear()
                    self._stop.wait(INTERVAL_S)
            except UnavailableError as error:
                self.warning = f"{error}. Points wait on disk"
                if error.slow:
                    self._batch_bytes = max(LEAST_BATCH_BYTES, self._batch_bytes // 2)
                self._wait(max(pause, min(error.wait_s, longest)))
                pause = min(longest, 2 * pause)
            except OSError as error:
                self.warning = f"cannot read or write in {self._wal.folder}: {error.strerror}"
                self._wait(pause)
        with contextlib.suppress(OSError):
            self._save(force=True)
        if writer is not None:
            writer.close()

    def _done(self) -> bool:
        return self._stop.is_set() and (
            self._cursor.at >= self._wal.synced_at or time.monotonic() >= self._deadline
        )

    def _wait(self, seconds: float) -> None:
        """Sleep; while closing, ask more often."""
        if self._stop.wait(seconds):
            time.sleep(min(BACKOFF_S[0], max(0.0, self._deadline - time.monotonic())))

    def _step(self, writer: Writer) -> bool:
        """Send the next blocks of one segment in one request; True if more is waiting."""
        lines, points, end = self._next()
        if lines:
            refused = self._send(writer, lines)
            self._written += points - refused
            self._lost += refused
            self._batch_bytes = min(BATCH_BYTES, 2 * self._batch_bytes)
            self.warning = (
                f"{self.target.name} refused {self._lost} points, see rejected.lp" if refused else ""
            )
        if end is not None:
            self._lost += end.at - self._cursor.at - points  # holes: damaged, or deleted by retention
            self._cursor = end
            self._save()
        return end is not None and end.at < self._wal.synced_at

    def _next(self) -> tuple[bytes, int, Cursor | None]:
        """Lines to send next, their number, and the cursor behind them (None if there are none)."""
        cursor, goal = self._cursor, self._wal.synced_at
        if cursor.at >= goal:
            return b"", 0, None
        begins = segments(self._wal.folder)
        begin = max((b for b in begins if b <= cursor.at), default=begins[0])
        offset = cursor.offset if begin == cursor.segment else 0
        data = _read(segment_path(self._wal.folder, begin), offset, 2 * self._batch_bytes)
        parts: list[bytes] = []
        points, size, at, end = 0, 0, cursor.at, offset
        for block in unpack(data, 0, offset):
            if block.at + block.points > goal or (parts and size + len(block.lines) > self._batch_bytes):
                break
            end = block.end
            if block.at >= cursor.at:
                parts.append(block.lines)
                points += block.points
                size += len(block.lines)
                at = block.at + block.points
        if parts:
            return b"".join(parts), points, Cursor(self.target.name, at, begin, end)
        if end > offset:  # a stretch that was sent before
            return b"", 0, Cursor(self.target.name, cursor.at, begin, end)
        following = next((b for b in begins if begin < b <= goal), None)
        if following is not None:  # the rest of this segment is damaged, or was sent
            return b"", 0, Cursor(self.target.name, max(cursor.at, following), following)
        return b"", 0, None

    def _send(self, writer: Writer, lines: bytes) -> int:
        """Send lines, halving what is refused until the bad lines stand alone; returns their number."""
        try:
            writer.write(lines)
        except RefusedError as error:
            rows = lines.splitlines(keepends=True)
            if len(rows) == 1:
                self._put_aside(lines, str(error))
                return 1
            if self._done():
                raise UnavailableError("closing") from error
            half = len(rows) // 2
            return self._send(writer, b"".join(rows[:half])) + self._send(writer, b"".join(rows[half:]))
        return 0

    def _put_aside(self, row: bytes, reason: str) -> None:
        """Keep a refused line with the reason, durable before the cursor passes it."""
        path = self._wal.folder / "rejected.lp"
        if path.exists() and path.stat().st_size > REJECTED_BYTES:
            return
        with path.open("ab") as file:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(f"# {now} {reason}\n".encode() + row)
            file.flush()
            os.fsync(file.fileno())

    def _save(self, *, force: bool = False) -> None:
        """Save the cursor, not more often than every CURSOR_S."""
        now = time.monotonic()
        if self._cursor != self._saved and (force or now >= self._next_save):
            save_cursor(self._wal.folder, self._cursor)
            self._saved, self._next_save = self._cursor, now + CURSOR_S

    _next_save = 0.0


def _read(path: Path, offset: int, size: int) -> bytes:
    """Bytes of a segment from `offset` on, at least one whole block of them, b"" if the file is gone."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
            if len(data) == size and next(unpack(data), None) is None:
                data += file.read()
            return data
    except FileNotFoundError:
        return b""
