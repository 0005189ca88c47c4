"""The threshold for a stated budget of false alarms, against counting them one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwatch.models.fusion.budget import threshold_for_budget


def alarms(p, stream, tau):
    """Rises to `tau` within each stream, counted one by one."""
    count, before = 0, {}
    for score, s in zip(p, stream, strict=True):
        count += score >= tau and not before.get(s, False)
        before[s] = bool(score >= tau)
    return count


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.7, 0.9, float("nan")]), min_size=1, max_size=40),
    st.integers(0, 6),
    st.integers(1, 3),
)
def test_the_lowest_threshold_that_keeps_the_budget(scores, budget, streams):
    p = np.array(scores)
    stream = np.sort(np.arange(len(p)) % streams)
    found = threshold_for_budget(p, stream, hours=2.0, per_hour=budget / 2)
    assert found.alarms == alarms(p, stream, found.threshold) <= budget
    higher = [t for t in (0.0, 0.1, 0.2, 0.4, 0.7, 0.9) if t >= found.threshold]
    assert all(alarms(p, stream, t) <= budget for t in higher)  # no island below which it fails again
    if found.threshold > 0:
        assert alarms(p, stream, np.nanmax(p[p < found.threshold])) > budget


def test_windows_in_a_row_are_one_alarm():
    p = np.array([0.1, 0.9, 0.9, 0.9, 0.1, 0.8, 0.1])
    one = np.zeros(7, int)
    assert threshold_for_budget(p, one, 1.0, 2.0, floor=0.5).threshold == 0.5
    assert 0.8 < threshold_for_budget(p, one, 1.0, 1.0, floor=0.5).threshold <= 0.9


def test_a_stream_begins_anew():
    p = np.array([0.9, 0.9])
    assert threshold_for_budget(p, np.array([0, 0]), 1.0, 1.0, floor=0.5).alarms == 1
    assert threshold_for_budget(p, np.array([0, 1]), 1.0, 1.0, floor=0.5).threshold > 0.9


def test_a_budget_that_cannot_be_kept_is_refused():
    with pytest.raises(ValueError, match="no threshold up to 1 keeps 0 false alarms"):
        threshold_for_budget(np.array([0.2, 1.0]), np.zeros(2, int), 1.0, 0.0)
    with pytest.raises(ValueError, match="needs benign windows"):
        threshold_for_budget(np.zeros(0), np.zeros(0), 1.0, 1.0)


def test_the_ceiling_comes_before_the_budget():
    p, one = np.array([0.1, 0.9, 0.1, 0.8, 0.1]), np.zeros(5, int)
    found = threshold_for_budget(p, one, 1.0, 0.0, floor=0.5, ceiling=0.85)
    assert (found.threshold, found.alarms, found.per_hour) == (0.85, 1, 0.0)  # and says what it costs
    assert threshold_for_budget(p, one, 1.0, 0.0, floor=0.5, ceiling=0.3).threshold == 0.5
    assert threshold_for_budget(p, one, 1.0, 9.0, floor=0.5, ceiling=0.85).threshold == 0.5


def test_few_hours_prove_little():
    calm = np.zeros(10)
    found = threshold_for_budget(calm, np.zeros(10, int), hours=3.0, per_hour=0.0, floor=0.5)
    assert (found.alarms, found.threshold) == (0, 0.5)
    assert found.upper_per_hour == pytest.approx(3.0 / 3.0, rel=0.01)  # the rule of three
