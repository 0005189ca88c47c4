"""Fusion: the paper's formulas, the pairing of sources, and what it takes to BLOCK."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cellwatch.models.fusion.fusion import Fusion, FusionSettings
from cellwatch.models.fusion.pairing import Pairing
from cellwatch.models.types import Level, LevelScores, Screening, Verdicts, Violation

MS = 1_000_000


def rules(window_id, screening=Screening.ALLOW, confidence=0.0):
    score = np.array([[[1 - confidence, confidence]]], np.float32)
    broken = (
        (Violation("PLC1", "LIT101/avg", 9.0, 1.0, 5.0, "limit", "fault"),)
        if screening > Screening.ALLOW
        else ()
    )
    return Verdicts(
        "rules",
        window_id,
        0,
        0,
        ("PLC1",),
        np.array([screening], np.uint8),
        np.array([confidence], np.float32),
        (LevelScores(Level.L1, ("rulesense",), ("benign", "attack"), score),),
        broken,
    )


def ensemble(window_id, p, category="dos"):
    classes = ("benign", "fault", "dos")
    l2 = np.full((1, 2, 3), 0.01, np.float32)
    l2[0, :, classes.index(category) if p >= 0.5 else 0] = 0.98
    l1 = np.array([[[1 - p, p], [1 - p, p]]], np.float32)
    return Verdicts(
        "ensemble",
        window_id,
        0,
        0,
        ("PLC1",),
        np.zeros(1, np.uint8),
        np.zeros(1, np.float32),
        (
            LevelScores(Level.L1, ("XGB", "MLP"), ("benign", "attack"), l1),
            LevelScores(Level.L2, ("XGB", "MLP"), classes, l2),
        ),
    )


def test_two_agreeing_sources_block_after_the_confirming_window():
    core = Fusion()
    decisions = []
    for i in range(1, 4):
        core.offer(rules(i, Screening.BLOCK, 0.8), 0)
        core.offer(ensemble(i, 0.95), 0)
        (fused,) = core.step(0)
        decisions.append(fused.verdicts[0].decision)
    assert decisions == [Screening.SUSPICIOUS, Screening.BLOCK, Screening.BLOCK]
    assert fused.verdicts[0].category == "dos"
    assert "LIT101/avg is 9, above its normal limit 5" in fused.verdicts[0].explanation


def test_models_alone_never_block():
    core = Fusion()
    for i in range(1, 20):
        core.offer(rules(i), 0)
        core.offer(ensemble(i, 1.0), 0)
        (fused,) = core.step(0)
        assert fused.verdicts[0].decision == Screening.SUSPICIOUS


def test_rules_alone_need_a_longer_streak():
    core = Fusion(FusionSettings(confirm_alone=3))
    decisions = []
    for i in range(1, 5):
        core.offer(rules(i, Screening.BLOCK, 0.9), 0)
        core.offer(replace(ensemble(i, 0.0), levels=(), abstained="no model"), 0)
        (fused,) = core.step(0)
        decisions.append(fused.verdicts[0].decision)
    assert decisions == [Screening.SUSPICIOUS] * 2 + [Screening.BLOCK] * 2
    assert fused.missing == ("ensemble: no model",)
    assert "without ensemble: no model" in fused.verdicts[0].explanation


def test_a_calm_window_breaks_the_streak():
    core = Fusion()
    seen = []
    for i, p in enumerate([0.9, 0.0, 0.9, 0.0, 0.9], start=1):
        core.offer(rules(i, Screening.BLOCK if p else Screening.ALLOW, p), 0)
        core.offer(ensemble(i, p), 0)
        seen += [v.decision for w in core.step(0) for v in w.verdicts]
    assert Screening.BLOCK not in seen


def test_late_source_abstains_after_the_budget_and_is_named():
    core = Fusion(FusionSettings(budget_s=0.1))
    core.offer(rules(5, Screening.SUSPICIOUS, 0.2), 0)
    assert core.step(50 * MS) == []
    (fused,) = core.step(100 * MS)
    assert fused.missing == ("ensemble: late",)
    core.offer(ensemble(5, 0.9), 120 * MS)
    assert core.late == 1
    assert core.step(10**12) == []


def test_windows_are_decided_in_order():
    core = Fusion(FusionSettings(budget_s=0.1))
    core.offer(rules(1), 0)
    core.offer(rules(2), 1)
    core.offer(ensemble(2, 0.1), 1)
    assert core.step(2) == []
    assert [w.window_id for w in core.step(100 * MS)] == [1, 2]


def test_pending_windows_are_bounded():
    core = Fusion(FusionSettings(budget_s=1e6))
    for i in range(1, 200):
        core.offer(rules(i), 0)
    assert len(core.step(0)) == 199 - Pairing.MAX_PENDING


def test_other_settings_are_adopted_and_what_was_confirmed_stays():
    core = Fusion(FusionSettings(weights={"XGB": 1.0, "MLP": 1.0, "rulesense": 1.0}))

    def judge(i: int, p: float):
        core.offer(rules(i, Screening.SUSPICIOUS, 0.5), 0)
        core.offer(ensemble(i, p), 0)
        ((found,),) = (w.verdicts for w in core.step(0))
        return found

    first = judge(1, 0.9)
    assert first.decision == Screening.SUSPICIOUS
    assert round(first.probability, 4) == round((0.9 + 0.9 + 0.5) / 3, 4)
    core.adopt(
        replace(core.settings, weights={"XGB": 1.0, "MLP": 0.0, "rulesense": 3.0}, threshold=0.55,
                sources=("rules",), confirm_windows=9)
    )  # fmt: skip
    second = judge(2, 0.9)
    assert round(second.probability, 4) == round((0.9 + 3 * 0.5) / 4, 4)
    assert second.threshold == 0.55
    assert second.decision == Screening.BLOCK  # the second window in a row: confirmed over the change
    core.offer(rules(3, Screening.SUSPICIOUS, 0.5), 0)
    assert core.step(0) == []  # and the ensemble is waited for as before
