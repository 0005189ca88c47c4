"""Windows and labels on disk: nothing that was handed over is lost, and nothing damaged is read."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cellwatch.nodes.drivers.sample_store import SampleStore, read

HEADER = 40  # bytes


def filled(folder, n=5, **more):
    store = SampleStore(folder, **more)
    for k in range(n):
        store.append_window(k, 10 * k, b"window %d" % k)
    return store


def test_what_was_written_is_read_in_its_order(tmp_path):
    store = filled(tmp_path)
    store.append_labels(45, b"labels")
    found = read(tmp_path)  # while it is open
    assert found.windows == [b"window %d" % k for k in range(5)]
    assert (found.labels, found.damaged) == ([b"labels"], 0)
    assert (store.windows, store.labels, store.lost, store.warning) == (5, 1, 0, "")


def test_a_stretch_of_time_has_both_its_ends(tmp_path):
    filled(tmp_path).append_labels(99, b"late labels")
    found = read(tmp_path, 10, 30)
    assert found.windows == [b"window 1", b"window 2", b"window 3"]
    assert found.labels == [b"late labels"]  # they speak of windows before


def test_it_goes_on_where_it_was(tmp_path):
    filled(tmp_path).close()
    again = SampleStore(tmp_path)
    again.append_window(9, 90, b"window 9")
    assert len(read(tmp_path).windows) == 6
    assert again.torn_bytes == 0


def test_a_torn_tail_is_cut_off(tmp_path):
    filled(tmp_path).close()
    (segment,) = tmp_path.glob("*.samples")
    os.truncate(segment, segment.stat().st_size - 3)
    assert read(tmp_path).damaged == 1
    again = SampleStore(tmp_path)
    assert again.torn_bytes == HEADER + len(b"window 4") - 3
    again.append_window(9, 90, b"window 9")
    found = read(tmp_path)
    assert found.windows == [*(b"window %d" % k for k in range(4)), b"window 9"]
    assert found.damaged == 0


@pytest.mark.parametrize("at", [5, HEADER + 2])  # in a header, in what it heads
def test_a_rotten_record_is_passed_over_and_counted(tmp_path, at):
    filled(tmp_path).close()
    (segment,) = tmp_path.glob("*.samples")
    content = bytearray(segment.read_bytes())
    content[2 * (HEADER + 8) + at] ^= 0xFF
    segment.write_bytes(content)
    found = read(tmp_path)
    assert found.windows == [b"window 0", b"window 1", b"window 3", b"window 4"]
    assert found.damaged == 1


def test_the_oldest_segments_go(tmp_path):
    store = filled(tmp_path, 100, max_bytes=2000, segment_bytes=500)
    store.append_window(100, 1000, b"x" * 400)
    kept = read(tmp_path).windows
    assert sum(p.stat().st_size for p in tmp_path.glob("*.samples")) <= 2000
    assert kept[-1] == b"x" * 400
    assert kept[:-1] == [b"window %d" % k for k in range(100 - len(kept) + 1, 100)]
    assert len(kept) > 15


def test_a_full_disk_is_counted_and_said(tmp_path, monkeypatch):
    store = filled(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    store.append_window(5, 50, b"window 5")
    assert (store.windows, store.lost) == (5, 1)
    assert "No space left" in store.warning
    monkeypatch.undo()
    store.append_window(6, 60, b"window 6")
    assert store.warning == ""
    found = read(tmp_path)
    assert (found.windows[-1], found.damaged) == (b"window 6", 0)


def test_half_a_write_is_gone_on_with(tmp_path, monkeypatch):
    store = filled(tmp_path)
    whole = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda file, parts, at: whole(file, [parts[0][:7]], at))
    store.append_window(5, 50, b"window 5")
    assert read(tmp_path).windows[-1] == b"window 5"


def test_two_writers_are_one_too_many(tmp_path):
    store = SampleStore(tmp_path)
    with pytest.raises(OSError, match="another process"):
        SampleStore(tmp_path)
    store.close()
    SampleStore(tmp_path)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no store of samples"):
        read(tmp_path / "none")


WRITER = """
import sys
from cellwatch.nodes.drivers.sample_store import SampleStore
store = SampleStore(sys.argv[1], segment_bytes=2000)
for k in range(10**9):
    store.append_window(k, k, b"%d" % k)
    print(k, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_wrote(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    while writer.stdout.readline() != b"300\n":
        assert writer.poll() is None
    time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    said = [300, *map(int, writer.stdout.read().split(b"\n")[:-1])]
    writer.wait()
    writer.stdout.close()
    SampleStore(tmp_path).close()
    found = [int(window) for window in read(tmp_path).windows]
    assert found == list(range(len(found)))
    assert len(found) > said[-1]
