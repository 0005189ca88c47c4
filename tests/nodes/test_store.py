from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from cellwatch.nodes.drivers import store as module
from cellwatch.nodes.drivers.line_protocol import line
from cellwatch.nodes.drivers.store import ExportStats, Recorder, RecorderSettings, Store
from cellwatch.nodes.drivers.wal import WalError, segment_path, segments

NOW = 1_700_000_000_000_000_000
SECOND = 10**9


def rows(start, count):
    return b"".join(b"tags,tag=a value=%d %d\n" % (i, NOW + i) for i in range(start, start + count))


def values(folder):
    return [point.fields["value"] for point in Store(folder).points("tags")]


def wait(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def test_written_means_durable_and_nothing_is_lost(tmp_path):
    recorder = Recorder(tmp_path)
    for i in range(50):
        recorder.append(rows(100 * i, 100), 100)
    assert sum(recorder.stats) == 5000
    assert recorder.flush()
    assert recorder.stats == ExportStats(written=5000, pending=0, lost=0)
    assert values(tmp_path) == list(range(5000))
    recorder.append(rows(5000, 1).rstrip(b"\n"))  # the number of points and the last newline may be left out
    recorder.append(b"")
    assert recorder.close() == ExportStats(5001, 0, 0)
    recorder.append(rows(0, 3), 3)
    assert recorder.stats == ExportStats(5001, 0, 3)


def test_a_second_run_counts_from_zero_and_goes_on(tmp_path):
    for run in range(2):
        recorder = Recorder(tmp_path)
        recorder.append(rows(10 * run, 10), 10)
        assert recorder.close() == ExportStats(10, 0, 0)
    assert values(tmp_path) == list(range(20))


def test_appends_from_many_threads(tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(segment_bytes=20_000))
    threads = [
        threading.Thread(target=lambda k=k: [recorder.append(rows(k * 1000 + i, 1), 1) for i in range(1000)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.close() == ExportStats(4000, 0, 0)
    assert sorted(values(tmp_path)) == list(range(4000))


def test_a_folder_in_use_is_an_error(tmp_path):
    recorder = Recorder(tmp_path)
    with pytest.raises(WalError, match="stop it or choose another folder"):
        Recorder(tmp_path)
    recorder.close()
    Recorder(tmp_path).close()


@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_survives_sigkill(tmp_path, seed):
    code = f"""
import time
from cellwatch.nodes.drivers.store import Recorder, RecorderSettings
recorder = Recorder({str(tmp_path)!r}, RecorderSettings(sync_s=0.01, segment_bytes=100_000))
print("ready", flush=True)
i = 0
while True:
    recorder.append(b"".join(b"tags,tag=a value=%d %d\\n" % (k, {NOW} + k) for k in range(i, i + 37)), 37)
    i += 37
    time.sleep(0.0005)
    if i % 10 == 0:
        print(recorder.stats.written, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "ready\n"
    # Read on another thread, or the writer would stop at a full pipe.
    acknowledged = []
    reader = threading.Thread(target=lambda: acknowledged.extend(writer.stdout))
    reader.start()
    time.sleep(0.5 + random.Random(seed).random() / 2)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    reader.join()
    confirmed = int([text for text in acknowledged if text.endswith("\n")][-1])
    assert confirmed > 0
    recorder = Recorder(tmp_path)
    recorder.close()
    found = values(tmp_path)
    assert found == list(range(len(found)))
    assert len(found) >= confirmed


def test_a_full_disk_costs_nothing_while_memory_lasts(small_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(300_000))
        recorder = Recorder(disk)
        for i in range(60):
            recorder.append(rows(100 * i, 100), 100)
            time.sleep(0.002)
        wait(lambda: recorder.warnings)
        assert "No space left on device; free space there" in recorder.warnings[0]
        full = recorder.stats
        assert full.pending > 0
        assert full.lost == 0
        assert sum(full) == 6000
        ballast.unlink()
        assert recorder.flush()
        assert recorder.warnings == ()
        assert recorder.close() == ExportStats(6000, 0, 0)
        assert values(disk) == list(range(6000))
        assert Store(disk).stats().missing == 0


def test_beyond_the_memory_the_oldest_are_lost_and_counted(small_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    with small_disk(tmp_path / "disk", "100k") as disk:
        recorder = Recorder(disk, RecorderSettings(queue_bytes=50_000))
        for i in range(60):
            recorder.append(rows(100 * i, 100), 100)
            time.sleep(0.002)
        wait(lambda: recorder.warnings)
        stats = recorder.stats
        assert stats.lost > 0
        assert sum(stats) == 6000
        last = recorder.close(timeout=0.5)
        assert last.pending == 0
        assert last.lost + last.written == 6000
        assert len(values(disk)) == last.written


def test_a_file_size_limit_is_a_full_disk_too(tmp_path):
    code = f"""
import resource, signal
from cellwatch.nodes.drivers import store
store.RETRY_S = 0.05
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
recorder = store.Recorder({str(tmp_path)!r})
for i in range(40):
    recorder.append(b"m a=1 5\\n" * 1000, 1000)
import time; time.sleep(0.5)
assert "File too large" in recorder.warnings[0], recorder.warnings
assert recorder.stats.lost == 0 and recorder.stats.pending > 0
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(tuple(recorder.close()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("(40000, 0, 0)\n", "")
    assert Store(tmp_path).count() == {"m": 40000}


def test_a_sync_that_fails_is_repeated_on_a_new_segment(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    recorder = Recorder(tmp_path)
    recorder.append(rows(0, 10), 10)
    assert recorder.flush()
    failures = iter([OSError(5, "Input/output error")])
    real = os.fsync

    def fsync(handle):
        if handle == recorder._wal._file:
            for error in failures:
                raise error
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)  # no disk here fails on command
    recorder.append(rows(10, 10), 10)
    assert recorder.flush()
    assert recorder.close() == ExportStats(20, 0, 0)
    assert segments(tmp_path) == [0, 10]
    assert values(tmp_path) == list(range(20))


def test_the_log_stays_within_its_size_and_expiry_is_no_loss_when_nothing_is_forwarded(tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(segment_bytes=10_000, max_bytes=50_000, sync_s=0.001))
    for i in range(60):
        recorder.append(rows(100 * i, 100), 100)
        recorder.flush()
    assert recorder.close() == ExportStats(6000, 0, 0)
    found = values(tmp_path)
    assert found == list(range(int(found[0]), 6000))
    assert 0 < len(found) < 2000
    assert Store(tmp_path).stats().bytes <= 60_000


@pytest.fixture
def recorded(tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(segment_bytes=2000, sync_s=0.001))
    for i in range(100):
        names = ("LIC1", "LIC10", "LIC1 x", "a,tag=LIC1")
        text = "".join(
            line("tags", {"tag": n, "plc": "p"}, {"value": float(i)}, NOW + i * SECOND) for n in names
        )
        text += line("fused", {"device": "tank"}, {"explanation": f"x ,tag=LIC1 {i}"}, NOW + i * SECOND)
        recorder.append(text.encode(), 5)
        recorder.flush()
    recorder.close()
    return Store(tmp_path)


@pytest.mark.parametrize("name", ["LIC1", "LIC10", "LIC1 x", "a,tag=LIC1"])
def test_points_by_tag(recorded, name):
    found = list(recorded.points("tags", tags={"tag": name}))
    assert [p.tags["tag"] for p in found] == [name] * 100
    assert [p.fields["value"] for p in found] == list(range(100))
    assert recorded.count(tags={"tag": name}) == {"tags": 100}


@pytest.mark.parametrize(("start", "end"), [(None, None), (10, 20), (None, 1), (99, None), (50, 50)])
def test_points_by_time(recorded, start, end):
    limits = [NOW + t * SECOND if t is not None else None for t in (start, end)]
    expected = list(range(100))[start:end]
    found = list(recorded.points("tags", *limits, {"tag": "LIC1"}))
    assert [p.fields["value"] for p in found] == expected
    assert [p.time_ns for p in found] == [NOW + i * SECOND for i in expected]
    assert recorded.count(*limits) == (
        {"fused": len(expected), "tags": 4 * len(expected)} if expected else {}
    )


def test_stats(recorded):
    stats = recorded.stats()
    assert (stats.points, stats.missing, stats.measurements) == (500, 0, {"fused": 100, "tags": 400})
    assert (stats.first_ns, stats.last_ns) == (NOW, NOW + 99 * SECOND)
    assert stats.segments > 5
    assert stats.bytes == sum(f.stat().st_size for f in recorded.folder.glob("*.lp"))


def test_a_damaged_block_shows_as_missing(recorded):
    path = segment_path(recorded.folder, segments(recorded.folder)[1])
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    assert (recorded.stats().points, recorded.stats().missing) == (495, 5)


def test_the_span_of_a_log_grows_with_it(tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(segment_bytes=50, sync_s=0.001))
    store = Store(tmp_path)
    assert store.span() == (0, 0)
    for i in (5, 9, 2, 7):  # not in the order of time
        recorder.append(rows(i, 1))
        recorder.flush()
        first, last = store.span()
        assert (first <= NOW + i, last >= NOW + i) == (True, True)
    assert store.span() == (NOW + 2, NOW + 9)
    assert [p.time_ns - NOW for p in store.points("tags", NOW + 3, NOW + 9)] == [5, 7]  # spans are known now
    recorder.close()


def test_a_store_reads_while_the_log_is_written(tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(segment_bytes=5000, max_bytes=20_000, sync_s=0.001))
    written = threading.Event()

    def write():
        for i in range(300):
            recorder.append(rows(20 * i, 20), 20)
            time.sleep(0.001)
        written.set()

    thread = threading.Thread(target=write)
    thread.start()
    reads = 0
    while not written.is_set():
        found = values(tmp_path)
        assert found == sorted(found)
        reads += 1
    thread.join()
    recorder.close()
    assert reads > 3


def test_no_recording(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no recording in .*nowhere"):
        Store(tmp_path / "nowhere")
    assert Store(tmp_path).stats().points == 0
