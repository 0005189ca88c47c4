"""When a drift began, from samples in any order."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.drift.history import History


def test_the_onset_is_one_of_time_not_of_arrival():
    history = History()
    wrong = np.arange(200) >= 100  # from the hundredth on every benign sample is a false alarm
    late = np.random.default_rng(0).permutation(200)
    history.add(late * 10 + 10, np.where(wrong[late], 2.0, 0.1), wrong[late], np.zeros(200, np.bool_))
    since_ns, kind = history.origin()
    assert since_ns == 100 * 10 + 10
    assert kind.scenario == "A"


def test_misses_are_scenario_b():
    history = History()
    wrong = np.arange(200) >= 100
    history.add(np.arange(200), np.where(wrong, 2.0, 0.1), wrong, np.ones(200, np.bool_))
    assert history.origin()[1].scenario == "B"


def test_the_oldest_go():
    history = History(kept=4)
    nothing = np.zeros(6, np.bool_)
    history.add(np.arange(6), np.zeros(6), nothing, nothing)
    assert len(history) == 4
    assert history.origin()[0] == 4  # the middle of 2, 3, 4, 5


def test_nothing_yet():
    with pytest.raises(ValueError, match="no labelled sample"):
        History().origin()
