"""What attacks are called, against their labels."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.drift.labels import Labelled
from cellwatch.models.drift.name_watch import NameWatch
from cellwatch.models.drift.watch import DriftSettings
from cellwatch.models.types import DriftState, Level

S = 1_000_000_000
CLASSES = ("benign", "dos", "recon")
NAMES = ("benign", "dos/syn-flood", "attack", "recon/scan")  # as labels say them
SETTINGS = DriftSettings(window=4, consecutive=3, reference=8)


def made(**more) -> NameWatch:
    return NameWatch(Level.L2, CLASSES, 2, SETTINGS, **more)


def see(watch, *windows, right=0.8):
    """Both devices are called "dos", by one model with twice the share; one abstains on device 1."""
    one = np.array([0.1, right, 0.9 - right], np.float32)
    silent = np.full(3, np.nan, np.float32)
    for window in windows:
        watch.see(window, np.array([0, 1]), np.array([[one, one], [one, silent]], np.float32))


def labelled(watch, *windows, label=1, devices=(0, 1)):
    """Labels of those devices in these windows."""
    ids = np.repeat(np.array(windows, np.int64), len(devices))
    k = len(ids)
    place = np.tile(np.array(devices, np.int64), len(windows))
    found = Labelled(ids * S, np.zeros(k), np.ones(k, np.bool_), ids, place, np.full(k, label))
    return watch.labelled(found, NAMES)


def test_the_loss_is_that_of_the_true_name():
    watch = made()
    see(watch, 1, 2, 3, 4)
    assert not labelled(watch, 1, 2, 3, 4)
    (window,) = watch.windows
    assert window.loss == pytest.approx(-np.log(0.8))
    assert window.errors == 0
    see(watch, 5, 6, 7, 8)
    labelled(watch, 5, 6, 7, 8, label=3)
    assert watch.windows[0].loss == pytest.approx(-np.log(0.1))
    assert watch.windows[0].errors == 1


def test_labels_without_a_name_and_windows_that_nobody_named_do_not_count():
    watch = made(kept=4)  # samples: windows 2 and 3
    see(watch, 1, 2, 3)
    assert not labelled(watch, 3, label=0)
    assert not labelled(watch, 3, label=2)
    labelled(watch, 1, 9)
    assert watch.windows == []
    labelled(watch, 2, 3)
    see(watch, 4, 5)
    labelled(watch, 4, 5)
    assert len(watch.windows) == 1  # of 2, 3, 4 and 5


def test_a_clock_that_was_set_back_forgets_what_was_kept():
    watch = made()
    see(watch, 7, 8)
    see(watch, 3)
    labelled(watch, 7, 8, 3)
    see(watch, 4, 5, 6)
    labelled(watch, 4, 5, 6)
    assert len(watch.windows) == 1  # 3, 4, 5, 6


def test_other_names_than_before_raise_one_alarm():
    watch = made()
    for k in range(1, 41, 4):
        see(watch, *range(k, k + 4), right=0.8 + 0.001 * k / 4)
        assert not labelled(watch, *range(k, k + 4))
    raised = 0
    for k in range(41, 81, 4):
        see(watch, *range(k, k + 4))
        raised += labelled(watch, *range(k, k + 4), label=3)
    assert (raised, watch.state) == (1, DriftState.DRIFT)
    assert 40 * S <= watch.onset_ns <= 41 * S  # an onset needs 25 samples on either side, here are 24
    assert made(ceiling=watch.limits).limits == watch.limits
