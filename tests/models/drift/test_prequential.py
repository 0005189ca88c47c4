"""Test first, then learn; the model stands still between alarms."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("river")

from cellwatch.models.drift.learner import Learner
from cellwatch.models.drift.prequential import FIRST, LEARN, STEP, Judged, Stream, prequential
from cellwatch.models.drift.sequential import DETECTORS
from cellwatch.models.drift.triggers import Alone, Always, Monitors, Never
from cellwatch.models.drift.watch import DriftSettings


class Threshold:
    """Class 1 where x is over the middle between the classes it has learnt from."""

    def __init__(self, x, y):
        self.at = (x[y == 0].max() + x[y == 1].min()) / 2

    def members(self, x):
        high = np.where(x[:, 0] > self.at, 0.95, 0.05)
        return np.stack([1 - high, high], axis=1)[None]


class Script:
    """Alarms after given numbers of rows since each restart."""

    latest = False

    def __init__(self, *after):
        self.after, self.rows = list(after), []

    def restart(self):
        self.left = self.after.pop(0) if self.after else None

    def step(self, rows):
        self.rows.append(rows)
        if self.left is None or self.left > len(rows.loss):
            self.left = self.left and self.left - len(rows.loss)
            return None
        return self.left


def stream(n=12_000, at=8_000):
    """The threshold moves from 0.5 to 0.7 at row `at`."""
    x = np.random.default_rng(0).random((n, 1)).astype(np.float32)
    return Stream(x, (x[:, 0] > np.where(np.arange(n) < at, 0.5, 0.7)).astype(np.int64), 2)


def run(rows, trigger):
    asked = []

    def learn(first, last):
        asked.append((first, last))
        return Threshold(rows.x[first:last], rows.y[first:last])

    return prequential(rows, learn, trigger), asked


def test_the_model_learns_only_rows_before_those_it_judges():
    found, asked = run(stream(), Never())
    assert asked == [(0, FIRST), (0, FIRST + STEP), (0, LEARN)]
    assert found.alarms == []
    assert found.right[FIRST:8000].mean() > 0.99
    assert found.right[8000:].mean() == pytest.approx(0.8, abs=0.02)
    assert found.accuracy == found.right[FIRST:].mean()
    assert not found.right[:FIRST].any()


def test_after_an_alarm_it_learns_since_the_onset_until_it_has_enough():
    found, asked = run(stream(), Script(7000))  # the model stands from row 2000 on
    (alarm,) = found.alarms
    assert alarm.at == 8999
    assert abs(alarm.since - 8000) <= 5
    assert alarm.attribution.scenario == "A"  # rows from 0.5 to 0.7 are benign now
    assert asked[3] == (alarm.since, 9000)
    assert asked[-1] == (alarm.since, alarm.since + LEARN)
    assert found.right[9000:].mean() > 0.99


def test_rows_after_the_alarm_are_judged_anew():
    trigger = Script(7000)
    found, _ = run(stream(), trigger)
    assert found.right[8000:9000].mean() == pytest.approx(0.8, abs=0.04)
    assert found.right.shape == (12_000,)


def test_always_learns_the_latest_rows():
    _, asked = run(stream(), Always())
    assert asked[3:5] == [(STEP, LEARN + STEP), (2 * STEP, LEARN + 2 * STEP)]


def test_monitors_raise_one_alarm_and_it_is_the_right_one():
    trigger = Monitors(DriftSettings(window=100))
    found, _ = run(stream(), trigger)
    (alarm,) = found.alarms
    assert 8000 <= alarm.at < 8400
    assert "loss" in trigger.reasons[0]
    assert trigger.blocks > 0


@pytest.mark.parametrize("name", DETECTORS)
def test_each_detector_alone_sees_a_reversal(name):
    wrong = np.arange(5000) >= 2000
    nothing = np.zeros((5000, 1), np.float32)
    taken = Alone(name).step(Judged(nothing, nothing, np.where(wrong, 3.0, 0.05), wrong))
    assert taken is not None
    assert 2000 < taken < 2600


def test_a_stream_that_is_too_short():
    with pytest.raises(ValueError, match="500 rows"):
        run(stream(FIRST, 100), Never())


def test_the_learner_knows_classes_it_has_not_seen():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3)).astype(np.float32)
    x[::7, 1] = np.nan
    p = Learner(x, np.where(x[:, 0] > 0, 2, 0), classes=4).members(x)
    assert p.shape == (3, 300, 4)
    assert p.sum(axis=2) == pytest.approx(np.ones((3, 300)))
    assert (p[:, :, [1, 3]] == 0).all()
    assert (p.mean(axis=0).argmax(axis=1) == np.where(x[:, 0] > 0, 2, 0)).mean() > 0.95


def test_a_learner_of_one_class_is_sure_of_it():
    p = Learner(np.zeros((5, 2), np.float32), np.ones(5, np.int64), classes=2).members(
        np.ones((2, 2), np.float32)
    )
    assert p.tolist() == [[[0, 1], [0, 1]]]
