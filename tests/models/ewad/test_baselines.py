"""Every detector in the comparison, on rows with planted anomalies and missing numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cellwatch.models.evaluation.anomalies import ranking
from cellwatch.models.ewad import catalog, head
from cellwatch.models.ewad.baselines import supervised
from cellwatch.models.ewad.noise import Noise
from cellwatch.models.ewad.settings import EwadSettings

COLUMNS = tuple(f"c{j}" for j in range(8))
TINY = EwadSettings(epochs=30, hidden=16, latent=3, critic_steps=2, batch=64, members=3)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(catalog, "settings_for", lambda _: TINY)
    monkeypatch.setattr(supervised, "TREES", 40)
    monkeypatch.setattr(supervised, "ROUNDS", 30)
    monkeypatch.setattr(head, "TREES", 60)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small nets wait for each other otherwise
    yield
    torch.set_num_threads(threads)


def cloud(n, seed, share=0.15):
    """Correlated normal rows, anomalies three deviations off on some columns; some numbers missing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) @ np.random.default_rng(0).normal(size=(3, 8)) + 0.3 * rng.normal(size=(n, 8))
    y = rng.random(n) < share
    x[y, :4] += 3.5
    x[rng.random(x.shape) < 0.02] = np.nan
    return x.astype(np.float32), y


@pytest.mark.parametrize("name", catalog.methods("any"))
def test_finds_planted_anomalies(name):
    x, y = cloud(400, 1)
    other, truth = cloud(300, 2)
    method = catalog.methods("any")[name](0)
    method.fit(x, y, COLUMNS)
    score = method.score(other)
    assert score.shape == (300,)
    assert np.isfinite(score).all()
    assert ranking(truth, score).auc > 0.75
    assert 0 < (score > method.threshold).mean() < 0.7


@pytest.mark.parametrize("name", [n for n in catalog.methods("any") if n not in {"GAN", "WGAN", "ewad"}])
def test_the_same_seed_gives_the_same_scores(name):
    x, y = cloud(200, 3)
    said = []
    for _ in range(2):
        method = catalog.methods("any")[name](4)
        method.fit(x, y, COLUMNS)
        said.append(method.score(x))
    np.testing.assert_allclose(*said, rtol=1e-12)  # threads of a forest add up in any order


@pytest.mark.parametrize("name", ["IsolationForest", "KMeans", "DeepSVDD", "f-AnoGAN", "ewad_unsupervised"])
def test_without_labels_known_anomalies_teach_nothing(name):
    x, y = cloud(300, 5)
    wild = x.copy()
    wild[y] = 1e3
    said = []
    for rows in (x, wild):
        method = catalog.methods("any")[name](0)
        method.fit(rows, y, COLUMNS)
        said.append(method.score(x[~y]))
    np.testing.assert_array_equal(*said)


@pytest.mark.parametrize("name", ["DecisionTree", "LogisticRegression"])
def test_a_classifier_needs_known_anomalies(name):
    x, y = cloud(100, 6)
    for labels in (None, np.zeros(len(y), dtype=bool)):
        with pytest.raises(ValueError, match="known anomalies"):
            catalog.methods("any")[name](0).fit(x, labels, COLUMNS)


def test_too_few_normal_rows_are_refused():
    x, _ = cloud(15, 7)
    with pytest.raises(ValueError, match="normal rows"):
        catalog.methods("any")["KMeans"](0).fit(x, None, COLUMNS)


@pytest.mark.parametrize("name", ["ewad with SMOTE", "ewad with SMOTE + WGAN-GP", "RandomForest with SMOTE"])
def test_made_up_anomalies_reach_training_only(name, monkeypatch):
    x, y = cloud(200, 8)
    seen = []

    class Spy:
        threshold, report = 1.0, None

        def fit(self, rows, labels, columns):
            seen.append((rows, labels, columns))

        def score(self, rows):
            return rows[:, 0].astype(np.float64)

    monkeypatch.setattr(catalog.supervised, "random_forest", lambda _: Spy())
    monkeypatch.setattr(catalog, "LabelAware", lambda settings, seed: Spy())
    method = catalog.ablation("any")[name](0)
    method.fit(x, y, COLUMNS)
    ((rows, labels, columns),) = seen
    assert len(rows) > len(x)
    assert abs(labels.sum() / (~labels).sum() - 0.5) < 0.02
    assert np.isfinite(rows).all()
    assert len(columns) == rows.shape[1]
    assert len(method.score(x)) == len(x)


def test_sizes_are_the_papers():
    assert list(catalog.sizes("any")) == ["I = 3", "I = 4", "I = 5", "I = 6", "I = 7"]
    method = catalog.sizes("any")["I = 4"](0)
    x, y = cloud(200, 9)
    method.fit(x, y, COLUMNS)
    assert len(method.report.depths) == 4


def test_ablation_leaves_out_one_thing_at_a_time(monkeypatch):
    monkeypatch.setattr(catalog, "Unsupervised", lambda settings, seed: settings)
    rows = catalog.ablation("any")
    assert rows["latent optimisation"](0) == replace(TINY, inverse="latent")
    assert rows["single WGAN-GP"](0) == replace(TINY, members=1, depths=(4,))
    assert rows["weights clipped"](0) == replace(TINY, kind="wgan")


def test_drift_and_images_are_told_by_places_and_strokes():
    x, y = cloud(150, 10)
    for data, protocol, kind in (("mnist", "honest", "OfImages"), ("secom", "time", "InTime")):
        every = catalog.methods(data, protocol) | catalog.ablation(data, protocol)
        told = {name for name, make in every.items() if type(make(0)).__name__ == kind}
        assert {"ewad", "ewad_unsupervised", "latent optimisation"} <= told
        assert not {"KMeans", "WGAN-GP"} & told
        word = {"OfImages": "strokes", "InTime": "places"}[kind]
        assert f"KMeans, {word}" in told
        assert f"ewad, no {word}" not in told
    method = catalog.methods("secom", "time")["ewad_unsupervised"](0)
    method.fit(x, y, COLUMNS)
    np.testing.assert_allclose(method.score(x + 100), method.score(x + 200), rtol=1e-6)
    assert not {type(make(0)).__name__ for make in catalog.methods("secom").values()} & {"InTime"}


def test_noise_is_in_the_units_of_training():
    rng = np.random.default_rng(0)
    train = (rng.uniform(size=(4000, 2)) * [1, 50] + [0, 1000]).astype(np.float32)
    train[::7, 0] = np.nan
    x = np.zeros((20_000, 2), dtype=np.float32)
    x[5, 1] = np.nan
    found = Noise("sigma", 0.2).add(x, train, 1)
    np.testing.assert_allclose(np.nanstd(found, axis=0), [0.2, 10], rtol=0.03)
    assert np.isnan(found[5, 1])
    assert np.isnan(found).sum() == 1
    power = np.nanvar(train, axis=0) / np.nanvar(Noise("snr_db", 12).add(x, train, 1), axis=0)
    np.testing.assert_allclose(10 * np.log10(power), 12, atol=0.2)
    np.testing.assert_array_equal(found, Noise("sigma", 0.2).add(x, train, 1))
