"""The rule language: what it takes, what it refuses, what it says of numbers and of their absence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.rules.language import ExpressionError, compile_condition, seconds
from cellwatch.models.rules.signals import Signals
from cellwatch.models.types import FeatureWindow

SCHEMA = default_schema()
COLUMN = {name: i for i, name in enumerate(TAG_COLUMNS)}
WINDOW_S = 2.0


def window(number, tags=None, features=None, devices=("PLC1", "HMI1")):
    """A window of 2 s; a tag is its mean, or its columns by name; features[device][name]."""
    tags, features = tags or {}, features or {}
    table = np.full((len(tags), len(TAG_COLUMNS)), np.nan, np.float32)
    for i, value in enumerate(tags.values()):
        columns = (
            value
            if isinstance(value, dict)
            else dict.fromkeys(("avg", "min", "max"), value) | {"std_deviation": 0.0}
        )
        for name, number_ in columns.items():
            table[i, COLUMN[name]] = number_
    values = np.full((len(devices), len(SCHEMA.names)), np.nan, np.float32)
    for device, row in features.items():
        for name, value in row.items():
            values[devices.index(device), SCHEMA.names.index(name)] = value
    end = round(number * WINDOW_S * 1e9)
    return FeatureWindow(
        number, end - round(WINDOW_S * 1e9), end, end, SCHEMA.schema_id, devices, values,
        tuple(tags), np.zeros(len(tags), np.uint32), table,
    )  # fmt: skip


def holds(text, *series):
    """What a condition says after each window of tag values: 1, 0, or None for unknown."""
    condition = compile_condition(text)
    signals = Signals([condition])
    said = []
    for i, tags in enumerate(series):
        signals.push(window(10 + i, tags))
        value = condition.holds(signals)[0]
        said.append(None if np.isnan(value) else int(value))
    return said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A > 5", 1),
        ("A > 10", 0),
        ("A >= 10 and B < 3", 1),
        ("A == 10 or B == 9", 1),
        ("not A > 5", 0),
        ("not (A > 50 or B > 50)", 1),
        ("5 < A < 20", 1),
        ("5 < A < 9", 0),
        ("20 > A > B", 1),
        ("A != 10", 0),
        ("A in (1, 10)", 1),
        ("A not in [1, 10]", 0),
        ("-B in (-2, 3)", 1),
        ("A - 2 * B == 6", 1),
        ("A / B == 5", 1),
        ("abs(B - A) == 8", 1),
        ("-A < 0", 1),
        ("missing(A)", 0),
    ],
)
def test_conditions_over_one_window(text, expected):
    assert holds(text, {"A": 10.0, "B": 2.0}) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A > 5", None),
        ("not A > 5", None),  # unknown stays unknown: a missing sensor fires nothing
        ("A > 5 and B > 5", 0),  # false whatever A is
        ("A > 5 and B < 5", None),
        ("A > 5 or B < 5", 1),  # true whatever A is
        ("A > 5 or B > 5", None),
        ("A in (1, 2)", None),
        ("A not in (1, 2)", None),
        ("missing(A)", 1),
        ("B / (B - 2) > 0", None),  # division by zero
    ],
)
def test_missing_numbers_are_unknown(text, expected):
    assert holds(text, {"A": math.nan, "B": 2.0}) == [expected]


def test_spans_are_unknown_until_they_have_passed():
    series = [{"A": float(v)} for v in (1, 5, 3, 9, 2)]
    assert holds("avg(A, 6s) > 3.5", *series) == [None, None, 0, 1, 1]
    assert holds("max(A, 4s) == 5", *series) == [None, 1, 1, 0, 0]
    assert holds("min(A, 4s) <= 2", *series) == [None, 1, 0, 0, 1]
    assert holds("rate(A, 6s) > 0.4", *series) == [None, None, 1, 1, 0]  # (3-1)/4, (9-5)/4, (2-3)/4 per s
    assert holds("count(A > 2, 6s) == 3", *series) == [None, None, 0, 1, 0]
    assert holds("avg(max(A, 4s), 4s) == 5", *series) == [None, None, 1, 0, 0]
    assert holds("std(A, 4s) == 2", *series) == [None, 1, 0, 0, 0]


def test_a_span_does_not_reach_over_a_hole():
    condition = compile_condition("avg(A, 4s) > 0")
    signals = Signals([condition])
    said = []
    for number in (10, 11, 14, 15):
        signals.push(window(number, {"A": 1.0}))
        said.append(bool(condition.holds(signals)[0] == 1))
    assert said == [False, True, False, True]


def test_a_long_history_is_kept_whole():
    condition = compile_condition("avg(A, 20s) == 5.5")
    signals = Signals([condition])
    true = []
    for i in range(40):
        signals.push(window(10 + i, {"A": float(i % 10 + 1)}))
        true.append(bool(condition.holds(signals)[0] == 1))
    assert true == [False] * 9 + [True] * 31  # any ten in a row are 1 to 10


def test_functions_of_a_tag_use_the_samples_of_the_window():
    columns = {"avg": 5.0, "min": 1.0, "max": 9.0, "std_deviation": 3.0, "slope": -0.5, "samples": 20.0}
    tag = {"A": columns | {"good_ratio": 0.75, "staleness": 1.5}}
    for text in (
        "min(A) == 1", "max(A) == 9", "std(A) == 3", "rate(A) == -0.5", "count(A) == 20",
        "good(A) == 0.75", "age(A) == 1.5", "A == 5", "avg(A) == 5",
    ):  # fmt: skip
        assert holds(text, tag) == [1], text


def test_changed_is_a_move_inside_or_between_windows():
    def tag(low, high):
        return {"A": {"avg": low, "min": low, "max": high}}

    said = holds("changed(A)", tag(1, 1), tag(1, 1), tag(2, 2), tag(2, 2), tag(2, 3), tag(3, 3))
    assert said == [None, 0, 1, 0, 1, 0]
    assert holds("changed(A, 4s)", tag(1, 1), tag(2, 2), tag(2, 2), tag(2, 2)) == [None, None, 1, 0]


def test_a_feature_is_judged_for_every_device_and_a_tag_for_all():
    condition = compile_condition("'network_tcp-flags-syn_count' > 10 and A > 0")
    signals = Signals([condition])
    rows = {"PLC1": {"network_tcp-flags-syn_count": 3}, "HMI1": {"network_tcp-flags-syn_count": 30}}
    signals.push(window(10, {"A": 1.0}, rows))
    assert condition.holds(signals).tolist() == [0, 1]
    of_one = compile_condition("'HMI1/network_tcp-flags-syn_count' > 10")
    signals = Signals([of_one])
    signals.push(window(10, {}, rows))
    assert of_one.holds(signals).tolist() == [1]


def test_history_follows_devices_that_come_and_go():
    condition = compile_condition("min(network_packets_all_count, 4s) > 5")
    signals = Signals([condition])
    busy = {"network_packets_all_count": 9}
    signals.push(window(10, {}, {"HMI1": busy, "PLC1": busy}))
    signals.push(window(11, {}, {"HMI1": busy, "X": busy, "PLC1": busy}, ("X", "HMI1", "PLC1")))
    # X has been there for one window only: what is missing of a span does not count.
    assert condition.holds(signals).tolist() == [1, 1, 1]
    signals.push(window(12, {}, {"HMI1": busy}, ("HMI1", "X")))
    assert condition.holds(signals)[0] == 1


@pytest.mark.parametrize(
    ("text", "observed", "low", "high", "told"),
    [
        ("A > 5", 10, -math.inf, 5, "A"),
        ("5 < A", 10, -math.inf, 5, "A"),
        ("B < 3", 2, 3, math.inf, "B"),
        ("not B > 3", 2, 3, math.inf, "B"),
        ("A > 5 and B < 3", 2, 3, math.inf, "B"),
        ("A > 5 or B > 3", 10, -math.inf, 5, "A"),
        ("A != 1", 10, 1, 1, "A"),
        ("A > 3 * B", 10, -math.inf, 6, "A"),
        ("max(A, 2s) > 5", 10, -math.inf, 5, "max(A, 2.0)"),
    ],
)
def test_the_cause_has_the_number_and_the_bound(text, observed, low, high, told):
    condition = compile_condition(text)
    signals = Signals([condition])
    signals.push(window(10, {"A": 10.0, "B": 2.0}))
    assert condition.cause(signals, 0) == (told, observed, low, high)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A >", "not an expression"),
        ("", "not an expression"),
        ("A", "is a number: compare it"),
        ("A + 1", "is a number"),
        ("1 > 0", "names no tag"),
        ("A > 0 + (B > 1)", "where a number is needed"),
        ("A and B > 1", "is a number"),
        ("A.real > 1", "cannot be used"),
        ("A ** 2 > 1", "cannot be used"),
        ("A[0] > 1", "cannot be used"),
        ("(lambda: A)() > 1", "cannot be used"),
        ("__import__('os').system('true') > 1", "cannot be used"),
        ("[x for x in A] > 1", "cannot be used"),
        ("A if B > 1 else 2 > 1", "cannot be used"),
        ("(A := 3) > 1", "cannot be used"),
        ("f'{A}' > 1", "cannot be used"),
        ("A is 1", "compare with"),
        ("True > A", "cannot be used"),
        ("A in B", "list of numbers"),
        ("A in (1, B)", "list of numbers"),
        ("mean(A) > 1", "no function is called 'mean'"),
        ("avg(A, B) > 1", "the span must be a time"),
        ("avg(A, 0s) > 1", "takes 0 to"),
        ("avg(A, 2h) > 1", "takes 0 to"),
        ("age(A, 3s) > 1", "takes no span"),
        ("avg(max(A, 1h), 1h) > 1", "a time in a time"),
        ("avg(A, 1s, 2s) > 1", "write avg"),
        ("avg(x=A) > 1", "write avg"),
        ("avg(A > 1) > 1", "takes a number"),
        ("age(A + 1) > 1", "takes a tag"),
        ("count(network_packets_all_count) > 1", "takes a tag"),
        ("std(network_packets_all_count) > 1", "needs a span"),
        ("network_packet_all_count > 1", "did you mean 'network_packets_all_count'"),
        ("network_tcp-flags-syn_count > 1", "in quotes"),
        ("A > " + "-" * 1200 + "1", "longer than"),
        ("A > " + "(" * 400 + "1" + ")" * 400, "not an expression"),
        ("A > " + "9" * 500, "not an expression"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_reason(text, why):
    with pytest.raises(ExpressionError, match=why):
        compile_condition(text)


@given(st.text(alphabet="AB12.()<>=+-*/ ,'\"sandornotinmavgc_:[]{}%@!\n", max_size=60))
def test_any_text_is_compiled_or_refused(text):
    try:
        condition = compile_condition(text)
    except ExpressionError:
        return
    signals = Signals([condition])
    signals.push(window(10, {"A": 1.0}))
    assert condition.holds(signals).shape in {(1,), (2,)}


def test_spans_of_time():
    assert [seconds(x) for x in ("500ms", "3s", "2 min", "0.5h")] == [0.5, 3, 120, 1800]
    for text in ("3", "s", "3 days", "-3s", "1e3s"):
        with pytest.raises(ValueError, match="span of time"):
            seconds(text)
