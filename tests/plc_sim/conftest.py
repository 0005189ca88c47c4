"""A live plant process for the tests."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time

import pytest
from asyncua import Client


class Plant:
    """A live process whose events are collected."""

    def __init__(self, *args, env=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cellwatch.plc_sim", *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            text=True,
        )
        self.events = queue.Queue()
        self.seen = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.ready = self.wait("ready")

    def _read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def wait(self, event, timeout=15.0):
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                got = self.events.get(timeout=left)
                self.seen.append(got)
                if got["event"] == event:
                    return got
        raise AssertionError(f"no {event} in {timeout} s; seen {self.seen}")

    def start(self):
        self.process.stdin.write("start\n")
        self.process.stdin.flush()
        return self.wait("started")

    def stop(self):
        """End of file on stdin: exit code and what it said on stderr."""
        self.process.stdin.close()
        err = self.process.stderr.read()
        self.reader.join(10)
        return self.process.wait(10), err

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.reader.join(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    @staticmethod
    @contextlib.asynccontextmanager
    async def connected(plant, plc="PLC1"):
        """A client, and a function that finds the node of a tag."""
        async with Client(plant.ready["endpoints"][plc]) as client:
            ns = await client.get_namespace_index("urn:cellwatch:plc_sim")

            async def tag(name):
                return await client.nodes.objects.get_child([f"{ns}:{plc}", f"{ns}:{name}"])

            yield client, tag


@pytest.fixture(scope="session")
def live_plant():
    """The class `Plant`: start one with the options of `python -m cellwatch.plc_sim`."""
    return Plant
