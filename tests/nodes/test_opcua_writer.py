"""The write guard without any server: who may pass, in which order, and what is remembered."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwatch.models.types import Command, CommandStatus
from cellwatch.nodes.drivers.opcua_subscription import MAX_SEQUENCE, ahead, following
from cellwatch.nodes.drivers.opcua_units import ucum
from cellwatch.nodes.drivers.opcua_writer import WriteGuard, WriteRule, confirmed

NOW = 1_700_000_000_000_000_000
COMMAND = Command("c1", 7, "PLC1", "SP", 5.0, NOW - 100_000_000, 1.0, "test", NOW - 200_000_000)


def guard(**rule: object) -> WriteGuard:
    made = WriteGuard()
    base = {"writable": True, "low": 0.0, "high": 10.0, "min_interval_s": 2.0, "data_type": "Double"}
    made.set_rules([WriteRule("SP", **(base | rule)), WriteRule("PV")])
    return made


def test_a_good_command_passes_armed_and_is_withheld_disarmed():
    assert guard().decide(COMMAND, NOW, armed=True) is None
    result = guard().decide(COMMAND, NOW, armed=False)
    assert result.status is CommandStatus.WITHHELD
    assert (result.command_id, result.window_id, result.tag, result.value) == ("c1", 7, "SP", 5.0)
    assert (result.decided_ns, result.issued_ns, result.closed_ns) == (
        NOW,
        COMMAND.issued_ns,
        COMMAND.closed_ns,
    )


@pytest.mark.parametrize(
    ("change", "rule", "says"),
    [
        ({"command_id": ""}, {}, "no command_id"),
        ({"tag": "XX"}, {}, "no tag 'XX'"),
        ({"tag": "PV"}, {}, "not writable"),
        ({"value": math.nan}, {}, "not finite"),
        ({"value": -math.inf}, {}, "not finite"),
        ({"value": 10.1}, {}, "10.1 is outside 0 to 10"),
        ({"value": -0.1}, {}, "outside"),
        ({}, {"low": math.nan}, "has no range"),
        ({"value": 2.5}, {"data_type": "Int16"}, "not a value of type Int16"),
        ({"value": 300.0}, {"data_type": "Byte", "high": 1000.0}, "not a value of type Byte"),
        ({"value": 2.0}, {"data_type": "Boolean"}, "not a value of type Boolean"),
        ({}, {"data_type": "String"}, "not a value of type String"),
        ({"valid_for_s": 0.0}, {}, "not a span"),
        ({"valid_for_s": math.inf}, {}, "not a span"),
        ({"valid_for_s": 0.05}, {}, "expired: 0.1 s old, valid for 0.05 s"),
        ({"issued_ns": NOW + 2_000_000_000}, {}, "in the future"),
    ],
)
@pytest.mark.parametrize("armed", [True, False])
def test_refusals_say_why_armed_or_not(change, rule, says, armed):
    result = guard(**rule).decide(replace(COMMAND, **change), NOW, armed=armed)
    assert result.status is CommandStatus.REFUSED
    assert says in result.error


@pytest.mark.parametrize(
    ("value", "kind"), [(1.0, "Boolean"), (255.0, "Byte"), (-3.0, "Int16"), (2.5, "Float")]
)
def test_values_that_fit_their_type(value, kind):
    made = guard(data_type=kind, low=-1000.0, high=1000.0)
    assert made.decide(replace(COMMAND, value=value), NOW, armed=True) is None


@pytest.mark.parametrize("armed", [True, False])
def test_the_same_id_is_never_taken_twice(armed):
    made = guard(min_interval_s=0.0)
    made.decide(COMMAND, NOW, armed=armed)
    again = made.decide(COMMAND, NOW + 1, armed=True)
    assert again.status is CommandStatus.REFUSED
    assert "used before" in again.error
    refused = replace(COMMAND, command_id="c2", value=99.0)
    made.decide(refused, NOW, armed=True)
    assert "used before" in made.decide(replace(refused, value=1.0), NOW, armed=True).error


@pytest.mark.parametrize("armed", [True, False])
def test_the_rate_limit_counts_what_was_or_would_have_been_sent(armed):
    made = guard()
    made.decide(COMMAND, NOW, armed=armed)
    made.set_rules(made.rules.values())  # a new catalogue does not forget
    soon = replace(COMMAND, command_id="c2", issued_ns=NOW)
    assert "0.50 s after the last write" in made.decide(soon, NOW + 500_000_000, armed=armed).error
    later = replace(COMMAND, command_id="c3", issued_ns=NOW + 2_000_000_000)
    result = made.decide(later, NOW + 2_000_000_001, armed=True)
    assert result is None  # the refused one in between did not count


def test_a_clock_that_was_set_back_does_not_close_a_tag():
    made = guard()
    made.decide(COMMAND, NOW, armed=True)
    back = NOW - 3600 * 10**9
    assert made.decide(replace(COMMAND, command_id="c2", issued_ns=back), back, armed=True) is None
    soon = replace(COMMAND, command_id="c3", issued_ns=back)
    assert "0.50 s after" in made.decide(soon, back + 500_000_000, armed=True).error


@given(st.floats(), st.floats(0.001, 100.0), st.integers(-5, 200), st.booleans())
def test_nothing_outside_the_rules_ever_passes(value, valid_for_s, age_s, armed):
    command = replace(COMMAND, value=value, valid_for_s=valid_for_s, issued_ns=NOW - age_s * 10**9)
    result = guard().decide(command, NOW, armed=armed)
    if result is None:
        assert armed
        assert 0.0 <= value <= 10.0
        assert -1 <= age_s <= valid_for_s


@pytest.mark.parametrize(
    ("kind", "wanted", "read", "same"),
    [
        ("Float", 5.3, 5.300000190734863, True), ("Float", 5.3, 5.31, False),
        ("Double", 5.3, 5.3000002, False),
        ("Double", 5.3, math.nan, False), ("Boolean", 1.0, 1.0, True), ("Int32", 3.0, 4.0, False),
    ],
)  # fmt: skip
def test_reading_back(kind, wanted, read, same):
    assert confirmed(kind, wanted, read) is same


def test_sequence_numbers_roll_to_one():
    assert following(MAX_SEQUENCE) == 1
    assert following(MAX_SEQUENCE - 1, 3) == 2
    assert ahead(MAX_SEQUENCE, 2) == 2
    assert ahead(1, MAX_SEQUENCE) == -1
    assert ahead(7, 7) == 0


@pytest.mark.parametrize(
    ("unit_id", "text", "code"),
    [
        (4408652, "°C", "Cel"), (0, "°C", "Cel"), (-1, "%", "%"), (0, "MPa", "MPa"), (0, "mPa", "mPa"),
        (0, "l/min", "L/min"), (0, "widgets", "widgets"), (0, "", ""),
        (2**31 - 1, "rpm", "{rev}/min"),
    ],
)  # fmt: skip
def test_units(unit_id, text, code):
    assert ucum(unit_id, text) == code
