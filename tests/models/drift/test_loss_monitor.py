"""Windows of labelled samples."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.drift.loss_monitor import LossMonitor


def windows(monitor, loss, wrong):
    found = []
    while len(loss):
        n = monitor.room
        found.append(monitor.step(loss[:n], wrong[:n]))
        loss, wrong = loss[n:], wrong[n:]
    return [one for one in found if one is not None]


def test_means_of_whole_windows_only():
    monitor = LossMonitor(4, reference=5, alpha=0.01)
    loss = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 5.0])
    assert monitor.step(loss[:3], loss[:3] > 2) is None
    assert monitor.room == 1
    window = monitor.step(loss[3:4], loss[3:4] > 2)
    assert (window.end, window.loss, window.errors) == (4, 2.5, 0.5)
    assert monitor.step(loss[4:], loss[4:] > 2) is None


def test_cutting_does_not_change_the_windows():
    random = np.random.default_rng(3)
    loss = random.exponential(size=1000)
    wrong = loss > 1
    whole = windows(LossMonitor(50, 10, 0.01), loss, wrong)
    cut = LossMonitor(50, 10, 0.01)
    pieces = [one for i in range(0, 1000, 10) if (one := cut.step(loss[i : i + 10], wrong[i : i + 10]))]
    assert [(w.end, w.over) for w in whole] == [(w.end, w.over) for w in pieces]
    assert [w.loss for w in whole] == pytest.approx([w.loss for w in pieces])


@pytest.mark.parametrize("what", ["loss", "errors"])
def test_a_rise_of_either_is_over(what):
    random = np.random.default_rng(4)
    loss, wrong = random.normal(1.0, 0.1, 3000), random.random(3000) < 0.1
    if what == "loss":
        loss[2000:] += 0.5
    else:
        wrong[2000:] |= random.random(1000) < 0.5
    found = windows(LossMonitor(100, 10, 0.01), loss, wrong)
    assert sum(w.over for w in found[:20]) <= 1
    assert all(w.over for w in found[20:])
    assert not any(w.reference for w in found[20:])


def test_an_empty_window_cannot_be():
    with pytest.raises(ValueError, match="one sample"):
        LossMonitor(0, 10, 0.01)
