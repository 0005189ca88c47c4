"""The user's rules over windows: whom they speak of, how long they wait, what they give."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.rules.language import compile_condition
from cellwatch.models.rules.user_rules import UserRule, UserRules
from cellwatch.models.types import FeatureWindow, Screening

SCHEMA = default_schema()
SYN = "network_tcp-flags-syn_count"


def window(number, tags=None, syn=None, devices=("PLC1", "HMI1"), schema_id=SCHEMA.schema_id, window_s=1.0):
    """Tags belong to the last device; `syn` is the feature of each device."""
    tags = tags or {}
    table = np.zeros((len(tags), len(TAG_COLUMNS)), np.float32)
    table[:, 0] = list(tags.values())
    values = np.full((len(devices), len(SCHEMA.names)), np.nan, np.float32)
    values[:, SCHEMA.names.index(SYN)] = np.nan if syn is None else syn
    ns = round(window_s * 1e9)
    return FeatureWindow(
        number, (number - 1) * ns, number * ns, number * ns, schema_id, devices, values, tuple(tags),
        np.full(len(tags), len(devices) - 1, np.uint32), table,
    )  # fmt: skip


def rule(when, name="r", **more):
    return UserRule(name, compile_condition(when), **more)


def devices_of(found, w):
    return [w.devices[row] for row, _, _ in found]


def test_points_follow_the_verdict_and_the_settings():
    rules = UserRules(
        [rule("A > 1"), rule("A > 1", "grave", verdict=Screening.BLOCK, attack_id="T0836", message="no!")],
        2.0,
        9.0,
    )
    (mild, grave) = rules.judge(window(5, {"A": 3.0}))
    assert (mild.row, mild.points) == (1, 2.0)
    assert (grave.row, grave.points) == (1, 9.0)
    v = grave.violation
    assert (v.device, v.rule, v.feature, v.observed, v.high) == ("HMI1", "user:grave", "A", 3.0, 1.0)
    assert (v.attack_id, v.message) == ("T0836", "no!")


def test_a_rule_waits_for_its_time_and_begins_anew_after_a_break():
    rules = UserRules([rule("A > 1", for_s=3.0)])
    fired = [bool(rules.judge(window(5 + i, {"A": a}))) for i, a in enumerate([2, 2, 2, 2, 0, 2, 2, 2])]
    assert fired == [False, False, True, True, False, False, False, True]
    assert not rules.judge(window(14, {"A": 2.0}))  # a window was lost: nobody knows what was in it


def test_waiting_counts_windows_of_any_length():
    rules = UserRules([rule("A > 1", for_s=3.0)])
    assert [bool(rules.judge(window(5 + i, {"A": 2.0}, window_s=2.0))) for i in range(3)] == [
        False,
        True,
        True,
    ]
    rules = UserRules([rule("A > 1", for_s=3.0)])
    assert rules.judge(window(5, {"A": 2.0}, window_s=10.0))


def test_each_device_waits_for_itself_even_when_rows_move():
    rules = UserRules([rule(f"'{SYN}' > 10", for_s=2.0)])
    assert rules.judge(window(5, syn=[50, 0])) == []
    w = window(6, syn=[0, 50, 50], devices=("X", "HMI1", "PLC1"))
    assert devices_of(rules.judge(w), w) == ["PLC1"]
    w = window(7, syn=[50, 50], devices=("HMI1", "X"))
    assert devices_of(rules.judge(w), w) == ["HMI1"]


@pytest.mark.parametrize(
    ("when", "devices", "about"),
    [
        ("A > 1", (), ["HMI1"]),  # the owner of the tag
        (f"'{SYN}' > 1", (), ["PLC1", "HMI1"]),
        (f"'{SYN}' > 1 and A > 1", (), ["HMI1"]),
        (f"'PLC1/{SYN}' > 1", (), ["PLC1"]),
        (f"'{SYN}' > 1", ("PLC*",), ["PLC1"]),
        ("A > 1", ("PLC1", "HMI?"), ["PLC1", "HMI1"]),
        ("A > 1", ("NOBODY",), []),
    ],
)
def test_whom_a_rule_speaks_of(when, devices, about):
    w = window(5, {"A": 3.0}, syn=[5, 5])
    assert devices_of(UserRules([rule(when, devices=devices)]).judge(w), w) == about


def test_tags_that_are_not_there_are_named_and_the_rest_is_judged():
    rules = UserRules([rule("A > 1 and B > 1", "two"), rule("A > 1", "one")])
    assert [f.violation.rule for f in rules.judge(window(5, {"A": 3.0}))] == ["user:one"]
    assert rules.unknown == ("two: no tag is called 'B'",)
    assert len(rules.judge(window(6, {"A": 3.0, "B": 3.0}))) == 2  # a catalogue that came late
    assert rules.unknown == ()


def test_devices_that_are_not_there_are_named():
    rules = UserRules([rule("A > 1", "one", devices=("PLC11", "HMI*")), rule(f"'PLC9/{SYN}' > 1", "two")])
    assert len(rules.judge(window(5, {"A": 3.0}))) == 1
    assert rules.unknown == ("one: no device is called 'PLC11'", "two: no device is called 'PLC9'")
    rules.judge(window(6, {"A": 3.0}, devices=("PLC9", "PLC11", "HMI1")))
    assert rules.unknown == ()


def test_a_tag_is_called_with_or_without_its_plc():
    w = window(5, {"A": 3.0})
    assert devices_of(UserRules([rule("'HMI1:A' > 1")]).judge(w), w) == ["HMI1"]
    rules = UserRules([rule("A > 1")])
    assert rules.judge(window(5, {"PLC1:A": 3.0, "PLC2:A": 3.0})) == []
    assert rules.unknown == ("r: more than one tag is called 'A': write it with its PLC, as in PLC1:A",)


def test_a_foreign_schema_is_refused():
    with pytest.raises(ValueError, match="schema"):
        UserRules([rule("A > 1")]).judge(window(5, {"A": 3.0}, schema_id="other"))


def test_no_rules_no_work():
    assert UserRules([]).judge(window(5, schema_id="other")) == []
