"""`cellwatch drift evaluate`: what was promised as JSON, the table, and mistakes in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("river")

from cellwatch.models.datasets.dataset import DataError
from cellwatch.nodes.cli import app
from cellwatch.nodes.drift_evaluation import WITHIN, evaluate, matched, open_stream

N, AT = 10_000, 7_000


@pytest.fixture(scope="module")
def drifting(tmp_path_factory):
    """From row AT on what was benign between 0.3 and 0.7 is an attack: misses."""
    random = np.random.default_rng(0)
    x = random.random((N, 2))
    y = (x[:, 0] > np.where(np.arange(N) < AT, 0.7, 0.3)) ^ (random.random(N) < 0.05)
    path = tmp_path_factory.mktemp("stream") / "moving.csv"
    lines = [f"{a:.5f},{b:.5f},{'attack' if c else 'normal'}" for (a, b), c in zip(x, y, strict=True)]
    path.write_text("\n".join(["a,b,what", *lines]))
    return path


def told(*args):
    return CliRunner().invoke(app, ["drift", "evaluate", *map(str, args)], env={"COLUMNS": "200"})


def test_json_is_as_promised(drifting):
    done = told("--stream", drifting, "--label", "what", "--drifts", AT, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["samples"] == N
    assert len(said["alarms"]) == 1
    assert AT <= said["alarms"][0] < AT + 2000
    assert said["scenarios"] == ["B"]
    assert abs(said["details"][0]["since"] - AT) < 200
    assert said["benign"] == "normal"
    assert said["note"] is None
    never = said["methods"]["never"]
    assert said["accuracy"] == said["methods"]["cellwatch"]["accuracy"] > never["accuracy"] + 0.05
    assert said["methods"]["cellwatch"]["delays"] == [said["alarms"][0] - AT]
    assert said["methods"]["cellwatch"]["false_alarms"] == 0
    assert never["delays"] == [None]


def test_the_table(drifting):
    done = told("--stream", drifting, "--label", "what", "--drifts", AT)
    assert done.exit_code == 0, done.output
    assert "moving.csv: 10,000 rows, benign is 'normal'" in done.stdout
    assert "scenario B" in done.stdout
    assert "missed" in done.stdout
    assert "false alarms" in done.stdout


def test_without_known_drifts_nothing_is_counted(drifting):
    stream = open_stream(str(drifting), label="what", benign="attack")
    found = evaluate(stream)
    assert found["scenarios"] == ["A"]  # the same drift, seen from the other side
    assert list(found["methods"]) == ["cellwatch", "never"]
    assert "delays" not in found["methods"]["never"]


def test_others_beside_and_the_same_answer_twice(tmp_path):
    random = np.random.default_rng(1)
    x = random.random((4000, 2))
    rows = [f"{a:.4f},{b:.4f},{int(a > 0.5)}" for a, b in x]
    path = tmp_path / "calm.csv"
    path.write_text("\n".join(["a,b,y", *rows]))
    stream = open_stream(str(path), label="y", drifts=[])
    seen = []
    found = evaluate(stream, beside=True, told=lambda *news: seen.append(news))
    assert found["alarms"] == []
    assert list(found["methods"]) == ["cellwatch", "never", "always", "ADWIN", "DDM", "Page-Hinkley", "KSWIN"]
    always = found["methods"]["always"]
    assert always["alarms"] == [2999, 3999]
    assert (always["delays"], always["false_alarms"]) == ([], 2)
    assert seen[-1] == ("KSWIN", 4000, 4000)
    again = evaluate(stream)
    assert again["accuracy"] == found["accuracy"]
    assert again["label_free"] == found["label_free"]


@pytest.mark.parametrize(
    ("alarms", "drifts", "expected"),
    [
        ([], [], ([], 0)),
        ([5], [], ([], 1)),
        ([99, 100, 150], [100], ([0], 2)),
        ([100 + WITHIN], [100], ([None], 1)),
        ([250], [100, 200], ([None, 50], 0)),
    ],
)
def test_alarms_beside_drifts(alarms, drifts, expected):
    assert matched(alarms, drifts) == expected


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--stream", "none.csv", "--label", "y"), "data absent"),
        (("--stream", "none.csv"), "say which column is the label"),
        (("--stream", "swamp"), "no stream is called 'swamp'; there are: sea, sea_stream, elec2"),
        (("--stream", "sea", "--label", "y"), "are known"),
        (("--stream", "sea", "--drifts", "1,two"), "--drifts 1,two: row numbers"),
    ],
)
def test_mistakes_are_one_line(args, message):
    done = told(*args)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_a_short_or_empty_file(tmp_path):
    path = tmp_path / "short.csv"
    path.write_text("x,y\n" + "1,0\n2,1\n" * 100)
    done = told("--stream", path, "--label", "y")
    assert (done.exit_code, "the stream has 200 rows" in done.stderr) == (2, True)
    path.write_text("")
    with pytest.raises(DataError, match="cannot be read as a table"):
        open_stream(str(path), label="y")


def test_rows_with_gaps_and_infinities(tmp_path):
    random = np.random.default_rng(2)
    x = random.random(1500)
    cells = np.where(np.arange(1500) % 11 == 0, "", np.where(np.arange(1500) % 13 == 0, "inf", x.astype(str)))
    path = tmp_path / "gaps.csv"
    path.write_text("x,y\n" + "\n".join(f"{c},{int(v > 0.5)}" for c, v in zip(cells, x, strict=True)))
    found = evaluate(open_stream(str(path), label="y"))
    assert found["accuracy"] > 0.85
    assert found["alarms"] == []


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (1400, "too few rows to watch: 0 windows, 5 are needed"),
        (4499, "too few rows to watch: 4 windows, 5 are needed"),
        (4500, None),
    ],
)
def test_a_stream_too_short_to_be_watched_says_so(tmp_path, rows, note):
    path = tmp_path / "short.csv"
    path.write_text("x,y\n" + "1,0\n2,1\n" * (rows // 2) + "1,0\n" * (rows % 2))
    done = told("--stream", path, "--label", "y", "--json")
    assert json.loads(done.stdout)["note"] == note
    assert (note or "") == done.stderr.strip()
    assert ((note or "too few") in told("--stream", path, "--label", "y").stdout) == (note is not None)
