"""What is normal now, added to what was: nothing that was normal becomes abnormal."""

import numpy as np
import pytest

from cellwatch.models.rules.habits import Habit, Habits, Key
from cellwatch.models.rules.limits import Limits
from cellwatch.models.rules.profile import ModeProfile, Profile
from cellwatch.models.types import Role

FEATURES = ("network_packets_all_count", "network_ttl_avg", "sensor_zscore_max", "sensor_staleness_max")
TAG_COLUMNS = ("avg", "staleness")
NAN = float("nan")
OPCUA = Key("HMI1", Role.SERVER, "opcua", "", 4840)
MODBUS = Key("HMI1", Role.SERVER, "mbtcp", "modbus:3", 502)


def limits(*rows):
    """Each row is (low, high, scale), None = never judged."""
    return Limits(*np.array([row or (NAN,) * 3 for row in rows], dtype=float).T)


def rows_of(found):
    return [
        None if np.isnan(s) else (lo, hi, s)
        for lo, hi, s in zip(found.low, found.high, found.scale, strict=True)
    ]


def profile(devices, habits=None, windows=10, **more):
    return Profile("s", FEATURES, TAG_COLUMNS, more.get("window_s", 1.0), windows, devices, habits or {})


OLD = ModeProfile(
    10, limits((1, 5, 2), (60, 64, 1), None, (-np.inf, 3, 1)), {"T1": limits((0, 1, 1), (-np.inf, 2, 1))}
)
NEW = ModeProfile(
    4, limits((3, 9, 1), None, (0, 2, 1), None),
    {"T1": limits((-1, 0.5, 3), None), "T2": limits((0, 1, 1), (0, 1, 1))},
)  # fmt: skip


def test_limits_become_the_union_and_what_was_not_judged_stays_so():
    found = profile({"PLC1": {0: OLD}}).widened(profile({"PLC1": {0: NEW}}, windows=4))
    one = found.devices["PLC1"][0]
    assert (found.windows, one.windows) == (14, 14)
    # a column without a number now keeps its limits; one that was never judged is not judged from now on;
    # one whose silence is normal now is not judged any more
    assert rows_of(one.features) == [(1, 9, 2), (60, 64, 1), None, None]
    assert rows_of(one.tags["T1"]) == [(-1, 1, 3), None]
    assert set(one.tags) == {"T1"}


def test_the_traffic_of_a_new_mode_is_added_to_that_of_all_others():
    found = profile({"PLC1": {0: OLD, 1: OLD}}).widened(profile({"PLC1": {2: NEW}}))
    assert set(found.devices["PLC1"]) == {0, 1, 2}
    assert found.devices["PLC1"][0] == OLD
    new = found.devices["PLC1"][2]
    assert rows_of(new.features) == [(1, 9, 2), (60, 64, 1), None, None]
    assert new.tags == {}


def test_a_new_device_is_taken_as_it_is_and_one_that_is_gone_stays():
    habits = Habits(4, {OPCUA: Habit(4, 1.0, 0)})
    found = profile({"PLC1": {0: OLD}}).widened(profile({"CAM1": {0: NEW}}, {"CAM1": habits}))
    assert found.devices == {"PLC1": {0: OLD}, "CAM1": {0: NEW}}
    assert found.habits == {"CAM1": habits}


def test_habits_become_the_union():
    old = Habits(10, {OPCUA: Habit(8, 1.0, 1, refused=1)}, ("10.0.0.1",))
    new = Habits(30, {OPCUA: Habit(24, 0.5, 3, peers=2), MODBUS: Habit(2, 0.1, 9, 1, 4, 7)}, ("10.0.0.2",))
    found = profile({"PLC1": {0: OLD}}, {"PLC1": old}).widened(profile({"PLC1": {0: NEW}}, {"PLC1": new}))
    mine = found.habits["PLC1"]
    assert (mine.windows, mine.addresses) == (40, ("10.0.0.1", "10.0.0.2"))
    assert mine.conversations[OPCUA] == Habit(32, (8 * 1.0 + 24 * 0.5) / 32, 3, peers=2, refused=1)
    assert mine.conversations[MODBUS] == Habit(2, 0.1, 10, 1, 4, 7)  # was silent for the ten windows before
    back = new.joined(old)
    assert back.conversations[MODBUS].silent == 10


def test_a_conversation_that_is_held_no_more_may_be_silent():
    old, new = Habits(10, {OPCUA: Habit(10, 1.0, 0)}), Habits(50, {})
    assert old.joined(new).conversations[OPCUA] == Habit(10, 1.0, 50)


def test_a_device_whose_traffic_nobody_watched_gets_no_habits():
    new = profile({"PLC1": {0: NEW}}, {"PLC1": Habits(4, {OPCUA: Habit(4, 1.0, 0)})})
    assert profile({"PLC1": {0: OLD}}).widened(new).habits == {}


def test_registers_named_by_one_alone_are_kept():
    assert Habit(1, 1.0, 0, 0, 3, 5).joined(Habit(1, 1.0, 0)).low == 3
    assert Habit(1, 1.0, 0).joined(Habit(1, 1.0, 0)).high == -1


def test_another_window_length_is_refused():
    with pytest.raises(ValueError, match="do not fit together"):
        profile({}).widened(profile({}, window_s=2.0))
