"""river's detectors on a loss."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("river")

from cellwatch.models.drift.sequential import NAMES, Sequential


def losses(n, mean, seed=0):
    return np.random.default_rng(seed).exponential(mean, n).clip(0, 4.6)


def test_all_see_a_great_change():
    watch = Sequential()
    assert watch.step(losses(5000, 0.2)) <= {"KSWIN"}
    assert watch.step(losses(5000, 1.5, 1)) == set(NAMES)


def test_cutting_does_not_matter():
    loss = np.concatenate([losses(3000, 0.2), losses(2000, 1.0, 1)])
    cut = Sequential()
    pieces = [cut.step(loss[i : i + 7]) for i in range(0, len(loss), 7)]
    assert frozenset().union(*pieces) == Sequential().step(loss)


def test_a_sample_without_a_label_is_left_out():
    loss = np.concatenate([losses(3000, 0.2), losses(2000, 1.0, 1)])
    gaps = np.insert(loss, np.arange(0, len(loss), 10), np.nan)
    assert Sequential().step(gaps) == Sequential().step(loss)
