"""The process in which a candidate version of the models is made, from outside."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellwatch.nodes.text_file import last_line

PATIENCE_S = 5.0  # after SIGTERM
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class RetrainProcess:
    """Starts and ends `retraining`. Nothing here waits.

    It dies with the thread that starts it: start it from one that lives as long as it. What it started itself
    ends with it, however it ends.
    """

    def __init__(self, order: Mapping[str, Any], log: Path) -> None:
        """`order`: see `retraining.Order`; `log` gets what is not meant for others."""
        self.order, self.log = dict(order), log
        self._popen: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled = False

    @property
    def running(self) -> bool:
        """It has begun, and not ended; when it has ended, `poll` gives all that it said."""
        return self._popen is not None and self._reader.is_alive()

    @property
    def returncode(self) -> int | None:
        """0 a candidate was made, 1 none was; negative: a signal ended it; None while it runs."""
        return None if self._popen is None or self.running else self._popen.returncode

    def start(self) -> None:
        """Begin. OSError if that cannot be."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        threads = dict.fromkeys(THREADS, str(self.order.get("cores", 1)))
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "cellwatch.nodes.retraining", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env=os.environ | threads | {"CELLWATCH_PARENT": str(os.getpid())},
                text=True,
            )
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already, and its log says why
            self._popen.stdin.write(json.dumps(self.order))
            self._popen.stdin.close()
        self._reader = threading.Thread(target=self._read, args=(self._popen,), daemon=True)
        self._reader.start()

    def poll(self) -> list[dict[str, Any]]:
        """What it has said since the last call."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._lines.get_nowait())
        return found

    def cancel(self) -> None:
        """Tell it to end; it is killed if it does not."""
        if self._popen is None or self._cancelled:
            return
        self._cancelled = True
        self._popen.terminate()
        threading.Thread(target=self._see_to_it, args=(self._popen,), daemon=True).start()

    def last_words(self) -> str:
        """Last line of its log."""
        return last_line(self.log)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                self._lines.put(json.loads(line))
        process.wait()
        _kill(process)

    @staticmethod
    def _see_to_it(process: subprocess.Popen[str]) -> None:
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """With all that it started: they are of its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
