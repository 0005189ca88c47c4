"""The simulated or replayed plant as a process of its own, spoken to in lines of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from cellwatch.models.types import Incident

OPEN_END_NS = 2**63 - 1  # what the plant says of an end that it does not know


class PlantError(RuntimeError):
    """The plant did not start; the text is its own last word."""


@dataclass
class Plant:
    """Handle on `python -m cellwatch.plc_sim`."""

    arguments: list[str]
    incidents: list[Incident] | None = None
    labels: deque[Incident] = field(default_factory=deque)  # ground truth that is new or has changed
    safe_state_ns: int | None = None
    ended: bool = False
    writes: int = 0
    _said_ready: dict[str, Any] = field(default_factory=dict)
    _lines: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)

    def start(self) -> None:
        env = os.environ | {"CELLWATCH_PARENT": str(os.getpid())}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cellwatch.plc_sim", *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=env,
        )
        self._errors: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self._lines.put(json.loads(line))
            except json.JSONDecodeError:
                self._errors.append(line.strip())

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors = [*self._errors[-20:], line.rstrip()]

    def ready(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """The ready message. PlantError if it exits or stays silent."""
        if self._said_ready:
            return self._said_ready
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                event = self._lines.get(timeout=0.05)
            except queue.Empty:
                if self.process.poll() is not None:
                    time.sleep(0.1)  # let the reader finish
                    raise PlantError(self._errors[-1] if self._errors else "the plant exited") from None
                continue
            if event.get("event") == "ready":
                self._said_ready = event
                return event
            self._take(event)
        raise PlantError(f"the plant was not ready within {timeout_s:.0f} s")

    def begin(self) -> None:
        """Scenario time zero."""
        self._say("start\n")

    def poll(self) -> None:
        """Take in what the plant has said."""
        while True:
            try:
                self._take(self._lines.get_nowait())
            except queue.Empty:
                return

    def stop(self) -> None:
        """End it: by closing its input, then by SIGTERM, then by SIGKILL."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        for end in (None, self.process.terminate, self.process.kill):
            if end is not None:
                end()
            try:
                self.process.wait(timeout=3.0)
                break
            except subprocess.TimeoutExpired:
                continue
        self.poll()

    @property
    def died(self) -> str:
        """Its last words if it ended without being asked, else ""."""
        if self.process.poll() is None or self.ended:
            return ""
        return self._errors[-1] if self._errors else f"exit code {self.process.returncode}"

    def _say(self, text: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(text)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise PlantError(self.died or "the plant is gone") from None

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "incident":
            found = _incident(event)
            others = [i for i in self.incidents or [] if i.name != found.name]
            self.incidents = sorted([*others, found], key=lambda i: i.onset_ns)
            self.labels.append(found)
        elif kind == "incident_end":
            # Open to the end of the run, which nobody knows yet, is no news.
            self.labels.extend(
                replace(i, end_ns=int(event["end_ns"]))
                for i in self.incidents or []
                if i.name == event["name"] and event["end_ns"] < OPEN_END_NS
            )
        elif kind == "safe_state":
            self.safe_state_ns = self.safe_state_ns or int(event["at_ns"])
        elif kind == "write":
            self.writes += 1
        elif kind == "end":
            self.ended = True


def _incident(event: dict[str, Any]) -> Incident:
    return Incident(
        event["name"],
        event["kind"],
        event["category"],
        event["type"],
        event["device"],
        int(event["onset_ns"]),
        int(event["end_ns"]),
        tuple(event.get("devices", ())),
        event.get("attack_id"),
    )
