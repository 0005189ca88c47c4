from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from cellwatch.nodes.drivers.wal import (
    Cursor,
    Wal,
    WalError,
    WalLockedError,
    load_cursor,
    pack,
    save_cursor,
    segment_path,
    segments,
    unpack,
)

NOW = 1_700_000_000_000_000_000


def rows(start, count):
    return b"".join(b"tags,tag=a value=%d %d\n" % (i, NOW + i) for i in range(start, start + count))


def read(folder):
    found = [b for begin in segments(folder) for b in unpack(segment_path(folder, begin).read_bytes())]
    return b"".join(b.lines for b in found), found


def write(folder, blocks, size=10, **settings):
    wal = Wal(folder, **settings)
    for _ in range(blocks):
        wal.append(rows(wal.at, size), size)
        wal.sync()
    wal.close()
    return wal


def test_what_was_appended_is_read_and_the_log_goes_on(tmp_path):
    write(tmp_path, 3)
    wal = write(tmp_path, 2)
    lines, blocks = read(tmp_path)
    assert lines == rows(0, 50)
    assert (wal.at, wal.synced_at, wal.torn_bytes) == (50, 50, 0)
    assert [(b.at, b.points, b.first_ns, b.last_ns) for b in blocks][1] == (10, 10, NOW + 10, NOW + 19)


def test_a_segment_is_a_line_protocol_file_with_comments(tmp_path):
    write(tmp_path, 3)
    (begin,) = segments(tmp_path)
    text = segment_path(tmp_path, begin).read_bytes()
    assert b"".join(r for r in text.splitlines(keepends=True) if not r.startswith(b"#")) == rows(0, 30)


@pytest.mark.parametrize(
    "lines", [b"m a=1 5\n", b"m a=1 -5\nm a=1 1700000000000000000\n", b"broken\nm a=1 5\n", b"broken\n"]
)
def test_the_time_span_of_any_lines(lines):
    (block,) = unpack(pack(0, lines, 1))
    times = [int(t) for t in lines.split() if t.removeprefix(b"-").isdigit()] or [0]
    assert (block.first_ns, block.last_ns, block.lines) == (min(times), max(times), lines)


def test_a_tail_torn_anywhere_is_cut_off(tmp_path):
    write(tmp_path, 3)
    path = segment_path(tmp_path, 0)
    whole = path.read_bytes()
    keep = [b.end for b in unpack(whole)][1]
    for cut in [*range(keep, len(whole), 5), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        wal = Wal(tmp_path)
        assert (wal.at, wal.torn_bytes) == (20, cut - keep)
        wal.append(rows(20, 10), 10)
        wal.close()
        assert path.read_bytes() == whole


def test_a_changed_byte_costs_its_block_only(tmp_path):
    write(tmp_path, 5)
    path = segment_path(tmp_path, 0)
    whole = bytearray(path.read_bytes())
    ends = [b.end for b in unpack(bytes(whole))]
    for place in range(ends[1], ends[2]):
        damaged = whole.copy()
        damaged[place] ^= 0x01
        assert [b.at for b in unpack(bytes(damaged))] == [0, 10, 30, 40]
    path.write_bytes(damaged)
    wal = Wal(tmp_path)
    assert (wal.at, wal.torn_bytes) == (50, 0)
    wal.close()


def test_lines_that_look_like_a_header_do_not_mislead(tmp_path):
    wal = Wal(tmp_path)
    trap = pack(0, rows(0, 1), 1).splitlines(keepends=True)[0] + b"#cellwatch \n"
    wal.append(trap + rows(0, 1), 3)
    wal.append(rows(1, 1), 1)
    wal.close()
    assert [b.at for b in read(tmp_path)[1]] == [0, 3]


def test_segments_rotate_by_size_and_by_time(tmp_path):
    write(tmp_path / "size", 6, segment_bytes=600)
    assert segments(tmp_path / "size") == [0, 20, 40, 60]
    write(tmp_path / "time", 3, segment_s=0.0)
    assert segments(tmp_path / "time") == [0, 10, 20, 30]
    assert read(tmp_path / "size")[0] == rows(0, 60)
    assert write(tmp_path / "time", 1, segment_s=0.0).at == 40  # an empty last segment is gone on with


def test_retention_deletes_the_oldest_segments(tmp_path):
    wal = Wal(tmp_path, segment_bytes=500, max_bytes=2500)
    for _ in range(12):
        wal.append(rows(wal.at, 10), 10)
        wal.sync()
    deleted = wal.retain()
    assert deleted == wal.first_at == segments(tmp_path)[0] > 0
    assert read(tmp_path)[0] == rows(deleted, 120 - deleted)
    assert sum(f.stat().st_size for f in tmp_path.glob("*.lp")) <= 2500
    assert wal.retain() == 0
    wal.close()
    assert Wal(tmp_path).at == 120


def test_blocks_since_the_last_sync_can_be_appended_again(tmp_path):
    for synced in (0, 20):
        folder = tmp_path / str(synced)
        wal = Wal(folder)
        for _ in range(synced // 10):
            wal.append(rows(wal.at, 10), 10)
        wal.sync()
        for _ in range(2):
            wal.append(b"wrong a=1 5\n" * 10, 10)
        wal.forget_unsynced()
        wal.append(rows(wal.at, 10), 10)
        wal.sync()
        wal.close()
        assert read(folder)[0] == rows(0, synced + 10)


def test_only_one_process_may_write_and_its_death_frees_the_log(tmp_path):
    code = f"""
import time
from cellwatch.nodes.drivers.wal import Wal
wal = Wal({str(tmp_path)!r})
wal.append(b"m a=1 5\\n", 1)
print("ready", flush=True)
time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(WalLockedError, match=rf"recorded into by process {other.pid}; stop it or"):
            Wal(tmp_path)
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    wal = Wal(tmp_path)
    assert wal.at == 1
    wal.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        WalError, match=r"cannot record into .*file.*: (Not a directory|File exists); free or"
    ):
        Wal(tmp_path / "file")


def test_the_cursor_is_replaced_whole_or_not_at_all(tmp_path):
    assert load_cursor(tmp_path) is None
    save_cursor(tmp_path, Cursor("http://a", 5, 0, 120))
    (tmp_path / "cursor.json.new").write_text(
        '{"destination": "http'
    )  # a crash while the next one was written
    assert load_cursor(tmp_path) == Cursor("http://a", 5, 0, 120)
    (tmp_path / "cursor.json").write_text("{")
    assert load_cursor(tmp_path) is None


def test_a_log_whose_segments_are_all_gone_goes_on_behind_the_cursor(tmp_path):
    save_cursor(tmp_path, Cursor("http://a", 70, 0, 0))
    wal = Wal(tmp_path)
    assert (wal.at, wal.first_at) == (70, 70)
    wal.close()


def test_files_are_not_inherited_by_child_processes(tmp_path):
    wal = Wal(tmp_path)
    held = [os.get_inheritable(handle) for handle in (wal._file, wal._lock)]
    assert held == [False, False]
    wal.close()
