"""Min-max, TOPSIS, VIKOR and Chebyshev: by hand, by second implementations, on the paper's Table 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwatch.models.evaluation.aggregation import METHODS, chebyshev, min_max, topsis, vikor, weights_of
from cellwatch.models.selection.scores import parse

# Three models, two metrics, weights .6 and .4; everything below follows with pencil and paper.
X = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
W = np.array([0.6, 0.4])


@pytest.fixture(scope="module")
def table(root):
    return parse((root / "config/selection/deepsense_table1.csv").read_text(), "table")


def test_min_max_by_hand():
    x = np.array([[10.0, 4.0], [20.0, 8.0], [15.0, 5.0]])
    assert min_max(x, np.array([False, True])).tolist() == [[0, 1], [1, 0], [0.5, 0.75]]


def test_a_metric_that_tells_nobody_apart_is_1_for_all():
    assert min_max(np.full((3, 2), 7.0), np.array([False, True])).tolist() == [[1, 1]] * 3


def test_nan_stays_and_does_not_count():
    found = min_max(np.array([[np.nan], [2.0], [4.0]]), np.array([False]))
    assert np.isnan(found[0, 0])
    assert found[1:, 0].tolist() == [0, 1]


def test_topsis_by_hand():
    # v = (.6, 0), (0, .4), (.3, .2); best corner (.6, .4), worst (0, 0)
    middle = np.hypot(0.3, 0.2)
    assert topsis(X, W) == pytest.approx([0.6, 0.4, middle / (2 * middle)])


def test_vikor_by_hand():
    # S = .4, .6, .5 and R = .4, .6, .3: S terms 0, 1, .5; R terms 1/3, 1, 0
    assert vikor(X, W) == pytest.approx([1 - 0.5 / 3, 0.0, 0.75])
    assert vikor(X, W, v=1.0) == pytest.approx([1.0, 0.0, 0.5])


def test_chebyshev_by_hand():
    # max w D = .4, .6, .3; sum w D = .4, .6, .5
    assert chebyshev(X, W, rho=0.1) == pytest.approx([1 - 0.44, 1 - 0.66, 1 - 0.35])


@pytest.mark.parametrize("method", METHODS)
def test_equal_models_all_score_1(method):
    x = min_max(np.full((4, 3), 0.3), np.zeros(3, bool))
    assert METHODS[method](x, np.full(3, 1 / 3)).tolist() == [1.0] * 4


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("weights", [(0.4, 0.2, 0.2, 0.2), (0.25, 0.25, 0.25, 0.25), (0.2, 0.3, 0.3, 0.2)])
def test_against_pymcdm_on_table_1(table, level, weights):
    pymcdm = pytest.importorskip("pymcdm")
    from pymcdm.methods import TOPSIS, VIKOR

    values, w, gain = table[level].values, np.array(weights), np.ones(4)
    x = min_max(values, np.zeros(4, bool))
    theirs = TOPSIS(pymcdm.normalizations.minmax_normalization)(values, w, gain)
    assert topsis(x, w) == pytest.approx(theirs, abs=1e-12)
    assert 1 - vikor(x, w) == pytest.approx(VIKOR()(values, w, gain), abs=1e-12)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_chebyshev_against_pymoo_on_table_1(table, level):
    aasf = pytest.importorskip("pymoo.decomposition.aasf").AASF
    w = np.array([0.55, 0.15, 0.15, 0.15])
    x = min_max(table[level].values, np.zeros(4, bool))
    theirs = aasf(eps=0.0, rho=0.05).do(1 - x, weights=1 / w, ideal_point=np.zeros(4))
    assert 1 - chebyshev(x, w, rho=0.05) == pytest.approx(np.ravel(theirs), abs=1e-12)


def test_costs_against_pymcdm():
    pymcdm = pytest.importorskip("pymcdm")
    from pymcdm.methods import TOPSIS

    raw = np.random.default_rng(3).random((9, 5)) * [1, 10, 100, 1, 5]
    cost = np.array([False, True, True, False, True])
    w = weights_of(np.arange(1.0, 6.0))
    theirs = TOPSIS(pymcdm.normalizations.minmax_normalization)(raw, w, np.where(cost, -1, 1))
    assert topsis(min_max(raw, cost), w) == pytest.approx(theirs, abs=1e-12)


@given(st.integers(2, 8), st.integers(1, 5), st.integers(0, 10_000))
def test_scores_lie_in_0_to_1_and_a_better_model_never_scores_less(n, m, seed):
    rng = np.random.default_rng(seed)
    x = min_max(rng.integers(4, size=(n, m)).astype(float), np.zeros(m, bool))
    w = weights_of(rng.random(m) + 0.01)
    worse, better = np.nonzero((x[:, None] <= x[None]).all(axis=2))
    for score in METHODS.values():
        s = score(x, w)
        assert (s[worse] <= s[better] + 1e-12).all()
        assert (s >= -0.0501).all()
        assert (s <= 1 + 1e-12).all()


@pytest.mark.parametrize("parts", [[0.0, 0.0], [1.0, -0.1], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_must_be_weights(parts):
    with pytest.raises(ValueError, match="not all 0"):
        weights_of(np.array(parts))
