"""The black box: what is in memory, what comes to the disk, and what is left after a crash or a full disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType

from cellwatch.nodes.drivers import black_box as module
from cellwatch.nodes.drivers import mcap_recording
from cellwatch.nodes.drivers.black_box import BlackBox, BoxSettings
from cellwatch.nodes.drivers.mcap_mending import mend
from cellwatch.nodes.drivers.mcap_recording import McapRecording, RecordedTopic
from cellwatch.nodes.drivers.message_ring import OVERHEAD, Heard, MessageRing
from cellwatch.nodes.drivers.recordings import RecordingError, look, recordings

S = 1_000_000_000
TOPICS = [
    RecordedTopic(f"/cell/{name}", "std_msgs/msg/String", "string data\n", "") for name in ("tags", "alarms")
]


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(module, "WRITE_S", 0.02)


def messages(path, topic="/cell/tags"):
    """Payloads of a topic, in the order of time."""
    with path.open("rb") as stream:
        return [m.data for _, channel, m in make_reader(stream).iter_messages() if channel.topic == topic]


def wait(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settle(box):
    """Until all recordings whose time is over are on the disk."""

    def done():
        box.tick()
        return not box.stats.open

    wait(done)


def heard(at_s, data=b"", channel=0, source=None):
    return Heard(channel, at_s * S, at_s * S, data, source)


def test_memory_holds_its_span():
    ring = MessageRing(60, 1 << 20)
    for at_s in (0, 30, 60, 90):
        ring.add(heard(at_s))
    assert [m.heard_ns // S for m in ring.messages()] == [30, 60, 90]
    assert (ring.bytes, ring.dropped) == (3 * OVERHEAD, 0)


def test_memory_holds_no_more_than_its_limit_and_says_what_left_early():
    ring = MessageRing(60, 2 * (100 + OVERHEAD))
    for at_s in range(5):
        ring.add(heard(at_s, bytes(100)))
    assert [m.heard_ns // S for m in ring.messages()] == [3, 4]
    assert ring.dropped == 3


def test_a_clock_that_is_set_empties_nothing():
    ring = MessageRing(60, 1 << 20)
    ring.add(Heard(0, 5000 * S, 1 * S, b"a"))
    ring.add(Heard(0, 9000 * S, 2 * S, b"b"))  # an hour later by the wall clock, a second by the other
    assert [m.data for m in ring.messages()] == [b"a", b"b"]


def test_the_last_word_of_each_source_stays():
    ring = MessageRing(10, 1 << 20)
    for at_s, source, data in ((0, "a", b"a0"), (1, "b", b"b1"), (2, "a", b"a2"), (20, "a", b"a20")):
        ring.add(heard(at_s, data, 1, source))
    found = ring.messages()
    assert [(m.data, m.log_ns // S) for m in found] == [(b"a2", 20), (b"b1", 20), (b"a20", 0)]
    assert [m.heard_ns // S for m in found] == [2, 1, 20]  # when it was really said


def test_a_recording_has_what_was_before_and_after_its_alarm(tmp_path):
    box = BlackBox(tmp_path, TOPICS, BoxSettings(after_s=0.1))
    box.hear(0, b"long before")
    box.hear(0, b"before")
    box.alarm({"alarm": "PLC1/dos", "message": "a flood"})
    box.hear(0, b"after")
    time.sleep(0.15)
    box.tick()
    box.hear(0, b"too late")
    settle(box)
    (found,), wrong = recordings(tmp_path)
    assert messages(found.path) == [b"long before", b"before", b"after"]
    assert found.alarms == ({"alarm": "PLC1/dos", "message": "a flood"},)
    assert found.topics == {"/cell/tags": ("std_msgs/msg/String", 3)}
    assert (wrong, box.close()) == ([], (1, 0, 0, 0))
    assert sorted(p.name for p in tmp_path.iterdir()) == [found.path.name, "lock"]


def test_alarms_close_together_share_a_recording(tmp_path):
    box = BlackBox(tmp_path, TOPICS, BoxSettings(after_s=0.1))
    box.alarm({"alarm": "a"})
    time.sleep(0.07)
    box.alarm({"alarm": "b"})
    time.sleep(0.07)
    box.tick()  # the first alone would be over
    box.hear(0, b"after the second")
    box.close()
    (found,), _ = recordings(tmp_path)
    assert [note["alarm"] for note in found.alarms] == ["a", "b"]
    assert messages(found.path) == [b"after the second"]


def test_a_later_alarm_has_its_own_with_all_that_was_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "JOIN_S", 0.05)
    box = BlackBox(tmp_path, TOPICS)
    box.hear(0, b"1")
    box.alarm({"alarm": "a"})
    box.hear(0, b"2")
    time.sleep(0.06)
    box.alarm({"alarm": "b"})  # the first goes on, for its minute is not over
    box.hear(0, b"3")
    assert box.close().recordings == 2
    first, second = recordings(tmp_path)[0]
    assert messages(first.path) == messages(second.path) == [b"1", b"2", b"3"]
    assert [first.alarms, second.alarms] == [({"alarm": "a"},), ({"alarm": "b"},)]


def test_an_alarm_after_the_end_of_a_recording_begins_another(tmp_path):
    box = BlackBox(tmp_path, TOPICS, BoxSettings(after_s=0.0))
    box.hear(0, b"1")
    for name in "ab":
        box.alarm({"alarm": name})
        time.sleep(0.002)
        box.tick()
    box.close()
    assert [r.alarms for r in recordings(tmp_path)[0]] == [({"alarm": "a"},), ({"alarm": "b"},)]


def test_the_oldest_recordings_go(tmp_path):
    noise = random.Random(0)
    box = BlackBox(tmp_path, TOPICS, BoxSettings(before_s=0, after_s=0.0, max_bytes=40_000))
    for k in range(12):
        box.hear(0, noise.randbytes(4000))
        box.alarm({"alarm": str(k)})
        time.sleep(0.002)
        settle(box)
    assert box.close().lost == 0
    found = [r.alarms[0]["alarm"] for r in recordings(tmp_path)[0]]
    assert found == [str(k) for k in range(12 - len(found), 12)]
    assert 4 <= len(found) <= 7  # 30 kB of recordings of some 5 kB


def test_a_recording_has_its_limit_too(tmp_path):
    noise = random.Random(0)
    box = BlackBox(tmp_path, TOPICS, BoxSettings(max_bytes=80_000))
    box.alarm({"alarm": "a"})
    for _ in range(30):
        box.hear(0, noise.randbytes(1000))
        time.sleep(0.03)  # it learns what is full when it comes to the disk
    stats = box.close()
    (found,), _ = recordings(tmp_path)
    assert 9 <= found.topics["/cell/tags"][1] < 20
    assert stats.lost == 30 - found.topics["/cell/tags"][1]


def test_what_stands_in_a_recording_is_compressed_and_has_checksums(tmp_path):
    recording = McapRecording(tmp_path / "a.mcap", TOPICS, 1 << 20)
    for k in range(100):
        recording.hear(heard(k, b"the same again"))
    recording.end()
    recording.write()
    with recording.path.open("rb") as stream:
        (chunk,) = make_reader(stream).get_summary().chunk_indexes
    assert chunk.compression == CompressionType.ZSTD.name.lower()
    content = bytearray(recording.path.read_bytes())
    content[chunk.chunk_start_offset + 60] ^= 1
    recording.path.write_bytes(content)
    with (
        pytest.raises(Exception, match=r"crc|zstd|Data corruption|decompress"),
        recording.path.open("rb") as f,
    ):
        list(make_reader(f, validate_crcs=True).iter_messages())


def test_a_second_box_is_refused(tmp_path):
    box = BlackBox(tmp_path, TOPICS)
    with pytest.raises(OSError, match="another process records there"):
        BlackBox(tmp_path, TOPICS)
    box.close()
    BlackBox(tmp_path, TOPICS).close()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.95, 0.999])
def test_what_was_cut_short_is_mended_up_to_the_cut(tmp_path, kept):
    noise = random.Random(0)
    said = [noise.randbytes(500) for _ in range(60)]
    recording = McapRecording(tmp_path / "a.mcap", TOPICS, 1 << 20)
    recording.note({"alarm": "a"})
    for k, data in enumerate(said):
        recording.hear(heard(k, data))
        if k % 10 == 9:
            recording.write()
    recording.end()
    recording.write()
    part = tmp_path / "a.part"
    content = recording.path.read_bytes()
    part.write_bytes(content[: int(kept * len(content))])
    recording.path.unlink()
    assert mend(part) == (kept > 0)
    assert not part.exists()
    if kept:
        found = messages(recording.path)
        assert found == said[: len(found)]
        assert len(found) >= kept * 60 - 12  # the chunk that was cut is lost, and the index takes room
        assert look(recording.path).alarms == ({"alarm": "a"},)
    assert [p.name for p in tmp_path.iterdir()] == (["a.mcap"] if kept else [])


CHILD = """
import sys, time
from pathlib import Path
from cellwatch.nodes.drivers import black_box as module
from cellwatch.nodes.drivers.mcap_recording import RecordedTopic
module.WRITE_S = 0.02
topic = RecordedTopic("/cell/tags", "std_msgs/msg/String", "string data", "")
box = module.BlackBox(Path(sys.argv[1]), [topic])
box.hear(0, b"0")
box.alarm({"alarm": "a"})
for k in range(1, 10**9):
    box.hear(0, b"%d" % k)
    time.sleep(0.001)
    print(k, flush=True)
