"""Physics: ranges, rates, sensors that stand still, balances; a guard; missing data breaks nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import (
    AVG,
    GOOD_RATIO,
    MAX,
    MIN,
    SAMPLES,
    TAG_COLUMNS,
    TagState,
    tag_windows,
)
from cellwatch.models.rules.language import compile_condition
from cellwatch.models.rules.physics import Balance, Common, Physics, Range, Rate, Stuck
from cellwatch.models.types import FeatureWindow, Screening

SCHEMA = default_schema()


def window(number, tags, *, silent=(), bad=(), devices=None, window_s=1.0):
    """Tags with their mean, or (min, mean, max); `silent` ones hold their value, of `devices` by tag."""
    devices = devices or {}
    names = tuple(dict.fromkeys(devices.get(t, "PLC1") for t in tags))
    table = np.full((len(tags), len(TAG_COLUMNS)), np.nan, np.float32)
    for i, (name, value) in enumerate(tags.items()):
        low, mean, high = value if isinstance(value, tuple) else (value, value, value)
        table[i, [MIN, AVG, MAX]] = low, mean, high
        table[i, SAMPLES] = 0 if name in silent else 10
        table[i, GOOD_RATIO] = 0 if name in bad else 1
    ns = round(window_s * 1e9)
    return FeatureWindow(
        number, (number - 1) * ns, number * ns, number * ns, SCHEMA.schema_id, names,
        np.full((len(names), len(SCHEMA.names)), np.nan, np.float32), tuple(tags),
        np.array([names.index(devices.get(t, "PLC1")) for t in tags], np.uint32), table,
    )  # fmt: skip


def fired(physics, *windows):
    return [[f"{f.violation.rule} {f.violation.feature}" for f in physics.judge(w)] for w in windows]


def test_range_looks_at_the_extremes_of_a_window():
    physics = Physics(
        [Range(("L*",), low=0, high=100), Range(("L2",), high=50, common=Common(verdict=Screening.BLOCK))]
    )
    assert fired(physics, window(5, {"L1": 50.0, "L2": 50.0, "F": 999.0})) == [[]]
    found = physics.judge(window(6, {"L1": (-1.0, 50.0, 60.0), "L2": (10.0, 20.0, 101.0), "F": 0.0}))
    told = [
        (f.violation.feature, f.violation.observed, f.violation.low, f.violation.high, f.points)
        for f in found
    ]
    assert told == [
        ("L1/min", -1.0, 0.0, 100.0, 1.0),
        ("L2/max", 101.0, 0.0, 100.0, 1.0),
        ("L2/max", 101.0, -np.inf, 50.0, 6.0),
    ]


def test_rate_is_from_window_to_window_per_second():
    physics = Physics([Rate(("A",), limit=2.0)])
    windows = [window(5 + i, {"A": a}, window_s=2.0) for i, a in enumerate([10.0, 14.0, 18.1, 14.0])]
    assert fired(physics, *windows) == [[], [], ["physics-rate A/rate"], ["physics-rate A/rate"]]
    assert fired(physics, window(20, {"A": 99.0}, window_s=2.0)) == [[]]  # windows were lost between


def test_stuck_counts_from_the_first_window_that_repeats():
    physics = Physics([Stuck(("A", "C"), for_s=3.0)])
    stands = [window(5 + i, {"A": 7.0, "B": float(i), "C": (1.0, 2.0, 3.0)}) for i in range(6)]
    assert fired(physics, *stands) == [[], [], [], *[["physics-stuck A/still"]] * 3]
    (found,) = physics.judge(window(11, {"A": 7.0, "B": 0.0, "C": (1.0, 2.0, 3.0)}))
    assert (found.violation.observed, found.violation.high) == (6.0, 3.0)
    assert fired(physics, window(12, {"A": 7.1, "B": 0.0, "C": 1.0})) == [[]]


def test_a_silent_link_is_no_stuck_sensor():
    physics = Physics([Stuck(("*",), for_s=2.0)])
    both = {"A": 7.0, "B": 8.0}
    link_down = [window(5 + i, both, silent=("A", "B")) for i in range(5)]
    assert fired(physics, *link_down) == [[]] * 5
    # Samples come on change: a sensor that stands still sends none, while its neighbour does.
    assert fired(physics, window(10, {"A": 7.0, "B": 9.0}, silent=("A",))) == [["physics-stuck A/still"]]
    other = [
        window(20 + i, {"A": 7.0, "B": float(i)}, silent=("A",), devices={"B": "PLC2"}) for i in range(5)
    ]
    assert fired(physics, *other) == [[]] * 5


def test_bad_quality_and_missing_values_break_nothing():
    rules = [Range(("A",), high=1), Rate(("A",), limit=1.0), Stuck(("A",), for_s=1.0)]
    physics = Physics(rules)
    assert (
        fired(physics, *(window(5 + i, {"A": 9.0 * i + 9, "B": 1.0}, bad=("A",)) for i in range(4)))
        == [[]] * 4
    )
    assert fired(physics, *(window(9 + i, {"A": np.nan, "B": 1.0}) for i in range(3))) == [[]] * 3


def balance(**more):
    rule = {
        "volume": "L",
        "capacity": 2.0,
        "inflow": ("F1", "F2"),
        "outflow": ("F3",),
        "for_s": 3.0,
        "tolerance": 0.5,
    }
    return Balance(**{**rule, **more})


def test_balance_closes_when_what_comes_is_what_stays():
    """L rises by (1 + 2 - 1) / 2 = 1 a second; flows that ramp are integrated by the trapezoid, exactly."""
    physics = Physics([balance()])
    steady = [window(5 + i, {"L": 10.0 + i, "F1": 1.0, "F2": 2.0, "F3": 1.0}) for i in range(8)]
    assert fired(physics, *steady) == [[]] * 8
    ramp = [window(30 + i, {"L": 10.0 + i * i / 4, "F1": float(i), "F2": 2.0, "F3": 2.0}) for i in range(8)]
    assert fired(physics, *ramp) == [[]] * 8


def test_balance_finds_a_leak_and_says_how_much():
    physics = Physics([balance()])
    leak = [window(5 + i, {"L": 10.0, "F1": 1.0, "F2": 0.0, "F3": 0.75}) for i in range(5)]
    assert fired(physics, *leak) == [[], [], [], *[["physics-balance L/balance"]] * 2]
    (found,) = physics.judge(window(10, {"L": 10.0, "F1": 1.0, "F2": 0.0, "F3": 0.75}))
    assert found.violation.observed == pytest.approx(-0.75)  # 0.25 a second for 3 s
    assert (found.violation.low, found.violation.high) == (-0.5, 0.5)


def test_balance_takes_flows_in_their_own_time():
    tags = {"L": 10.0, "F1": 60.0, "F2": 0.0, "F3": 45.0}  # a minute
    windows = [window(5 + i, tags) for i in range(4)]
    assert fired(Physics([balance(per_s=60.0)]), *windows)[-1] == ["physics-balance L/balance"]
    assert fired(Physics([balance(per_s=60.0, tolerance=0.8)]), *windows)[-1] == []


def test_balance_waits_after_a_hole_in_time_or_in_a_flow():
    physics = Physics([balance()])
    tags = {"L": 10.0, "F1": 1.0, "F2": 0.0, "F3": 0.0}
    fired(physics, *(window(5 + i, tags) for i in range(3)))
    assert fired(physics, *(window(9 + i, tags) for i in range(4))) == [
        [],
        [],
        [],
        ["physics-balance L/balance"],
    ]
    assert fired(physics, window(13, tags, bad=("F2",)), window(14, tags), window(15, tags)) == [[], [], []]


def test_a_guard_restricts_a_rule():
    guard = compile_condition("MODE == 0 and max(A, 2s) < 90")
    physics = Physics([Range(("A",), high=10, common=Common(guard))])
    said = fired(
        physics, *(window(5 + i, {"A": 20.0, "MODE": m}) for i, m in enumerate([0.0, 0.0, 2.0, 0.0]))
    )
    assert said == [[], ["physics-range A/max"], [], ["physics-range A/max"]]  # unknown at first: not judged


def test_tags_that_are_not_there_are_named():
    guard = Common(compile_condition("Q > 0"))
    physics = Physics([balance(), Range(("A*",), high=1), Stuck(("B",), for_s=1, common=guard)])
    assert fired(physics, window(5, {"L": 1.0, "F1": 1.0, "F3": 1.0, "B": 1.0})) == [[]]
    assert physics.unknown == (
        "balance of L: no tag is called 'F2'",
        "range: no tag is called 'A*'",
        "while Q > 0: no tag is called 'Q'",
    )
    assert Physics([]).judge(window(5, {})) == []


UNCERTAIN, BAD = 0x4000_0000, 0x8000_0000


def real_windows(series: list[list[tuple[float, int]]]) -> list[FeatureWindow]:
    """Windows of tag A as `tag_windows` makes them: of each window its samples (value, status)."""
    first = 1_000_000
    flat = [
        (value, status, (first - 1 + i) * 10**9 + (k + 1) * 10**8)
        for i, samples in enumerate(series)
        for k, (value, status) in enumerate(samples)
    ]
    value, status, at = (np.array(part) for part in zip(*flat, strict=True))
    statistics, _ = tag_windows(
        np.zeros(len(flat), np.int64), value, status.astype(np.uint32), at, first_id=first,
        windows=len(series), window_ns=10**9, state=TagState.empty(1),
    )  # fmt: skip
    table = np.full((len(series), 1, len(TAG_COLUMNS)), np.nan, np.float32)
    table[:, :, : statistics.shape[2]] = statistics
    return [replace(window(first + i, {"A": 0.0}), tag_values=part) for i, part in enumerate(table)]


def test_uncertain_values_are_judged():
    physics = Physics([Range(("A",), high=10), Rate(("A",), limit=50)])
    told = fired(physics, *real_windows([[(5, UNCERTAIN)], [(99, UNCERTAIN)], []]))
    assert told == [[], ["physics-range A/max", "physics-rate A/rate"], ["physics-range A/max"]]


def test_a_bad_tag_says_nothing_until_a_usable_sample_comes():
    physics = Physics([Range(("A",), high=10)])
    windows = real_windows([[(99, 0)], [(5, BAD)], [], [(99, UNCERTAIN)], [(5, BAD)], [(99, 0)]])
    over = ["physics-range A/max"]
    assert fired(physics, *windows) == [over, [], [], over, [], over]


def test_patterns_that_overlap_count_a_tag_once():
    assert fired(Physics([Range(("A*", "A1", "A1"), high=1)]), window(5, {"A1": 9.0})) == [
        ["physics-range A1/max"]
    ]


def test_tags_are_called_with_or_without_their_plc():
    two = window(5, {"PLC1:L": 9.0, "PLC2:L": 9.0}, devices={"PLC1:L": "PLC1", "PLC2:L": "PLC2"})
    both = [["physics-range PLC1:L/max", "physics-range PLC2:L/max"]]
    assert fired(Physics([Range(("L",), high=1)]), two) == both
    assert fired(Physics([Range(("PLC2:L",), high=1)]), two) == [both[0][1:]]
    assert fired(Physics([Range(("PLC1:A*",), high=1)]), window(5, {"A1": 9.0})) == [["physics-range A1/max"]]
    guard = Common(compile_condition("'PLC1:F' > 0 and 'NOBODY/network_packets_all_count' > 1"))
    physics = Physics(
        [balance(volume="L", inflow=("PLC1:L",), outflow=()), Range(("L",), high=1, common=guard)]
    )
    assert fired(physics, two) == [[]]
    assert physics.unknown == (
        "balance of L: more than one tag is called 'L': write it with its PLC, as in PLC1:L",
        "while 'PLC1:F' > 0 and 'NOBODY/network_packets_all_count' > 1: no tag is called 'PLC1:F'",
        "while 'PLC1:F' > 0 and 'NOBODY/network_packets_all_count' > 1: no device is called 'NOBODY'",
    )


def test_a_window_without_tags_breaks_nothing():
    """As messages bring it: before the first tags come, and when a link is gone."""
    physics = Physics([Range(("L*",), low=0, high=100), Rate(("L*",), limit=1.0), Stuck(("L*",), for_s=3.0)])
    none = window(1, {}, devices={})
    none = replace(none, tag_values=none.tag_values.reshape(0, 0))
    seen = window(2, {"L1": 120.0})
    found = fired(physics, none, seen, replace(none, window_id=3), replace(seen, window_id=4))
    assert found == [[], ["physics-range L1/max"], [], ["physics-range L1/max"]]
