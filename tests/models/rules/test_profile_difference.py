"""What two profiles hold differently."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cellwatch.models.rules.difference import differences
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.profile_builder import ProfileBuilder
from cellwatch.models.types import FeatureWindow

NAMES = ("network_packets_all_count", "network_ttl_avg")


@pytest.fixture
def profile():
    builder = ProfileBuilder(NAMES, ("avg",))
    for i in range(30):
        values = np.array([[100 + i, 64], [10, 64]], np.float32)
        tags = np.array([[1.0 + i]], np.float32)
        builder.add(
            FeatureWindow(
                i, 0, 10**9, 10**9, "s", ("PLC1", "HMI1"), values, ("LIT101",), np.zeros(1, np.uint32), tags
            )
        )
    return builder.build()


def changed(profile, change):
    body = json.loads(profile.to_json())
    change(body)
    return Profile.parse(json.dumps(body), edited=True)


def test_a_profile_does_not_differ_from_itself(profile):
    assert differences(profile, Profile.parse(profile.to_yaml())) == []


def test_a_moved_limit_is_one_change_with_both_values(profile):
    def move(body):
        body["devices"]["PLC1"]["modes"]["0"]["features"][NAMES[1]] = [1, 128, 5]

    (one,) = differences(profile, changed(profile, move))
    assert one.place == f"PLC1/mode 0/{NAMES[1]}"
    assert one.after == [1.0, 128.0, 5.0]
    assert one.before[0] < 64 < one.before[1]


def test_a_tag_is_named_with_its_column(profile):
    def move(body):
        body["devices"]["PLC1"]["modes"]["0"]["tags"]["LIT101"]["avg"][2] = 9

    (one,) = differences(profile, changed(profile, move))
    assert one.place == "PLC1/mode 0/LIT101/avg"


def test_a_device_that_one_lacks_is_one_change(profile):
    (one,) = differences(profile, changed(profile, lambda body: body["devices"].pop("HMI1")))
    assert (one.place, one.before, one.after) == ("HMI1", "present", None)


def test_other_columns_are_one_change_with_those_that_the_other_lacks(profile):
    def rename(body):
        body["tag_columns"] = ["avg", "older"]

    (one,) = differences(profile, changed(profile, rename))
    assert (one.place, one.before, one.after) == ("tag_columns", [], ["older"])
    (one,) = differences(profile, changed(profile, lambda body: body["features"].reverse()))
    assert (one.place, one.before, one.after) == ("features", list(NAMES), list(NAMES[::-1]))