"""


def test_a_box_that_is_killed_loses_the_last_moment_at_most(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", CHILD, tmp_path], stdout=subprocess.PIPE, text=True)
    while int(child.stdout.readline()) < 500:
        pass
    child.send_signal(signal.SIGKILL)
    child.communicate()
    (part,) = tmp_path.glob("*.part")
    box = BlackBox(tmp_path, TOPICS)
    wait(lambda: not part.exists())
    box.close()
    (found,), wrong = recordings(tmp_path)
    numbers = [int(data) for data in messages(found.path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 250  # it was written every 20 ms
    assert (found.alarms, wrong) == (({"alarm": "a"},), [])


def test_a_full_disk_costs_nothing_while_memory_lasts(tmp_path):
    code = f"""
import random, resource, time
from pathlib import Path
from cellwatch.nodes.drivers import black_box as module
from cellwatch.nodes.drivers.mcap_recording import RecordedTopic
module.WRITE_S = 0.02
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
topic = RecordedTopic("/cell/tags", "std_msgs/msg/String", "string data", "")
box = module.BlackBox(Path({str(tmp_path)!r}), [topic])
box.alarm({{"alarm": "a"}})
noise = random.Random(0)
for _ in range(20):
    box.hear(0, noise.randbytes(10_000))
    time.sleep(0.01)
