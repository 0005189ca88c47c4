"""`cellwatch query`: the record of a cell, made by hand, as a person asks for it."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cellwatch.models.types import FusedVerdict, FusedWindow, Screening
from cellwatch.nodes.cli import app
from cellwatch.nodes.drivers.line_protocol import fused_lines, line
from cellwatch.nodes.drivers.store import Recorder

T0 = 1_700_000_000_000_000_000
S = 10**9


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cell `mill` with two tags for a minute, 10 Hz, and verdicts on PLC1."""
    monkeypatch.setenv("CELLWATCH_HOME", str(tmp_path))
    recorder = Recorder(tmp_path / "cells" / "mill" / "record")
    for i in range(600):
        at = T0 + i * S // 10
        for tag, value in (("LIT101", i / 10), ("P,1", math.nan)):
            fields = {"value": value, "status": 0, "quality": 2 * (tag == "P,1")}
            recorder.append(line("tags", {"plc": "PLC1", "device": "PLC1", "tag": tag}, fields, at).encode())
    for i, decision in enumerate((Screening.ALLOW, Screening.BLOCK)):
        verdict = FusedVerdict("PLC1", decision, 0.9 * i, 0.5, "dos" * i, explanation="why \x1b[31m " * i)
        end = T0 + (i + 1) * 10 * S
        recorder.append(fused_lines(FusedWindow(i, end, end, (verdict,))))
    recorder.close()
    return tmp_path


def ask(*words):
    return CliRunner().invoke(app, ["query", "--cell", "mill", *words])


def answer(*words):
    said = ask(*words, "--json")
    assert said.exit_code == 0, said.stderr
    return json.loads(said.stdout)


def test_without_a_question_it_says_what_there_is(home):
    said = ask()
    assert "2023-11-14 22:13:20Z to 2023-11-14 22:14:19Z" in said.stdout
    assert "1,200" in said.stdout
    assert answer() == {
        "first_ns": T0, "last_ns": T0 + 59_900_000_000, "measurements": {"fused": 2, "tags": 1200},
    }  # fmt: skip
    assert answer("--since", "1s")["measurements"] == {"tags": 22}


def test_a_tag_within_a_range(home):
    rows = answer("--tag", "LIT101", "--since", "2023-11-14T22:13:30", "--until", "2023-11-14T22:13:30.250Z")
    assert [(r["time_ns"] - T0, r["value"]) for r in rows] == [
        (10 * S, 10.0), (10 * S + S // 10, 10.1), (10 * S + S // 5, 10.2),
    ]  # fmt: skip
    assert rows[0] | {"time_ns": 0} == {
        "time_ns": 0, "device": "PLC1", "plc": "PLC1", "tag": "LIT101",
        "value": 10, "status": 0, "quality": 0,
    }  # fmt: skip
    (row,) = answer("tags", "--tag", "P,1", "--since", "50ms")
    assert ("value" in row, row["quality"]) == (False, 2)


def test_every_span_one_row(home):
    rows = answer("--tag", "LIT101", "--every", "30s", "--column", "value")
    # T0 is 20 s past a multiple of 30 s
    assert [(r["value_min"], r["value_max"]) for r in rows] == [(0, 9.9), (10, 39.9), (40, 59.9)]
    assert rows[0]["value"] == pytest.approx(4.95)


def test_the_table_speaks_in_words_and_shows_the_last_rows(home):
    said = ask("fused", "--device", "PLC1").stdout.splitlines()
    assert said[0].split()[:4] == ["time", "device", "window_id", "decision"]
    assert "BLOCK" in said[2]
    assert "2023-11-14 22:13:40.000Z" in said[2]
    assert "\x1b" not in "".join(said)
    said = ask("--tag", "LIT101", "--rows", "2").stdout.splitlines()
    assert [row.split()[5] for row in said[1:3]] == ["59.8", "59.9"]
    assert said[3] == "the last 2 of 600 rows"


def test_files_hold_all_rows(home, tmp_path):
    done = ask("tags", "--csv", f"{tmp_path}/new/a.csv", "--parquet", f"{tmp_path}/a.parquet")
    assert done.stdout.count("1200 rows: ") == 2
    with (tmp_path / "new" / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "a.parquet")
    assert len(rows) == table.num_rows == 1200
    assert rows[1]["tag"] == table["tag"][1].as_py() == "P,1"
    assert (rows[0]["value"], rows[1]["value"]) == ("0", "")
    printed = list(csv.DictReader(io.StringIO(ask("fused", "--csv", "-").stdout)))
    assert [row["decision"] for row in printed] == ["1", "3"]


@pytest.mark.parametrize("end", ["svg", "png", "pdf"])
def test_a_picture(home, tmp_path, end):
    done = ask("--tag", "LIT101", "--every", "5s", "--picture", f"{tmp_path}/a.{end}")
    assert done.exit_code == 0, done.stderr
    head = (tmp_path / f"a.{end}").read_bytes()[:400]
    assert {"svg": b"<svg", "png": b"PNG", "pdf": b"%PDF"}[end] in head


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["pressure"], r"no pressure in .*; there are fused, tags"),
        (["--tag", "X1"], "no tag X1 in tags; there are LIT101, P,1"),
        (["tags", "--device", "ghost"], "no device ghost in tags; there are PLC1"),
        (["tags", "--where", "detector=x"], "no detector x in tags; there are none"),
        (["tags", "--where", "plc"], "--where plc: such as source=rules"),
        (["tags", "--column", "speed"], "tags has no field speed; it has value, status, quality"),
        (["tags", "--since", "lately"], "--since lately: such as"),
        (["tags", "--since", "1s", "--until", "1min"], "--since 1s is not before --until 1min"),
        (["tags", "--until", "2020-01-01"], "no such rows; the record reaches from 2023-11-14"),
        (["tags", "--every", "often"], "--every often: such as"),
        (["fused", "--picture", "a.txt"], r"a\.txt: a picture ends in"),
        (["fused", "--column", "explanation", "--picture", "a.png"], "fused has no numbers to draw"),
        (["tags", "--csv", "/proc/none/x.csv"], "/proc/none"),
        (["--cell", "elsewhere"], r"no record in .*; cells with a record here: mill"),
    ],
)
def test_a_wrong_question_is_one_clear_line(home, words, why):
    said = ask(*words)
    assert (said.exit_code, said.stdout) == (2, "")
    assert said.stderr.count("\n") == 1
    assert re.search(why, said.stderr), said.stderr
