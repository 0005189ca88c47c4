"""Calibration: what is fitted is calibrated, keeps the order, survives JSON, and is the same stacked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cellwatch.models.fusion.calibration import (
    MAX_KNOTS,
    METHODS,
    Calibration,
    Isotonic,
    Platt,
    fit,
    fit_platt,
)
from cellwatch.models.fusion.reliability import reliability


def overconfident(n=20_000, seed=0):
    """Scores whose true odds are only a third (in log) of what they claim."""
    random = np.random.default_rng(seed)
    z = random.normal(-1, 3, n)
    truth = random.random(n) < 1 / (1 + np.exp(-z / 3 - 0.5))
    return 1 / (1 + np.exp(-z)), truth


@pytest.mark.parametrize("method", METHODS)
def test_calibration_brings_the_error_down_on_unseen_windows(method):
    scores, truth = overconfident()
    unseen, said = overconfident(seed=1)
    before = reliability(unseen, said).ece
    after = reliability(fit(scores, truth, method).apply(unseen), said).ece
    assert before > 0.1
    assert after < 0.02


def test_platt_finds_the_true_curve():
    platt = fit_platt(*overconfident(100_000))
    assert platt.slope == pytest.approx(1 / 3, abs=0.02)
    assert platt.offset == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("method", METHODS)
def test_order_is_kept_and_no_window_is_certain(method):
    scores, truth = overconfident(500)
    curve = fit(scores, truth, method).apply(np.linspace(0, 1, 1001))
    assert (np.diff(curve) >= 0).all()
    assert curve.min() > 0
    assert curve.max() < 1


def test_perfect_scores_stay_in_order():
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    for method in METHODS:
        p = fit(scores, scores > 0.5, method).apply(scores)
        assert p[1] < 0.5 < p[2]


@pytest.mark.parametrize("method", METHODS)
def test_abstentions_pass_through(method):
    scores, truth = overconfident(500)
    assert np.isnan(fit(scores, truth, method).apply(np.array([np.nan, 0.5]))).tolist() == [True, False]


def test_isotonic_is_thinned_without_losing_the_curve():
    scores, truth = overconfident(50_000)
    thin = fit(scores, truth, "isotonic")
    assert len(thin.scores) <= MAX_KNOTS
    from sklearn.isotonic import IsotonicRegression

    full = IsotonicRegression(out_of_bounds="clip").fit(scores, truth)
    at = np.linspace(0.001, 0.999, 500)
    assert np.abs(thin.apply(at) - full.predict(at)).max() < 0.05


def test_stacked_columns_equal_the_single_calibrators():
    scores, truth = overconfident(3_000)
    isotonic, platt = fit(scores, truth, "isotonic"), fit(scores, truth, "platt")
    rows = np.random.default_rng(5).random((40, 4))
    rows[3, 1], rows[0], rows[1] = np.nan, 0.0, 1.0
    for names in ("ipnp", "iiii", "pppp", "nnnn"):
        have = {"i": isotonic, "p": platt}
        calibration = Calibration({f"{k}{n}": have[n] for k, n in enumerate(names) if n in have})
        together = calibration.columns(tuple(f"{k}{n}" for k, n in enumerate(names))).apply(rows)
        single = [calibration.apply(f"{k}{n}", rows[:, k]) for k, n in enumerate(names)]
        np.testing.assert_allclose(together, np.stack(single, axis=1), atol=1e-12)


def test_json_round_trip():
    scores, truth = overconfident(500)
    one = Calibration({"L1/XGB": fit(scores, truth, "isotonic"), "L1/fused": fit(scores, truth, "platt")})
    assert Calibration.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"method": "magic"}, "L1/XGB: unknown calibration 'magic'"),
        ({"method": "platt", "slope": -1.0, "offset": 0.0}, "slope must be above 0"),
        ({"method": "platt", "slope": 1.0}, "offset"),
        ({"method": "isotonic", "scores": [0, 1], "probabilities": [1, 0]}, "never fall"),
        ({"method": "isotonic", "scores": [1, 0], "probabilities": [0, 1]}, "rise"),
        ({"method": "isotonic", "scores": [0, 5], "probabilities": [0, 1]}, "0..1"),
        ({"method": "isotonic", "scores": [0.5], "probabilities": [0.5]}, "2 to"),
    ],
)
def test_a_bad_calibrator_is_refused_by_name(data, says):
    with pytest.raises(ValueError, match=says):
        Calibration.from_dict({"L1/XGB": data})


@pytest.mark.parametrize("method", METHODS)
def test_one_class_cannot_be_calibrated(method):
    with pytest.raises(ValueError, match="benign and attacked"):
        fit(np.array([0.1, 0.2]), np.array([False, False]), method)


def test_a_score_that_falls_with_the_truth_is_refused():
    scores, truth = overconfident(2_000)
    with pytest.raises(ValueError, match="does not rise"):
        fit_platt(scores, ~truth)


def test_the_types_say_what_they_hold():
    assert Platt().apply(np.array([0.3])).tolist() == pytest.approx([0.3])
    assert Isotonic((0.0, 1.0), (0.0, 1.0)).apply(np.array([0.3])).tolist() == pytest.approx([0.3])
