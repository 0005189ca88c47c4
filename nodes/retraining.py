"""The process that makes a candidate version of the models: `python -m cellwatch.nodes.retraining ORDER`.

ORDER is a JSON file (see `Order`), `-` stands for stdin. Each line on stdout is a JSON object::

    {"stage": "training", "step": 3, "steps": 8, "loss": null, "about": "XGB, L1"}

and the last one says what came of it: {"version", "parent", "scenario", "made", "passed", "why",
"adaptation", "before", "after"} with exit code 0, or {"error", "kind": refused | failed | cancelled} with
exit code 1. SIGTERM cancels. Nothing is in the registry before the last step, and nothing is half there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from cellwatch.nodes.retrain_order import Order, RefusedError

PATIENCE_S = 5.0  # after SIGTERM, for helpers that do not end


class Cancelled(BaseException):
    """SIGTERM."""


class Lines:
    """Says how far it has come: the last line alone is something else."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def say(self, **said: object) -> None:
        self._out.write(json.dumps(said) + "\n")
        self._out.flush()

    def __call__(
        self, stage: str, step: int = 0, steps: int = 0, loss: float | None = None, about: str = ""
    ) -> None:
        self.say(stage=stage, step=step, steps=steps, loss=loss, about=about)


def lower_priority(cores: int, *, idle: bool) -> None:
    """Take what the cell leaves of so many cores; what this process starts does so too."""
    import psutil

    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[-cores:])
    os.nice(19)
    if idle:
        with contextlib.suppress(OSError):  # not everywhere allowed
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


@contextlib.contextmanager
def _own_stdout() -> Iterator[IO[str]]:
    """stdout for this module alone: what libraries print goes to stderr."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        yield out


def _cancel(*_: object) -> None:
    if os.getpgrp() == os.getpid():  # helpers are of this group alone
        ending = threading.Timer(PATIENCE_S, os.killpg, (0, signal.SIGKILL))
        ending.daemon = True
        ending.start()
    raise Cancelled


def _made(argv: Sequence[str], lines: Lines) -> dict[str, Any]:
    """The last line, if all goes well."""
    text = sys.stdin.read() if list(argv) == ["-"] else Path(argv[0]).read_text(encoding="utf-8")
    order = Order.of(json.loads(text))
    lower_priority(order.cores, idle=order.idle)
    from cellwatch.nodes.candidate_maker import CandidateMaker  # takes seconds, at low priority

    maker = CandidateMaker(order, lines)
    candidate = maker.make()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left takes a moment
    return maker.keep(candidate)


def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, _cancel)
    with _own_stdout() as out:
        lines = Lines(out)
        try:
            if os.environ.get("CELLWATCH_PARENT"):
                from cellwatch.nodes.ros.node import die_with_parent

                die_with_parent()
            last = _made(argv, lines)
        except RefusedError as error:
            last = {"error": str(error), "kind": "refused"}
        except Cancelled:
            last = {"error": "cancelled", "kind": "cancelled"}
        except Exception as error:  # whatever it is, one line says so
            traceback.print_exc()
            last = {"error": " ".join(str(error).split()) or type(error).__name__, "kind": "failed"}
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        lines.say(**last)
    return 0 if "version" in last else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
