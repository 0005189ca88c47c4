"""The self-starting limit."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.drift.chart import Chart


def test_the_limit_by_hand():
    chart = Chart(reference=5, alpha=0.05, least=5)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        assert not chart.step(np.array([value])).any()
    # mean 3, deviation sqrt(2.5), t(0.95, 4) = 2.1318
    assert chart.limit[0] == pytest.approx(3 + 2.1318 * np.sqrt(2.5) * np.sqrt(1.2), abs=1e-3)


def test_nothing_is_over_before_there_are_enough():
    chart = Chart(reference=20, alpha=0.01, least=5)
    assert [bool(chart.step(np.array([v]))[0]) for v in (0.1, 0.2, 0.1, 0.2, 99.0)] == [False] * 5
    assert np.isfinite(chart.limit).all()


def test_the_ceiling_holds_from_the_first_value_on():
    chart = Chart(2, reference=20, alpha=0.01, ceiling=(0.5, np.inf))
    assert chart.limit.tolist() == [0.5, np.inf]
    assert chart.step(np.array([0.6, 0.6])).tolist() == [True, False]
    for value in (0.1, 0.4, 0.2, 0.45, 0.3):
        chart.step(np.array([value, value]))
    assert chart.limit[0] == 0.5 < chart.limit[1]  # its own limit would be above it


def test_what_is_over_does_not_join_the_reference():
    chart = Chart(reference=50, alpha=0.01)
    random = np.random.default_rng(0)
    for value in random.normal(size=10):
        chart.step(np.array([value]))
    before = chart.limit
    assert chart.step(np.array([100.0])).all()
    assert chart.limit == before


def test_the_reference_ends():
    chart = Chart(reference=5, alpha=0.01)
    for value in (1.0, 2.0, 1.0, 2.0, 1.0):
        chart.step(np.array([value]))
    assert not chart.learning.any()
    before = chart.limit
    chart.step(np.array([1.5]))
    assert chart.limit == before


def test_series_are_apart_and_nan_is_passed_over():
    chart = Chart(2, reference=10, alpha=0.01)
    random = np.random.default_rng(1)
    for value in random.normal(size=10):
        chart.step(np.array([value, np.nan]))
    assert np.isfinite(chart.limit[0])
    assert np.isinf(chart.limit[1])
    assert chart.step(np.array([50.0, 50.0])).tolist() == [True, False]


def test_many_series_share_the_chance_of_a_false_signal():
    random = np.random.default_rng(2)
    chart = Chart(200, reference=30, alpha=0.05)
    for _ in range(30):
        chart.step(random.normal(size=200))
    any_over = [chart.step(random.normal(size=200)).any() for _ in range(400)]
    assert np.mean(any_over) < 0.15


def test_a_constant_needs_the_floor_to_move():
    charts = [Chart(reference=5, alpha=0.01, floor=floor) for floor in (0.0, 1.0)]
    for chart in charts:
        for _ in range(5):
            chart.step(np.array([1.0]))
    assert [bool(chart.step(np.array([1.1]))[0]) for chart in charts] == [True, False]


@pytest.mark.parametrize(
    "wrong", [{"reference": 3}, {"alpha": 0.0}, {"alpha": 1.0}, {"least": 1}, {"series": 0}]
)
def test_impossible_charts(wrong):
    with pytest.raises(ValueError, match="chart"):
        Chart(**({"reference": 20, "alpha": 0.01} | wrong))
