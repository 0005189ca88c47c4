"""What a clock that steps, a wrong number, a wrong PLC clock or a slow source do to the fusion."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.fusion.fusion import Fusion, FusionSettings
from cellwatch.models.fusion.limit_states import LimitStates
from cellwatch.models.fusion.pairing import Pairing
from cellwatch.models.fusion.window_watch import WindowWatch
from cellwatch.models.types import Level, LevelScores, Screening, Verdicts, Violation

S = 1_000_000_000
LENGTH = 10 * S
NOW = 1_000_000 * LENGTH
ALLOW, SUSPICIOUS, BLOCK = Screening.ALLOW, Screening.SUSPICIOUS, Screening.BLOCK


def said(source, window, screening=ALLOW, attack=None, *, devices=("PLC1",), end_ns=None):
    n = len(devices)
    levels = ()
    if attack is not None:
        p = np.tile(np.array([1 - attack, attack], np.float32), (n, 1, 1))
        levels = (LevelScores(Level.L1, ("A",), ("benign", "attack"), p),)
    end_ns = window * LENGTH if end_ns is None else end_ns
    return Verdicts(
        source, window, end_ns, end_ns, devices,
        np.full(n, screening, np.uint8), np.zeros(n, np.float32), levels,
    )  # fmt: skip


def limit(screening, end_ns, devices=("PLC1",)):
    broken = [Violation(d, "LIT101/value", 9.0, 0.0, 8.0, "limit-high-high", "fault") for d in devices]
    return Verdicts(
        "limits", 0, end_ns, end_ns, devices, np.full(len(devices), screening, np.uint8),
        np.ones(len(devices), np.float32), violations=tuple(broken) if screening > ALLOW else (),
    )  # fmt: skip


def window(core, number, screening=ALLOW, attack=0.1, *, late_rules=False, monotonic_ns=None, **more):
    """One window of both sources as it is decided a second after its end; None if nothing came of it."""
    now = number * LENGTH + S
    if not late_rules:
        core.offer(said("rules", number, screening, **more), now, monotonic_ns)
    if attack is not None:
        core.offer(said("ensemble", number, Screening.UNKNOWN, attack, **more), now, monotonic_ns)
    later = now if monotonic_ns is None else monotonic_ns
    found = core.step(now + S, later + S)
    return found[-1] if found else None


@pytest.mark.parametrize("back", [3, 30, 360])
def test_a_clock_that_is_set_back_does_not_deafen(back):
    core = Fusion()
    for i in range(5):
        assert window(core, 1_000_000 + i, monotonic_ns=i * LENGTH) is not None
    ids = [window(core, 1_000_004 - back + i, monotonic_ns=(5 + i) * LENGTH) for i in range(5)]
    assert [w.window_id for w in ids if w] == [1_000_004 - back + i for i in range(5)]
    assert (core.restarts, core.late) == (1, 0)


def test_a_late_source_is_no_restart():
    core = Fusion()
    for i in range(200):
        now = NOW + i * LENGTH
        window(core, 1_000_000 + i)
        core.offer(said("ensemble", 1_000_000 + i - 2), now)
    assert (core.restarts, core.late) == (0, 200)


def test_many_that_are_a_little_late_are_no_restart():
    core = Fusion()
    window(core, 1_000_000)
    for back in range(20):
        core.offer(said("ensemble", 1_000_000 - back), NOW + S)
    assert (core.restarts, core.late) == (0, 20)


def test_a_number_far_ahead_deafens_for_a_few_verdicts_only():
    core = Fusion()
    window(core, 1_000_000)
    core.offer(said("rules", 2**40, end_ns=NOW), NOW + LENGTH)
    core.step(NOW + LENGTH + S)
    heard = [window(core, 1_000_001 + i) for i in range(10)]
    assert core.restarts == 1
    assert [w.window_id for w in heard[Pairing.OUTDATED :]] == list(
        range(1_000_001 + Pairing.OUTDATED, 1_000_011)
    )


def test_a_window_of_the_future_is_refused_and_counted():
    core = Fusion()
    core.offer(said("rules", 2**40), NOW)
    core.offer(said("ensemble", 2**40, Screening.UNKNOWN, 0.1), NOW)
    assert core.step(NOW + LENGTH) == []
    assert core.refused == 2
    assert window(core, 1_000_000) is not None
    assert (core.late, core.restarts) == (0, 0)


def test_a_restart_forgets_what_was_confirmed():
    core = Fusion(FusionSettings(confirm_alone=3))
    assert window(core, 1_000_000, BLOCK).verdicts[0].decision == SUSPICIOUS
    assert window(core, 1_000_001, BLOCK).verdicts[0].decision == SUSPICIOUS
    assert window(core, 999_000, BLOCK) is not None
    assert window(core, 999_001, BLOCK).verdicts[0].decision == SUSPICIOUS
    assert window(core, 999_002, BLOCK).verdicts[0].decision == BLOCK


def test_waiting_goes_by_the_clock_that_cannot_step():
    core = Fusion(FusionSettings(budget_s=0.25))
    core.offer(said("rules", 1_000_000), NOW + S, 50 * S)
    assert core.step(NOW + 3600 * S, 50 * S + S // 10) == []  # set ahead: no reason to hurry
    (fused,) = core.step(NOW - 3600 * S, 51 * S)  # set back: no reason to wait
    assert fused.missing == ("ensemble: late",)


def test_a_limit_that_is_held_goes_by_the_clock_that_cannot_step():
    states = LimitStates()
    states.offer(limit(BLOCK, NOW), NOW, 0)
    assert states.until(said("rules", 1_000_000), 9 * S) is not None
    assert states.until(said("rules", 1_000_001), 11 * S) is None


def test_a_plc_an_hour_ahead_does_not_switch_its_limits_off():
    core = Fusion(FusionSettings(confirm_alone=4))
    seen = []
    for i in range(10):
        at = NOW + i * LENGTH
        core.offer(limit(BLOCK, at - S + 3600 * S), at - S)
        seen.append(window(core, 1_000_000 + i).verdicts[0].decision)
    assert seen == [SUSPICIOUS] * 3 + [BLOCK] * 7


def test_the_last_word_of_a_plc_stays_the_last():
    """Its newer word may bear an older stamp."""
    states = LimitStates()
    states.offer(limit(BLOCK, NOW + 2 * S), NOW + 2 * S, 0)
    states.offer(limit(ALLOW, NOW - S), NOW + 3 * S, 0)
    assert states.until(said("rules", 1_000_000), 0) is None  # neither was said by then
    assert states.until(said("rules", 1_000_001), 0).screening.tolist() == [BLOCK]
    assert states.until(said("rules", 1_000_002), 0) is None


def test_what_a_full_queue_drops_is_counted():
    core = Fusion()
    for i in range(LimitStates.MAX_QUEUE + 5):
        core.offer(limit(BLOCK, NOW + i), NOW + i)
    assert core.limits_dropped == 5


def test_limits_that_wait_are_due_after_the_clock_was_set_back():
    core = Fusion()
    window(core, 1_000_000)
    core.offer(limit(SUSPICIOUS, NOW + 5 * S), NOW + 5 * S)
    assert window(core, 999_000).verdicts[0].decision == SUSPICIOUS


def test_rules_that_are_late_now_and_then_still_block():
    core = Fusion(FusionSettings(confirm_alone=4))
    seen = [window(core, 1_000_000 + i, BLOCK, late_rules=i % 4 == 3).verdicts[0].decision for i in range(40)]
    assert seen[:4] == [SUSPICIOUS] * 3 + [ALLOW]
    assert [d for i, d in enumerate(seen) if i > 3 and i % 4 != 3] == [BLOCK] * 27


@pytest.mark.parametrize("late", ["rules", "ensemble"])
def test_a_late_source_does_not_break_the_row_of_those_who_agree(late):
    core = Fusion(FusionSettings(confirm_windows=2, confirm_alone=100))
    attack = [0.9, None if late == "ensemble" else 0.9, 0.9]
    seen = [
        window(core, 1_000_000 + i, SUSPICIOUS, p, late_rules=late == "rules" and i == 1).verdicts[0].decision
        for i, p in enumerate(attack)
    ]
    assert seen == [SUSPICIOUS, SUSPICIOUS, BLOCK]


def test_a_source_that_disagrees_breaks_the_row_though_the_other_is_late():
    core = Fusion(FusionSettings(confirm_windows=2, confirm_alone=100))
    window(core, 1_000_000, SUSPICIOUS, 0.9)
    window(core, 1_000_001, attack=0.1, late_rules=True)  # the models are calm
    assert window(core, 1_000_002, SUSPICIOUS, 0.9).verdicts[0].decision == SUSPICIOUS


@pytest.mark.parametrize(("gone", "decision"), [(5, BLOCK), (360, SUSPICIOUS)])
def test_a_device_that_was_gone_for_long_starts_anew(gone, decision):
    core = Fusion(FusionSettings(confirm_alone=2))
    window(core, 1_000_000, BLOCK, devices=("PLC1", "PLC2"))
    for i in range(1, gone):
        window(core, 1_000_000 + i, devices=("PLC2",))
    again = window(core, 1_000_000 + gone, BLOCK, devices=("PLC1", "PLC2"))
    assert {v.device: v.decision for v in again.verdicts} == {"PLC1": decision, "PLC2": SUSPICIOUS}


def test_both_sources_may_abstain_without_a_single_score():
    silent = [
        Verdicts(
            source, 1_000_000, NOW, NOW, ("a", "b"), np.zeros(2, np.uint8), np.full(2, np.nan, np.float32),
            abstained="no model",
        )
        for source in ("rules", "ensemble")
    ]  # fmt: skip
    core = Fusion()
    for verdicts in silent:
        core.offer(verdicts, NOW)
    (fused,) = core.step(NOW)
    assert fused.missing == ("rules: no model", "ensemble: no model")
    assert fused.sources == ()
    assert [(v.device, v.decision, v.probability) for v in fused.verdicts] == [
        ("a", ALLOW, 0.0),
        ("b", ALLOW, 0.0),
    ]
    core.offer(limit(SUSPICIOUS, NOW, ("b",)), NOW + S)
    assert window(core, 1_000_001).verdicts[0].decision == SUSPICIOUS


def test_the_watch_learns_how_long_windows_are():
    watch = WindowWatch(0)
    assert watch.silent_s(59 * S) == 0
    assert watch.silent_s(61 * S) == 61
    watch.see(100, 1000 * S, 70 * S)
    watch.see(102, 1020 * S, 80 * S)  # one was lost
    assert watch.silent_s(109 * S) == 0
    assert watch.silent_s(111 * S) == 31
    watch.see(50, 500 * S, 112 * S)  # the clock was set back
    assert watch.silent_s(141 * S) == 0
    assert watch.silent_s(143 * S) == 31


def test_short_windows_get_a_few_seconds():
    watch = WindowWatch(0)
    watch.see(1, S // 10, 0)
    watch.see(2, S // 5, 0)
    assert watch.silent_s(2 * S) == 0
    assert watch.silent_s(4 * S) == 4
