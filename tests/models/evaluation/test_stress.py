"""Figures of a replay at rising rates, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.stress import Play, decisions, flow, highest, next_rate

NAN = float("nan")


def play(latency, interval=0.5, whole=None, published=None):
    n = len(latency)
    published = np.arange(n) * interval if published is None else np.array(published)
    whole = np.isfinite(latency) if whole is None else np.array(whole)
    return Play(interval, published, np.array(latency), whole, np.ones((n, 1), np.uint8))


def test_all_that_is_offered_comes_through():
    found = flow(play([0.1, 0.2, 0.3, 0.2]))
    assert (found.windows, found.offered, found.throughput, found.share) == (4, 2.0, 2.0, 1.0)
    assert (found.late, found.lost, found.holds) == (0, 0, True)
    assert found.median_s == pytest.approx(0.2)
    assert found.p99_s == pytest.approx(0.297)  # between 0.2 and 0.3, place 0.99 * 3


def test_windows_without_a_source_or_a_verdict_are_not_through():
    found = flow(play([0.1, 0.1, NAN, 0.1], whole=[True, False, False, True]))
    assert (found.late, found.lost, found.share, found.holds) == (1, 1, 0.5, False)


def test_a_backlog_counts_against_the_throughput():
    found = flow(play([0.5, 1.0, 1.5, 2.5]))  # the last verdict comes at 1.5 + 2.5 s, not within 2 s
    assert (found.throughput, found.share) == (1.0, 0.5)


def test_so_does_a_player_that_falls_behind():
    found = flow(play([0.0] * 4, published=[0.0, 1.0, 2.0, 4.0]))
    assert found.share == 0.5


def test_a_slow_answer_is_saturation_though_all_come_through():
    slow = flow(play([1.5] * 100, interval=1.0, whole=[True] * 100))
    assert slow.share > 0.99
    assert not slow.holds


def test_nothing_fused_and_nothing_played():
    found = flow(play([NAN, NAN]))
    assert (found.share, found.lost, found.holds) == (0.0, 2, False)
    assert np.isnan(found.p99_s)
    with pytest.raises(ValueError, match="no window"):
        flow(play([]))


def test_decisions_against_truth_and_against_peace():
    # UNKNOWN 0, ALLOW 1, SUSPICIOUS 2, BLOCK 3; the last sample has no clear truth.
    said = np.array([[1, 2, 3], [1, 0, 0], [2, 3, 3]], np.uint8)
    calm = np.array([[1, 1, 3], [2, 2, 0], [2, 2, 3]], np.uint8)
    attack = np.array([[0, 0, 1], [1, 1, 0], [0, 1, 1]], bool)
    clear = np.ones((3, 3), bool)
    clear[2, 2] = False
    found = decisions(said, calm, attack, clear)
    assert (found.samples, found.attacked) == (8, 4)
    assert found.false_alarms == 2 / 4  # of (0,0) (0,1) (1,2) (2,0)
    assert found.misses == 2 / 4  # (1,0) allowed and (1,1) without a verdict, of (0,2) (1,0) (1,1) (2,1)
    assert found.wrong == 4 / 8
    assert found.same == 4 / 9  # (0,0) (0,2) (2,0) (2,2); no verdict is never the same


def test_shares_of_nothing_are_undefined():
    one = np.ones((1, 1), np.uint8)
    found = decisions(one, one, np.zeros((1, 1), bool), np.ones((1, 1), bool))
    assert (found.false_alarms, found.same) == (0.0, 1.0)
    assert np.isnan(found.misses)


def search(asked, limit):
    held = {}
    while (rate := next_rate(asked, held)) is not None:
        assert rate not in held
        held[rate] = rate <= limit
    return held


def test_rates_double_and_then_close_in():
    assert list(search([1, 10], 50)) == [1, 10, 20, 40, 80, 57, 48]
    assert highest(search([1, 10], 50)) == 48


def test_close_neighbours_need_no_middle():
    assert list(search([4, 5], 4)) == [4, 5]


def test_a_wide_stretch_is_halved_twice():
    assert list(search([1, 100], 3)) == [1, 100, 10, 3.2]


def test_the_search_ends_also_when_nothing_or_everything_holds():
    assert list(search([2, 5], 1)) == [2, 5]
    assert list(search([1], 1e9))[-1] == 256
    assert highest({}) is None


def test_a_rate_that_holds_above_one_that_does_not_proves_nothing():
    held = {1: True, 2: False, 5: True}
    assert highest(held) == 1
    assert next_rate([1, 2, 5], held) == 1.4
