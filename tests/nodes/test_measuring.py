"""Work in a process of its own: its answer, its usage, its failures."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from cellwatch.nodes.measuring import WorkError, side_by_side, watched

MB = 1_000_000


def hold(megabytes: float, seconds: float) -> int:
    held = np.ones(int(megabytes * MB / 8))
    time.sleep(seconds)
    return int(held.sum())


def burn(seconds: float) -> int:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def threads() -> str:
    return os.environ["OMP_NUM_THREADS"]


def fail() -> None:
    raise KeyError("no such thing")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def unsendable() -> object:
    return lambda: None


class Unloadable:
    def __reduce__(self):
        return (int, ("not a number",))


def test_memory_is_what_the_work_itself_took():
    value, usage = watched(hold, 200, 0.3)
    assert value == 200 * MB // 8
    assert 195 < usage.ram_mb < 260
    assert usage.seconds > 0.3


def test_a_model_before_leaves_nothing_to_the_next():
    watched(hold, 300, 0.1)
    _, usage = watched(hold, 1, 0.2)
    assert usage.ram_mb < 60


def test_load_is_the_share_of_all_cores():
    pid, busy = watched(burn, 0.5)
    _, idle = watched(hold, 1, 0.5)
    assert pid != os.getpid()
    assert idle.cpu < 0.2 * busy.cpu
    assert busy.cpu <= 1.1 / (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("work", "given", "says"),
    [
        (fail, (), "KeyError: 'no such thing'"),
        (die, (), "ended with code -9"),
        (unsendable, (), "cannot be sent"),
        (hold, (Unloadable(),), "invalid literal"),
    ],
)
def test_what_goes_wrong_is_said(work, given, says):
    with pytest.raises(WorkError, match=says):
        watched(work, *given)


def test_side_by_side_a_failure_stops_nothing():
    jobs = [(hold, (1, 0.0)), (fail, ()), (threads, ())]
    found = {k: (value, usage) for k, value, usage in side_by_side(jobs, workers=2)}
    assert found[0][0] == MB // 8
    assert found[1] == ("KeyError: 'no such thing'", None)
    assert found[2][0] == str(max(1, (os.cpu_count() or 1) // 2))
    assert list(side_by_side([])) == []
