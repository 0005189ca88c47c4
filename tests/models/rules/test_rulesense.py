"""RuleSense: what it learns, what it calls, what it leaves alone."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cellwatch.models.rules.profile import Limits, Profile, ProfileBuilder
from cellwatch.models.rules.rulesense import JUDGED_TAG_COLUMNS, RuleSense
from cellwatch.models.types import FeatureWindow, Screening

FEATURES = ("network_packets_all_count", "network_ports_all_count", "sensor_zscore_max")
TAG_COLUMNS = JUDGED_TAG_COLUMNS


def window(values, tag_values=None, *, devices=("PLC1", "HMI1"), schema_id="s1", held=()):
    tags = (
        np.full((1, len(TAG_COLUMNS)), 1.0, np.float32)
        if tag_values is None
        else np.array([tag_values], np.float32)
    )
    return FeatureWindow(
        7,
        0,
        1,
        2,
        schema_id,
        devices,
        np.array(values, np.float32),
        ("LIT101",),
        np.array([0], np.uint32),
        tags,
        held=held,
    )


@pytest.fixture
def rules():
    builder = ProfileBuilder(FEATURES, TAG_COLUMNS)
    rng = np.random.default_rng(1)
    for _ in range(50):
        builder.add(window([[100 + rng.normal(), 3, 1 + 0.1 * rng.normal()], [50 + rng.normal(), 2, np.nan]]))
    return RuleSense(builder.build())


def test_benign_windows_are_allowed(rules):
    verdicts = rules.judge(window([[100, 3, 1], [50, 2, np.nan]]))
    assert verdicts.screening.tolist() == [Screening.ALLOW, Screening.ALLOW]
    assert verdicts.violations == ()


def test_flood_is_blocked_and_explained(rules):
    verdicts = rules.judge(window([[5000, 400, 30], [50, 2, np.nan]]))
    assert verdicts.screening.tolist() == [Screening.BLOCK, Screening.ALLOW]
    first = verdicts.violations[0]
    assert first.device == "PLC1"
    assert first.observed > first.high
    assert {v.category for v in verdicts.violations} == {"dos", "recon", "fault"}


def test_one_wild_feature_alone_stays_suspicious(rules):
    verdicts = rules.judge(window([[1e9, 3, 1], [50, 2, np.nan]]))
    assert verdicts.screening[0] == Screening.SUSPICIOUS


def test_tag_violation_names_tag_and_column(rules):
    wild = [1.0] * len(TAG_COLUMNS)
    wild[0] = 40.0
    verdicts = rules.judge(window([[100, 3, 1], [50, 2, np.nan]], wild))
    assert verdicts.violations[0].feature == "LIT101/avg"
    assert verdicts.violations[0].category == "fault"


def test_held_device_is_not_judged_on_its_process_but_on_its_traffic(rules):
    wild = [50.0] * len(TAG_COLUMNS)
    calm = rules.judge(window([[100, 3, 99], [50, 2, np.nan]], wild, held=("PLC1",)))
    assert calm.screening[0] == Screening.ALLOW
    loud = rules.judge(window([[5000, 400, 99], [50, 2, np.nan]], wild, held=("PLC1",)))
    assert loud.screening[0] == Screening.BLOCK


def test_nan_breaks_no_limit(rules):
    assert (rules.judge(window(np.full((2, 3), np.nan))).screening == Screening.ALLOW).all()


def test_device_never_seen_is_suspicious_only_when_it_speaks(rules):
    verdicts = rules.judge(window([[10, 1, np.nan], [0, 0, np.nan]], devices=("02:00:00:00:00:99", "ghost")))
    assert verdicts.screening.tolist() == [Screening.SUSPICIOUS, Screening.ALLOW]
    assert verdicts.violations[0].rule == "unknown-device"


def test_other_schema_is_refused_with_both_ids(rules):
    with pytest.raises(ValueError, match=r"s1.*s2"):
        rules.judge(window([[1, 1, 1], [1, 1, 1]], schema_id="s2"))


def test_profile_survives_json_and_a_changed_one_is_refused(rules):
    text = rules.profile.to_json()
    again = RuleSense(Profile.from_json(text))
    w = window([[5000, 400, 30], [50, 2, np.nan]])
    assert again.judge(w).screening.tolist() == rules.judge(w).screening.tolist()
    body = json.loads(text)
    body["devices"]["PLC1"][FEATURES[0]][1] = 1e12
    with pytest.raises(ValueError, match="checksum"):
        Profile.from_json(json.dumps(body), "p.json")
    for damaged in ("", "{", "[]", "{}"):
        with pytest.raises(ValueError, match=r"p\.json"):
            Profile.from_json(damaged, "p.json")


def test_profile_without_windows_is_an_error():
    with pytest.raises(ValueError, match="no benign window"):
        ProfileBuilder(FEATURES, TAG_COLUMNS).build()


def test_limits_of_a_constant_column_have_room_for_rounding():
    limits = Limits.learn(np.full((10, 1), 20.0), margin=0.5)
    assert limits.excess(np.array([20.1])) == 0
    assert limits.excess(np.array([30.0])) > 0
    never = Limits.learn(np.full((10, 1), np.nan), margin=0.5)
    assert math.isnan(never.scale[0])
    assert never.excess(np.array([1e9])) == 0


def test_other_traffic_is_learnt_anew_while_the_process_stays(rules):
    busy = [window([[900, 30, 1], [700, 20, np.nan]]) for _ in range(30)]
    again = RuleSense(rules.profile.with_network(busy))
    assert (again.judge(busy[0]).screening == Screening.ALLOW).all()
    assert rules.judge(busy[0]).screening[0] == Screening.BLOCK
    hot = again.judge(window([[900, 30, 50], [700, 20, np.nan]]))
    assert [v.feature for v in hot.violations] == ["sensor_zscore_max"]
