"""What a recorder missed between two of its lives is counted, never too low."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cellwatch.nodes.drivers.store import Recorder
from cellwatch.nodes.heard import Heard


def life(folder, *numbers):
    """Batches that were missed in the life of a recorder that hears these of one PLC."""
    recorder = Recorder(folder)
    heard = Heard(recorder)
    for number in numbers:
        heard.take("plc1", number)
        recorder.append(b"tags value=%d %d\n" % (number, number), 1)
    assert recorder.flush()
    heard.note()
    heard.note()
    recorder.close()
    return heard.missed


def test_what_came_while_nobody_recorded_is_missed(tmp_path):
    assert life(tmp_path, 1, 2, 5) == 2
    assert life(tmp_path, 6, 7) == 0
    assert life(tmp_path, 10) == 2
    assert life(tmp_path, 1, 2) == 0  # the link began anew


def test_only_what_is_on_disk_is_noted(tmp_path):
    recorder = Recorder(tmp_path)
    heard = Heard(recorder)
    heard.take("plc1", 1)
    heard.note()
    assert not (tmp_path / "heard.json").exists()
    heard.take("plc1", 2)
    recorder.append(b"tags value=2 2\n", 1)
    heard.note()  # of batch 1, which had no points
    assert Heard(recorder).take("plc1", 4) == 2
    assert recorder.flush()
    heard.note()
    assert Heard(recorder).take("plc1", 4) == 1
    recorder.close()


def test_a_kill_costs_no_count(tmp_path):
    code = f"""
import os, signal
from cellwatch.nodes.drivers.store import Recorder
from cellwatch.nodes.heard import Heard
recorder = Recorder({str(tmp_path)!r})
heard = Heard(recorder)
for number in range(1, 101):
    heard.take("plc1", number)
    recorder.append(b"tags value=1 %d\\n" % number, 1)
    if number == 90:
        recorder.flush(); heard.note(); heard.note()
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    on_disk = Recorder(tmp_path)
    recorded = on_disk._wal.at
    on_disk.close()
    assert life(tmp_path, 151) >= 150 - recorded
    assert 90 <= recorded <= 100


@pytest.mark.parametrize("note", ["", "[]", '{"plc1": "x"}', "\x00"])
def test_a_note_that_cannot_be_read_counts_for_nothing(tmp_path, note):
    (tmp_path / "heard.json").write_text(note)
    assert life(tmp_path, 7) == 0
