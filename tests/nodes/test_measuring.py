"""Work in a process of its own: its answer, its usage, its failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from cellwatch.nodes.measuring import Usage, WorkError, measured, side_by_side, watched

MB = 1_000_000


def hold(megabytes: float, seconds: float) -> int:
    with measured():
        held = np.ones(int(megabytes * MB / 8))
        time.sleep(seconds)
    return int(held.sum())


def burn(seconds: float) -> int:
    end = time.process_time() + seconds
    with measured():
        while time.process_time() < end:
            pass
    return os.getpid()


def load_first() -> None:
    held = np.ones(30_000_000)  # what is done outside costs nothing
    time.sleep(0.3)
    with measured():
        time.sleep(0.1)
    print(held.sum())


def fail_inside() -> None:
    with measured():
        raise KeyError("no such thing")


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


def test_only_the_measured_part_counts(capfd):
    _, usage = watched(load_first)
    assert usage.ram_mb < 30
    assert 0.1 <= usage.seconds < 0.3
    assert watched(threads)[1] == Usage()
    assert capfd.readouterr().out == ""  # what the work prints is no answer


def test_who_is_killed_leaves_nobody_behind():
    code = "import time; from cellwatch.nodes.measuring import watched; watched(time.sleep, 60)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 30
    while not (children := psutil.Process(parent.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    children = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert children
    assert not alive


@pytest.mark.parametrize(
    ("work", "given", "says"),
    [
        (fail, (), "KeyError: 'no such thing'"),
        (fail_inside, (), "KeyError: 'no such thing'"),
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