time.sleep(0.1)
print(box.warning)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(tuple(box.close()), box.warning)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    first, last = done.stdout.splitlines()
    assert first == f"recordings cannot be written to {tmp_path}: File too large; free space there"
    assert (last, done.stderr) == ("(1, 0, 0, 0) ", "")
    (found,), _ = recordings(tmp_path)
    noise = random.Random(0)
    assert messages(found.path) == [noise.randbytes(10_000) for _ in range(20)]


def test_beyond_the_memory_what_is_lost_is_counted(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    box = BlackBox(tmp_path, TOPICS, BoxSettings(memory_bytes=5000))
    box.hear(0, b"0" * 1000)
    box.alarm({"alarm": "a"})
    wait(lambda: list(tmp_path.glob("*.part")))
    monkeypatch.setattr(mcap_recording.os, "pwrite", full)
    for _ in range(50):
        box.hear(0, os.urandom(1000))
    wait(lambda: box.warning)
    assert 35 <= box.stats.lost < 45  # twice the memory held some ten of them
    monkeypatch.undo()
    stats = box.close()
    (found,), _ = recordings(tmp_path)
    assert found.topics["/cell/tags"][1] == 51 - stats.lost


def test_a_disk_that_stays_full_costs_what_it_did_not_take_and_no_more(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    box = BlackBox(tmp_path, TOPICS)
    box.hear(0, b"0")
    box.alarm({"alarm": "a"})
    recording = box._open[0].recording
    wait(lambda: recording._taken == recording._given and not recording._packed)  # the first is on the disk
    with monkeypatch.context() as patch:
        patch.setattr(mcap_recording.os, "pwrite", full)
        for k in range(1, 8):
            box.hear(0, b"%d" % k)
            time.sleep(0.03)
        assert box.close(timeout=0.2) == (0, 1, 7, 0)
    BlackBox(tmp_path, TOPICS).close()  # mends what is there
    (found,), _ = recordings(tmp_path)
    assert messages(found.path) == [b"0"]


def test_files_that_are_none_are_named(tmp_path):
    (tmp_path / "a.mcap").write_bytes(b"no recording at all")
    (tmp_path / "b.mcap").write_bytes(b"")
    found, wrong = recordings(tmp_path)
    assert found == []
    assert [text.partition(": ")[0] for text in wrong] == [str(tmp_path / "a.mcap"), str(tmp_path / "b.mcap")]
    with pytest.raises(RecordingError, match=r"a\.mcap: not a whole MCAP file"):
        look(tmp_path / "a.mcap")
