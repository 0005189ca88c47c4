"""Reliability diagram and calibration error."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.fusion.reliability import reliability


def test_error_of_a_known_case():
    # four windows said 0.9, half of them attacks; four said 0.1, none
    found = reliability(np.array([0.9] * 4 + [0.1] * 4), np.array([1, 1, 0, 0, 0, 0, 0, 0], bool), bins=10)
    assert found.ece == pytest.approx((0.4 + 0.1) / 2)
    assert found.brier == pytest.approx((2 * 0.01 + 2 * 0.81 + 4 * 0.01) / 8)
    assert found.count.tolist() == [0, 4, 0, 0, 0, 0, 0, 0, 0, 4]
    assert found.happened[9] == 0.5
    assert np.isnan(found.said[0])


def test_ends_have_a_bin_and_silence_has_none():
    found = reliability(np.array([0.0, 1.0, np.nan]), np.array([False, True, True]))
    assert found.count.sum() == 2
    assert found.ece == 0.0


def test_no_windows():
    assert reliability(np.zeros(0), np.zeros(0, bool)).ece == 0.0
