"""Losses of single samples, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cellwatch.models.drift.losses import FLOOR, MOST, cross_entropy, log_loss


def test_log_loss_by_hand():
    found = log_loss(np.array([0.8, 0.8]), np.array([True, False]))
    assert found.tolist() == pytest.approx([-math.log(0.8), -math.log(0.2)])


def test_a_sure_mistake_costs_no_more_than_the_floor():
    assert log_loss(np.array([0.0, 1.0]), np.array([True, False])).tolist() == pytest.approx([MOST, MOST])
    assert pytest.approx(-math.log(FLOOR)) == MOST


def test_cross_entropy_takes_the_probability_of_the_true_class():
    p = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])
    assert cross_entropy(p, np.array([1, 0])).tolist() == pytest.approx([-math.log(0.2), MOST])


def test_an_abstention_stays_nan():
    assert np.isnan(log_loss(np.array([np.nan]), np.array([True]))).all()
