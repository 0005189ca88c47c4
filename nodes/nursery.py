"""Starts node processes fast: it imports what all of them need once, and forks.

`python -m cellwatch.nodes.nursery` reads lines of JSON from stdin, {"module", "argv", "log"}, and answers
each with {"pid"}; when a child ends it says {"pid", "exited"}. It has one thread and opens no DDS, so a fork
is safe. Children die with it, and it dies with `cellwatch run`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
from typing import Any

# Not asyncua, nor numba (capture): one node alone needs each, and the others need not wait for its import.
PRELOAD = ("cellwatch.nodes.ros.node", "cellwatch.models.features.window")


def _child(order: dict[str, Any]) -> None:
    os.setsid()
    null, log = (
        os.open(os.devnull, os.O_RDONLY),
        os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644),
    )
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["CELLWATCH_PARENT"] = str(os.getppid())
    sys.argv = order["argv"]
    with contextlib.suppress(ImportError):
        import setproctitle

        setproctitle.setproctitle(" ".join(order["argv"]))
    importlib.import_module(order["module"]).main()


def _say(message: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say({"pid": pid, "exited": os.waitstatus_to_exitcode(status)})


def main() -> None:
    from cellwatch.nodes.ros.node import die_with_parent

    die_with_parent()
    for name in PRELOAD:
        importlib.import_module(name)
    # A pipe end wakes the loop when a child ends.
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    buffer = b""
    while True:
        readable, _, _ = select.select([0, wake], [], [])
        if wake in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
            _reap()
        if 0 not in readable:
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                code = 1
                try:
                    _child(json.loads(line))
                    code = 0
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else 1
                except BaseException:
                    import traceback

                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            _say({"pid": pid})


if __name__ == "__main__":
    main()
