"""One piece of work in a process of its own, watched from outside: what it gives, and what it costs.

A process for each model, so that the memory of one is not that of another (DeepSense, section 4.6).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import psutil

SAMPLE_S = 0.02
BEGIN, END = "begin", "end"

_outside: Connection | None = None  # who watches this process


class WorkError(RuntimeError):
    """The work raised an error, or its process died; the message says which."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the part of some work inside `measured` took; zeros without such a part."""

    seconds: float = 0.0  # by the clock
    ram_mb: float = 0.0  # most memory (1e6 bytes) beyond what the process held before
    cpu: float = 0.0  # mean share of all cores, 0..1


@contextmanager
def measured() -> Iterator[None]:
    """What is done inside is what `watched` measures; in a process that nobody watches it does nothing."""
    if _outside is None:
        yield
        return
    _outside.send(BEGIN)
    _outside.recv()  # it has taken the first sample
    begun = time.perf_counter()
    yield
    _outside.send((END, time.perf_counter() - begun))


def unwatched() -> bool:
    """Whether nobody watches this process."""
    return _outside is None


def watched(
    work: Callable[..., Any],
    *given: Any,
    threads: int = 1,
    started: Callable[[SpawnProcess], None] | None = None,
) -> tuple[Any, Usage]:
    """`work(*given)` in a new process with so many threads, and what its `measured` part took. WorkError.

    `work` and what is given must be picklable. What the work prints goes to stderr. `started` is told the
    process.
    """
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    with mine:
        process = context.Process(target=_child, args=(theirs, threads), daemon=True)
        process.start()
        if started is not None:
            started(process)
        theirs.close()
        usage = Usage()
        try:
            mine.send_bytes(pickle.dumps((work, given), protocol=5))
            while (news := mine.recv()) == BEGIN:
                usage, end = _watch(mine, psutil.Process(process.pid))
                if end[0] != END:
                    news = end
                    break
            well, value = news
        except (EOFError, OSError, psutil.Error):
            process.join()
            raise WorkError(f"its process ended with code {process.exitcode}") from None
        finally:
            if process.is_alive():  # no longer of use: nobody waits for its answer
                process.kill()
            process.join()
    if not well:
        raise WorkError(value)
    return value, usage


def side_by_side(
    jobs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], workers: int | None = None
) -> Iterator[tuple[int, Any, Usage | None]]:
    """Every job (work, given) `watched`, as many at a time as there are cores, as they end.

    Gives the place of the job, its answer and its usage; of one that failed why, and None.
    """
    cores = len(os.sched_getaffinity(0))  # those that this process may use
    count = min(workers or cores, len(jobs))
    running: list[SpawnProcess] = []

    def one(k: int) -> tuple[int, Any, Usage | None]:
        work, given = jobs[k]
        try:
            return k, *watched(work, *given, threads=max(1, cores // count), started=running.append)
        except WorkError as error:
            return k, str(error), None

    with ThreadPoolExecutor(max(count, 1)) as pool:
        begun = [pool.submit(one, k) for k in range(len(jobs))]
        try:
            for each in as_completed(begun):
                yield each.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:  # of a run that was broken off
                with contextlib.suppress(ValueError):
                    process.kill()


def _watch(news: Connection, process: psutil.Process) -> tuple[Usage, Any]:
    """Samples until there is news: usage, and the news."""
    before, used, begun = _memory(process), sum(process.cpu_times()[:2]), time.monotonic()
    most, spent = before, 0.0
    news.send(None)  # go
    while True:
        ended = news.poll(SAMPLE_S)
        with contextlib.suppress(psutil.Error):  # it may be gone already
            most, spent = max(most, _memory(process)), sum(process.cpu_times()[:2]) - used
        if ended:
            break
    end = news.recv()
    passed = max(end[1] if end[0] == END else 0.0, time.monotonic() - begun - SAMPLE_S, 1e-3)
    load = min(spent / passed / (os.cpu_count() or 1), 1.0)
    return Usage(passed if end[0] != END else end[1], (most - before) / 1e6, load), end


def _memory(process: psutil.Process) -> int:
    """Bytes in memory that are no file's and shared with nobody.

    The unique set size instead walks all pages: 40 ms where a model holds 800 MB, in which it waits.
    """
    held = process.memory_info()
    return int(held.rss - held.shared)


def _child(outside: Connection, threads: int) -> None:
    global _outside  # noqa: PLW0603 - one process, one watcher
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.dup2(2, 1)  # stdout is for answers in JSON
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work, given = pickle.loads(outside.recv_bytes())  # noqa: S301
        _outside = outside
        answer = (True, work(*given))
    except BaseException as error:
        answer = (False, " ".join(f"{type(error).__name__}: {error}".split()))
    with contextlib.suppress(OSError):  # nobody waits for it any more
        try:
            outside.send(answer)
        except (ValueError, TypeError, pickle.PicklingError, AttributeError) as error:
            outside.send((False, f"its answer cannot be sent: {error}"))


def _end_with_parent() -> None:
    """A parent that is killed leaves no one computing behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
