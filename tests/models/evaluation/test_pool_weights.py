import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellwatch.models.detectors.catalog import DETECTORS
from cellwatch.models.evaluation.pool import TABLE_2, pool_weights


def loss(truth, w):
    return -np.log(truth @ w).mean()


def test_weights_beat_equal_weights_and_every_member():
    rng = np.random.default_rng(5)
    good = rng.uniform(0.05, 1.0, (500, 3))  # each is right on rows of its own
    w = pool_weights(good)
    best = loss(good, w)
    assert best <= loss(good, np.full(3, 1 / 3)) + 1e-9
    assert all(best <= loss(good, np.eye(3)[i]) + 1e-9 for i in range(3))


@given(arrays(np.float64, (20, 4), elements=st.floats(0, 1)))
def test_weights_are_a_distribution(truth):
    w = pool_weights(truth)
    assert np.isfinite(w).all()
    assert (w >= 0).all()
    assert abs(w.sum() - 1) < 1e-9


def test_a_model_that_never_gave_the_truth_a_chance_weighs_nothing():
    assert pool_weights(np.tile([0.6, 0.0], (50, 1)))[1] < 1e-3


def test_the_papers_ensembles_are_made_of_known_detectors():
    members = {name for level in TABLE_2.values() for each in level.values() for name in each}
    assert members - {"rulesense"} <= set(DETECTORS)
