"""Rows as events on one clock."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.clock import Clock

S = 1_000_000_000


def test_events_are_runs_of_a_class_on_one_device():
    line = np.array([0, 0, 0, 0, 1, 1, 1])
    time = np.array([0, 10, 20, 30, 0, 10, 20]) * S
    kind = np.array([0, 2, 2, 0, 2, 2, 3])
    clock = Clock.of(line, time, kind, step_s=10.0)
    assert clock.kind.tolist() == [2, 2, 3]
    assert (clock.end - clock.onset).tolist() == [20, 20, 10]
    found = clock.judge(np.array([False, False, True, False, False, False, False]))
    assert (found.events, found.recall) == (3, pytest.approx(1 / 3))
    assert found.latency_s == 20  # the second window of the attack, at its end


def test_a_long_pause_makes_two_events_a_short_one_does_not():
    time = np.array([0, 10, 20, 200, 210]) * S
    clock = Clock.of(np.zeros(5, int), time, np.ones(5, int), step_s=10.0)
    assert len(clock.onset) == 2
    assert len(Clock.of(np.zeros(3, int), np.array([0, 10, 40]) * S, np.ones(3, int), step_s=10.0).onset) == 1


def test_rows_may_come_in_any_order_and_lines_never_touch():
    rng = np.random.default_rng(0)
    line, time = np.repeat([0, 1], 50), np.tile(np.arange(50), 2) * S
    kind = (np.arange(100) % 50 >= 40).astype(int)
    mixed = rng.permutation(100)
    clock = Clock.of(line[mixed], time[mixed], kind[mixed], step_s=1.0)
    found = clock.judge((kind > 0)[mixed], watched_s=100.0)
    assert (found.events, found.alarms, found.recall, found.precision) == (2, 2, 1, 1)
    assert found.false_alarms_per_hour == 0


def test_without_anything_and_without_events():
    none = np.zeros(0, int)
    assert Clock.of(none, none, none, 1.0).judge(none > 0).events == 0
    quiet = Clock.of(np.zeros(3, int), np.arange(3) * S, np.zeros(3, int), 1.0)
    found = quiet.judge(np.array([True, False, True]), watched_s=3600.0)
    assert np.isnan(found.recall)
    assert found.false_alarms_per_hour == 2


def test_moments_tell_their_own_step():
    clock = Clock.of(np.zeros(4, int), np.array([0, 5, 10, 100]) * S, np.array([1, 1, 1, 1]))
    assert clock.step_s == 5
    assert len(clock.onset) == 2
