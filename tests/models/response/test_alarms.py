"""Alarms: the states of ISA-18.2, floods, shelving, and what never happens."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.models.response.alarms import AlarmError, AlarmList, AlarmSettings
from cellwatch.models.response.ne107 import status_signal
from cellwatch.models.types import AlarmState, Ne107, Priority

S = 10**9
KEY = "PLC1/dos"


class Desk:
    """An alarm list with a clock in seconds."""

    def __init__(self, **limits):
        self.list = AlarmList(AlarmSettings(**limits))
        self.t = 0.0

    @property
    def now(self):
        return round(self.t * S)

    def trouble(self, device="PLC1", category="dos", priority=Priority.HIGH):
        self.list.trouble(device, category, priority, "why", self.now)

    def wait(self, seconds):
        self.t += seconds
        self.list.tick(self.now)

    def alarm(self, key=KEY):
        return next(a for a in self.list.alarms() if a.key == key)

    @property
    def state(self):
        return self.alarm().state.name


def test_the_way_of_an_alarm():
    desk = Desk(off_delay_s=5)
    desk.trouble()
    assert (desk.state, desk.alarm().annunciated, desk.alarm().occurrences) == ("UNACKNOWLEDGED", True, 1)
    desk.list.acknowledge(KEY, "anna", desk.now)
    assert (desk.state, desk.alarm().user) == ("ACKNOWLEDGED", "anna")
    desk.wait(5)
    assert desk.state == "ACKNOWLEDGED"  # off-delay
    desk.wait(0.1)
    assert (desk.state, desk.alarm().active) == ("NORMAL", False)
    desk.trouble()
    assert (desk.state, desk.alarm().occurrences) == ("UNACKNOWLEDGED", 2)
    desk.wait(6)
    assert desk.state == "RETURNED_UNACKNOWLEDGED"
    desk.list.acknowledge(KEY, "anna", desk.now)
    assert desk.state == "NORMAL"


def test_trouble_that_goes_on_raises_one_alarm():
    desk = Desk()
    for _ in range(60):
        desk.trouble()
        desk.wait(1)
    assert (len(desk.list.alarms()), desk.alarm().occurrences, desk.alarm().raised_ns) == (1, 1, 0)


def test_growing_graver_asks_for_attention_again():
    desk = Desk()
    desk.trouble(priority=Priority.LOW)
    desk.list.acknowledge(KEY, "anna", desk.now)
    desk.trouble(priority=Priority.LOW)
    assert desk.state == "ACKNOWLEDGED"
    desk.trouble(priority=Priority.CRITICAL)
    assert (desk.state, desk.alarm().priority, desk.alarm().occurrences) == ("UNACKNOWLEDGED", 4, 1)


def test_shelving_ends_by_itself():
    desk = Desk(off_delay_s=5)
    desk.trouble()
    desk.list.shelve(KEY, 60, "anna", "known test", desk.now)
    for _ in range(60):
        assert (desk.state, desk.alarm().annunciated) == ("SHELVED", False)
        desk.trouble()
        desk.wait(1)
    assert (desk.state, desk.alarm().annunciated) == ("UNACKNOWLEDGED", True)


def test_shelved_and_gone_comes_back_as_normal():
    desk = Desk()
    desk.trouble()
    desk.list.shelve(KEY, 60, "anna", "why", desk.now)
    desk.wait(30)
    desk.list.unshelve(KEY, "anna", desk.now)
    assert desk.state == "NORMAL"


def test_what_grows_graver_than_it_was_shelved_comes_back():
    desk = Desk()
    desk.trouble(priority=Priority.LOW)
    desk.list.shelve(KEY, 3600, "anna", "noise", desk.now)
    desk.trouble(priority=Priority.LOW)
    assert desk.state == "SHELVED"
    desk.trouble(priority=Priority.HIGH)
    assert (desk.state, desk.alarm().annunciated) == ("UNACKNOWLEDGED", True)


def test_out_of_service_stays_until_returned_and_over_a_restart():
    desk = Desk()
    desk.trouble()
    desk.list.out_of_service(KEY, "anna", "sensor dismounted", desk.now)
    desk.wait(10**6)
    desk.trouble(priority=Priority.CRITICAL)
    again = Desk()
    again.t = desk.t
    again.list.load(json.loads(json.dumps(desk.list.to_dict())))
    assert again.list.alarms() == desk.list.alarms()
    for d in (desk, again):
        assert (d.state, d.alarm().annunciated) == ("OUT_OF_SERVICE", False)
        d.list.return_to_service(KEY, "ben", d.now)
        assert (d.state, d.alarm().annunciated) == ("UNACKNOWLEDGED", True)


def test_maintenance_suppresses_by_design_also_what_comes_later():
    desk = Desk()
    desk.trouble()
    desk.list.suppress_by_design({"PLC1"}, desk.now)
    desk.trouble(category="fault", priority=Priority.CRITICAL)
    desk.trouble(device="HMI1")
    assert {a.key: a.state for a in desk.list.alarms()} == {
        KEY: AlarmState.SUPPRESSED_BY_DESIGN,
        "PLC1/fault": AlarmState.SUPPRESSED_BY_DESIGN,
        "HMI1/dos": AlarmState.UNACKNOWLEDGED,
    }
    assert desk.alarm().ne107 == Ne107.FUNCTION_CHECK
    desk.list.suppress_by_design((), desk.now)
    assert desk.alarm("PLC1/fault").annunciated


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda d: d.list.acknowledge("X/y", "anna", 0), "there is no alarm X/y"),
        (lambda d: d.list.acknowledge(KEY, " ", 0), "user is empty"),
        (lambda d: d.list.shelve(KEY, 60, "anna", "", 0), "reason is empty"),
        (lambda d: d.list.shelve(KEY, 60, "", "why", 0), "user is empty"),
        (lambda d: d.list.shelve(KEY, 1e9, "anna", "why", 0), "at most 28800 s"),
        (lambda d: d.list.shelve(KEY, float("nan"), "anna", "why", 0), "at most 28800 s"),
        (lambda d: d.list.shelve(KEY, -1, "anna", "why", 0), "more than 0"),
        (lambda d: d.list.unshelve(KEY, "anna", 0), "not shelved"),
        (lambda d: d.list.out_of_service(KEY, "anna", " ", 0), "reason is empty"),
        (lambda d: d.list.return_to_service(KEY, "anna", 0), "not out of service"),
    ],
)
def test_what_cannot_be_done_changes_nothing(do, says):
    desk = Desk()
    desk.trouble()
    before = desk.list.alarms()
    with pytest.raises(AlarmError, match=says):
        do(desk)
    assert desk.list.alarms() == before


def test_acknowledging_twice_or_while_shelved_is_refused():
    desk = Desk()
    desk.trouble()
    desk.list.acknowledge(KEY, "anna", 0)
    with pytest.raises(AlarmError, match="is acknowledged: there is nothing"):
        desk.list.acknowledge(KEY, "anna", 0)
    desk.list.shelve(KEY, 60, "anna", "why", 0)
    with pytest.raises(AlarmError, match="is shelved"):
        desk.list.acknowledge(KEY, "anna", 0)
    desk.list.out_of_service(KEY, "anna", "why", 0)
    with pytest.raises(AlarmError, match="cannot be shelved"):
        desk.list.shelve(KEY, 60, "anna", "why", 0)


def test_a_flood_holds_back_what_is_less_grave_and_lets_it_come_later():
    desk = Desk(off_delay_s=10**4)
    for i in range(10):
        desk.trouble(f"D{i}", priority=Priority.MEDIUM)
    desk.trouble("late", priority=Priority.MEDIUM)
    desk.trouble("low", priority=Priority.LOW)
    desk.trouble("high", priority=Priority.HIGH)
    shown = {a.device for a in desk.list.alarms() if a.annunciated}
    assert {"late", "low"}.isdisjoint(shown)
    assert "high" in shown
    assert desk.list.flooded == 2
    desk.wait(601)
    assert desk.list.flooded == 0
    assert desk.alarm("late/dos").annunciated


EVENTS = st.tuples(st.integers(0, 30), st.sampled_from(list(Priority)[1:]), st.floats(0, 60))


def test_one_alarm_that_comes_and_goes_hides_no_other():
    desk = Desk(off_delay_s=1)
    for _ in range(40):
        desk.trouble("chatter")
        desk.wait(2)
    desk.trouble("other")
    assert desk.alarm("other/dos").annunciated


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, min_size=20, max_size=80), st.sampled_from([1.0, 50.0, 10**6]))
def test_no_flood_hides_an_alarm_graver_than_those_that_make_it(events, off_delay_s):
    """Held back means: ten others as grave were announced within ten minutes. CRITICAL never is."""
    desk = Desk(off_delay_s=off_delay_s)
    announced = set()

    def look():
        alarms = desk.list.alarms()
        announced.update({(a.key, a.changed_ns, a.priority) for a in alarms if a.annunciated})
        for a in alarms:
            if a.active and not a.annunciated:
                assert a.priority < Priority.CRITICAL
                recent = {k for k, t, p in announced if desk.now - t <= 600 * S and p >= a.priority}
                assert len(recent - {a.key}) >= 10

    for device, priority, wait in events:
        desk.trouble(f"D{device}", priority=priority)
        look()
        desk.wait(wait)
        look()


def test_the_list_is_bounded_and_keeps_the_gravest():
    desk = Desk(max_alarms=20)
    desk.trouble("grave", priority=Priority.CRITICAL)
    for i in range(100):
        desk.trouble(f"forged{i}", priority=Priority.LOW)
    assert len(desk.list.alarms()) == 20
    assert desk.list.dropped == 81
    assert desk.alarm("grave/dos").annunciated


def test_a_newcomer_pushes_out_nothing_graver():
    desk = Desk(max_alarms=3)
    for i in range(3):
        desk.trouble(f"grave{i}", priority=Priority.CRITICAL)
    desk.list.acknowledge("grave0/dos", "anna", desk.now)
    desk.trouble("newcomer", priority=Priority.LOW)
    assert {a.device for a in desk.list.alarms()} == {"grave0", "grave1", "grave2"}
    assert desk.list.dropped == 1
    desk.trouble("graver", priority=Priority.CRITICAL)
    assert "graver" in {a.device for a in desk.list.alarms()}


def test_what_is_normal_makes_room_for_anything():
    desk = Desk(max_alarms=1, off_delay_s=1)
    desk.trouble(priority=Priority.CRITICAL)
    desk.list.acknowledge(KEY, "anna", desk.now)
    desk.wait(2)
    desk.trouble("newcomer", priority=Priority.LOW)
    assert [a.device for a in desk.list.alarms()] == ["newcomer"]


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_setting_the_clock_changes_no_span(step_s):
    desk = Desk(off_delay_s=5, flood_alarms=1)
    steady = 0.0

    def wait(seconds):
        nonlocal steady
        steady += seconds
        desk.t += seconds
        desk.list.keep_time(desk.now, round(steady * S))
        desk.list.tick(desk.now)

    desk.t = 1e6
    wait(0)
    desk.trouble()
    desk.trouble("HMI1")
    desk.list.shelve("HMI1/dos", 60, "anna", "why", desk.now)
    desk.trouble("late")
    desk.t += step_s
    wait(1)
    assert (desk.state, desk.list.flooded) == ("UNACKNOWLEDGED", 1)
    assert desk.alarm("HMI1/dos").state == AlarmState.SHELVED
    wait(5)
    assert (desk.state, desk.list.flooded) == ("RETURNED_UNACKNOWLEDGED", 0)
    wait(55)
    assert desk.alarm("HMI1/dos").state == AlarmState.NORMAL
    desk.trouble("ENG1")
    assert not desk.alarm("ENG1/dos").annunciated  # the flood goes on
    wait(541)
    desk.trouble("ENG2")
    assert desk.alarm("ENG2/dos").annunciated


def test_what_stood_before_a_restart_is_not_announced_anew():
    desk = Desk(off_delay_s=5)
    desk.trouble()
    desk.list.acknowledge(KEY, "anna", desk.now)
    kept = json.loads(json.dumps(desk.list.to_dict()))
    again = Desk(off_delay_s=5)
    again.t = 60.0
    again.list.restore(kept, again.now)
    again.wait(4)
    again.trouble()
    assert (again.state, again.alarm().occurrences) == ("ACKNOWLEDGED", 1)


def test_an_alarm_out_of_service_is_not_forgotten_for_room():
    desk = Desk(max_alarms=3, off_delay_s=1)
    desk.trouble()
    desk.list.out_of_service(KEY, "anna", "why", 0)
    for i in range(10):
        desk.wait(2)
        desk.trouble(f"D{i}")
    assert desk.state == "OUT_OF_SERVICE"


@pytest.mark.parametrize("data", [{"k": {}}, {"k": 1}, [], {"k": {"device": "x"}}])
def test_a_damaged_list_is_refused(data):
    with pytest.raises(ValueError, match="not a list of alarms"):
        AlarmList().load(data if isinstance(data, dict) else {"k": data})


@pytest.mark.parametrize(
    ("category", "kind", "signal"),
    [
        ("fault", "fault/pump_wear", Ne107.MAINTENANCE_REQUIRED),
        ("fault", "fault/level_sensor_drift", Ne107.OUT_OF_SPECIFICATION),
        ("fault", "fault/heater_element_open", Ne107.FAILURE),
        ("fault", "", Ne107.FAILURE),
        ("dos", "dos/syn-flood", Ne107.OUT_OF_SPECIFICATION),
        ("mitm", "", Ne107.FAILURE),
    ],
)
def test_status_signals(category, kind, signal):
    assert status_signal(category, kind, active=True) == signal
    assert status_signal(category, kind, active=False) == Ne107.NORMAL
    assert status_signal(category, kind, active=True, in_maintenance=True) == Ne107.FUNCTION_CHECK
