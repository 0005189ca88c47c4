"""The judge: what it says of models whose answers are known beforehand."""

import numpy as np
import pytest

from cellwatch.models.datasets.dataset import L1, DataSet, standing_alone
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.nodes import judging
from cellwatch.nodes.judging import Judge
from cellwatch.nodes.trainer import Trained

CLASSES = {1: L1, 2: ("benign", "dos", "scan")}


def part(n, seed, split):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 2)).astype(np.float32)
    x[:, 0] = y
    return standing_alone(x, {1: np.minimum(y, 1), 2: y}, np.full(n, split))


def said_of(part, right, classes, seed):
    """Probabilities that are right in a share of the rows."""
    rng = np.random.default_rng(seed)
    y = part.y[len(classes) - 1]
    called = np.where(rng.random(len(y)) < right, y, rng.integers(0, len(classes), len(y)))
    return (0.1 / len(classes) + 0.9 * np.eye(len(classes))[called]).astype(np.float32)


MODELS = [
    Trained(n, lv, "window", b"", {}) for n in ("XGB", "RandomForest", "DecisionTree", "CNN") for lv in (1, 2)
]
RIGHT = {"XGB": 0.85, "RandomForest": 0.85, "DecisionTree": 0.6, "CNN": 0.85}


@pytest.fixture
def judge(monkeypatch):
    parts = [part(300, i, split) for i, split in enumerate(("train", "validation", "test"))]
    quiet = parts[2].take(parts[2].y[1] == 0)
    data = DataSet(
        "clouds", "", ("a", "b"), CLASSES, parts[0], parts[1], {"test": parts[2], "quiet": quiet},
        "", "", {"window_s": 10.0},
    )  # fmt: skip

    class Judged(Judge):
        def said(self, one, only=None):
            return {
                (m.detector, m.level): said_of(
                    one, RIGHT[m.detector], CLASSES[m.level], hash_of(m) + len(one)
                )
                for m in self.models
            }

    return Judged(data, MODELS, Scaler.fit(parts[0].x))


def hash_of(model):
    return 7 * list(RIGHT).index(model.detector) + model.level


def test_every_model_and_every_whole_ensemble_of_the_paper_has_a_row(judge):
    rows = judge.judge().rows
    names = {(r["test"], r["level"], r["name"]) for r in rows}
    assert {("test", 2, n) for n in (*RIGHT, "L2_Ens1")} - names == {("test", 2, "L2_Ens1")}  # no hybridML_V1
    assert ("test", 1, "all 4") in names
    assert {n for _, _, n in names if "L1_Ens" in n} == {"L1_Ens1 without RuleSense"}  # no SVM, no LogReg


def test_the_pool_of_independent_members_beats_each(judge):
    rows = {r["name"]: r["accuracy"] for r in judge.judge().rows if r["test"] == "test" and r["level"] == 2}
    assert rows["all 4"] > max(rows[n] for n in RIGHT)


def test_better_members_weigh_more(judge):
    for level in (1, 2):
        weights = judge.weights_of(level)
        assert weights["XGB"] > weights["DecisionTree"]


def test_benign_rows_alone_give_false_alarms_an_hour(judge):
    row = next(
        r for r in judge.judge().rows if r["test"] == "quiet" and r["name"] == "XGB" and r["level"] == 1
    )
    assert 0 < row["false_alarm_rate"] < 0.2
    assert row["false_alarms_per_device_hour"] == pytest.approx(360 * row["false_alarm_rate"])


def test_leak_checks_run_with_every_test(judge):
    found = judge.judge().checks
    assert {(c["test"], c["name"]) for c in found} == {
        (t, n) for t in ("test", "quiet") for n in ("duplicate rows", "session overlap", "time order")
    }


def test_what_others_trained_is_not_checked_against_these_rows(judge):
    strange = type(judge)(judge.data, MODELS, judge.scaler, strange="trained elsewhere").judge().checks
    assert {c["ok"] for c in strange} == {None}
    assert all("trained elsewhere" in c["detail"] for c in strange)


def test_without_validation_all_weigh_the_same(judge):
    data = judge.data
    from dataclasses import replace

    empty = data.validation.take(np.zeros(0, dtype=int))
    blind = type(judge)(replace(data, validation=empty), MODELS, judge.scaler)
    assert set(blind.weights_of(2, ("XGB", "CNN")).values()) == {1.0}


def test_probabilities_of_a_graph_come_in_the_order_of_rows(monkeypatch):
    from cellwatch.models.detectors.catalog import DETECTORS

    one = part(50, 3, "train")
    model = DETECTORS["NaiveBayes"](CLASSES[2], seed=0)
    pool = Scaler.fit(one.x).transform(one.pool)
    model.fit(pool, one.y[2])
    said = judging.probabilities(Trained("NaiveBayes", 2, "window", model.to_onnx(), {}), one, pool)
    np.testing.assert_allclose(said, model.predict_proba(pool), atol=1e-4)
