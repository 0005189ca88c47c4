"""Places among the last rows."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.ewad.trailing import LEAST, WINDOW, InTime, places
from cellwatch.models.types import F32, F64, Bool


def test_places_against_the_plain_definition() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (90, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    found = places(x, 20)
    for t in range(len(x)):
        for j in range(3):
            past = x[max(0, t - 19) : t, j]
            past = past[~np.isnan(past)]
            if np.isnan(x[t, j]) or len(past) < LEAST:
                assert np.isnan(found[t, j])
            else:
                expected = np.mean((past < x[t, j]) + 0.5 * (past == x[t, j]))
                assert found[t, j] == pytest.approx(expected, abs=1e-6)


def test_nothing_of_the_future_is_used_and_drift_does_not_show() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 2)).astype(np.float32)
    later = x.copy()
    later[150:] += 5
    np.testing.assert_array_equal(places(x)[:150], places(later)[:150])
    np.testing.assert_array_equal(places(x), places(3 * x + 7))


class Keeps:
    """A method that keeps what it learns from, and scores by the first column."""

    NEEDS_LABELS = False
    report = None
    threshold = 0.5

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        self.x, self.y = x, y

    def score(self, x: F32) -> F64:
        return x[:, 0].astype(np.float64)


def test_judged_rows_go_on_from_those_it_learnt_from() -> None:
    x = np.random.default_rng(2).normal(size=(300, 2)).astype(np.float32)
    y: Bool = np.arange(300) % 7 == 0
    inner = Keeps()
    method = InTime(inner)
    method.fit(x[:200], y[:200], ("a", "b"))
    whole = places(x)
    np.testing.assert_array_equal(inner.x, whole[LEAST:200])
    assert inner.y is not None
    np.testing.assert_array_equal(inner.y, y[LEAST:200])
    np.testing.assert_allclose(method.score(x[200:]), whole[200:, 0])
    assert method.threshold == 0.5


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no place among"):
        InTime(Keeps()).fit(np.zeros((LEAST, 2), dtype=np.float32), None, ("a", "b"))
    assert WINDOW > LEAST
