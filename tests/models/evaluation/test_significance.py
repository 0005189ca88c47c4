"""McNemar, DeLong and the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.significance import bootstrap, delong, drawn_confusions, interval, mcnemar


def test_mcnemar_exact_by_hand():
    a = np.array([1] * 8 + [0] * 1 + [1] * 20, bool)
    b = np.array([0] * 8 + [1] * 1 + [1] * 20, bool)
    found = mcnemar(a, b)
    assert found.value == pytest.approx(7 / 29)
    assert found.p == pytest.approx(2 * (1 + 9) / 2**9)  # two-sided binomial, 8 or more of 9


def test_mcnemar_by_chi_square():
    a = np.array([1] * 30 + [0] * 10, bool)
    assert mcnemar(a, ~a).p == pytest.approx(0.00266, abs=2e-5)  # (|30 - 10| - 1)^2 / 40 = 9.025
    assert mcnemar(a, a).p == 1


def test_delong_value_is_the_difference_of_the_areas():
    rng = np.random.default_rng(0)
    attacked = rng.random(300) < 0.4
    a, b = attacked + rng.normal(size=300), attacked + rng.normal(scale=3, size=300).round(1)
    from sklearn.metrics import roc_auc_score

    found = delong(attacked, a, b)
    assert found.value == pytest.approx(roc_auc_score(attacked, a) - roc_auc_score(attacked, b))
    assert found.p < 0.01
    assert delong(attacked, b, a).p == pytest.approx(found.p)


def test_delong_by_hand():
    # attacked 3, 1 and benign 2, 0 by a: placements 1, .5 and .5, 1; b orders them the other way round
    attacked = np.array([True, True, False, False])
    a, b = np.array([3.0, 1.0, 2.0, 0.0]), np.array([0.0, 2.0, 1.0, 3.0])
    found = delong(attacked, a, b)
    assert found.value == pytest.approx(0.75 - 0.25)
    # differences 1, 0 and 0, 1: variance .5 on each side, z = .5 / sqrt(.25 + .25)
    assert found.p == pytest.approx(0.4795, abs=1e-4)


def test_delong_holds_its_level():
    rng = np.random.default_rng(1)
    attacked = np.arange(200) < 80
    p = [delong(attacked, rng.normal(size=200), rng.normal(size=200)).p for _ in range(200)]
    assert 0.015 <= np.mean(np.array(p) < 0.05) <= 0.1


def test_delong_where_it_is_not_defined():
    attacked = np.array([True, False])
    assert delong(attacked, np.array([2.0, 1.0]), np.array([5.0, 1.0])).p == 1
    assert np.isnan(delong(np.array([True, True]), np.ones(2), np.ones(2)).p)


def test_bootstrap_draws_whole_groups():
    group = np.array(["a"] * 5 + ["b"] * 5)
    drawn = []

    def figure(rows):
        drawn.append(sorted(np.bincount(rows, minlength=10).tolist()))
        return float(rows.mean())

    low, high = bootstrap(figure, group, seed=3, draws=50)
    assert (low, high) == (2.0, 7.0)  # only a, or only b
    assert {tuple(d) for d in drawn} == {(0,) * 5 + (2,) * 5, (1,) * 10}


def test_bootstrap_of_a_mean_is_as_wide_as_it_should_be():
    x = np.random.default_rng(5).normal(size=400)
    low, high = bootstrap(lambda rows: float(x[rows].mean()), np.arange(400), seed=0)
    assert high - low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.1)
    assert low < x.mean() < high


def test_bootstrap_of_nothing_defined():
    assert np.isnan(bootstrap(lambda _: float("nan"), np.arange(3), seed=0, draws=5)).all()


def test_drawn_confusions_are_sums_of_whole_groups():
    groups = np.array([[[10, 0], [0, 0]], [[0, 0], [0, 1]]])
    drawn = drawn_confusions(groups, seed=0, draws=200)
    assert {tuple(m.ravel().tolist()) for m in drawn} == {(20, 0, 0, 0), (10, 0, 0, 1), (0, 0, 0, 2)}


def test_drawn_confusions_of_one_group_are_as_wide_as_rows_say():
    drawn = drawn_confusions(np.array([[[60, 40], [0, 0]]]), seed=0, draws=4000)
    accuracy = drawn[:, 0, 0] / drawn.sum(axis=(1, 2))
    assert accuracy.std() == pytest.approx(np.sqrt(0.6 * 0.4 / 100), rel=0.1)
    low, high = interval(accuracy)
    assert low < 0.6 < high


def test_interval_of_nothing():
    assert np.isnan(interval(np.full(3, np.nan))).all()
