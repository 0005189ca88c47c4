"""`cellwatch ewad train | score | evaluate` on small tables, with cheap detectors."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
import pytest
import torch
from typer.testing import CliRunner

from cellwatch.models.datasets.labelled_rows import LabelledRows
from cellwatch.models.datasets.tables import DataError
from cellwatch.models.ewad import catalog
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.nodes import ewad_command, ewad_data, ewad_runs, ewad_tables
from cellwatch.nodes.cli import app
from cellwatch.nodes.ewad_data import Limits, splits
from cellwatch.nodes.ewad_scores import aligned

CHEAP = "KMeans,DecisionTree"
FIGURES = {
    "method", "auc", "auc_std", "average_precision", "f1", "g_mean", "precision", "recall", "accuracy",
    "train_s", "ms_per_sample",
}  # fmt: skip


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    settings = EwadSettings(epochs=3, hidden=8, latent=2, critic_steps=1, batch=64, members=3)
    monkeypatch.setattr(catalog, "settings_for", lambda _: settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small nets wait for each other otherwise
    yield
    torch.set_num_threads(threads)


def cellwatch(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def answer(*args):
    done = cellwatch("ewad", "evaluate", *args, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """300 rows of a machine; faults move two sensors, and some numbers are missing."""
    rng = np.random.default_rng(3)
    bad = np.arange(300) % 10 == 4
    x = rng.normal(size=(300, 4))
    x[bad, :2] += 4
    x[rng.random(x.shape) < 0.03] = np.nan
    columns = {f"c{j}": pa.array(x[:, j], from_pandas=True) for j in range(4)}
    columns |= {
        "state": np.where(bad, "worn", "normal").tolist(),
        "at": np.arange(300) * 60,
        "machine": [f"m{i // 20}" for i in range(300)],
    }
    path = tmp_path_factory.mktemp("table") / "machine.csv"
    arrow_csv.write_csv(pa.table(columns), path)
    return path


@pytest.fixture
def given(table, tmp_path):
    return ("--data", table, "--label", "state", "--time", "at", "--cache", tmp_path / "cache")


def test_answer_has_the_agreed_shape(given):
    found = answer(*given, "--methods", CHEAP)
    assert found["protocol"] == "honest"
    assert found["folds"] == 5
    assert [row["method"] for row in found["rows"]] == CHEAP.split(",")
    for row in found["rows"]:
        assert row.keys() >= FIGURES
        assert row["auc"] > 0.8
        assert row["train_s"] > 0
        assert row["ms_per_sample"] > 0
    assert found["counts"] == {"test rows": 270 + 30, "anomalies": 30}
    assert found["limits"] == {}


def test_what_is_finished_is_not_done_again(given, monkeypatch):
    first = answer(*given, "--methods", "KMeans")
    monkeypatch.setattr(ewad_runs, "judge", lambda *_: pytest.fail("trained again"))
    assert answer(*given, "--methods", "KMeans") == first


def test_a_broken_off_run_goes_on(given, monkeypatch):
    real, done = ewad_runs.judge, []

    def breaks(*args):
        if len(done) == 2:
            raise OSError("power")
        done.append(args[0])
        return real(*args)

    monkeypatch.setattr(ewad_runs, "judge", breaks)
    assert cellwatch("ewad", "evaluate", *given, "--methods", "KMeans").exit_code == 2
    monkeypatch.setattr(ewad_runs, "judge", lambda *args: done.append(args[0]) or real(*args))
    answer(*given, "--methods", "KMeans")
    assert len(done) == 5


def test_a_broken_cache_file_is_made_anew(given, tmp_path):
    first = answer(*given, "--methods", "KMeans", "--folds", 1)
    (path,) = (tmp_path / "cache" / "ewad").glob("*.npz")
    path.write_bytes(path.read_bytes()[:-30])
    again = answer(*given, "--methods", "KMeans", "--folds", 1)
    assert again["rows"][0]["auc"] == first["rows"][0]["auc"]


@pytest.mark.parametrize(
    ("options", "folds", "says"),
    [
        (("--protocol", "time"), 1, "first 70 %"),
        (("--protocol", "time", "--prequential"), 5, "labelled a day before"),
        (("--protocol", "balanced"), 5, "as many as of the smaller"),
        (("--protocol", "leaky"), 5, "INVALID"),
        (("--group", "machine"), 5, "whole groups"),
    ],
)
def test_protocols_are_named(table, tmp_path, options, folds, says):
    columns = ("--data", table, "--label", "state", "--time", "at", "--cache", tmp_path)
    if "--prequential" in options:  # a day must pass
        whole = table.read_text().splitlines()
        place = whole[0].replace('"', "").split(",").index("at")
        rows = [line.split(",") for line in whole[1:]]
        for row in rows:
            row[place] = str(int(row[place]) * 60)
        slow = tmp_path / "machine.csv"
        slow.write_text("\n".join([whole[0], *(",".join(row) for row in rows)]))
        columns = ("--data", slow, *columns[2:])
    found = answer(*columns, "--methods", "KMeans", *options)
    assert found["folds"] == folds
    assert says in found["split"]
    assert found["valid"] == ("leaky" not in options)
    assert len(found["rows"]) == 1


def test_limits_and_seeds_are_said(given, table):
    done = cellwatch(
        "ewad", "evaluate", *given, "--methods", "KMeans", "--rows", 60, "--folds", 2, "--seeds", 2
    )
    text = " ".join(done.output.split())
    assert "Limited run (rows 60, folds 2)" in text
    assert "seeds 0, 1" in text


def test_limited_rows_keep_the_share_of_anomalies(table):
    rows = ewad_data.open_rows(str(table), label="state")
    (fold,) = splits(rows, "honest", Limits(rows=100, folds=1)).folds
    assert abs(len(fold.train) - 100) <= 1
    assert fold.y[fold.train].mean() == pytest.approx(0.1, abs=0.02)
    assert (np.diff(fold.train) > 0).all()


def test_noise_table_has_a_row_for_each_level(given, tmp_path):
    found = answer(
        *given, "--methods", "KMeans", "--table", "noise", "--sigma", "0.5,5", "--snr", "-20", "--folds", 2,
        "--pictures", tmp_path / "drawn",
    )  # fmt: skip
    by = {row["noise"]: row["auc"] for row in found["rows"]}
    assert list(by) == ["none", "sigma 0.5", "sigma 5", "SNR -20 dB"]
    assert by["none"] > by["sigma 0.5"] > 0.5
    assert abs(by["sigma 5"] - 0.5) < 0.25
    assert len(found["pictures"]) == 2


def test_pictures_and_sizes(given, tmp_path):
    names = {
        "methods": {"roc", "precision-recall", "scores", "critic-loss"},
        "sizes": {"sizes"},
    }
    rows = {"methods": "ewad_unsupervised,KMeans", "sizes": "I = 3,I = 4"}
    for table, wanted in names.items():
        found = answer(
            *given, "--table", table, "--methods", rows[table], "--folds", 1, "--pictures", tmp_path
        )
        drawn = [p for p in tmp_path.glob("*.svg") if str(p) in found["pictures"]]
        assert {p.stem.removeprefix("ewad-machine-honest-") for p in drawn} == wanted
        assert all("<svg" in p.read_text() for p in drawn)
    assert found["rows"][1]["training_mb"] > found["rows"][0]["training_mb"] > 0


def test_a_table_goes_between_its_marks(given, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- machine.csv honest methods -->\nbygone\n<!-- end -->\nafter\n")
    done = cellwatch("ewad", "evaluate", *given, "--methods", CHEAP, "--write", page)
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "bygone" not in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert re.search(r"\| KMeans \| 0?\.?\d", text)
    missing = cellwatch(
        "ewad", "evaluate", *given, "--methods", "KMeans", "--table", "sizes", "--write", page
    )
    assert missing.exit_code == 2


def test_pooled_figures_count_rows_not_folds():
    def result(fold, y, score):
        scores = {ewad_runs.CLEAN: np.array(score, dtype=float)}
        return ewad_runs.Result("m", fold, 0, np.array(y, dtype=bool), scores, 0.5, 1.0, 1.0, {})

    results = [result("a", [1, 0], [1, 0]), result("b", [1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0])]
    (mean,) = ewad_tables.rows(results, pooled=False)
    (pooled,) = ewad_tables.rows(results, pooled=True)
    assert mean["recall"] == pytest.approx((1 + 1 / 3) / 2)
    assert pooled["recall"] == pytest.approx(2 / 4)
    assert pooled["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert pooled["auc"] == mean["auc"] == pytest.approx((1 + 0.5) / 2)


def test_a_method_that_fails_on_some_folds_says_on_how_many():
    scores = {ewad_runs.CLEAN: np.array([0.0, 1.0])}
    y = np.array([False, True])
    results = [
        ewad_runs.Result("m", "a", 0, y, scores, 0.5, 1.0, 1.0, {}),
        ewad_runs.Result("m", "b", 0, y, {ewad_runs.CLEAN: np.full(2, np.nan)}, 0.0, 0.0, 0.0, {}, "too few"),
    ]
    (row,) = ewad_tables.rows(results, pooled=False)
    assert row["of"] == "1 of 2 runs"
    found = {"pooled": False, "table": "methods", "rows": [row]}
    assert ewad_tables.cells(found)[1][0][0] == "m (1 of 2 runs)"
    assert [one["fold"] for one in ewad_tables.skipped(results)] == ["b"]


def test_balanced_folds_are_cut_from_what_honest_ones_learnt(given, monkeypatch):
    whole = answer(*given, "--methods", "KMeans")
    monkeypatch.setattr(ewad_runs, "judge", lambda *_: pytest.fail("learnt again"))
    balanced = answer(*given, "--methods", "KMeans", "--protocol", "balanced")
    assert balanced["counts"]["anomalies"] == whole["counts"]["anomalies"]
    assert balanced["counts"]["test rows"] == 2 * whole["counts"]["anomalies"]


def test_a_word_that_scored_rows_lack_is_not_missing():
    rows = LabelledRows(
        "t",
        "t",
        ("c0", "mode=auto"),
        np.array([[1, 1], [2, 0]], np.float32),
        np.zeros(2, np.int64),
        np.full(2, ""),
    )
    found = aligned(rows, ("c0", "mode=auto", "mode=manual", "c1", "line=a", "line=b"))
    assert found.x[:, :3].tolist() == [[1, 1, 0], [2, 0, 0]]
    assert np.isnan(found.x[:, 3:]).all()
    assert found.missing == ("c1", "line")


def test_a_row_is_empty_if_it_holds_nothing_the_model_knows():
    x = np.array([[np.nan, 0, 9], [np.nan, 1, 9], [0, 0, 9]], np.float32)
    rows = LabelledRows("t", "t", ("c0", "mode=new", "c9"), x, np.zeros(3, np.int64), np.full(3, ""))
    assert aligned(rows, ("c0", "mode=auto")).empty.tolist() == [True, False, False]


def test_a_method_that_cannot_learn_is_named(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    rows = LabelledRows(
        "mnist", "tiny digits", tuple(f"p{i}" for i in range(784)),
        rng.integers(0, 255, size=(200, 784)).astype(np.float32), np.arange(200) % 10, np.full(200, ""),
        test=np.arange(200) % 4 == 3,
    )  # fmt: skip
    monkeypatch.setitem(ewad_data.LOADERS, "mnist", lambda _: rows)
    monkeypatch.setattr("cellwatch.models.ewad.baselines.one_class.LEAST_ROWS", 5)
    found = answer(
        "--data", "mnist", "--methods", "IsolationForest,DecisionTree", "--digits", "0,1", "--cache", tmp_path
    )
    assert [row["method"] for row in found["rows"]] == ["IsolationForest"]
    assert found["skipped"][0]["method"] == "DecisionTree"
    assert "known anomalies" in found["skipped"][0]["why"]
    assert found["folds"] == 2
    assert found["limits"] == {"digits": [0, 1]}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--protocol", "fair"), "honest, time, balanced, leaky"),
        (("--methods", "Magic"), "there are: ewad"),
        (("--prequential",), "--protocol time"),
        (("--digits", "1"), "--data mnist"),
        (("--table", "noise", "--sigma", "much"), "numbers"),
        (("--table", "noise", "--sigma", "nan"), "numbers"),
        (("--table", "noise", "--sigma=-0.1"), "from 0"),
    ],
)
def test_mistakes_are_one_clear_line(given, options, says):
    done = cellwatch("ewad", "evaluate", *given, *options)
    assert done.exit_code == 2
    assert says in " ".join(done.output.split())


@pytest.mark.parametrize("digits", [",", "1.5", "1,1", "10"])
def test_digits_are_digits(digits):
    with pytest.raises(ValueError, match="0 to 9"):
        ewad_command._digits(digits, "mnist")


@pytest.mark.parametrize("column", ["state", "at"])
def test_a_row_without_label_or_time_is_refused(tmp_path, column):
    columns = {"c0": [1.0, 2.0, 3.0], "state": ["normal", "worn", "normal"], "at": [0.0, 60.0, 120.0]}
    columns[column][1] = None
    path = tmp_path / "holes.parquet"
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=f"'{column}' has 1 empty cells: every row needs a"):
        ewad_data.open_rows(str(path), label="state", time="at")


@pytest.mark.parametrize(
    ("data", "protocol"), [("secom", "honest"), ("secom", "time"), ("mnist", "honest"), ("skab", "honest")]
)
def test_a_name_is_the_same_method_in_every_table(data, protocol):
    """Results are kept by name."""

    def kinds(method):
        inner = getattr(method, "_method", None)
        return (type(method).__name__, *(kinds(inner) if inner is not None else ()))

    first, second = catalog.methods(data, protocol), catalog.ablation(data, protocol)
    shared = first.keys() & second.keys()
    assert {"ewad", "RandomForest"} <= shared
    for name in shared:
        assert kinds(first[name](0)) == kinds(second[name](0))


def test_time_is_needed_for_the_protocol_time(table, tmp_path):
    done = cellwatch("ewad", "evaluate", "--data", table, "--label", "state", "--protocol", "time")
    assert done.exit_code == 2
    assert "have no time" in " ".join(done.output.split())


def test_absent_data_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("CELLWATCH_DATA", str(tmp_path))
    done = cellwatch("ewad", "evaluate", "--data", "secom")
    assert done.exit_code == 2
    assert "data absent" in " ".join(done.output.split())


def test_train_then_score(table, tmp_path):
    done = cellwatch(
        "ewad", "train", "--data", table, "--label", "state", "--time", "at", "--until", 0.8,
        "-o", tmp_path / "model", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["columns"] == 4 + 15  # each machine is a column
    assert made["rows"] < 240 * 0.9  # without the worn ones, and some are held back

    lines = table.read_text().splitlines()
    order = [3, 0, 2]  # another order, and c1 is not there
    less = tmp_path / "less.csv"
    less.write_text("\n".join(",".join(line.split(",")[k] for k in order) for line in lines))
    scored = tmp_path / "scores.csv"
    done = cellwatch(
        "ewad", "score", "--data", less, "--model", tmp_path / "model", "--since", 0.8, "-o", scored, "--json"
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [row["row"] for row in rows] == list(range(240, 300))
    for row in rows:
        assert 0 <= row["p_value"] <= 1
        assert row["alarm"] == (row["score"] > json.loads(done.stdout)["threshold"])
        assert len(row["features"]) == 3
    assert scored.read_text().splitlines()[1].startswith("240,")
    assert done.stderr == "missing in the table: c1, machine\n"

    gaps = tmp_path / "gaps.csv"
    gaps.write_text("c0,c1,c2,c3,machine\n0.1,low,0.2,0.3,m1\n,,,,\n,,,,m2\n")
    arguments = ("ewad", "score", "--data", gaps, "--model", tmp_path / "model")
    done = cellwatch(*arguments, "-o", scored, "--json")
    assert done.stderr == "missing in the table: c1\n"
    first, empty, last = json.loads(done.stdout)["rows"]
    nothing = {"row": 1, "score": None, "p_value": None, "alarm": False, "parts": [None] * 3, "features": {}}
    assert empty == nothing
    assert None not in (first["score"], last["score"])
    assert scored.read_text().splitlines()[2] == "1,,,0,"
    assert "1 with everything missing" in cellwatch(*arguments).stdout

    worn = tmp_path / "worn.csv"
    worn.write_text("\n".join([lines[0], *(line for line in lines if '"worn"' in line or ",worn" in line)]))
    done = cellwatch(
        "ewad", "score", "--data", worn, "--label", "state", "--model", tmp_path / "model", "--json"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"]

    strange = tmp_path / "strange.csv"
    strange.write_text("x,y\n1,2\n3,4\n")
    done = cellwatch("ewad", "score", "--data", strange, "--model", tmp_path / "model")
    assert done.exit_code == 2
    assert "none of the model's columns" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("scores.txt", "written as .csv"),
        ("scores", "written as .csv"),
        ("no/where.csv", "there is no folder"),
    ],
)
def test_where_scores_cannot_be_written_is_said_before_anything_is_read(tmp_path, output, says):
    done = cellwatch("ewad", "score", "--data", "none.csv", "--model", "none", "-o", tmp_path / output)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())


def test_training_does_not_overwrite_another_folder(table, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = cellwatch("ewad", "train", "--data", table, "-o", tmp_path)
    assert done.exit_code == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"
