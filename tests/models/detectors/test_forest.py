"""Packed trees say what the libraries' trees say; bins, grids and samples keep their promises."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from cellwatch.models.detectors.bins import Bins
from cellwatch.models.detectors.forest import Forest, Tree
from cellwatch.models.detectors.grid import on_grid, to_grid
from cellwatch.models.detectors.subsample import subsample, worth
from cellwatch.models.detectors.trees import from_sklearn
from cellwatch.models.detectors.weights import class_weights
from cellwatch.models.detectors.xgb import _raw_trees, _tree


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5)).astype(np.float32)
    x[:, 4] = rng.integers(0, 3, 500)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] * x[:, 2] > 0.3) + (x[:, 4] == 2)
    return x, y


def test_codes_count_the_cuts_below(data):
    x, _ = data
    bins = Bins.fit(x, 16)
    codes = bins.codes(x)
    for k, cuts in enumerate(bins.cuts):
        assert (np.diff(cuts) > 0).all()
        assert len(cuts) < 16
        np.testing.assert_array_equal(codes[:, k], (x[:, k, None] > cuts).sum(axis=1))
    assert len(bins.cuts[4]) == 2


def test_a_forest_is_its_sklearn_trees(data):
    x, y = data
    bins = Bins.fit(x, 32)
    codes = bins.codes(x).astype(np.float32)
    trees = [
        DecisionTreeClassifier(max_features=2, max_leaf_nodes=leaves, random_state=leaves).fit(codes, y)
        for leaves in (2, 7, 60)
    ]
    known = np.array([1, 3, 4, 6])
    packed = Forest.pack([from_sklearn(t.tree_, known, kept=4) for t in trees], bins, classes=8)
    expected = sum(t.predict_proba(codes) for t in trees)
    scores = packed.scores(x)
    np.testing.assert_allclose(scores[:, known], expected, atol=2e-3)  # leaf values have 16 bits
    assert not scores[:, [0, 2, 5, 7]].any()
    assert len(packed.value) == sum(t.get_n_leaves() for t in trees)


def test_a_forest_is_its_xgboost_trees(data):
    import xgboost

    x, y = data
    bins = Bins.fit(x, 32)
    codes = bins.codes(x).astype(np.float32)
    rows = xgboost.QuantileDMatrix(codes, y, max_bin=256)
    booster = xgboost.train(
        {"objective": "multi:softprob", "num_class": 4, "base_score": 0.0, "max_depth": 3, "nthread": 1},
        rows,
        5,
    )
    trees = [_tree(raw, n % 4) for n, raw in enumerate(_raw_trees(booster))]
    margins = booster.predict(xgboost.DMatrix(codes), output_margin=True)
    np.testing.assert_allclose(Forest.pack(trees, bins, 4).scores(x), margins, atol=5e-3)


def test_a_tree_that_is_one_leaf(data):
    x, _ = data
    none = np.array([-1])
    leaf = Tree(none, none, np.array([0]), np.array([0]), np.array([[0.5]]), np.array([[2]]))
    split = Tree(
        np.array([1, -1, -1]), np.array([2, -1, -1]), np.array([0, 0, 0]), np.array([2, 0, 0]),
        np.array([[0.0], [1.0], [2.0]]), np.array([[0], [0], [1]]),
    )  # fmt: skip
    bins = Bins.fit(x, 8)
    scores = Forest.pack([leaf, split], bins, 3).scores(x)
    right = x[:, 0] > bins.cuts[0][2]
    np.testing.assert_array_equal(scores, np.stack([~right * 1.0, right * 2.0, np.full(len(x), 0.5)], axis=1))


@pytest.mark.parametrize("over", [(1,), (0,), (1, 2)])
def test_rounding_is_within_half_a_step_and_final(over):
    weights = np.random.default_rng(1).normal(size=(6, 5, 4)).astype(np.float32)
    weights[0] = 0
    _, scale = to_grid(weights, over)
    once = on_grid(weights, over)
    assert (np.abs(once - weights) <= scale / 2 + 1e-6).all()
    np.testing.assert_allclose(on_grid(once, over), once, atol=1e-7)


def test_a_sample_keeps_rare_classes_and_stands_for_all():
    y = np.r_[np.zeros(900, np.int64), np.ones(90, np.int64), np.full(10, 2)]
    chosen = subsample(y, 100, seed=1)
    assert len(chosen) <= 100
    assert (np.diff(chosen) > 0).all()
    assert (y[chosen] == 2).sum() == 10
    np.testing.assert_array_equal(chosen, subsample(y, 100, seed=1))
    assert set(chosen) != set(subsample(y, 100, seed=2))
    weight = worth(y, chosen, 4)
    np.testing.assert_allclose(
        [weight[k] * (y[chosen] == k).sum() for k in range(4)], class_weights(y, 4) * [900, 90, 10, 0]
    )
