"""The audit chain: what was changed afterwards is found, and where."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cellwatch.nodes.audit_command import audit
from cellwatch.nodes.drivers import audit_chain
from cellwatch.nodes.drivers.audit_chain import head_file, sha256, verify
from cellwatch.nodes.drivers.audit_log import AuditLog, read


def write(file, n=8, start=0):
    with AuditLog(file) as log:
        for i in range(start, start + n):
            log.operator("note", user="anna", reason=f"reason {i}")


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
    """These tests write hundreds of lines, and none of them cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def log(tmp_path):
    file = tmp_path / "audit.jsonl"
    write(file)
    return file


def change(file, how):
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(how(lines)))


def test_a_log_left_alone_is_whole(log):
    check = verify(log)
    assert (check.lines, check.problems, check.torn) == (8, (), False)
    assert json.loads(head_file(log).read_text()) == {"lines": 8, "hash": check.hash}
    assert read(log)[-1]["hash"] == check.hash
    write(log, 3, start=8)
    assert verify(log, noted=check.hash).problems == ()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda x: [*x[:2], x[2].replace(b"reason 2", b"reason X"), *x[3:]], "line 3: edited"),
        (lambda x: [*x[:2], *x[3:]], "line 3: edited, or a line before it"),
        (lambda x: x[1:], "line 1: edited"),
        (lambda x: [*x[:2], x[3], x[2], *x[4:]], "line 3: edited"),
        (lambda x: [*x[:4], x[1], *x[4:]], "line 5: edited"),
        (lambda x: [*x[:4], b'{"event": "note"}\n', *x[4:]], "line 5: not a line of this log"),
        (lambda x: [*x[:4], b"\n", *x[4:]], "line 5: not a line of this log"),
        (lambda x: [*x, b'{"event": "note"}\n'], "line 9: not a line of this log"),
        (lambda x: [*x[:2], x[2][:-40] + b"\n", *x[3:]], "line 4: edited"),
        (lambda x: x[:-1], "1 lines are cut off at the end"),
        (lambda x: x[:-3], "3 lines are cut off at the end"),
        (lambda x: [*x[:-1], x[-1][:-20]], "1 lines are cut off at the end"),
        (lambda _: [], "8 lines are cut off at the end"),
    ],
)
def test_every_change_is_found(log, how, says):
    change(log, how)
    assert any(p.startswith(says) for p in verify(log).problems), verify(log).problems


def forged(body, previous):
    """A line with a hash that is right, whatever it says."""
    return body[:-1] + b', "hash": "' + sha256(previous.encode() + body).encode() + b'"}'


@pytest.mark.parametrize(
    "body", [b"nonsense}", b'{"event": "broken"}', b'[{"event": "x"}', b"[" * 100_000 + b"}", b'{"a": "\xff}']
)
def test_a_forged_line_that_is_no_record_is_told_not_a_crash(log, body):
    change(log, lambda x: [*x, forged(body, verify(log).hash) + b"\n"])
    assert "line 9: not a record" in verify(log).problems


@pytest.mark.parametrize("head", ['{"lines": 1e400, "hash": ""}', "[" * 100_000, "[]"])
def test_a_forged_head_is_damaged_not_a_crash(log, head):
    head_file(log).write_text(head)
    assert verify(log).problems == ("audit.jsonl.head is damaged",)


def test_nobody_writes_while_a_log_is_checked(log, monkeypatch):
    seen = []

    def links(source):
        with log.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)  # another check may go on
            fcntl.flock(other, fcntl.LOCK_UN)
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen.append(source)
        return iter(())

    monkeypatch.setattr(audit_chain, "_links", links)
    verify(log)
    assert seen


@pytest.mark.parametrize("row", ['["x"]', '{"event": "note", "many": [1, 2]}'])
def test_show_prints_what_a_log_holds_whatever_it_is(log, row):
    with log.open("a") as raw:
        raw.write(row + "\n")
    shown = CliRunner().invoke(audit, ["show", str(log)])
    assert shown.exit_code == 0, shown.exception
    assert "reason 7" in shown.stdout


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0), st.integers(1, 255))
def test_no_byte_can_change_unseen(log, at, flip):
    whole = log.read_bytes()
    at %= len(whole)
    log.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
    check = verify(log)
    log.write_bytes(whole)
    assert check.problems or check.torn  # the last line feed alone looks like a crash


def test_a_tail_cut_together_with_the_head_is_found_by_a_noted_hash_only(log):
    noted = verify(log).hash
    change(log, lambda x: x[:-2])
    head_file(log).write_text(json.dumps({"lines": 6, "hash": read(log)[-1]["hash"]}))
    assert verify(log).problems == ()
    assert "no line has the hash" in verify(log, noted).problems[0]


@pytest.mark.parametrize(
    ("head", "says"),
    [(None, "no head"), ("{", "is damaged"), ('{"lines": 8, "hash": "00"}', "that its head names")],
)
def test_a_head_that_is_gone_or_wrong_is_found(log, head, says):
    head_file(log).unlink() if head is None else head_file(log).write_text(head)
    assert says in verify(log).problems[0]


@pytest.mark.parametrize("how", [lambda x: x[:-2], lambda _: []])
def test_going_on_after_a_cut_does_not_cover_it_up(log, how):
    change(log, how)
    write(log, 4)
    assert any("when it was written, the log does not hold line 8" in p for p in verify(log).problems)


def test_a_line_cut_short_by_a_crash_is_accounted_for(log):
    with log.open("ab") as raw:
        raw.write(b'{"time": "2025')
    crashed = verify(log)
    assert (crashed.problems, crashed.torn) == ((), True)
    write(log, 2)
    assert (verify(log).problems, verify(log).torn) == ((), False)
    change(log, lambda x: [*x[:8], b'{"time": "2026\n', *x[9:]])
    assert verify(log).problems == ("line 9: not a line of this log",)


def test_a_crash_before_the_head_is_written_is_no_contradiction(log):
    old = head_file(log).read_text()
    write(log, 1)
    head_file(log).write_text(old)
    assert verify(log).problems == ()
    write(log, 1)
    assert verify(log).problems == ()


def test_a_head_that_could_not_be_written_is_caught_up(tmp_path, monkeypatch):
    from cellwatch.nodes.drivers import audit_log

    with AuditLog(tmp_path / "a") as log:
        log.operator("note", user="x")
        with monkeypatch.context() as broken:
            broken.setattr(audit_log, "write_whole", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(OSError, match="cannot write"):
                log.operator("note", user="x")
        log.operator("note", user="x")
    assert (verify(tmp_path / "a").problems, verify(tmp_path / "a").lines) == ((), 3)


def test_several_processes_write_one_chain(tmp_path):
    file = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(file, 6, 10 * i)) for i in range(3)]
    for w in writers:
        w.start()
    for w in writers:
        w.join(30)
    check = verify(file)
    assert (check.lines, check.problems) == (18, ())


def test_a_log_from_before_the_chain_is_no_proof(tmp_path):
    file = tmp_path / "audit.jsonl"
    file.write_text('{"time": "t", "event": "command"}\n' * 2)
    write(file, 1)
    assert len(verify(file).problems) >= 2
