"""RuleSense: what it learns, what it calls, what it leaves alone."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cellwatch.models.rules.limit_table import CAP
from cellwatch.models.rules.limits import FEW, Limits
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.profile_builder import ProfileBuilder
from cellwatch.models.rules.rule import Finding, add_up
from cellwatch.models.rules.rulesense import JUDGED_TAG_COLUMNS, RuleSense, RuleSettings
from cellwatch.models.types import FeatureWindow, Screening, Violation

FEATURES = ("network_packets_all_count", "network_ports_all_count", "network_ttl_avg", "sensor_zscore_max")
S = 1_000_000_000
TAG_COLUMNS = JUDGED_TAG_COLUMNS


def window(
    values, tag_values=None, *, devices=("PLC1", "HMI1"), schema_id="s1", held=(), modes=(), window_s=1
):
    tags = (
        np.full((1, len(TAG_COLUMNS)), 1.0, np.float32)
        if tag_values is None
        else np.array([tag_values], np.float32)
    )
    return FeatureWindow(
        7,
        0,
        window_s * S,
        window_s * S,
        schema_id,
        devices,
        np.array(values, np.float32),
        ("LIT101",),
        np.array([0], np.uint32),
        tags,
        held=held,
        modes=modes,
    )


@pytest.fixture
def rules():
    builder = ProfileBuilder(FEATURES, TAG_COLUMNS)
    rng = np.random.default_rng(1)
    for _ in range(50):
        plc, hmi = 100 + rng.normal(), 50 + rng.normal()
        builder.add(window([[plc, 3, 64, 1 + 0.1 * rng.normal()], [hmi, 2, 64, np.nan]]))
    return RuleSense(builder.build())


CALM = [[100, 3, 64, 1], [50, 2, 64, np.nan]]


def test_benign_windows_are_allowed(rules):
    verdicts = rules.judge(window(CALM))
    assert verdicts.screening.tolist() == [Screening.ALLOW, Screening.ALLOW]
    assert verdicts.violations == ()


def test_flood_is_blocked_and_explained(rules):
    verdicts = rules.judge(window([[5000, 400, 64, 30], CALM[1]]))
    assert verdicts.screening.tolist() == [Screening.BLOCK, Screening.ALLOW]
    first = verdicts.violations[0]
    assert first.device == "PLC1"
    assert first.observed > first.high
    assert {v.category for v in verdicts.violations} == {"dos", "recon", "fault"}
    assert {v.attack_id for v in verdicts.violations} == {"T0814", "T0846", ""}


def test_one_wild_feature_alone_stays_suspicious(rules):
    verdicts = rules.judge(window([[1e9, 3, 64, 1], CALM[1]]))
    assert verdicts.screening[0] == Screening.SUSPICIOUS


def test_columns_that_tell_one_story_count_once():
    """A large packet breaks size, length and payload alike: one piece of evidence."""
    names = ("network_packet-size_avg", "network_packet-size_max", "network_ip-length_max", "network_mss_max")
    builder = ProfileBuilder(names, TAG_COLUMNS)
    for _ in range(50):
        builder.add(window(np.full((2, 4), 100.0)))
    rules = RuleSense(builder.build())
    points, screening, _ = rules.judge_many(np.full((1, 4), 1e6, np.float32), rules.rows(["PLC1"]))
    assert points.tolist() == [CAP]
    assert screening.tolist() == [Screening.SUSPICIOUS]


def test_tag_violation_names_tag_and_column(rules):
    wild = [1.0] * len(TAG_COLUMNS)
    wild[0] = 40.0
    verdicts = rules.judge(window(CALM, wild))
    assert verdicts.violations[0].feature == "LIT101/avg"
    assert verdicts.violations[0].category == "fault"


def test_held_device_is_not_judged_on_its_process_but_on_its_traffic(rules):
    wild = [50.0] * len(TAG_COLUMNS)
    calm = rules.judge(window([[100, 3, 64, 99], CALM[1]], wild, held=("PLC1",)))
    assert calm.screening[0] == Screening.ALLOW
    loud = rules.judge(window([[5000, 400, 64, 99], CALM[1]], wild, held=("PLC1",)))
    assert loud.screening[0] > Screening.ALLOW
    assert {v.feature for v in loud.violations} == set(FEATURES[:2])


def test_each_mode_has_limits_of_its_own():
    builder = ProfileBuilder(FEATURES, TAG_COLUMNS)
    for mode, packets in ((1, 100), (2, 900)) * 40:
        builder.add(window([[packets, 3, 64, mode], CALM[1]], modes=(mode, 0)))
    rules = RuleSense(builder.build())
    for mode, packets in ((1, 100), (2, 900)):
        assert rules.judge(window([[packets, 3, 64, mode], CALM[1]], modes=(mode, 0))).violations == ()
    swapped = rules.judge(window([[900, 3, 64, 2], CALM[1]], modes=(1, 0)))
    assert {v.feature for v in swapped.violations} == {FEATURES[0], FEATURES[3]}


def test_in_a_mode_never_commissioned_only_the_traffic_is_judged_by_all_modes_together():
    builder = ProfileBuilder(FEATURES, TAG_COLUMNS)
    for mode, packets in ((1, 100), (2, 900)) * 40:
        builder.add(window([[packets, 3, 64, mode], CALM[1]], modes=(mode, 0)))
    rules = RuleSense(builder.build())
    calm = rules.judge(window([[500, 3, 64, 99], CALM[1]], [50.0] * len(TAG_COLUMNS), modes=(7, 0)))
    assert calm.screening.tolist() == [Screening.ALLOW, Screening.ALLOW]
    loud = rules.judge(window([[90_000, 3, 64, 99], CALM[1]], modes=(7, 0)))
    assert [v.feature for v in loud.violations] == [FEATURES[0]]


def test_nan_breaks_no_limit(rules):
    assert (rules.judge(window(np.full((2, 4), np.nan))).screening == Screening.ALLOW).all()


def test_statistics_of_a_handful_of_packets_are_not_judged_but_their_count_is(rules):
    odd = rules.judge(window([[4, 3, 255, 1], CALM[1]]))
    assert {v.feature for v in odd.violations} == {FEATURES[0]}
    assert FEATURES[2] in {v.feature for v in rules.judge(window([[100, 3, 255, 1], CALM[1]])).violations}


def test_device_never_seen_is_suspicious_only_when_it_speaks(rules):
    strange = window([[10, 1, 64, np.nan], [0, 0, np.nan, np.nan]], devices=("02:00:00:00:00:99", "ghost"))
    verdicts = rules.judge(strange)
    assert verdicts.screening.tolist() == [Screening.SUSPICIOUS, Screening.ALLOW]
    assert verdicts.violations[0].rule == "unknown-device"


def test_other_schema_and_other_length_are_refused_with_both(rules):
    with pytest.raises(ValueError, match=r"s1.*s2"):
        rules.judge(window(CALM, schema_id="s2"))
    with pytest.raises(ValueError, match=r"1 s.*10 s"):
        rules.judge(window(CALM, window_s=10))


def test_a_window_of_other_columns_is_refused_with_both_numbers(rules):
    with pytest.raises(ValueError, match=f"{len(FEATURES)} features, the window 3"):
        rules.judge(window([row[:3] for row in CALM]))
    with pytest.raises(ValueError, match=f"{len(TAG_COLUMNS)} tag columns, the window 2"):
        rules.judge(window(CALM, [1.0, 1.0]))


def test_what_rules_find_adds_up_and_comes_first(rules):
    class Writer:
        def judge(self, window):
            nan = math.nan
            return [
                Finding(
                    1, 6.0, Violation(window.devices[1], "x", nan, nan, nan, "new-writer", "ics", "T0855")
                )
            ]

    more = RuleSense(rules.profile, rules=(Writer(),))
    verdicts = more.judge(window([CALM[0], [9000, 2, 64, np.nan]]))
    assert verdicts.screening.tolist() == [Screening.ALLOW, Screening.BLOCK]
    assert [v.rule for v in verdicts.violations] == ["new-writer", "limit"]


def finding(row, points, rule):
    return Finding(row, points, Violation("PLC1", "x", math.nan, math.nan, math.nan, rule, "fault", ""))


def test_rules_declared_suspicious_stay_suspicious_however_many_break(rules):
    class Declared:
        def __init__(self, *found):
            self.found = found

        def judge(self, window):
            return self.found

    six = Declared(*[finding(0, 1.0, rule) for rule in ("physics-range", "user:a", "user:b") * 2])
    for said, verdict in (
        ((six,), Screening.SUSPICIOUS),
        ((six, Declared(finding(0, 6.0, "user:grave"))), Screening.BLOCK),
        ((six, Declared(finding(0, 2.0, "new-peer"), finding(0, 3.0, "scan"))), Screening.BLOCK),
    ):
        judged = RuleSense(rules.profile, rules=said).judge(window(CALM))
        assert judged.screening.tolist() == [verdict, Screening.ALLOW]
    assert len(RuleSense(rules.profile, rules=(six,)).judge(window(CALM)).violations) == 6


def test_findings_add_up_but_for_those_declared_suspicious():
    found = [
        finding(0, 1.0, "user:a"), finding(0, 1.0, "physics-rate"), finding(0, 2.0, "new-peer"),
        finding(2, 6.0, "user:b"), finding(2, 6.0, "physics-range"), finding(2, 1.0, "user:a"),
    ]  # fmt: skip
    assert add_up(found, 3).tolist() == [3.0, 0.0, 13.0]
    assert add_up(found, 3, block_points=9.0).tolist() == [3.0, 0.0, 6.0]
    assert add_up([], 2).tolist() == [0.0, 0.0]


def test_settings_move_the_verdict(rules):
    loud = window([[1e9, 3, 64, 1], CALM[1]])
    strict = RuleSense(rules.profile, RuleSettings(suspicious_points=0.1, block_points=2.0))
    assert strict.judge(loud).screening[0] == Screening.BLOCK
    lax = RuleSense(rules.profile, RuleSettings(suspicious_points=5.0, block_points=9.0))
    assert lax.judge(loud).screening[0] == Screening.ALLOW


def test_many_windows_at_once_are_judged_as_one_by_one(rules):
    rng = np.random.default_rng(3)
    values = rng.normal([100, 3, 64, 1], [200, 3, 30, 3], (3000, 4)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    who = rng.integers(3, size=3000)
    names = ("PLC1", "HMI1", "stranger")
    points, screening, confidence = rules.judge_many(values, rules.rows(names)[who])
    for i in range(0, 3000, 17):
        one = rules.judge(window([values[i]], devices=(names[who[i]],)))
        tags_apart = one.screening[0], float(one.confidence[0])
        assert tags_apart == (screening[i], pytest.approx(float(confidence[i])))
    assert len(np.unique(screening)) == 3
    assert ((points >= 0) & np.isfinite(points)).all()


def test_profile_survives_text_and_a_changed_one_is_refused(rules):
    wild = window([[5000, 400, 64, 30], CALM[1]])
    for text in (rules.profile.to_json(), rules.profile.to_yaml()):
        again = RuleSense(Profile.parse(text))
        assert again.judge(wild).screening.tolist() == rules.judge(wild).screening.tolist()
        assert again.profile.to_json() == rules.profile.to_json()
    body = json.loads(rules.profile.to_json())
    body["devices"]["PLC1"]["modes"]["0"]["features"][FEATURES[0]][1] = 1e12
    with pytest.raises(ValueError, match="checksum"):
        Profile.parse(json.dumps(body), "p.json")
    edited = RuleSense(Profile.parse(json.dumps(body), "p.json", edited=True))
    assert FEATURES[0] not in {v.feature for v in edited.judge(wild).violations}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "a: [", "just words", '{"version": 2, "checksum": ""}']
)
def test_what_is_no_profile_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"p\.json"):
        Profile.parse(text, "p.json")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("schema_id: s1", "schema_id: 2026-11-23"),
        ("      '0':\n", "      '0': {windows: 1, features: {}}\n      1:\n"),
        ("  PLC1:\n", "  7:\n    modes: {}\n  PLC1:\n"),
    ],
)
def test_what_yaml_makes_of_a_hands_edit_is_a_change_like_any_other(rules, old, new):
    text = rules.profile.to_yaml()
    assert old in text
    text = text.replace(old, new, 1)
    with pytest.raises(ValueError, match=r"^p\.yaml: checksum"):
        Profile.parse(text, "p.yaml")
    signed = Profile.parse(text, "p.yaml", edited=True).to_yaml()
    assert Profile.parse(signed, "p.yaml").to_yaml() == signed


def test_a_fault_names_file_and_place(rules):
    body = json.loads(rules.profile.to_json())
    habits = {"windows": 3, "addresses": [], "conversations": [{"peer": "HMI1"}]}
    body["devices"]["PLC1"]["habits"] = habits
    with pytest.raises(ValueError, match=r"^p\.yaml: PLC1: habits: conversation 1: .*role"):
        Profile.parse(json.dumps(body), "p.yaml", edited=True)
    body = json.loads(rules.profile.to_json())
    for wrong in ("ten", 0, None):
        with pytest.raises(ValueError, match=r"^p\.yaml: window_s: "):
            Profile.parse(json.dumps(body | {"window_s": wrong}), "p.yaml", edited=True)
    twice = rules.profile.to_yaml().replace(
        "      '0':\n", "      0: {windows: 1, features: {}}\n      '0':\n"
    )
    with pytest.raises(ValueError, match=r"^p\.yaml: \w+: mode 0: is there twice"):
        Profile.parse(twice, "p.yaml", edited=True)
    no_date = rules.profile.to_yaml().replace("schema_id: s1", "schema_id: 2026-13-01")
    with pytest.raises(ValueError, match=r"^p\.yaml: "):
        Profile.parse(no_date, "p.yaml", edited=True)


def test_an_older_profile_says_to_commission_anew(rules):
    body = json.loads(rules.profile.to_json())
    with pytest.raises(ValueError, match=r"version 1.*commission anew"):
        Profile.parse(json.dumps(body | {"version": 1}), "p.json")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([1.0, 2.0], "low, high, scale"),
        ([3.0, 2.0, 1.0], "low 3 is above high 2"),
        ([1.0, 2.0, 0.0], "scale"),
        ([1.0, "much", 1.0], "no number"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_with_its_place(rules, row, why):
    body = json.loads(rules.profile.to_json())
    body["devices"]["PLC1"]["modes"]["0"]["features"][FEATURES[1]] = row
    with pytest.raises(ValueError, match=rf"p\.yaml: PLC1: mode 0: {FEATURES[1]}.*{why}"):
        Profile.parse(json.dumps(body), "p.yaml", edited=True)


def test_a_side_without_a_limit_stays_open(rules):
    body = json.loads(rules.profile.to_json())
    body["devices"]["PLC1"]["modes"]["0"]["features"][FEATURES[0]] = [90, None, 1]
    open_up = RuleSense(Profile.parse(json.dumps(body), edited=True))
    points, _, _ = open_up.judge_many(
        np.array([[1e9, 3, 64, 1], [1, 3, 64, 1]], np.float32), open_up.rows(["PLC1"] * 2)
    )
    assert (points > 0).tolist() == [False, True]
    assert json.loads(open_up.profile.to_json())["devices"]["PLC1"]["modes"]["0"]["features"][
        FEATURES[0]
    ] == [
        90,
        None,
        1,
    ]


def test_profile_without_windows_is_an_error():
    with pytest.raises(ValueError, match="no benign window"):
        ProfileBuilder(FEATURES, TAG_COLUMNS).build()


def test_windows_of_two_lengths_make_no_profile():
    builder = ProfileBuilder(FEATURES, TAG_COLUMNS)
    builder.add(window(CALM))
    with pytest.raises(ValueError, match="lengths"):
        builder.add(window(CALM, window_s=10))


def test_limits_of_a_constant_column_have_room_for_rounding():
    limits = Limits.learn(np.full((10, 1), 20.0), margin=0.5)
    assert limits.excess(np.array([20.1])) == 0
    assert limits.excess(np.array([30.0])) > 0
    never = Limits.learn(np.full((10, 1), np.nan), margin=0.5)
    assert math.isnan(never.scale[0])
    assert never.excess(np.array([1e9])) == 0


def test_margin_grows_where_little_was_seen():
    """By 1 + FEW / n, n the numbers of the column itself."""
    values = np.full((100, 2), np.nan)
    values[:, 0] = np.linspace(0, 1, 100)
    values[:2, 1] = 0, 1
    limits = Limits.learn(values, margin=0.5)
    np.testing.assert_allclose(limits.high - 1, 0.5 * (1 + FEW / np.array([100, 2])))


def test_event_driven_tags_are_not_judged_on_their_silence():
    names = ("staleness",)
    builder = ProfileBuilder(FEATURES, names)
    for i in range(60):
        builder.add(window(CALM, [0.5 if i % 7 else 30.0]))
    assert not math.isfinite(builder.build().devices["PLC1"][0].tags["LIT101"].scale[0])
    steady = ProfileBuilder(FEATURES, names)
    for _ in range(60):
        steady.add(window(CALM, [0.5]))
    assert steady.build().devices["PLC1"][0].tags["LIT101"].low[0] == -math.inf


def test_other_traffic_is_learnt_anew_while_the_process_stays(rules):
    builder = ProfileBuilder(FEATURES, TAG_COLUMNS)
    busy = window([[900, 30, 64, 1], [700, 20, 64, np.nan]])
    for _ in range(30):
        builder.add(busy)
    again = RuleSense(rules.profile.with_network(builder.build()))
    assert (again.judge(busy).screening == Screening.ALLOW).all()
    assert rules.judge(busy).screening[0] > Screening.ALLOW
    hot = again.judge(window([[900, 30, 64, 50], [700, 20, 64, np.nan]]))
    assert [v.feature for v in hot.violations] == ["sensor_zscore_max"]
