"""SHAP and occlusion against cases whose answer is known."""

from __future__ import annotations

import doctest
import math
from itertools import permutations

import numpy as np
import pytest

from cellwatch.models.fusion import attribution as module
from cellwatch.models.fusion.attribution import Explained, occlusion, shapley, top_contributions

FEATURES = ("a", "b", "c", "d")


def linear(x):
    return 0.1 + x @ np.array([0.3, -0.1, 0.0, 0.05], np.float32)


def tree(x):
    """Three features have to act together."""
    return np.where((x[:, 0] > 0.5) & (x[:, 1] > 0.5) & (x[:, 3] <= 0.5), 0.9, 0.2)


def exact(attack, window, baseline):
    """SHAP by its definition: the mean over all orders."""
    out = np.zeros(len(window))
    for order in permutations(range(len(window))):
        x = baseline.copy()
        for k in order:
            before = attack(x[None])[0]
            x[k] = window[k]
            out[k] += attack(x[None])[0] - before
    return out / math.factorial(len(window))


def test_doctests():
    assert doctest.testmod(module).failed == 0


def test_of_a_linear_model_both_methods_give_its_terms():
    x, normal = np.array([1, 2, 3, 4], np.float32), np.array([0, 1, 0, 4], np.float32)
    want = [0.3, -0.1, 0.0, 0.0]
    assert shapley(linear, x, normal).tolist() == pytest.approx(want, abs=1e-6)
    assert occlusion(linear, x, normal).tolist() == pytest.approx(want, abs=1e-6)


def test_shap_adds_up_and_comes_near_its_definition():
    x, normal = np.array([1, 1, 1, 0], np.float32), np.array([0, 0, 0, 1], np.float32)
    few, many = shapley(tree, x, normal, pairs=1), shapley(tree, x, normal, pairs=400)
    assert few.sum() == pytest.approx(0.7)
    assert many.tolist() == pytest.approx(exact(tree, x, normal).tolist(), abs=0.02)
    assert many[2] == 0.0


def test_one_pair_is_exact_where_two_features_act_together():
    def pair(x):
        return x[:, 0] * x[:, 1] + 0.5 * x[:, 2]

    x, normal = np.array([0.7, 0.9, 0.4, 0.0], np.float32), np.zeros(4, np.float32)
    for seed in range(3):
        assert shapley(pair, x, normal, pairs=1, seed=seed).tolist() == pytest.approx(
            exact(pair, x, normal).tolist(), abs=1e-6
        )


def test_a_sequence_is_taken_feature_by_feature_over_all_its_windows():
    def last_two(x):
        return x[:, -1, 0] + 0.5 * x[:, -2, 1]

    x = np.zeros((8, 4), np.float32)
    x[-1, 0], x[-2, 1], x[0, 2] = 0.6, 0.4, 5.0
    normal = np.zeros((8, 4), np.float32)
    for ask in (shapley, occlusion):
        assert ask(last_two, x, normal).tolist() == pytest.approx([0.6, 0.2, 0.0, 0.0], abs=1e-6)


def test_a_window_like_the_baseline_has_nothing_to_tell():
    x = np.ones(4, np.float32)
    assert shapley(linear, x, x).tolist() == occlusion(linear, x, x).tolist() == [0.0] * 4


def test_models_are_weighted_and_the_window_is_left_alone():
    x = np.array([1, 1, 0, 0], np.float32)
    kept = x.copy()
    models = [
        Explained("XGB", 3.0, tree, x, "shap"),
        Explained("CNN", 1.0, lambda s: s[:, -1, 3] + s[:, -1, 1] * 0.4, np.tile(x, (8, 1)), "occlusion"),
    ]
    found = top_contributions(models, np.zeros(4, np.float32), FEATURES, top=2)
    # tree: a and b share 0.7 evenly; network: b gives 0.4
    assert [f for f, _ in found] == ["b", "a"]
    assert [s for _, s in found] == pytest.approx([0.75 * 0.35 + 0.25 * 0.4, 0.75 * 0.35], abs=1e-6)
    assert (x == kept).all()
    assert top_contributions([], np.zeros(4, np.float32), FEATURES) == []


def test_the_same_seed_gives_the_same_answer():
    x, normal = np.array([1, 1, 1, 0], np.float32), np.array([0, 0, 0, 1], np.float32)
    assert (
        shapley(tree, x, normal, pairs=1, seed=4).tolist()
        == shapley(tree, x, normal, pairs=1, seed=4).tolist()
    )
