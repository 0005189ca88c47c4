"""`cellwatch evaluate`: detectors of others, failures, runs, costs, other splits, a report."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import cellwatch as package
from cellwatch.models.datasets.dataset import L1, DataError, DataSet, standing_alone
from cellwatch.models.datasets.device_split import device_disjoint
from cellwatch.models.evaluation.averages import averaged
from cellwatch.models.evaluation.dimensions import DIMENSIONS, METRICS
from cellwatch.nodes import evaluate_command
from cellwatch.nodes.cli import app
from cellwatch.nodes.data_sources import open_data
from cellwatch.nodes.own_detector import OwnDetector, own_kind

KINDS = ("benign", "dos", "scan")
EXAMPLES = Path(package.__file__).resolve().parent.parent / "examples"
OWN = """
import numpy as np

class Fails:
    def fit(self, x, y): raise RuntimeError("out of ideas")
    def predict_proba(self, x): ...

class Markup(Fails):
    def fit(self, x, y): raise RuntimeError("cannot open [/etc/foo]\\nnor this")

class Silent:
    def fit(self, x, y): print("I am not an answer")
    def predict_proba(self, x): raise OSError("asleep")

class Wrong(Fails):
    def fit(self, x, y): ...
    def predict_proba(self, x): return np.ones((len(x), 7))

class Seeded:
    KIND = "sequence"
    def __init__(self, classes, seed): self.classes, self.seed = classes, seed
    def fit(self, x, y, validation):
        assert x.ndim == 3 and len(validation[0]) == len(validation[1])
    def predict_proba(self, x): return np.full((len(x), len(self.classes)), 1 / len(self.classes))
"""


def cellwatch(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def answer(*args):
    done = cellwatch("evaluate", *args, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A table of three clouds, and where things are kept."""
    rng = np.random.default_rng(11)
    y = np.arange(240) % 3
    x = rng.normal(size=(240, 4)) + 3 * np.eye(3, 4)[y]
    folder = tmp_path_factory.mktemp("evaluate")
    columns = {f"c{j}": x[:, j] for j in range(4)} | {"kind": [KINDS[k] for k in y]}
    pq.write_table(pa.table(columns), folder / "clouds.parquet")
    return ("--data", folder / "clouds.parquet", "--label", "kind", "--cache", folder / "cache")


