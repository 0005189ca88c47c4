"""Hard cases on disk: bounded, whole or absent, there again after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from cellwatch.models.fusion.hard_cases import HardCases
from cellwatch.models.types import HardCase, Screening
from cellwatch.nodes.drivers.hard_case_store import SLOT, HardCaseStore


def case(number, features=97):
    values = np.arange(features, dtype=np.float32) + number
    values[0] = np.nan
    return HardCase(
        number, number * 10, f"PLC{number}", "schema", values, Screening.SUSPICIOUS, 0.9, 0.1, "dos"
    )


def same(a, b):
    fields = ("window_id", "end_ns", "device", "schema_id", "screening", "rules_confidence", "probability")
    return all(getattr(a, f) == getattr(b, f) for f in fields) and np.array_equal(
        a.values, b.values, equal_nan=True
    )


def test_cases_are_there_again_in_order(tmp_path):
    path = tmp_path / "deep" / "cases.bin"
    store = HardCaseStore(path, HardCases(100))
    for number in range(30):
        store.add(case(number))
    store.close()
    again = HardCaseStore(path, HardCases(100)).cases()
    assert len(again) == 30
    assert all(same(a, case(n)) for n, a in enumerate(again))


def test_the_file_is_bounded_and_keeps_the_newest(tmp_path):
    store = HardCaseStore(tmp_path / "cases", HardCases(16))
    for number in range(500):
        store.add(case(number))
    assert (tmp_path / "cases").stat().st_size == 16 * SLOT
    kept = [c.window_id for c in store.cases()]
    assert kept == sorted(kept)
    assert len(kept) == 16
    assert set(range(492, 500)) <= set(kept)


def test_opening_it_anew_changes_nothing(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    store = HardCaseStore(one, HardCases(16, seed=2))
    for number in range(200):
        store.add(case(number))
        if number % 20 == 0:
            again = HardCaseStore(two, HardCases(16, seed=2))
        again.add(case(number))
        if number % 20 == 19:
            again.close()
    again = HardCaseStore(two, HardCases(16, seed=2))
    assert [c.window_id for c in store.cases()] == [c.window_id for c in again.cases()]


def test_a_damaged_slot_is_empty_and_the_others_are_not(tmp_path):
    path = tmp_path / "cases"
    store = HardCaseStore(path, HardCases(20))
    for number in range(5):
        store.add(case(number))
    store.close()
    data = bytearray(path.read_bytes())
    data[2 * SLOT + 100] ^= 1
    path.write_bytes(bytes(data[: 4 * SLOT + 500]))  # and the last one torn
    again = HardCaseStore(path, HardCases(20))
    assert [c.window_id for c in again.cases()] == [0, 1, 3]
    again.add(case(77))
    assert [c.window_id for c in again.cases()] == [0, 1, 3, 77]


def test_a_killed_writer_leaves_whole_cases(tmp_path):
    path = tmp_path / "cases"
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from cellwatch.models.fusion.hard_cases import HardCases\n"
        "from cellwatch.models.types import HardCase, Screening\n"
        "from cellwatch.nodes.drivers.hard_case_store import HardCaseStore\n"
        f"store = HardCaseStore(Path({str(path)!r}), HardCases(8))\n"
        "n = 0\n"
        "while True:\n"
        "    store.add(HardCase(n, n, 'd', 's', np.full(97, n, np.float32), Screening.ALLOW, 0, 1, 'x'))\n"
        "    n += 1\n"
        "    if n == 50: print('going', flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout.readline().strip() == b"going"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = HardCaseStore(path, HardCases(8)).cases()
    assert len(kept) >= 7  # at most the one being written is lost
    assert all((c.values == c.window_id).all() for c in kept)


def test_a_case_too_large_for_a_slot_is_refused(tmp_path):
    store = HardCaseStore(tmp_path / "cases", HardCases(8))
    with pytest.raises(ValueError, match="does not fit"):
        store.add(case(1, features=5000))
    assert store.cases() == []
