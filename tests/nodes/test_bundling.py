"""What goes into a bundle: the levels that were trained, and a fusion fitted on all validation windows."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.datasets.dataset import from_sessions
from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.fusion.fit import FusionFit
from cellwatch.models.registry.bundle import write
from cellwatch.nodes.bundling import bundle
from cellwatch.nodes.judging import Judge
from cellwatch.nodes.trainer import data_digest, place_of, scaler_of, train

CLASSES = ("benign", "dos/syn-flood", "fault/pump_wear")
NAMES = ("NaiveBayes", "LogReg")


def session(split, seed, windows=60, devices=4):
    """Windows of 10 s; on each device a stretch of each class, the first number says which."""
    rng = np.random.default_rng(seed)
    y = np.zeros((windows, devices), dtype=np.int16)
    for d in range(devices):
        for k, first in enumerate(rng.choice(5, 2, replace=False) * 12):
            y[first : first + 6, d] = k + 1
    values = rng.normal(size=(windows, devices, 3)).astype(np.float32)
    values[..., 0] += 4 * y
    start = 10_000_000_000 * np.arange(windows, dtype=np.int64)
    which = np.where(y > 0, y - 1, -1).astype(np.int16)
    return SessionWindows(
        f"{split}-{seed}", split, seed, tuple("abcd"[:devices]), start, values, y, np.ones(y.shape, bool),
        which, np.array([0.2, 0.8], dtype=np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    sessions = [session(s, i) for i, s in enumerate(("train", "train", "validation", "validation", "test"))]
    return from_sessions(
        sessions, CLASSES, ("a", "b", "c"), name="n", about="", fingerprint="", benign=60,
        facts={"site": "plant", "window_s": 10.0},
    )  # fmt: skip


def bundled(data, levels, folder):
    jobs = [(name, level) for level in levels for name in NAMES]
    found = train(data, jobs, folder / "cache", workers=1)
    judge = Judge(data.only(levels), found, scaler_of(data))
    return bundle(data, found, judge, seed=0, serve_all=True, beside={})


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_level_alone_makes_a_whole_bundle(data, tmp_path, level):
    manifest, files = bundled(data, (level,), tmp_path)
    assert list(manifest.classes) == [str(level)]
    assert ("fusion.json" in files) == (level == 1)
    assert manifest.lineage["digest"] == data_digest(data)
    assert write(tmp_path / "m", manifest, files)


def test_the_fusion_is_fitted_on_every_validation_window(data, tmp_path):
    _, files = bundled(data, (1, 2, 3), tmp_path)
    fit = FusionFit.from_json(files["fusion.json"].decode())
    assert len(data.validation) < fit.windows == len(data.running) == 2 * 60 * 4
    benign = float((data.running.y[1] == 0).mean())
    assert fit.budget.hours == pytest.approx(2 * 600 / 3600 * benign / 2, rel=0.1)  # on half of the streams
    assert fit.budget.alarms <= fit.budget.per_hour * fit.budget.hours


def test_another_folder_gives_the_same_files(data, tmp_path):
    made = [
        bundled(replace(data, facts={**data.facts, "folder": str(place)}), (1,), place)[1]
        for place in (tmp_path / "a", tmp_path / "b")
    ]
    assert made[0] == made[1]
    assert "folder" not in json.loads(made[0]["L1-LogReg.card.json"])["data"]


def test_rows_of_classes_that_nobody_knows_teach_level_1_alone(data, tmp_path):
    unknown = {level: y.copy() for level, y in data.running.y.items()}
    attacked = np.flatnonzero(unknown[1] > 0)[::3]
    unknown[2][attacked] = unknown[3][attacked] = -1
    asked = {level: y.copy() for level, y in data.train.y.items()}
    rows = np.flatnonzero(asked[1] > 0)[::3]
    asked[3][rows] = -1
    changed = replace(
        data, train=replace(data.train, y=asked), running=replace(data.running, y=unknown)
    )  # of the validation all classes stay known
    found = train(changed, [("NaiveBayes", 1), ("NaiveBayes", 3)], tmp_path, workers=1)
    rows_learnt = {one.level: one.card["rows"]["train"] for one in found}
    assert rows_learnt == {1: len(data.train), 3: len(data.train) - len(rows)}
    changed = changed.only((1, 3))
    judge = Judge(changed, found, scaler_of(changed))
    _, files = bundle(changed, found, judge, seed=0, serve_all=True, beside={})
    fit = FusionFit.from_json(files["fusion.json"].decode())
    assert fit.windows == len(data.running)
    assert fit.weights["L3/NaiveBayes"] > 0


def test_a_given_choice_is_served_and_a_given_budget_is_kept(data, tmp_path):
    jobs = [(name, 1) for name in NAMES]
    found = train(data, jobs, tmp_path, workers=1)
    judge = Judge(data.only((1,)), found, scaler_of(data))
    manifest, files = bundle(
        data, found, judge, seed=0, serve_all=True, beside={}, serve={"1": ["LogReg"]}, budgets=(7.0,)
    )
    assert manifest.serve == {"1": ["LogReg"]}
    assert manifest.weights["1"]["NaiveBayes"] == 0
    assert FusionFit.from_json(files["fusion.json"].decode()).budget.per_hour == 7.0


def test_another_scaler_makes_other_models_and_another_place(data, tmp_path):
    theirs = scaler_of(data)
    ours = replace(theirs, centre=theirs.centre + 1.0)
    assert place_of(data, tmp_path, 0) != place_of(data, tmp_path, 0, ours)
    one, other = (train(data, [("LogReg", 1)], tmp_path, workers=1, scaler=s)[0] for s in (None, ours))
    assert one.graph != other.graph
