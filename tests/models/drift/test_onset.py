"""When a drift began."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.drift.onset import onset


@pytest.mark.parametrize("which", ["loss", "errors"])
def test_a_step_is_found_where_it_is(which):
    random = np.random.default_rng(0)
    loss, wrong = random.exponential(0.3, 4000), random.random(4000) < 0.1
    if which == "loss":
        loss[3000:] += 0.3
    else:
        wrong[3000:] = random.random(1000) < 0.4
    assert abs(onset(loss, wrong) - 3000) < 60


def test_an_exact_step():
    loss = np.repeat([0.0, 1.0], [100, 60])
    assert onset(loss, loss > 2) == 100


def test_a_fall_is_no_onset():
    random = np.random.default_rng(1)
    loss = np.concatenate([random.normal(3, 1, 200), random.normal(1, 1, 1300), random.normal(2, 1, 500)])
    assert abs(onset(loss, loss > 99) - 1500) < 60
    assert onset(-np.arange(100.0), np.zeros(100, bool)) == 50


@pytest.mark.parametrize("n", [0, 1, 49])
def test_few_samples_are_halved(n):
    assert onset(np.ones(n), np.zeros(n, bool)) == n // 2
