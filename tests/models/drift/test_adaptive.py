"""A cell's stream: found, learnt anew, recovered; calm where nothing happens."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("river")

from cellwatch.models.drift.adaptive import CellStream, adapt, calm
from cellwatch.models.drift.prequential import LEARN, STEP

W, D, AT = 3000, 4, 2000


class Above:
    """Two voters that call an attack what lies above a bound, and are quite sure of it."""

    def __init__(self, bound):
        self.bound = bound

    def votes(self, x):
        p = np.where(x[..., 0] > self.bound, 0.95, 0.05)
        p = np.where(np.isfinite(x[..., 0]), p, np.nan)
        return np.stack([p, p], axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def moving():
    """One attack in ten; from AT on benign life of all devices is above the bound as well: false alarms."""
    random = np.random.default_rng(0)
    attack = random.random((W, D)) < 0.1
    level = np.where(attack, 3.0, 0.0)
    level[AT:] += np.where(attack[AT:], 0.0, 2.0)
    x = (level + 0.2 * random.normal(size=(W, D)))[..., None].astype(np.float32)
    return CellStream(x, attack, random.random((W, D)) < 0.97)


def test_found_learnt_anew_and_recovered(moving):
    asked = []

    def learn(first, last):
        asked.append((first, last))
        return Above(2.5)

    run = adapt(moving, Above(1.5), learn)
    (alarm,) = run.alarms
    assert alarm.scenario == "A"
    assert AT <= alarm.window < AT + 500  # 3 windows of 500 samples, of 4 a window of the cell
    assert abs(alarm.since - AT) <= 2
    assert "loss" in alarm.reasons
    ((first, made),) = asked
    assert first == alarm.since
    assert LEARN <= moving.labelled[first:made].sum() < LEARN + D
    assert STEP <= moving.labelled[made : alarm.served].sum() < STEP + D
    wrong = (run.probability >= 0.5) != moving.attack
    assert wrong[:AT].mean() < 0.01
    assert wrong[AT : alarm.served].mean() > 0.8
    assert wrong[alarm.served :].mean() < 0.02
    assert np.isfinite(run.probability).all()


def test_a_new_model_that_is_worse_is_refused(moving):
    run = adapt(moving, Above(1.5), lambda *_: Above(-1.0))  # all is an attack
    assert run.alarms[0].served is None
    better = (Above(1.5).votes(moving.x).mean(axis=2) >= 0.5) == (run.probability >= 0.5)
    assert better.all()


def test_a_model_that_stays_right_is_left_alone(moving):
    run = adapt(CellStream(*(part[:AT] for part in moving)), Above(1.5), lambda *_: pytest.fail("learnt"))
    assert run.alarms == []


def test_a_stream_that_ends_before_the_new_model_may_judge(moving):
    whole = adapt(moving, Above(1.5), lambda *_: Above(2.5)).alarms[0]
    for last in (whole.window + 1, whole.served - 1):
        run = adapt(CellStream(*(part[:last] for part in moving)), Above(1.5), lambda *_: Above(2.5))
        assert run.alarms == [whole._replace(served=None)]
        assert np.isfinite(run.probability).all()
    run = adapt(CellStream(*(part[: whole.served] for part in moving)), Above(1.5), lambda *_: Above(2.5))
    assert run.alarms == [whole]


def test_what_is_not_there_is_not_judged(moving):
    x = moving.x.copy()
    x[:, 1] = np.nan
    known = moving.labelled & np.isfinite(x[..., 0])
    run = adapt(CellStream(x[:500], moving.attack[:500], known[:500]), Above(1.5), lambda *_: Above(2.5))
    assert np.isnan(run.probability[:, 1]).all()
    assert np.isfinite(run.probability[:, 0]).all()


def test_without_labels_two_monitors_raise_it_without_a_scenario(moving):
    dumb = CellStream(moving.x, moving.attack, np.zeros_like(moving.labelled))
    long = CellStream(*(np.concatenate([p[:AT], p]) for p in dumb))  # 500 to learn from, then five blocks
    run = adapt(long, Above(1.5), lambda *_: Above(2.5))
    assert [a.scenario for a in run.alarms] == [None]
    assert run.alarms[0].window >= 2 * AT
    assert 2 * AT - 250 <= run.alarms[0].since <= 2 * AT
    assert {"features", "scores"} <= set(run.alarms[0].reasons)


def test_calm_counts_nothing_in_a_quiet_stream_and_one_alarm_in_another(moving):
    random = np.random.default_rng(1)
    x, attack = moving.x[:AT], moving.attack[:AT]
    order = random.integers(0, AT, 5000)
    votes = Above(1.5).votes(x)
    assert calm(x, votes, order, attack) == []
    assert calm(x, votes, order) == []
    every = Above(1.5).votes(moving.x)
    bad = np.concatenate([order, random.integers(AT, W, 2000)])
    (alarm,) = calm(moving.x, every, bad, moving.attack)  # it stays: one alarm, not one a window
    assert 5000 <= alarm < 5500
    (alarm,) = calm(moving.x, every, bad)
    assert 5500 <= alarm < 6000
