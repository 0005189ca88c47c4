"""Gating L1 -> L2 -> L3, shares of replicas, limits, abstentions, conflicts, order."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.fusion.calibration import Calibration, Platt
from cellwatch.models.fusion.fusion import Fusion, FusionSettings
from cellwatch.models.types import Level, LevelScores, Screening, Verdicts, Violation

S = 1_000_000_000
L2 = ("benign", "dos", "recon")
L3 = ("benign", "dos/syn", "dos/udp", "recon/ports")
NAN = float("nan")


def rules(screening, window=1, end_ns=0):
    """`screening`: device -> Screening."""
    confidence = np.array([0.9 if s > Screening.ALLOW else 0.1 for s in screening.values()], np.float32)
    return Verdicts(
        "rules",
        window,
        end_ns,
        0,
        tuple(screening),
        np.array(list(screening.values()), np.uint8),
        confidence,
        (
            LevelScores(
                Level.L1,
                ("rulesense",),
                ("benign", "attack"),
                np.stack([1 - confidence, confidence], 1)[:, None, :],
            ),
        ),
        tuple(
            Violation(d, "network_ports_all_count", 250.0, 0.0, 180.0, "limit", "recon", "T0846")
            for d, s in screening.items()
            if s > Screening.ALLOW
        ),
    )


def models(l1, l2=None, l3=None, *, window=1, devices=None, partial=False, detectors=("A", "B")):
    """`l1`: device -> P(attack) of each detector; `l2`, `l3`: device -> class of each detector."""
    devices = devices or tuple(l1)
    p1 = np.array([l1[d] for d in devices], np.float32)
    levels = [LevelScores(Level.L1, detectors, ("benign", "attack"), np.stack([1 - p1, p1], axis=2))]
    for level, classes, said in ((Level.L2, L2, l2), (Level.L3, L3, l3)):
        if said is None:
            continue
        p = np.full((len(devices), len(detectors), len(classes)), NAN, np.float32)
        for i, d in enumerate(devices):
            for k, c in enumerate(said.get(d, ())):
                p[i, k] = 0.1 / len(classes)
                p[i, k, classes.index(c)] += 0.9
        levels.append(LevelScores(level, detectors, classes, p))
    n = len(devices)
    return Verdicts(
        "ensemble",
        window,
        0,
        0,
        devices,
        np.zeros(n, np.uint8),
        np.zeros(n, np.float32),
        tuple(levels),
        partial=partial,
    )


def limits(screening, end_ns, violation=True):
    return Verdicts(
        "limits",
        0,
        end_ns,
        end_ns,
        tuple(screening),
        np.array(list(screening.values()), np.uint8),
        np.zeros(len(screening), np.float32),
        violations=tuple(
            Violation(d, "LIT101/value", 9.0, 0.0, 8.0, "limit-high", "fault")
            for d, s in screening.items()
            if violation and s > Screening.ALLOW
        ),
    )


def one(*verdicts, settings=None, now_ns=0):
    core = Fusion(settings or FusionSettings())
    for v in verdicts:
        core.offer(v, 0)
    (window,) = core.step(now_ns)
    return window, {v.device: v for v in window.verdicts}


CALM, ODD, BAD = Screening.ALLOW, Screening.SUSPICIOUS, Screening.BLOCK


def test_a_device_that_nobody_objects_to_is_not_voted_on():
    _, by = one(
        rules({"a": CALM, "b": ODD}),
        models({"a": (0.1, 0.1), "b": (0.9, 0.9)}, {"a": ("dos", "dos"), "b": ("dos", "dos")}),
    )
    assert (by["a"].decision, by["a"].category, by["a"].category_confidence) == (CALM, "benign", 0.0)
    assert (by["b"].decision, by["b"].category, by["b"].category_confidence) == (ODD, "dos", 1.0)


def test_l3_is_voted_among_the_types_of_the_category_that_won():
    settings = FusionSettings(weights={"L2/A": 3.0})
    _, by = one(
        rules({"a": ODD}),
        models({"a": (0.9, 0.9)}, {"a": ("dos", "recon")}, {"a": ("recon/ports", "dos/udp")}),
        settings=settings,
    )
    assert (by["a"].category, by["a"].category_confidence) == ("dos", 0.75)
    # A wanted recon/ports, which the category rules out: its next best within dos ties, B decides
    assert by["a"].attack_type == "dos/udp"


def test_without_l2_the_type_gives_the_category():
    _, by = one(rules({"a": ODD}), models({"a": (0.9, 0.9)}, None, {"a": ("dos/syn", "dos/syn")}))
    assert (by["a"].category, by["a"].attack_type) == ("dos", "dos/syn")


def test_models_that_see_nothing_leave_the_name_to_the_rules():
    _, by = one(
        rules({"a": BAD}),
        models({"a": (0.1, 0.1)}, {"a": ("benign", "benign")}, {"a": ("dos/syn", "dos/syn")}),
    )
    assert (by["a"].category, by["a"].attack_type) == ("recon", "")


def test_the_posterior_form_can_name_another_class_than_the_vote():
    v = models({"a": (0.9,) * 3}, {"a": ("dos",) * 3}, detectors=("A", "B", "C"))
    p = np.array([[[0.0, 0.51, 0.49], [0.0, 0.51, 0.49], [0.0, 0.0, 1.0]]], np.float32)
    v = replace(v, levels=(v.levels[0], LevelScores(Level.L2, ("A", "B", "C"), L2, p)))
    for form, category in (("weighted", "dos"), ("posterior", "recon")):
        _, by = one(rules({"a": ODD}), v, settings=FusionSettings(vote=form))
        assert by["a"].category == category


def test_weights_by_level_win_over_weights_by_detector():
    settings = FusionSettings(weights={"A": 3.0, "L1/A": 0.0, "rulesense": 0.0})
    _, by = one(rules({"a": CALM}), models({"a": (0.9, 0.2)}, {"a": ("dos", "recon")}), settings=settings)
    assert by["a"].probability == pytest.approx(0.2)
    assert [c.weight for c in by["a"].contributions] == [0.0, 0.0, 1.0]


def test_scores_are_calibrated_before_and_after_the_mean():
    settings = FusionSettings(
        weights={"rulesense": 0.0},
        calibration=Calibration({"L1/A": Platt(1.0, 2.0), "L1/models": Platt(2.0, 0.0)}),
    )
    _, by = one(rules({"a": CALM}), models({"a": (0.5, 0.4)}), settings=settings)
    a = 1 / (1 + np.exp(-2.0))
    mean = (a + 0.4) / 2
    odds = (mean / (1 - mean)) ** 2
    assert by["a"].contributions[1].score == pytest.approx(a)
    assert by["a"].probability == pytest.approx(odds / (1 + odds))


def test_shares_of_replicas_are_one_window():
    core = Fusion()
    core.offer(rules({"a": CALM, "b": ODD, "c": CALM}), 0)
    core.offer(models({"b": (0.9, 0.8)}, {"b": ("dos", "dos")}, partial=True), 0)
    assert core.step(0) == []  # a and c are still out
    core.offer(models({"c": (0.1, 0.2), "a": (0.3, 0.4)}, partial=True), 0)
    (window,) = core.step(0)
    by = {v.device: v for v in window.verdicts}
    assert window.missing == ()
    scores = {d: [c.score for c in v.contributions[1:]] for d, v in by.items()}
    for device, want in {"a": (0.3, 0.4), "b": (0.9, 0.8), "c": (0.1, 0.2)}.items():
        assert scores[device] == pytest.approx(want)
    assert by["b"].category == "dos"


def test_a_replica_that_is_gone_is_missed_by_its_devices_only():
    core = Fusion(FusionSettings(budget_s=0.1))
    core.offer(rules({"a": ODD, "b": ODD, "c": CALM}), 0)
    core.offer(models({"a": (0.9, 0.9)}, partial=True), 0)
    (window,) = core.step(S)
    by = {v.device: v for v in window.verdicts}
    assert window.missing == ("ensemble: late for 2 of 3 devices",)
    assert "without" not in by["a"].explanation
    assert "without ensemble: late" in by["b"].explanation


def test_a_replica_that_lost_a_model_abstains_with_it():
    _, by = one(
        rules({"a": CALM, "b": ODD}),
        models({"a": (0.2, 0.4)}, partial=True),
        models({"b": (0.8,)}, {"b": ("dos",)}, partial=True, detectors=("B",)),
    )
    assert by["a"].probability == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert by["b"].probability == pytest.approx((0.9 + 0.8) / 2)
    assert "without A: no score" in by["b"].explanation


def test_replicas_in_the_middle_of_a_model_change_may_know_other_classes():
    v = models({"b": (0.9, 0.9)}, {"b": ("dos", "dos")}, partial=True)
    p = np.array([[[0.1, 0.0, 0.0, 0.9]] * 2], np.float32)
    other = models({"a": (0.9, 0.9)}, partial=True)
    other = replace(
        other, levels=(*other.levels, LevelScores(Level.L2, ("A", "B"), ("benign", "dos", "recon", "ics"), p))
    )
    _, by = one(rules({"a": ODD, "b": ODD}), v, other)
    assert (by["a"].category, by["b"].category) == ("ics", "dos")


def test_limits_hold_from_window_to_window_until_they_are_said_to_be_kept():
    core = Fusion()
    decisions = []
    core.offer(limits({"a": BAD}, end_ns=int(1.5 * S)), 2 * S)
    for i in range(1, 7):
        if i == 5:
            core.offer(limits({"a": CALM}, end_ns=int(3.5 * S)), 6 * S)
        core.offer(rules({"a": CALM}, window=i, end_ns=i * S), 6 * S)
        core.offer(models({"a": (0.1, 0.1)}, window=i), 6 * S)
        decisions += [v.decision for w in core.step(6 * S) for v in w.verdicts]
    # window 1 ends before the sample; BLOCK after four windows in a row, the one of the return still counts
    assert decisions == [CALM, ODD, ODD, ODD, BAD, CALM]


def test_a_limit_broken_and_mended_within_a_window_counts():
    core = Fusion()
    core.offer(limits({"a": ODD}, end_ns=int(0.2 * S)), 0)
    core.offer(limits({"a": CALM}, end_ns=int(0.4 * S)), 0)
    core.offer(rules({"a": CALM}, end_ns=S), 0)
    core.offer(models({"a": (0.1, 0.1)}), 0)
    (window,) = core.step(0)
    assert window.verdicts[0].decision == ODD
    assert window.verdicts[0].agreeing == ("limits",)
    assert "LIT101/value is 9, above its normal limit 8" in window.verdicts[0].explanation
    assert not window.verdicts[0].conflict  # the limits are no party to it


def test_a_limit_whose_author_is_gone_ends():
    core = Fusion()
    core.offer(limits({"a": ODD}, end_ns=0), 0)
    seen = []
    for i, now in enumerate((S, 5 * S, 11 * S, 12 * S), start=1):
        core.offer(rules({"a": CALM}, window=i, end_ns=now), now)
        core.offer(models({"a": (0.1, 0.1)}, window=i), now)
        seen += [v.decision for w in core.step(now) for v in w.verdicts]
    assert seen == [ODD, ODD, CALM, CALM]


def test_conflicts_go_both_ways_and_need_both_parties():
    _, by = one(
        rules({"a": ODD, "b": CALM, "c": ODD, "d": CALM}),
        models({"a": (0.1, 0.1), "b": (0.9, 0.9), "c": (0.9, 0.9), "d": (0.1, 0.1)}),
    )
    assert {d: v.conflict for d, v in by.items()} == {"a": True, "b": True, "c": False, "d": False}
    assert by["a"].agreeing == ("rules",)
    assert by["b"].agreeing == ("ensemble",)
    assert by["c"].agreeing == ("rules", "ensemble")
    _, by = one(rules({"a": ODD}), models({"a": (NAN, NAN)}))
    assert not by["a"].conflict


def test_the_gravest_device_comes_first():
    window, _ = one(
        rules({"a": CALM, "b": ODD, "c": CALM, "d": CALM}),
        models({"a": (0.0, 0.0), "b": (0.2, 0.2), "c": (0.9, 0.9), "d": (0.3, 0.3)}),
    )
    assert [v.device for v in window.verdicts] == ["c", "b", "d", "a"]


def test_silent_models_give_no_alarm_whatever_the_threshold():
    settings = FusionSettings(threshold=0.01, calibration=Calibration({"L1/fused": Platt(1.0, 20.0)}))
    quiet = replace(models({"a": (NAN, NAN)}), source="ensemble")
    only = Verdicts("rules", 1, 0, 0, ("a",), np.ones(1, np.uint8), np.zeros(1, np.float32))
    _, by = one(only, quiet, settings=settings)
    assert (by["a"].decision, by["a"].probability) == (CALM, 0.0)


def test_every_decision_but_allow_is_explained():
    _, by = one(rules({"a": CALM, "b": ODD}), models({"a": (0.1, 0.1), "b": (0.9, NAN)}))
    assert (by["a"].explanation, by["a"].explanation_json) == ("", "")
    told = json.loads(by["b"].explanation_json)
    assert told["device_id"] == "b"
    assert told["model_confidence"] == {"A": 0.9}
    assert told["rulesense_confidence"] == pytest.approx(0.9)
    assert told["triggered_features"]["network_ports_all_count"] == {
        "observed": 250.0,
        "normal_threshold": 180.0,
    }
    assert told["ensemble_confidence"] == pytest.approx(by["b"].probability, abs=1e-5)


def test_a_device_of_the_limits_only_is_judged_too():
    core = Fusion()
    core.offer(limits({"z": ODD}, end_ns=0), 0)
    core.offer(rules({"a": CALM}), 0)
    core.offer(models({"a": (0.1, 0.1)}), 0)
    (window,) = core.step(0)
    assert [(v.device, v.decision) for v in window.verdicts] == [("z", ODD), ("a", CALM)]


@pytest.mark.parametrize(
    ("by_rules", "by_models", "logit"),
    [(True, True, 3.0), (False, True, -3.0), (True, False, 0.0)],  # of a mean of 0.5
)
def test_each_composition_has_its_own_calibrator(by_rules, by_models, logit):
    """With the rules "L1/fused", without them "L1/models"; the rules alone have that of their detector."""
    settings = FusionSettings(
        calibration=Calibration({"L1/fused": Platt(1.0, 3.0), "L1/models": Platt(1.0, -3.0)})
    )
    said = rules({"a": CALM})
    half = LevelScores(Level.L1, ("rulesense",), ("benign", "attack"), np.full((1, 1, 2), 0.5, np.float32))
    said = replace(said, levels=(half,) if by_rules else ())
    p = 0.5 if by_models else NAN
    _, by = one(said, models({"a": (p, p)}), settings=settings)
    assert by["a"].probability == pytest.approx(1 / (1 + np.exp(-logit)))
    assert "ensemble" not in by["a"].agreeing


def test_the_confidence_of_the_rules_is_no_objection_by_itself():
    """They object by their screening; their confidence is one share of p."""
    said = rules({"a": ODD})
    said = replace(said, screening=np.array([CALM], np.uint8), violations=())
    _, by = one(said, models({"a": (0.1, 0.1)}))
    assert by["a"].probability < 0.5
    assert by["a"].decision == CALM