@pytest.fixture
def own(tmp_path, monkeypatch):
    shutil.copy(EXAMPLES / "nearest_centroid.py", tmp_path)
    (tmp_path / "own_detectors.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("def (")
    monkeypatch.chdir(tmp_path)


def test_the_example_is_judged_beside_ours(given, own):
    found = answer(
        *given, "--detector", "nearest_centroid:NearestCentroid", "--detectors", "NaiveBayes", "--metrics"
    )["data"][0]
    rows = {(r["name"], r["level"]): r for r in found["rows"]}
    assert rows["NearestCentroid", 2]["accuracy"] > 0.9
    assert ("NaiveBayes", 2) in rows
    metrics = {(r["name"], r["level"]): r for r in found["metrics"]}
    assert set(metrics) == {(n, lv) for n in ("NearestCentroid", "NaiveBayes") for lv in (1, 2)}
    for row in metrics.values():
        for metric in METRICS:
            if metric.name in {"detection_latency_s", "device_coverage"}:  # no times, no devices
                assert row[metric.name] is None
            else:
                assert row[metric.name] >= 0
        assert row["processing_rate"] * row["inference_time_s"] == pytest.approx(1)
        assert row["training_time_s"] > 0
    for row in found["scores"]:
        assert all(0 <= row[name] <= 1 for name in DIMENSIONS)
    beside = {(r["name"], r["level"]): r for r in found["beside"]}
    low, high = beside["NearestCentroid", 2]["mcc_interval"]
    assert low <= rows["NearestCentroid", 2]["mcc"] <= high
    best = [r for r in found["beside"] if r["level"] == 2 and r["mcnemar_p"] is None]
    assert {r["against"] for r in found["beside"] if r["level"] == 2} == {best[0]["name"]}
    m = np.array(found["confusion"]["test/L2/NearestCentroid"])
    assert m.sum() == rows["NearestCentroid", 2]["rows"]
    assert sum(b["rows"] for b in found["reliability"]["test/L1/NaiveBayes"]) == m.sum()


def test_a_detector_that_fails_is_a_row_with_its_error(given, own):
    found = answer(*given, "--detector", "own_detectors:Fails", "--detectors", "NaiveBayes")["data"][0]
    assert sorted(found["failed"], key=lambda one: one["level"]) == [
        {"level": level, "name": "Fails", "run": 0, "error": "RuntimeError: out of ideas"} for level in (1, 2)
    ]
    assert {r["name"] for r in found["rows"] if r["level"] == 1} >= {"NaiveBayes"}
    shown = cellwatch("evaluate", *given, "--detector", "own_detectors:Wrong", "--detectors", "NaiveBayes")
    assert "failed: L1 Wrong: ValueError: predict_proba gave an array of shape" in " ".join(
        shown.output.split()
    )
    alone = cellwatch("evaluate", *given, "--detector", "own_detectors:Fails")
    assert alone.exit_code == 2
    assert "no detector could be trained: Fails: RuntimeError: out of ideas" in " ".join(alone.output.split())


def test_a_detector_that_fails_when_asked_is_a_row_and_prints_nowhere(given, own):
    found = answer(*given, "--detector", "own_detectors:Silent", "--detectors", "NaiveBayes", "--metrics")
    (data,) = found["data"]
    assert {f["name"] for f in data["failed"]} == {"Silent"}
    assert "OSError: asleep" in data["failed"][0]["error"]
    assert {r["name"] for r in data["metrics"]} == {"NaiveBayes"}


def test_what_others_wrote_is_no_markup(given, own):
    shown = cellwatch(
        "evaluate", *given, "--detector", "own_detectors:Markup", "--detectors", "NaiveBayes", "--metrics"
    )
    assert shown.exit_code == 0, shown.output
    assert "cannot open [/etc/foo] nor this" in " ".join(shown.output.split())
    assert "What each model costs" in shown.output


def test_columns_in_another_order_are_put_in_their_place():
    class Turned:
        classes_ = np.array([1, 0])

        def predict_proba(self, x):
            return np.tile([0.9, 0.1], (len(x), 1))

    assert OwnDetector(Turned(), ("benign", "attack"), 0).predict_proba(np.zeros((1, 1)))[
        0, 1
    ] == pytest.approx(0.9)


def test_costs_that_only_some_have_compare_nothing():
    row = {metric.name: 1.0 for metric in METRICS} | {"level": 1}
    rows = [row | {"name": "a", "ram_train_mb": math.nan}, row | {"name": "b", "ram_train_mb": 5.0}]
    a, b = evaluate_command._scores(rows)
    assert a["resource_usage"] == b["resource_usage"] == 1


def test_a_report_that_cannot_be_written_is_refused_first(given, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("cellwatch.nodes.trainer.train", lambda *_, **__: pytest.fail("trained"))
    done = cellwatch("evaluate", *given, "--report", tmp_path / "file")
    assert done.exit_code == 2
    assert "is a file; --report wants a folder" in " ".join(done.output.split())


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    done = cellwatch("evaluate", "--data", tmp_path / "typo.csv", "--label", "kind")
    assert done.exit_code == 2


def test_an_own_detector_may_ask_for_sequences_seed_and_validation(given, own):
    found = answer(*given, "--detector", "own_detectors:Seeded", "--level", "2")["data"][0]
    (row,) = (r for r in found["rows"] if r["name"] == "Seeded")
    assert row["accuracy"] == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere", "such as mypkg.module:MyDetector"),
        ("no_such_module:X", "No module named"),
        ("own_detectors:Nobody", "no attribute 'Nobody'"),
        ("own_broken:X", "SyntaxError"),
        ("json:JSONDecoder", "fit(x, y) and predict_proba(x)"),
    ],
)
def test_what_is_no_detector_is_said(given, own, spec, says):
    done = cellwatch("evaluate", *given, "--detector", spec)
    assert done.exit_code == 2
    assert says in " ".join(done.output.split())


def test_columns_of_absent_classes_are_put_in_their_place():
    class Learnt:
        classes_ = np.array([0, 2])

        def predict_proba(self, x):
            return np.tile([0.25, 0.75], (len(x), 1))

    p = OwnDetector(Learnt(), KINDS, 0).predict_proba(np.zeros((2, 1), np.float32))
    assert p.tolist() == [[0.25, 0, 0.75]] * 2


def test_no_probabilities_are_refused():
    class Odd:
        def predict_proba(self, x):
            return np.full((len(x), 3), 0.5)

    with pytest.raises(ValueError, match="each must sum to 1"):
        OwnDetector(Odd(), KINDS, 0).predict_proba(np.zeros((2, 1), np.float32))
    assert own_kind("sklearn.naive_bayes:GaussianNB").NAME == "GaussianNB"


def test_runs_are_averaged(given):
    found = answer(*given, "--detectors", "DecisionTree", "--level", "2", "--runs", "2")
    assert found["seeds"] == [0, 1]
    (row,) = (r for r in found["data"][0]["rows"] if r["name"] == "DecisionTree")
    one = [
        next(
            r
            for r in answer(*given, "--detectors", "DecisionTree", "--level", "2", "--seed", s)["data"][0][
                "rows"
            ]
        )
        for s in (0, 1)
    ]
    assert row["accuracy"] == pytest.approx(np.mean([r["accuracy"] for r in one]))
    assert row["accuracy_std"] == pytest.approx(np.std([r["accuracy"] for r in one], ddof=1))


def test_averages_by_hand():
    runs = [
        [{"name": "a", "rows": 5, "mcc": 0.5, "latency": math.nan}],
        [{"name": "a", "rows": 5, "mcc": 0.7, "latency": 3.0}, {"name": "b", "mcc": 1.0}],
    ]
    a, b = averaged(runs, ["name"])
    assert a == {"name": "a", "rows": 5, "mcc": 0.6, "mcc_std": 0.1414213562, "latency": 3.0}
    assert b == {"name": "b", "mcc": 1.0, "mcc_std": pytest.approx(math.nan, nan_ok=True)}


def test_devices_of_the_test_are_not_those_of_training():
    def part(n):
        device = np.array(["plc", "pump", "robot", "valve"])[np.arange(n) % 4]
        rows = standing_alone(np.arange(n, dtype=np.float32)[:, None], {1: np.arange(n) % 2}, np.full(n, ""))
        return replace(rows, device=device)

    data = DataSet("d", "", ("a",), {1: L1}, part(16), part(8), {"test": part(12)}, "", "by session")
    cut = device_disjoint(data)
    assert {*cut.train.device, *cut.validation.device} == {"plc", "pump", "robot"}
    assert {*cut.tests["test"].device} == {"valve"}
    assert (len(cut.train), len(cut.tests["test"])) == (12, 3)
    assert "1 of 4 devices, which training never saw" in cut.split


def test_a_report_is_written_and_select_reads_its_scores(given, tmp_path):
    done = cellwatch(
        "evaluate", *given, "--detectors", "NaiveBayes,DecisionTree,LogReg", "--report", tmp_path / "report"
    )
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report" / "report.html").read_text()
    assert "DecisionTree" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    (scores,) = (tmp_path / "report").glob("*-scores.csv")
    rows = list(csv.DictReader(scores.open()))
    assert len(rows) == 6
    chosen = cellwatch("select", "--scores", scores, "--runs", 2, "--json")
    assert chosen.exit_code == 0, chosen.output
    kept = json.loads((tmp_path / "report" / "report.json").read_text())
    assert kept["data"][0]["selection"]["1"]["front"]


def test_models_of_a_folder_are_judged_as_they_are(given):
    done = cellwatch("evaluate", *given, "--models", "somewhere", "--runs", 2)
    assert done.exit_code == 2
    assert "--models judges what is there" in " ".join(done.output.split())


def test_a_table_has_no_devices_to_split_by(given):
    done = cellwatch("evaluate", *given, "--split", "device")
    assert done.exit_code == 2
    assert "needs rows of 4 or more named devices" in " ".join(done.output.split())
    (data,) = open_data(str(given[1]), given[5], label="kind")
    with pytest.raises(DataError, match="named devices"):
        device_disjoint(data)
