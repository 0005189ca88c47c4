"""What validation data give: weights by skill, calibrated scores, a threshold that keeps its budget."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cellwatch.models.fusion.fit import FusionFit, Hold, fit_fusion
from cellwatch.models.fusion.formulas import attack_probability
from cellwatch.models.fusion.fusion import FusionSettings
from cellwatch.models.fusion.reliability import reliability
from cellwatch.models.fusion.weights import MAX_WEIGHT, validation_weights
from cellwatch.models.types import Level, LevelScores

L1 = ("benign", "attack")
L2 = ("benign", "dos", "recon")
STREAMS, LENGTH = 24, 100


def validation(seed=0):
    """Two models that know something, one that guesses, in 24 streams of 100 windows; a third is attacked."""
    random = np.random.default_rng(seed)
    n = STREAMS * LENGTH
    category = np.where(random.random(n) < 1 / 3, random.integers(1, 3, n), 0)
    attack = (category > 0).astype(int)
    evidence = np.stack([(attack * 2 - 1) * k + random.normal(0, 1.5, n) for k in (2.0, 1.0, 0.0)], axis=1)
    p = (1 / (1 + np.exp(-3 * evidence))).astype(np.float32)  # overconfident
    l2 = np.full((n, 3, 3), 0.1, np.float32)
    for k, right in enumerate((0.9, 0.7, 0.0)):
        said = np.where(random.random(n) < right, category, random.integers(0, 3, n))
        l2[np.arange(n), k, said] = 0.8
    levels = {
        Level.L1: LevelScores(Level.L1, ("good", "fair", "guess"), L1, np.stack([1 - p, p], axis=2)),
        Level.L2: LevelScores(Level.L2, ("good", "fair", "guess"), L2, l2),
    }
    return levels, {Level.L1: attack, Level.L2: category}, np.repeat(np.arange(STREAMS), LENGTH)


def fused(fit, levels):
    settings = fit.settings(FusionSettings())
    s = levels[Level.L1]
    names = tuple(f"L1/{d}" for d in s.detectors)
    scores = settings.calibration.columns(names).apply(s.probabilities[:, :, 1].astype(float))
    mean = attack_probability(scores, settings.weight(Level.L1, s.detectors))
    return settings.calibration.apply("L1/models", mean), settings


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_a_fit_holds_on_unseen_windows(method):
    levels, truth, stream = validation()
    fit = fit_fusion(levels, truth, stream, hours=10.0, per_hour=12.0, method=method)
    for level in ("L1", "L2"):
        order = [fit.weights[f"{level}/{d}"] for d in ("guess", "fair", "good")]
        assert order == sorted(order)
        assert order[0] < 0.5
    unseen, said, _ = validation(seed=1)
    probability, settings = fused(fit, unseen)
    attack = said[Level.L1] == 1
    assert reliability(probability, attack).ece < 0.05
    raw = unseen[Level.L1].probabilities[:, :, 1].mean(axis=1).astype(float)
    assert reliability(probability, attack).ece < reliability(raw, attack).ece
    alarms = (probability[~attack] >= settings.threshold).sum()  # a little over the runs that count
    assert alarms <= 2 * 12.0 * 10.0
    assert (probability[attack] >= settings.threshold).mean() > 0.5


def test_the_budget_moves_the_threshold():
    levels, truth, stream = validation()
    strict = fit_fusion(levels, truth, stream, hours=10.0, per_hour=0.5).budget
    loose = fit_fusion(levels, truth, stream, hours=10.0, per_hour=50.0).budget
    assert strict.threshold > loose.threshold >= 0.5
    assert strict.alarms <= 0.5 * strict.hours
    assert strict.hours == pytest.approx(10.0 / 2, rel=0.1)  # half of the streams choose the threshold


@pytest.mark.parametrize("missed", [0, 40])
def test_a_budget_is_not_paid_by_attacks_that_are_held(missed):
    levels, truth, stream = validation()
    rows = stream >= STREAMS - 4
    free = fit_fusion(levels, truth, stream, hours=10.0, per_hour=0.5)
    held = fit_fusion(levels, truth, stream, hours=10.0, per_hour=0.5, hold=Hold(rows, missed))
    probability, _ = fused(held, levels)
    attacks = probability[rows & (truth[Level.L1] == 1)]
    assert (attacks < free.budget.threshold).sum() > missed  # or there were nothing to hold
    assert (attacks < held.budget.threshold).sum() <= missed or held.budget.threshold == 0.5
    assert held.budget.threshold < free.budget.threshold
    assert held.budget.alarms > free.budget.alarms
    assert held.weights == free.weights
    many = fit_fusion(levels, truth, stream, hours=10.0, per_hour=0.5, hold=Hold(rows, len(attacks)))
    assert many.budget == free.budget


def test_windows_in_a_row_are_one_alarm_though_other_streams_stand_between():
    times, streams = 10, 4
    attack = np.tile(np.repeat([0, 0, 0, 1, 1, 1], streams), times)  # all streams of a window, then the next
    p = np.tile(np.repeat([0.1, 0.9, 0.9, 0.9, 0.9, 0.9], streams), times).astype(np.float32)
    scores = LevelScores(Level.L1, ("m",), L1, np.stack([1 - p, p], axis=1)[:, None])
    stream = np.tile(np.arange(streams), 6 * times)
    budget = fit_fusion({Level.L1: scores}, {Level.L1: attack}, stream, hours=1.0, per_hour=100.0).budget
    assert budget.alarms == times * streams // 2  # half of the streams choose the threshold


def test_an_attack_between_two_false_alarms_does_not_make_them_one():
    times = 10
    attack = np.tile([0, 1, 1, 1, 0, 0], times)
    p = np.tile([0.9, 0.9, 0.9, 0.9, 0.9, 0.1], times).astype(np.float32)  # 0.9 is an attack in 3 of 5
    scores = LevelScores(Level.L1, ("m",), L1, np.stack([1 - p, p], axis=1)[:, None])
    one = np.zeros(len(p), dtype=int)
    budget = fit_fusion({Level.L1: scores}, {Level.L1: attack}, one, hours=1.0, per_hour=100.0).budget
    assert budget.threshold == 0.5
    assert budget.alarms == 2 * times


def test_json_round_trip():
    levels, truth, stream = validation()
    fit = fit_fusion(levels, truth, stream, hours=10.0, per_hour=12.0)
    assert FusionFit.from_json(fit.to_json()) == fit


def test_a_fit_keeps_the_settings_it_does_not_fit():
    levels, truth, stream = validation()
    fit = fit_fusion(levels, truth, stream, hours=10.0, per_hour=12.0)
    settings = fit.settings(FusionSettings(sources=("rules",), budget_s=0.7, weights={"rulesense": 2.0}))
    assert (settings.sources, settings.budget_s, settings.weights["rulesense"]) == (("rules",), 0.7, 2.0)
    assert settings.threshold == fit.budget.threshold


def test_a_level_that_is_always_right_stays_as_it_is_and_is_named():
    levels, truth, stream = validation()
    perfect = np.full((len(stream), 1, 3), 0.05, np.float32)
    perfect[np.arange(len(stream)), 0, truth[Level.L2]] = 0.9
    levels[Level.L2] = LevelScores(Level.L2, ("good",), L2, perfect)
    fit = fit_fusion(levels, truth, stream, hours=10.0, per_hour=12.0)
    assert "L2/fused" in fit.as_is
    assert "L2/fused" not in fit.calibration.by_name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 9}, "version 9"),
        ({"vote": "loudest"}, "unknown vote"),
        ({"weights": {"XGB": -1}}, "0 or above"),
        ({"weights": None}, "not a fit"),
        ({"budget": {"threshold": 7, "per_hour": 1, "alarms": 0, "hours": 1}}, "0..1"),
        ({"calibration": {"L1/XGB": {"method": "magic"}}}, "L1/XGB: unknown calibration"),
    ],
)
def test_a_bad_file_is_refused(change, says):
    levels, truth, stream = validation()
    good = json.loads(fit_fusion(levels, truth, stream, hours=10.0, per_hour=12.0).to_json())
    with pytest.raises(ValueError, match=says):
        FusionFit.from_json(json.dumps(good | change))


def test_weights_are_the_log_odds_against_chance():
    truth = np.repeat([0, 1], 500)
    right = truth.copy()
    eighty = truth.copy()
    eighty[:100], eighty[500:600] = 1, 0
    said = np.stack([right, eighty, np.zeros(1000, int), 1 - truth, np.full(1000, -1)], axis=1)
    weights = validation_weights(truth, said, 2)
    assert weights[1] == pytest.approx(np.log(4), abs=0.02)
    assert weights[1] < weights[0] <= MAX_WEIGHT
    assert weights[2:].tolist() == [0.0, 0.0, 0.0]


def test_a_rare_class_counts_as_much_as_the_benign_one():
    truth = np.array([0] * 990 + [1] * 10)
    always_benign = np.zeros((1000, 1), int)
    half = np.where(truth == 1, np.arange(1000) % 2, 0)[:, None]
    assert validation_weights(truth, always_benign, 2)[0] < validation_weights(truth, half, 2)[0]


def test_the_mean_without_rules_is_calibrated_on_its_own():
    levels, truth, stream = validation()
    plain = fit_fusion(levels, truth, stream, hours=10.0, per_hour=12.0)
    assert "L1/fused" not in plain.calibration.by_name  # the rules were not there
    s = levels[Level.L1]
    rules = np.where(truth[Level.L1] > 0, 0.9, 0.1).astype(np.float32) + s.probabilities[:, 2, 1] / 20
    p = np.concatenate([s.probabilities, np.stack([1 - rules, rules], axis=1)[:, None]], axis=1)
    levels[Level.L1] = LevelScores(Level.L1, (*s.detectors, "rulesense"), s.classes, p)
    both = fit_fusion(levels, truth, stream, hours=10.0, per_hour=12.0)
    assert both.calibration.by_name["L1/models"] == plain.calibration.by_name["L1/models"]
    assert both.calibration.by_name["L1/fused"] != both.calibration.by_name["L1/models"]
    assert both.budget != plain.budget  # the threshold is that of the mean with the rules
