"""Which verdict asks for which action."""

from __future__ import annotations

import json
import math

import pytest

from cellwatch.models.response.policy import ResponsePolicy, as_words, parse_rule
from cellwatch.models.types import Action, FusedVerdict, FusedWindow, Priority, Screening

SAFE = parse_rule({"action": "safe_state", "categories": ["fault"], "devices": ["PLC1"], "tag": "XS101_SAFE"})
LOCK = parse_rule({"action": "quarantine", "tag": "XS102_LOCK"})
CLAMP = parse_rule({"action": "clamp", "categories": ["mitm"], "tag": "LIC101_SP", "range": [30, 60]})

LOW = parse_rule({"action": "alarm", "decision": "suspicious", "priority": "low"})


def fused(*verdicts, window_id=1):
    """Verdicts as (device, decision, category)."""
    made = tuple(FusedVerdict(d, s, 0.9, 0.5, c, explanation="why") for d, s, c in verdicts)
    return FusedWindow(window_id, 0, 5, made)


def tags(policy, window, values=None):
    return {w.rule.tag: w.value for w in policy.wishes(window, values or {})}


def test_only_block_asks_for_a_write_unless_the_rule_says_otherwise():
    policy = ResponsePolicy((SAFE, LOCK))
    for decision in (Screening.UNKNOWN, Screening.ALLOW, Screening.SUSPICIOUS):
        assert tags(policy, fused(("PLC1", decision, "fault"))) == {}
    assert tags(policy, fused(("PLC1", Screening.BLOCK, "fault"))) == {"XS101_SAFE": 1.0, "XS102_LOCK": 1.0}
    early = parse_rule({"action": "quarantine", "decision": "suspicious", "tag": "T"})
    assert tags(ResponsePolicy((early,)), fused(("PLC1", Screening.SUSPICIOUS, "dos"))) == {"T": 1.0}


def test_category_and_device_select_the_rule():
    policy = ResponsePolicy((SAFE, LOCK))
    assert set(tags(policy, fused(("PLC1", Screening.BLOCK, "dos")))) == {"XS102_LOCK"}
    assert set(tags(policy, fused(("HMI1", Screening.BLOCK, "fault")))) == {"XS102_LOCK"}


def test_the_gravest_action_gets_the_tag():
    lesser = parse_rule({"action": "quarantine", "tag": "XS101_SAFE", "value": 0})
    policy = ResponsePolicy((lesser, SAFE))
    assert tags(policy, fused(("PLC1", Screening.BLOCK, "fault"))) == {"XS101_SAFE": 1.0}


@pytest.mark.parametrize(
    ("now", "wanted"), [(75.0, 60.0), (12.0, 30.0), (30.0, None), (45.0, None), (math.nan, None)]
)
def test_a_clamp_writes_the_nearer_limit_only_where_the_set_point_is_outside(now, wanted):
    window = fused(("PLC1", Screening.BLOCK, "mitm"))
    assert tags(ResponsePolicy((CLAMP,)), window, {"LIC101_SP": now}).get("LIC101_SP") == wanted
    assert tags(ResponsePolicy((CLAMP,)), window) == {}  # never seen


@pytest.mark.parametrize(
    ("rules", "decision", "priority"),
    [
        ((), Screening.BLOCK, Priority.HIGH),
        ((), Screening.SUSPICIOUS, Priority.UNKNOWN),
        ((LOCK,), Screening.BLOCK, Priority.CRITICAL),
        ((parse_rule({"action": "advise"}),), Screening.BLOCK, Priority.UNKNOWN),
        ((parse_rule({"action": "advise"}), LOCK), Screening.BLOCK, Priority.CRITICAL),
        ((parse_rule({"action": "alarm", "decision": "suspicious"}),), Screening.SUSPICIOUS, Priority.LOW),
        ((parse_rule({"action": "alarm", "priority": "medium"}),), Screening.BLOCK, Priority.MEDIUM),
        ((LOW,), Screening.SUSPICIOUS, Priority.LOW),
        ((LOW,), Screening.BLOCK, Priority.HIGH),
        ((LOW, LOCK), Screening.BLOCK, Priority.CRITICAL),
    ],
)
def test_priority_of_the_alarm(rules, decision, priority):
    (verdict,) = fused(("PLC1", decision, "dos")).verdicts
    assert ResponsePolicy(rules).alarm_priority(verdict) == priority


def test_a_method_is_a_tag_with_parentheses():
    rule = parse_rule({"action": "safe_state", "method": "PLC2/SafeState", "revert_method": "PLC2/Reset"})
    assert (rule.action, rule.tag, rule.value) == (Action.SAFE_STATE, "PLC2/SafeState()", 1.0)
    assert (rule.revert_tag, rule.revert) == ("PLC2/Reset()", 1.0)


@pytest.mark.parametrize("rule", [SAFE, LOCK, CLAMP, LOW])
def test_a_rule_survives_a_file(rule):
    again = parse_rule(json.loads(json.dumps(as_words(rule))))
    assert repr(again) == repr(rule)  # NaN is not equal to NaN


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"action": "explode", "tag": "T"}, "action 'explode': use advise, alarm, clamp"),
        ({"action": "unknown", "tag": "T"}, "action 'unknown'"),
        ({"action": "alarm", "priority": "huge"}, "priority 'huge'"),
        ({"action": "quarantine"}, "quarantine needs a tag or method"),
        ({"action": "alarm", "tag": "T"}, "alarm writes no tag"),
        ({"action": "clamp", "tag": "T"}, "needs a range"),
        ({"action": "clamp", "tag": "T", "range": [5, 5]}, "needs a range"),
        ({"action": "clamp", "tag": "T", "range": [5]}, r"range is \[low, high\]"),
        ({"action": "quarantine", "tag": "T", "range": [0, 1]}, "no other action"),
        ({"action": "quarantine", "tag": "T", "method": "P/M"}, "not both"),
        ({"action": "quarantine", "tag": "T", "decision": "allow"}, "suspicious or block"),
        ({"action": "quarantine", "tag": "T", "value": math.inf}, "finite"),
        ({"action": "quarantine", "tag": "T", "hold_s": -1}, "not negative"),
        ({"action": "quarantine", "tag": "T", "hold_s": math.nan}, "not negative"),
        ({"action": "quarantine", "tag": "T", "valid_for_s": 0}, "above 0"),
        ({"action": "clamp", "tag": "T", "range": [0, 1], "revert": 0}, "nothing to revert"),
        ({"action": "quarantine", "tag": "T", "revert_tag": "U"}, "needs revert"),
    ],
)
def test_rules_that_make_no_sense_are_refused(data, says):
    with pytest.raises(ValueError, match=says):
        parse_rule(data)
