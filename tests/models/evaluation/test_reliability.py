"""Reliability by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.reliability import calibration_error, reliability


def test_by_hand():
    p = np.array([0.0, 0.05, 0.55, 0.95, 1.0])
    attacked = np.array([False, True, False, True, True])
    found = reliability(p, attacked)
    assert [b["rows"] for b in found] == [2, 1, 2]
    assert found[0] == {"predicted": pytest.approx(0.025), "observed": 0.5, "rows": 2}
    assert calibration_error(p, attacked) == pytest.approx((2 * 0.475 + 0.55 + 2 * 0.025) / 5)


def test_honest_probabilities_have_no_error_and_nothing_is_nan():
    p = np.repeat([0.25, 0.75], 4)
    attacked = np.array([1, 0, 0, 0, 1, 1, 1, 0], dtype=bool)
    assert calibration_error(p, attacked) == 0
    assert np.isnan(calibration_error(p[:0], attacked[:0]))
