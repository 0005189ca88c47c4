"""Figures on held-out samples, and what a candidate must not be."""

from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.drift.finds import NONE
from cellwatch.models.drift.held_out_gate import GateSettings, HeldOut, false_alarms_allowed, held_out, judge

PARENT = HeldOut(
    200, 150, loss=0.2, errors=0.1, fpr=0.08, fnr=0.16, mcc=0.7, alarms=4, hours=2.0,
    size_bytes=100, answer_s=0.01,
)  # fmt: skip
BETTER = replace(PARENT, loss=0.1, errors=0.05, fpr=0.04, fnr=0.08, alarms=1)


def test_figures_by_hand():
    probability = np.array([0.9, 0.8, 0.1, 0.9, 0.2, 0.6])
    run = np.array([0, 0, 0, 1, NONE, NONE])
    attack = np.array([False, False, False, True, True, True])
    found = held_out(
        probability, run, attack, np.array(["a", "a", "a", "b", "b", "b"]), np.array([7, 8, 9, 7, 8, 9]),
        threshold=0.5, hours=0.5, size_bytes=10, answer_s=0.1,
    )  # fmt: skip
    given = [0.1, 0.2, 0.9, 0.9, 0.2, 0.6]
    assert found.loss == pytest.approx(-np.log(given).mean())
    assert (found.samples, found.benign, found.errors) == (6, 3, pytest.approx(5 / 6))
    assert (found.fpr, found.fnr) == (1.0, pytest.approx(2 / 3))
    assert found.alarms == 1  # two windows in a row; the third is below the threshold
    assert found.right == pytest.approx(1 / 6)


@pytest.mark.parametrize(("devices", "windows"), [("ab", (7, 8)), ("aa", (7, 9))])
def test_alarms_are_counted_by_device_and_stretch(devices, windows):
    found = held_out(
        np.array([0.9, 0.9]), np.array([0, 1]), np.array([False, False]), np.array(list(devices)),
        np.array(windows), threshold=0.5, hours=0.5, size_bytes=10, answer_s=0.1,
    )  # fmt: skip
    assert found.alarms == 2
    assert found.to_dict()["fnr"] is None


def all_day(n, probability, begins):
    """One device, attacked in its last ten windows; objections from window `begins` on."""
    at = np.arange(n)
    return held_out(
        np.full(n, probability), np.where(at >= begins, 0, NONE), at >= n - 10, np.full(n, "a"), at,
        threshold=0.5, hours=0.5, size_bytes=10,
    )  # fmt: skip


def test_an_alarm_that_stood_before_has_not_found_the_attack():
    stood, found = all_day(200, 0.9, begins=0), all_day(200, 0.1, begins=190)
    assert (stood.fpr, stood.fnr, stood.errors, stood.mcc) == (1.0, 1.0, 1.0, -1.0)
    assert (found.fpr, found.fnr, found.errors, found.mcc) == (0.0, 0.0, 0.0, 1.0)
    more = replace(found, fnr=0.1, errors=0.005, loss=stood.loss)
    assert judge(stood, more, "A", per_hour=1.0) == []


@pytest.mark.parametrize(("benign", "alarms"), [(60, 1), (61, 2), (121, 3)])
def test_an_alarm_that_stands_counts_again(benign, alarms):
    assert all_day(benign + 10, 0.9, begins=0).alarms == alarms


@pytest.mark.parametrize("scenario", ["A", "B"])
def test_a_better_candidate_passes(scenario):
    assert judge(PARENT, BETTER, scenario, per_hour=1.0) == []


@pytest.mark.parametrize(
    ("change", "scenario", "said"),
    [
        ({"loss": 0.22}, "B", "loss rises from 0.2000 to 0.2200"),
        ({"errors": 0.11}, "B", "share of errors rises from 0.1000 to 0.1100"),
        ({"fpr": 0.08}, "A", "made against false alarms: their rate goes from 0.0800 to 0.0800"),
        ({"fnr": 0.2}, "B", "made against misses"),
        ({"fnr": 0.5}, "A", "more misses: their rate rises from 0.1600 to 0.5000"),
        ({"alarms": 6}, "A", "6 false alarms in 2.00 h, 5 are let pass"),  # Poisson of 2: P(> 5) < 5 %
        ({"size_bytes": 151}, "A", "its size is 1.51 times"),
        ({"answer_s": 0.016}, "A", "its time to answer is 1.60 times"),
    ],
)
def test_what_is_worse_is_said(change, scenario, said):
    (why,) = judge(PARENT, replace(BETTER, **change), scenario, per_hour=1.0)
    assert said in why


def test_as_many_false_alarms_as_the_parent_pass_where_misses_are_the_matter():
    parent = replace(PARENT, alarms=40)
    assert judge(parent, replace(BETTER, alarms=40), "B", per_hour=1.0) == []
    assert judge(parent, replace(BETTER, alarms=40), "A", per_hour=1.0)


def test_half_of_the_parents_false_alarms_pass_where_they_are_the_matter():
    parent = replace(PARENT, alarms=40)  # both are far outside of the budget
    assert judge(parent, replace(BETTER, alarms=20), "A", per_hour=1.0) == []
    (why,) = judge(parent, replace(BETTER, alarms=21), "A", per_hour=1.0)
    assert "21 false alarms in 2.00 h, 20 are let pass" in why


def test_a_parent_without_false_alarms_cannot_be_bettered():
    assert judge(replace(PARENT, fpr=0.0), replace(BETTER, fpr=0.0), "A", per_hour=1.0) == []


@pytest.mark.parametrize(("scenario", "benign"), [("A", 5), ("B", 195)])
def test_too_few_samples_judge_nothing(scenario, benign):
    (why,) = judge(replace(PARENT, benign=benign), BETTER, scenario, 1.0, GateSettings(least=10))
    assert "only 5" in why


def test_no_alarm_is_let_pass_where_none_is_expected():
    assert false_alarms_allowed(0.0, 0.05) == 0
