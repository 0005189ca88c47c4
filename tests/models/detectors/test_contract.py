"""Checks that find every detector of the catalogue by themselves."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from cellwatch.models.detectors.catalog import DETECTORS
from cellwatch.models.detectors.ensemble import Ensemble
from cellwatch.models.detectors.scaler import BOUND, Scaler
from cellwatch.models.types import FeatureWindow

CLASSES = ("benign", "fault", "dos")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 12)).astype(np.float32)
    y = np.where(x[:, 0] > 0.8, 1, np.where(x[:, 1] > 0.8, 2, 0)).astype(np.int64)
    return x, y


@pytest.fixture(scope="module", params=sorted(DETECTORS))
def fitted(request, data):
    detector = DETECTORS[request.param](CLASSES, seed=5)
    detector.fit(*data)
    return detector


def test_probabilities(fitted, data):
    x, y = data
    before = x.copy()
    p = fitted.predict_proba(x)
    assert p.shape == (len(x), 3)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(x, before)
    assert (p.argmax(axis=1) == y).mean() > 0.85


def test_rows_do_not_see_each_other(fitted, data):
    x = data[0][:50]
    whole = fitted.predict_proba(x)
    np.testing.assert_allclose(fitted.predict_proba(x[::-1].copy())[::-1], whole, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([fitted.predict_proba(r[None]) for r in x]), whole, atol=1e-5)


def test_same_seed_same_model(fitted, data):
    again = type(fitted)(CLASSES, seed=5)
    again.fit(*data)
    np.testing.assert_array_equal(again.predict_proba(data[0]), fitted.predict_proba(data[0]))


def test_served_graph_computes_the_same(fitted, data):
    session = ort.InferenceSession(fitted.to_onnx())
    served = session.run(["probabilities"], {"x": data[0]})[0]
    np.testing.assert_allclose(served, fitted.predict_proba(data[0]), atol=1e-5)


def test_ensemble_takes_out_a_failing_model_and_goes_on(fitted, data):
    x, _ = data
    scaler = Scaler.fit(x)
    graph = fitted.to_onnx()
    core = Ensemble("s1", {2: CLASSES}, scaler, {(2, "good"): graph, (2, "bad"): graph})
    core._run[2, "bad"] = lambda _: 1 / 0
    w = FeatureWindow(
        1, 0, 1, 1, "s1", ("a", "b"), x[:2], (), np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)
    )
    p = core.judge(w).levels[0].probabilities
    assert np.isfinite(p[:, 0]).all()
    assert np.isnan(p[:, 1]).all()
    assert "bad" in core.failed
    with pytest.raises(ValueError, match=r"s1.*other"):
        core.judge(
            FeatureWindow(
                1, 0, 1, 1, "other", ("a",), x[:1], (), np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)
            )
        )


def test_scaler_fills_bounds_and_survives_json():
    x = np.array([[1, np.nan, 5], [2, np.nan, 5], [1e30, np.nan, np.inf]], np.float32)
    scaler = Scaler.fit(x[:2])
    z = scaler.transform(x)
    assert np.isfinite(z).all()
    assert np.abs(z).max() <= BOUND
    np.testing.assert_array_equal(Scaler.from_dict(scaler.to_dict()).transform(x), z)
