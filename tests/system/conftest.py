"""A whole cell as a subprocess: real nodes, real DDS, a real OPC UA server, real packets through a FIFO."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Finished:
    """What a run left."""

    code: int
    out: str
    err: str
    report: dict | None
    home: Path


class Cellwatch:
    """The `cellwatch` command with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def start(self, *args: str) -> subprocess.Popen:
        env = os.environ | {"CELLWATCH_HOME": str(self.home), "COLUMNS": "200"}
        return subprocess.Popen(
            [sys.executable, "-m", "cellwatch.nodes.cli", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )

    def run(self, *args: str, meanwhile=None, timeout: float = 240) -> Finished:
        process = self.start(*args)
        try:
            if meanwhile is not None:
                meanwhile(process)
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            raise
        report = json.loads(out) if "--json" in args and process.returncode == 0 else None
        return Finished(process.returncode, out, err, report, self.home)

    def node_pid(self, name: str, timeout: float = 60) -> int:
        """Process id of one node of the running cell."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for entry in Path("/proc").iterdir():
                if not entry.name.isdigit():
                    continue
                try:
                    command = (entry / "cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if f"__node:={name}" in command and str(self.home) in command:
                    return int(entry.name)
            time.sleep(0.1)
        raise TimeoutError(name)


@pytest.fixture(scope="session")
def cellwatch(tmp_path_factory):
    """One home for the session, so that the packet parser is compiled once."""
    return Cellwatch(tmp_path_factory.mktemp("home"))
