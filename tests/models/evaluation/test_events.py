"""Event-based precision and recall, and alarms per hour."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.events import episodes, event_quality

ONSET, END = np.array([100.0, 400.0]), np.array([200.0, 500.0])
NONE = np.array([])


def test_by_hand():
    found = event_quality(np.array([50.0, 110.0, 150.0, 300.0]), ONSET, END, watched_s=3800.0, gap_s=1.0)
    assert (found.events, found.alarms) == (2, 4)
    assert (found.precision, found.recall, found.latency_s) == (0.5, 0.5, 10.0)
    assert found.false_alarms_per_hour == pytest.approx(2.0)  # 2 in 3600 s without an event


def test_an_alarm_that_goes_on_into_an_event_finds_it_but_began_outside():
    found = event_quality(np.array([90.0, 100.0, 110.0]), ONSET, END, 1000.0, gap_s=10.0)
    assert (found.alarms, found.precision, found.recall, found.latency_s) == (1, 0, 0.5, 0)


def test_many_alarms_in_one_event_find_one_event():
    assert event_quality(np.arange(100.0, 200.0), ONSET, END, 1000.0).recall == 0.5


def test_without_alarms_and_without_events():
    silent = event_quality(NONE, ONSET, END, 1000.0)
    assert np.isnan(silent.precision)
    assert (silent.recall, silent.false_alarms_per_hour) == (0, 0)
    quiet = event_quality(np.array([5.0]), NONE, NONE, 1800.0)
    assert np.isnan(quiet.recall)
    assert (quiet.precision, quiet.false_alarms_per_hour) == (0, 2)


def test_episodes():
    assert episodes(np.array([0.0, 10.0, 20.0, 45.0]), 10.0).tolist() == [0, 45]
    assert episodes(NONE, 1.0).tolist() == []
