"""Limits on tags: every sample is judged at once, in any batching, and what is said is a state."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwatch.models.rules.tag_limits import Limit, LimitRules, unknown_limits
from cellwatch.models.types import Screening, TagBatch, TagCatalog, TagInfo

CATALOG = TagCatalog(
    "PLC1",
    (TagInfo("LIT101", "a", "TANK"), TagInfo("FIT101", "b", "PUMP"), TagInfo("XS101", "c", "TANK")),
)
BAD, UNCERTAIN = 0x8034_0000, 0x4092_0000
ALLOW, SUSPICIOUS, BLOCK = Screening.ALLOW, Screening.SUSPICIOUS, Screening.BLOCK


def batch(*samples, sequence=2, replayed=False):
    """Samples (tag, value, seconds[, status])."""
    tag, value, at, *_ = zip(*samples, strict=False)
    status = [s[3] if len(s) > 3 else 0 for s in samples]
    ns = np.round(np.array(at) * 1e9).astype(np.int64)
    return TagBatch(
        "PLC1", sequence, np.array(tag, np.uint32), np.array(value, np.float64), np.array(status, np.uint32),
        ns, ns, int(ns.max()), replayed,
    )  # fmt: skip


def rules(*limits):
    return LimitRules(CATALOG, limits)


def said(verdicts):
    """Screening by device, and the rules that are broken."""
    if verdicts is None:
        return None
    screening = {d: Screening(int(s)) for d, s in zip(verdicts.devices, verdicts.screening, strict=True)}
    return screening, [v.rule for v in verdicts.violations]


def test_each_limit_has_its_side_and_its_gravity():
    r = rules(Limit(("LIT101",), low_low=10, low=20, high=80, high_high=90))
    assert r.judge(batch((0, 50, 1))) is None
    assert said(r.judge(batch((0, 85, 2)))) == ({"TANK": SUSPICIOUS}, ["limit-high"])
    assert said(r.judge(batch((0, 95, 3)))) == ({"TANK": BLOCK}, ["limit-high", "limit-high-high"])
    assert said(r.judge(batch((0, 50, 4)))) == ({"TANK": ALLOW}, [])
    assert said(r.judge(batch((0, 15, 5)))) == ({"TANK": SUSPICIOUS}, ["limit-low"])
    assert said(r.judge(batch((0, 5, 6)))) == ({"TANK": BLOCK}, ["limit-low-low", "limit-low"])
    assert r.judge(batch((0, 80, 7))).violations == ()
    assert r.judge(batch((0, 20, 8))) is None  # on the limit is not beyond it


def test_a_violation_has_the_number_the_bound_and_the_words():
    r = rules(Limit(("LIT101",), high=80, category="ics", attack_id="T0831", message="too full"))
    (v,) = r.judge(batch((0, 85, 2))).violations
    assert (v.device, v.feature, v.observed, v.low, v.high) == ("TANK", "LIT101/value", 85, -math.inf, 80)
    assert (v.category, v.attack_id, v.message) == ("ics", "T0831", "too full")


def test_state_holds_until_it_changes_and_the_dead_band_keeps_it():
    r = rules(Limit(("LIT101",), high=80, deadband=5))
    assert not r.active
    r.judge(batch((0, 81, 1)))
    assert r.active
    assert r.judge(batch((0, 78, 2))) is None  # still above 75
    assert r.judge(batch((1, 3, 3))) is None  # no news of this tag
    assert said(r.state()) == ({"TANK": SUSPICIOUS}, ["limit-high"])
    assert said(r.judge(batch((0, 75, 4)))) == ({"TANK": ALLOW}, [])
    assert r.judge(batch((0, 78, 5))) is None
    assert not r.active


def test_a_spike_within_a_batch_is_told_and_then_over():
    r = rules(Limit(("LIT101",), high=80))
    assert said(r.judge(batch((0, 50, 1.0), (0, 99, 1.1), (0, 50, 1.2)))) == (
        {"TANK": SUSPICIOUS}, ["limit-high"],
    )  # fmt: skip
    assert r.active
    assert said(r.state()) == ({"TANK": ALLOW}, [])
    assert not r.active


def test_source_time_decides_not_the_order_of_arrival():
    r = rules(Limit(("LIT101",), high=80))
    r.judge(batch((0, 50, 2.0), (0, 99, 1.0)))
    assert said(r.state())[0] == {"TANK": ALLOW}
    r.judge(batch((0, 99, 4.0), (0, 50, 3.0)))
    assert said(r.state())[0] == {"TANK": SUSPICIOUS}


def test_rate_is_of_one_tag_and_for_the_moment():
    r = rules(Limit(("*",), rate=10))
    assert r.judge(batch((0, 50, 1.0), (1, 0, 1.0))) is None  # first samples have no rate
    assert r.judge(batch((0, 50.9, 1.1), (1, 0.9, 1.1))) is None
    verdicts = r.judge(batch((0, 48.9, 1.2), (1, 1.5, 1.2)))
    (v,) = verdicts.violations
    assert (v.rule, v.feature) == ("limit-rate", "LIT101/rate")
    assert v.observed == pytest.approx(-20)
    assert (v.low, v.high) == (-10, 10)
    assert said(r.state())[1] == []
    # Bad samples are no numbers: the rate goes from the last usable one.
    assert r.judge(batch((0, 1e6, 1.3, BAD), (0, 49.0, 1.4))) is None
    assert r.judge(batch((0, 49.0, 1.4))) is None  # the same time again is no rate


def test_bad_quality_is_a_violation_and_judges_nothing_else():
    r = rules(Limit(("LIT101",), high=80, quality=True))
    assert r.judge(batch((0, 50, 1, UNCERTAIN))) is None
    verdicts = r.judge(batch((0, 1e9, 2, BAD)))
    (v,) = verdicts.violations
    assert (v.rule, v.observed) == ("limit-quality", BAD)
    assert v.low <= UNCERTAIN <= v.high < v.observed
    assert said(r.judge(batch((0, 50, 3)))) == ({"TANK": ALLOW}, [])


def test_only_devices_with_limits_are_spoken_of_and_patterns_match_many():
    r = rules(Limit(("?IT101",), high=80), Limit(("LIT*",), high_high=70))
    assert r.devices == ("TANK", "PUMP")
    assert said(r.judge(batch((0, 75, 1), (1, 90, 1), (2, 1e9, 1)))) == (
        {"TANK": BLOCK, "PUMP": SUSPICIOUS}, ["limit-high-high", "limit-high"],
    )  # fmt: skip
    assert LimitRules(CATALOG, []).judge(batch((0, 75, 1))) is None
    assert rules(Limit(("NOPE",), high=1)).judge(batch((0, 75, 1))) is None


def test_what_is_replayed_or_unknown_says_nothing_of_now():
    r = rules(Limit(("LIT101",), high=80))
    assert r.judge(batch((0, 99, 1), replayed=True)) is None
    assert r.judge(batch((7, 99, 1))) is None
    assert r.judge(batch((0, math.nan, 1))) is None
    assert not r.active


def test_a_snapshot_tells_of_tags_that_never_came():
    r = rules(Limit(("*",), high=80))
    r.judge(batch((0, 50, 5.0)))
    assert said(r.hold(batch((0, 99, 4.0), (1, 99, 4.0), (7, 99, 4.0))))[0] == {
        "TANK": ALLOW,
        "PUMP": SUSPICIOUS,
    }
    assert r.hold(batch((0, 99, 4.0), (1, 50, 4.0))) is None


def test_stamps_are_those_of_the_samples():
    r = rules(Limit(("LIT101",), high=80))
    verdicts = r.judge(batch((0, 99, 3.0), (0, 98, 4.0)))
    assert (verdicts.source, verdicts.window_id, verdicts.end_ns) == ("limits", 0, 4_000_000_000)
    assert verdicts.confidence.tolist() == [0.5]


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ({"low": 5, "high": 5}, "low 5 must lie below high 5"),
        ({"low_low": 5, "high": 4}, "low_low 5 must lie below high 4"),
        ({"high": 9, "high_high": 8}, "high 9 must lie below high_high 8"),
        ({"rate": 0.0}, "rate 0 must be above 0"),
        ({"high": 1, "deadband": -1.0}, "deadband -1 must be 0 or more"),
        ({}, "sets no limit"),
    ],
)
def test_limits_that_contradict_one_another_are_refused(limit, why):
    with pytest.raises(ValueError, match=why):
        Limit(("A",), **limit)


def by_hand(samples, high, deadband):
    """The trigger of every sample, one after another."""
    broken, out = False, []
    for value, status in samples:
        if status != BAD and value > high:
            broken = True
        elif status != BAD and value <= high - deadband:
            broken = False
        out.append(broken)
    return out


@given(
    st.lists(
        st.tuples(st.sampled_from([60.0, 74.0, 75.0, 76.0, 80.0, 81.0]), st.sampled_from([0, BAD])),
        min_size=1,
    ),
    st.lists(st.integers(1, 5), min_size=1),
)
def test_any_batching_gives_the_state_of_sample_by_sample(samples, sizes):
    r = rules(Limit(("LIT101",), high=80, deadband=5))
    expected = by_hand(samples, 80, 5)
    at = 0
    for k in range(len(samples)):
        size = sizes[k % len(sizes)]
        part = samples[at : at + size]
        if not part:
            break
        before = r.active
        verdicts = r.judge(batch(*[(0, v, at + i, s) for i, (v, s) in enumerate(part)]))
        ever = any(expected[at : at + size])
        assert (verdicts is not None) == (ever != before)
        at += len(part)
        assert bool(r.state().violations) == expected[at - 1]


def test_limits_that_no_tag_has_are_named():
    other = TagCatalog("PLC2", (TagInfo("LIT201", "a", "PLC2"),))
    limits = [Limit(("LIT101", "LIT2*"), high=1), Limit(("PLC2:LIT201", "PLC1:LIT201", "LIT999"), low=1)]
    one, two = LimitRules(CATALOG, limits), LimitRules(other, limits)
    assert one.unmatched == ("LIT2*", "PLC2:LIT201", "PLC1:LIT201", "LIT999")
    assert unknown_limits([one, two]) == (
        "limit: no tag is called 'PLC1:LIT201'",
        "limit: no tag is called 'LIT999'",
    )
    assert unknown_limits([]) == ()
    with pytest.raises(ValueError, match="names no tag"):
        Limit((), high=1)


def test_a_limit_may_name_the_plc_or_the_device():
    for name in ("PLC1:LIT101", "TANK:LIT*"):
        assert said(rules(Limit((name,), high=80)).judge(batch((0, 85, 1), (1, 85, 1)))) == (
            {"TANK": SUSPICIOUS},
            ["limit-high"],
        )


def test_a_late_sample_does_not_undo_a_newer_one():
    r = rules(Limit(("LIT101",), high=80))
    assert said(r.judge(batch((0, 85, 100)))) == ({"TANK": SUSPICIOUS}, ["limit-high"])
    assert r.judge(batch((0, 50, 99))) is None
    assert r.active
    assert r.judge(batch((0, 50, 98), (0, 86, 101))) is None
    assert r.active
    # So far back it is no late sample: the clock was set.
    assert said(r.judge(batch((0, 50, 30)))) == ({"TANK": ALLOW}, [])
