"""The audit log: nothing is lost, nothing is silent."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cellwatch.models.types import Command, CommandResult, CommandStatus
from cellwatch.nodes.drivers.audit_log import AuditError, AuditLog, read

COMMAND = Command("c1", 7, "PLC1", "SP", 1.5, 1_700_000_000_000_000_000, 2.0, "fault")
RESULT = CommandResult("c1", 7, "SP", 1.5, CommandStatus.REFUSED, "why", math.nan)


def test_lines_and_times(tmp_path):
    with AuditLog(tmp_path / "deep" / "audit.jsonl") as log:
        log.command(COMMAND, armed=True, source="fusion", now_ns=1_700_000_000_123_456_789)
        log.result(RESULT, source="link")
        log.armed(True, user="anna", reason="shift start")
    command, result, armed = read(tmp_path / "deep" / "audit.jsonl")
    assert command["time"] == "2023-11-14T22:13:20.123456Z"
    assert (command["event"], command["source"], command["value"], command["armed"]) == (
        "command",
        "fusion",
        1.5,
        True,
    )
    assert (result["event"], result["status"], result["error"], result["read_back"]) == (
        "result",
        "REFUSED",
        "why",
        None,
    )
    assert (armed["event"], armed["source"], armed["reason"]) == ("armed", "anna", "shift start")


def test_appends_after_a_restart_and_closes_a_torn_line(tmp_path):
    file = tmp_path / "audit.jsonl"
    with AuditLog(file) as log:
        log.result(RESULT)
    with file.open("ab") as raw:
        raw.write(b'{"time": "2025')  # the machine stopped here
    with AuditLog(file) as log:
        log.result(RESULT)
        log.result(RESULT)
    assert [row["event"] for row in read(file)] == ["result", "torn", "result", "result"]
    assert file.read_bytes().count(b"\n") == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error():
    log = AuditLog("/dev/full")
    with pytest.raises(AuditError, match="No space left"):
        log.command(COMMAND, armed=True)
    log.close()


def test_a_folder_is_no_log(tmp_path):
    with pytest.raises(AuditError, match="cannot open"):
        AuditLog(tmp_path)


@pytest.mark.parametrize("how", ["removed", "rotated", "replaced"])
def test_a_log_that_vanishes_under_the_cell_is_an_error(tmp_path, how):
    file, old = tmp_path / "a", tmp_path / "a.1"
    with AuditLog(file) as log:
        log.result(RESULT)
        file.rename(old)
        if how == "removed":
            old.unlink()
        elif how == "replaced":
            file.write_bytes(old.read_bytes())
        with pytest.raises(AuditError, match="moved or removed"):
            log.command(COMMAND, armed=True)
        if how == "rotated":
            assert len(read(old)) == 1
            old.rename(file)
            log.command(COMMAND, armed=True)
            assert [row["event"] for row in read(file)] == ["result", "command"]


def test_a_reason_with_a_line_separator_is_one_record(tmp_path):
    with AuditLog(tmp_path / "a") as log:
        log.armed(True, user="anna", reason="one\u2028two\x85three")
    assert [row["reason"] for row in read(tmp_path / "a")] == ["one\u2028two\x85three"]


def test_lines_that_are_no_records_are_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"[1]\n7\n" + b"[" * 100_000 + b'\n{"event": "note"}\n{"ev')
    assert read(tmp_path / "a") == [{"event": "note"}]


def test_closed_is_an_error(tmp_path):
    log = AuditLog(tmp_path / "a")
    log.close()
    log.close()
    with pytest.raises(AuditError):
        log.result(RESULT)


def test_many_threads_write_whole_lines(tmp_path):
    log = AuditLog(tmp_path / "a")
    threads = [threading.Thread(target=lambda: [log.result(RESULT) for _ in range(20)]) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len([json.loads(line) for line in (tmp_path / "a").read_text().splitlines()]) == 80


def test_every_line_that_was_confirmed_survives_a_kill(tmp_path):
    code = (
        "import sys\nfrom cellwatch.nodes.drivers.audit_log import AuditLog\n"
        "log = AuditLog(sys.argv[1])\nn = 0\n"
        "while True:\n    log.armed(True, user=str(n)); n += 1; print(n, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "a"], stdout=subprocess.PIPE, text=True)
    seen = 0
    while seen < 20:
        seen = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    seen = max([seen, *(int(line) for line in child.stdout.read().split("\n")[:-1] if line)])
    child.wait()
    assert [row["source"] for row in read(tmp_path / "a")][:seen] == [str(i) for i in range(seen)]
