"""Scenario A or B."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cellwatch.models.drift.attribution import Rates, attribute


def test_rates_by_hand():
    attack = np.array([0, 0, 0, 0, 1, 1], bool)
    wrong = np.array([1, 0, 0, 0, 1, 0], bool)
    rates = Rates.of(attack, wrong)
    assert rates == Rates(benign=4, false_alarms=1, attacks=2, misses=1)
    assert (rates.fpr, rates.fnr) == (0.25, 0.5)
    assert math.isnan(Rates.of(~attack[4:], wrong[4:]).fnr)


@pytest.mark.parametrize(
    ("before", "after", "scenario"),
    [
        ((1000, 10, 500, 50), (1000, 200, 500, 60), "A"),
        ((1000, 10, 500, 50), (1000, 12, 500, 250), "B"),
        ((100_000, 100, 500, 20), (100_000, 400, 40, 20), "B"),  # a tiny, very sure rise does not dominate
        ((1000, 10, 500, 50), (1000, 200, 2, 1), "A"),  # two attacks prove nothing
        ((1000, 10, 0, 0), (1000, 10, 40, 38), "B"),  # the first attacks of all
        ((1000, 10, 500, 50), (0, 0, 300, 250), "B"),  # attacks only
        ((1000, 10, 500, 50), (300, 200, 0, 0), "A"),
    ],
)
def test_the_rate_that_rises_most_for_sure(before, after, scenario):
    found = attribute(Rates(*before), Rates(*after))
    assert found.scenario == scenario
    assert (found.scenario == "A") == (found.false_alarm_rise > found.miss_rise)


def test_the_lower_bound_by_hand():
    found = attribute(Rates(98, 9, 98, 9), Rates(98, 49, 0, 0))
    p0, p1 = 10 / 100, 50 / 100
    assert found.false_alarm_rise == pytest.approx(0.4 - 1.645 * math.sqrt((p0 * 0.9 + p1 * 0.5) / 100))
    assert found.miss_rise == -1
