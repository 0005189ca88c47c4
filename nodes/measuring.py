"""One piece of work in a process of its own, watched from outside: what it gives, and what it costs.

A process for each model, so that the memory of one is not that of another (DeepSense, section 4.6).
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil

SAMPLE_S = 0.02


class WorkError(RuntimeError):
    """The work raised an error, or its process died; the message says which."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What some work took."""

    seconds: float  # by the clock
    ram_mb: float  # most memory (1e6 bytes) of its own, beyond what libraries and data held before it began
    cpu: float  # mean share of all cores, 0..1


def watched(work: Callable[..., Any], *given: Any, threads: int = 1) -> tuple[Any, Usage]:
    """`work(*given)` in a new process with so many threads, and its usage. WorkError.

    `work` and what is given must be picklable; modules that they need are loaded before the clock starts.
    """
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    with mine:
        process = context.Process(target=_child, args=(theirs, threads), daemon=True)
        process.start()
        theirs.close()
        try:
            mine.send_bytes(pickle.dumps((work, given), protocol=5))
            done = mine.recv()  # None: everything is loaded
            usage = (0.0, 0.0) if done else _watch(mine, psutil.Process(process.pid))
            well, value, seconds = done or mine.recv()
        except (EOFError, OSError, psutil.Error):
            process.join()
            raise WorkError(f"its process ended with code {process.exitcode}") from None
        finally:
            if process.is_alive():  # no longer of use: nobody waits for its answer
                process.kill()
            process.join()
    if not well:
        raise WorkError(value)
    return value, Usage(seconds, *usage)


def side_by_side(
    jobs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], workers: int | None = None
) -> Iterator[tuple[int, Any, Usage | None]]:
    """Every job (work, given) `watched`, as many at a time as there are cores, as they end.

    Gives the place of the job, its answer and its usage; of one that failed why, and None.
    """
    cores = os.cpu_count() or 1
    count = min(workers or cores, len(jobs))

    def one(k: int) -> tuple[int, Any, Usage | None]:
        work, given = jobs[k]
        try:
            return k, *watched(work, *given, threads=max(1, cores // count))
        except WorkError as error:
            return k, str(error), None

    with ThreadPoolExecutor(max(count, 1)) as pool:
        begun = [pool.submit(one, k) for k in range(len(jobs))]
        try:
            for each in as_completed(begun):
                yield each.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _watch(news: Connection, process: psutil.Process) -> tuple[float, float]:
    """Most memory above the first sample, and mean load, until there is news."""
    before, used, begun = _memory(process), sum(process.cpu_times()[:2]), time.monotonic()
    most = before
    news.send(None)  # go
    while not news.poll(SAMPLE_S):
        most = max(most, _memory(process))
    spent, passed = sum(process.cpu_times()[:2]) - used, time.monotonic() - begun
    most = max(most, _memory(process))
    return (most - before) / 1e6, spent / passed / (os.cpu_count() or 1)


def _memory(process: psutil.Process) -> int:
    """Bytes that no other process shares."""
    return int(process.memory_full_info().uss)


def _child(parent: Connection, threads: int) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    try:
        work, given = pickle.loads(parent.recv_bytes())  # noqa: S301 - loads what they need
        parent.send(None)
        parent.recv()
        begun = time.perf_counter()
        value = work(*given)
        answer = (True, value, time.perf_counter() - begun)
    except BaseException as error:
        answer = (False, f"{type(error).__name__}: {error}", 0.0)
    try:
        parent.send(answer)
    except (ValueError, TypeError, pickle.PicklingError, AttributeError) as error:
        parent.send((False, f"its answer cannot be sent: {error}", 0.0))
