"""All monitors and the decision together."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("river")

from cellwatch.models.drift.decision import DriftState
from cellwatch.models.drift.watch import DriftSettings, DriftWatch

SETTINGS = DriftSettings(window=100, consecutive=3, reference=10, profile=200, block=50)


def samples(n, rate, seed):
    random = np.random.default_rng(seed)
    wrong = random.random(n) < rate
    return np.where(wrong, random.uniform(0.7, 3, n), random.uniform(0, 0.5, n)), wrong


def test_one_alarm_for_a_drift_and_another_after_the_restart():
    watch = DriftWatch(SETTINGS)
    assert watch.labelled(*samples(2000, 0.1, 0)) is None
    taken = watch.labelled(*samples(2000, 0.5, 1))
    assert taken is not None
    assert taken <= 300
    assert taken % 100 == 0
    assert "loss" in watch.reasons
    assert watch.labelled(*samples(3000, 0.5, 2)) is None  # no storm
    assert watch.state == DriftState.DRIFT
    watch.restart()
    assert watch.state == DriftState.CALM
    assert watch.labelled(*samples(2000, 0.5, 3)) is None  # the new normal
    assert watch.labelled(*samples(2000, 0.9, 4)) is not None


def test_samples_one_by_one():
    calm, moved = samples(2000, 0.1, 0), samples(1000, 0.5, 1)
    whole, single = DriftWatch(SETTINGS), DriftWatch(SETTINGS)
    whole.labelled(*calm)
    single.labelled(*calm)
    places = [i for i in range(1000) if single.labelled(moved[0][i : i + 1], moved[1][i : i + 1])]
    assert places == [whole.labelled(*moved) - 1]


def test_a_loss_that_falls_is_no_alarm():
    watch = DriftWatch(SETTINGS)
    assert watch.labelled(*samples(2000, 0.5, 0)) is None
    assert watch.labelled(*samples(4000, 0.1, 1)) is None


def test_without_labels_a_drift_is_seen_too():
    random = np.random.default_rng(0)
    values = random.normal(size=(4000, 2, 3)).astype(np.float32)
    scores = random.beta(2, 20, size=(4000, 2, 3)).astype(np.float32)
    values[3000:, 1] += 2
    scores[3000:, 1] = random.beta(8, 20, size=(1000, 3))
    watch = DriftWatch(SETTINGS, devices=2)
    assert not watch.unlabelled(values[:3000], scores[:3000])
    assert watch.unlabelled(values[3000:3150], scores[3000:3150])
    assert {"features", "scores"} <= set(watch.reasons)
    assert not watch.unlabelled(values[3150:], scores[3150:])


def test_a_loss_must_be_finite():
    with pytest.raises(ValueError, match="without a label"):
        DriftWatch(SETTINGS).labelled(np.array([0.1, np.nan]), np.array([False, False]))


@pytest.mark.parametrize("wrong", [{"window": 0}, {"consecutive": 0}, {"reference": 2}, {"alpha": 2}])
def test_impossible_settings(wrong):
    with pytest.raises(ValueError, match=r"window|chart"):
        DriftWatch(DriftSettings(**wrong))
