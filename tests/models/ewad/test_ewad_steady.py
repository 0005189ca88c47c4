"""Means of the last rows, without columns that drift."""

from __future__ import annotations

import numpy as np

from cellwatch.models.ewad.steady import WINDOW, Steady, steady_columns, trailing_mean


class Mean:
    """Scores a row by the sum of its numbers; keeps what it was fitted on."""

    NEEDS_LABELS = False
    report, threshold = None, 0.5

    def fit(self, x, y, columns):
        self.x, self.y, self.columns = x, y, columns

    def score(self, x):
        return np.nansum(x, axis=1).astype(float)


def test_a_column_that_moves_in_training_is_left_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    x[:, 1] += np.linspace(0, 10, 200)
    x[::3, 2] = np.nan
    assert steady_columns(x).tolist() == [True, False, True]
    assert steady_columns(x[:, 1:2]).tolist() == [True]  # better than nothing
    assert steady_columns(np.full((4, 1), np.nan, np.float32)).tolist() == [True]


def test_scored_rows_go_on_from_the_training_rows():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 2)).astype(np.float32)
    method = Steady(Mean())
    method.fit(x[:40], None, ("a", "b"))
    whole = trailing_mean(x).sum(axis=1)
    assert method._method.columns == ("a", "b")
    np.testing.assert_allclose(method.score(x[40:]), whole[40:], atol=1e-5)
    np.testing.assert_allclose(trailing_mean(x)[30], x[31 - WINDOW : 31].mean(axis=0), atol=1e-6)


def test_missing_numbers_do_not_count():
    x = np.full((20, 1), np.nan, np.float32)
    x[4] = 6.0
    mean = trailing_mean(x)[:, 0]
    assert np.isnan(mean[:4]).all()
    assert (mean[4:14] == 6).all()
    assert np.isnan(mean[14:]).all()
