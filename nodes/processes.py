"""The processes of a cell: started through the nursery, watched, started again when they die."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellwatch.nodes.text_file import last_line

START_TIMEOUT_S = 20.0


@dataclass
class Process:
    """One node's process."""

    name: str
    module: str
    arguments: list[str]
    log: Path
    pid: int = 0  # 0 = not running
    died_at: list[float] = field(default_factory=list)

    def last_words(self) -> str:
        """Last line of its log."""
        return last_line(self.log)


class Nursery:
    """Handle on `python -m cellwatch.nodes.nursery`."""

    def __init__(self) -> None:
        env = os.environ | {
            "CELLWATCH_PARENT": str(os.getpid()),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "cellwatch.nodes.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=env,
            text=True,
        )
        self._pids: queue.Queue[int] = queue.Queue()
        self._exits: dict[int, int] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            message: dict[str, Any] = json.loads(line)
            if "exited" in message:
                self._exits[message["pid"]] = message["exited"]
            else:
                self._pids.put(message["pid"])

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def exit_code(self, pid: int) -> int | None:
        """Exit code of a child that has ended (negative: signal), None while it runs."""
        if not self.alive:
            return -signal.SIGKILL
        return self._exits.get(pid)

    def order(self, process: Process) -> None:
        """Ask for a child; `collect` gives it its pid."""
        assert self._popen.stdin is not None
        argv = [f"cellwatch {process.name}", *process.arguments]
        self._popen.stdin.write(
            json.dumps({"module": process.module, "argv": argv, "log": str(process.log)}) + "\n"
        )
        self._popen.stdin.flush()

    def collect(self, process: Process) -> None:
        """Pid of the oldest order not yet collected. RuntimeError if none comes."""
        try:
            process.pid = self._pids.get(timeout=START_TIMEOUT_S)
        except queue.Empty:
            raise RuntimeError(f"{process.name} could not be started") from None

    def stop(self) -> None:
        """End it; its children follow."""
        if self._popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.close()
        try:
            self._popen.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


class ProcessTable:
    """All node processes. `said` hears of each one that fell; `restarted` of each one that is back."""

    def __init__(
        self, processes: list[Process], said: Callable[[str], None], restarted: Callable[[str], None]
    ) -> None:
        self.processes = processes
        self._say = said
        self._restarted = restarted
        self._nursery = Nursery()

    def order(self) -> None:
        """Ask for all of them, sources first (they take longest), and do not wait."""
        for process in reversed(self.processes):
            self._nursery.order(process)

    def collect(self) -> None:
        """Wait for their pids, in the order of `order`."""
        for process in reversed(self.processes):
            self._nursery.collect(process)

    def watch(self) -> None:
        """Notice the dead and start them anew, slower if they keep dying."""
        if not self._nursery.alive:
            self._say("the nursery of the nodes ended, starting it again with all of them")
            self._nursery.stop()
            ended, self._nursery = self._nursery, Nursery()
            for process in self.processes:
                if process.pid:
                    self._fell(process, ended.exit_code(process.pid) or 0)
        for process in self.processes:
            code = self._nursery.exit_code(process.pid) if process.pid else None
            if code is not None:
                self._fell(process, code)
            if process.pid:
                continue
            now = time.monotonic()
            recent = sum(now - t < 30 for t in process.died_at)
            if now - process.died_at[-1] >= min(0.2 * 2 ** (recent - 1) - 0.2, 10.0):
                self._nursery.order(process)
                self._nursery.collect(process)
                self._restarted(process.name)

    def _fell(self, process: Process, code: int) -> None:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._say(f"{process.name} ended ({how}), starting it again")
        process.pid = 0
        process.died_at.append(time.monotonic())

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to those that do not listen."""
        running = [p for p in self.processes if p.pid and self._nursery.exit_code(p.pid) is None]
        for process in running:
            _kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline and any(self._nursery.exit_code(p.pid) is None for p in running):
            time.sleep(0.02)
        for process in running:
            if self._nursery.exit_code(process.pid) is None:
                _kill(process.pid, signal.SIGKILL)
        self._nursery.stop()


def _kill(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
