"""EWAD as the third source: it objects by itself, moves no p before a fit, and never blocks alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.fusion.fusion import Fusion, FusionSettings
from cellwatch.models.types import (
    FusedVerdict,
    FusedWindow,
    Level,
    LevelScores,
    Screening,
    Verdicts,
    Violation,
)

SOURCES = ("rules", "ensemble", "ewad")
MS = 1_000_000


def said(source, i, detectors, p, screening=Screening.UNKNOWN, violations=(), why=""):
    scores = np.array([[[1 - x, x] for x in p]], np.float32)
    return Verdicts(
        source, i, 0, 0, ("PLC1",), np.array([screening], np.uint8), np.array([p[0]], np.float32),
        () if why else (LevelScores(Level.L1, detectors, ("benign", "attack"), scores),), violations, why,
    )  # fmt: skip


def rules(i, screening=Screening.ALLOW):
    p = 0.0 if screening == Screening.ALLOW else 0.7
    broken = (Violation("PLC1", "LIT101/avg", 9.0, 1.0, 5.0, "limit", "fault"),) if p else ()
    return said("rules", i, ("rulesense",), [p], screening, broken)


def models(i, p):
    return said("ensemble", i, ("XGB", "RNN"), [p, p])


def ewad(i, p=0.99):
    odd = p >= 0.5
    text = "network_packets_all_count is 9000, normally 3 to 41 (+12.0 standard deviations)"
    broken = (Violation("PLC1", "network_packets_all_count", 9000, 3, 41, "ewad", "", message=text),)
    screening = Screening.SUSPICIOUS if odd else Screening.ALLOW
    return said("ewad", i, ("ewad",), [p], screening, broken if odd else ())


def fuse(core: Fusion, *parts: Verdicts) -> FusedWindow:
    for part in parts:
        core.offer(part, 0)
    (window,) = core.step(0)
    return window


def verdict(core: Fusion, *parts: Verdicts) -> FusedVerdict:
    (one,) = fuse(core, *parts).verdicts
    return one


def test_it_makes_a_device_suspicious_and_says_why_but_moves_no_probability():
    without = verdict(Fusion(FusionSettings(SOURCES)), rules(1), models(1, 0.1), ewad(1, 0.01))
    assert without.decision == Screening.ALLOW
    found = verdict(Fusion(FusionSettings(SOURCES)), rules(1), models(1, 0.1), ewad(1))
    assert found.decision == Screening.SUSPICIOUS
    assert found.agreeing == ("ewad",)
    assert "network_packets_all_count is 9000, normally 3 to 41" in found.explanation
    assert "says ewad" in found.explanation
    assert found.probability == without.probability
    assert [(c.detector, c.weight) for c in found.contributions][-1] == ("ewad", 0.0)
    assert not found.conflict


@pytest.mark.parametrize("with_models", [True, False])
def test_it_never_blocks_alone_nor_with_rules_that_only_suspect(with_models):
    core = Fusion(FusionSettings(SOURCES if with_models else ("rules", "ewad")))
    for i in range(1, 20):
        rest = [models(i, 0.1)] if with_models else []
        assert verdict(core, rules(i), *rest, ewad(i)).decision == Screening.SUSPICIOUS
    for i in range(20, 40):
        rest = [models(i, 0.1)] if with_models else []
        assert verdict(core, rules(i, Screening.SUSPICIOUS), *rest, ewad(i)).decision == Screening.SUSPICIOUS


def test_with_a_fitted_weight_it_counts_as_a_model_and_still_not_alone():
    settings = FusionSettings(("rules", "ewad"), weights={"L1/ewad": 2.0})
    core = Fusion(settings)
    alone = [verdict(core, rules(i), ewad(i)) for i in range(1, 10)]
    assert {v.decision for v in alone} == {Screening.SUSPICIOUS}
    assert alone[0].probability == pytest.approx(2 * 0.99 / 3, abs=1e-3)
    core = Fusion(settings)
    both = [verdict(core, rules(i, Screening.SUSPICIOUS), ewad(i)).decision for i in range(1, 4)]
    assert both == [Screening.SUSPICIOUS, Screening.BLOCK, Screening.BLOCK]


def test_what_the_rules_say_of_a_device_is_said_first_whoever_came_first():
    core = Fusion(FusionSettings(SOURCES))
    found = verdict(core, ewad(1), models(1, 0.1), rules(1, Screening.SUSPICIOUS))
    assert [v.rule for v in found.violations] == ["limit", "ewad"]
    assert "LIT101/avg is 9" in found.explanation
    assert set(found.agreeing) == {"rules", "ewad"}
    assert found.category == "fault"  # EWAD cannot tell: its reasons hint at nothing


def test_one_that_is_late_or_abstains_is_named_and_changes_nothing():
    core = Fusion(FusionSettings(SOURCES, budget_s=0.25))
    core.offer(rules(1, Screening.SUSPICIOUS), 0)
    core.offer(models(1, 0.9), 0)
    assert core.step(249 * MS) == []
    (window,) = core.step(250 * MS)
    assert window.missing == ("ewad: late",)
    assert "without ewad: late" in window.verdicts[0].explanation
    window = fuse(core, rules(2), models(2, 0.1), said("ewad", 2, ("ewad",), [0.0], why="no time"))
    assert window.missing == ("ewad: no time",)
    assert (window.sources, window.verdicts[0].decision) == (("rules", "ensemble"), Screening.ALLOW)


def test_a_cell_without_ewad_does_not_wait_for_it():
    window = fuse(Fusion(), rules(1), models(1, 0.1))
    assert window.missing == ()


@pytest.mark.parametrize("first", [0, 1])
def test_a_replica_that_abstains_takes_back_no_alarm_of_another(first):
    alarm = replace(ewad(1), partial=True)
    empty = Verdicts(
        "ewad", 1, 0, 0, ("HMI1",), np.zeros(1, np.uint8), np.zeros(1, np.float32), abstained="no time",
        partial=True,
    )  # fmt: skip
    both = replace(
        rules(1), devices=("PLC1", "HMI1"), levels=(), screening=np.full(2, Screening.ALLOW, np.uint8),
        confidence=np.zeros(2, np.float32),
    )  # fmt: skip
    core = Fusion(FusionSettings(("rules", "ewad")))
    window = fuse(core, both, *((alarm, empty) if first else (empty, alarm)))
    assert [v.decision for v in window.verdicts] == [Screening.SUSPICIOUS, Screening.ALLOW]
