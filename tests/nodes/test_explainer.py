"""The explainer on real served graphs: it finds the feature that matters, beside the hot path."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from cellwatch.models.detectors.catalog import DETECTORS
from cellwatch.models.detectors.merged import ServedGraph
from cellwatch.nodes.explainer import AGAIN_S, Explainer, method

FEATURES = tuple(f"feature{k}" for k in range(6))


@pytest.fixture(scope="module")
def graphs():
    """Two models that saw attacks move feature2 only."""
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (600, 6)).astype(np.float32)
    y = np.arange(600) % 2
    x[y == 1, 2] += 6
    out = []
    for name in ("RandomForest", "LogReg"):
        model = DETECTORS[name](("benign", "attack"), 0)
        model.fit(x, y.astype(np.int64))
        out.append(ServedGraph(1, name, "window", model.to_onnx()))
    return out


def attacked():
    sequence = np.full((8, 6), 0.1, np.float32)
    sequence[-1, 2] = 6.0
    return sequence


def wait(explainer):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = explainer.take()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("no answer")


def test_the_feature_that_matters_comes_first(graphs):
    explainer = Explainer(graphs, {"LogReg": 2.0}, FEATURES)
    assert explainer.take() is None
    assert explainer.offer(7, 70, "PLC1", attacked(), 0.0)
    found = wait(explainer)
    explainer.close()
    assert (found.window_id, found.end_ns, found.device) == (7, 70, "PLC1")
    feature, share = found.contributions[0]
    assert feature == "feature2"
    assert share > 0.5
    assert explainer.take() is None


def test_one_at_a_time_and_no_device_twice_in_a_row(graphs):
    explainer = Explainer(graphs, {}, FEATURES)
    assert explainer.offer(1, 0, "a", attacked(), 0.0)
    assert not explainer.offer(1, 0, "b", attacked(), 0.0)  # busy
    wait(explainer)
    assert not explainer.offer(2, 0, "a", attacked(), AGAIN_S / 2)
    assert explainer.offer(2, 0, "b", attacked(), AGAIN_S / 2)
    wait(explainer)
    assert explainer.offer(3, 0, "a", attacked(), AGAIN_S + 1)
    wait(explainer)
    explainer.close()


def test_a_model_that_fails_says_so_and_the_next_question_is_heard(graphs):
    explainer = Explainer(graphs, {}, FEATURES)
    assert explainer.offer(1, 0, "a", np.zeros((8, 3), np.float32) + 1, 0.0)
    with pytest.raises(Exception, match=r"."):
        wait(explainer)
    assert explainer.offer(2, 0, "b", attacked(), 1.0)
    wait(explainer)
    explainer.close()


def test_trees_are_asked_for_shap_and_the_others_for_occlusion():
    assert {n: method(n) for n in ("XGB", "RandomForest", "CNN")} == {
        "XGB": "shap",
        "RandomForest": "shap",
        "CNN": "occlusion",
    }
