"""Event-based precision and recall, and alarms per hour."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.events import event_quality

ONSET, END = np.array([100.0, 400.0]), np.array([200.0, 500.0])
NONE = np.array([])


def judged(raised, watched_s, gap_s=0.0, onset=ONSET, end=END):
    raised = np.array(raised, dtype=float)
    attacked = np.array(
        [any(a < t <= b for a, b in zip(onset, end, strict=True)) for t in raised], dtype=bool
    )
    return event_quality(raised, attacked, onset, end, watched_s, gap_s)


def test_by_hand():
    found = judged([50, 110, 150, 300], watched_s=3800.0, gap_s=1.0)
    assert (found.events, found.alarms) == (2, 4)
    assert (found.precision, found.recall, found.latency_s) == (0.5, 0.5, 10.0)
    assert found.false_alarms_per_hour == pytest.approx(2.0)  # 2 in 3600 s without an event


def test_an_alarm_that_goes_on_into_an_event_is_true():
    found = judged([90, 100, 110], 1000.0, gap_s=10.0)
    assert (found.alarms, found.precision, found.recall, found.latency_s) == (1, 1, 0.5, 10)


def test_a_benign_window_that_ends_as_the_event_begins_finds_nothing():
    found = judged([100], 1000.0)
    assert (found.recall, found.precision) == (0, 0)


def test_many_alarms_in_one_event_find_one_event():
    assert judged(np.arange(101.0, 200.0), 1000.0).recall == 0.5


def test_without_alarms_and_without_events():
    silent = judged([], 1000.0)
    assert np.isnan(silent.precision)
    assert (silent.recall, silent.false_alarms_per_hour) == (0, 0)
    quiet = judged([5.0], 1800.0, onset=NONE, end=NONE)
    assert np.isnan(quiet.recall)
    assert (quiet.precision, quiet.false_alarms_per_hour) == (0, 2)
