"""What the response has set: when it is asked again, and what it takes to set it back."""

from __future__ import annotations

import json
import math

import pytest

from cellwatch.models.response.interlocks import InterlockSettings
from cellwatch.models.response.policy import parse_rule
from cellwatch.models.response.response import Response
from cellwatch.models.types import (
    CommandResult,
    CommandStatus,
    FusedVerdict,
    FusedWindow,
    Priority,
    Screening,
    TagInfo,
)

S = 10**9
START = 1_700_000_000 * S
LOCK = {"action": "quarantine", "categories": ["dos"], "tag": "LOCK", "hold_s": 20, "revert": 0}
SAFE = {"action": "safe_state", "categories": ["fault"], "tag": "LOCK", "value": 2, "hold_s": 20}
ALLOW, SUSPICIOUS, BLOCK = Screening.ALLOW, Screening.SUSPICIOUS, Screening.BLOCK
BOTH = ("rules", "ensemble")
TAGS = tuple(TagInfo(t, "", "tank", writable=True) for t in ("LOCK", "OTHER"))


class Cell:
    """One window a second; `step_s` sets the wall clock, which windows are numbered by."""

    def __init__(self, *rules, **settings):
        self.response = Response(
            tuple(parse_rule(r) for r in rules or (LOCK,)),
            InterlockSettings(**({"dead_man_s": 0.0, "clear_s": 5.0} | settings)),
        )
        self.response.catalog(TAGS, "PLC1")
        self.t = 0
        self.step_s = 0

    def window(
        self, decision=BLOCK, category="dos", device="HMI1", missing=(), age_s=0.0, devices=None, sources=BOTH
    ):
        self.t += 1
        now = START + (self.t + self.step_s) * S
        verdicts = tuple(
            FusedVerdict(d, decision, 0.9, 0.5, category if decision > ALLOW else "benign", agreeing=sources)
            for d in devices or (device,)
        )
        closed = now - round(age_s * S)
        window = FusedWindow(now // S, closed, closed, verdicts, missing=missing)
        return self.response.step(window, now, self.t * S)

    def set_tag(self):
        (command,) = self.window().commands
        self.answer(command)

    def answer(self, command, status=CommandStatus.ACCEPTED):
        self.response.result(CommandResult(command.command_id, 0, command.tag, command.value, status))

    def written(self, windows, **what):
        return [(self.t, c.tag, c.value) for _ in range(windows) for c in self.window(**what).commands]


# -- what keeps a hold --------------------------------


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"decision": SUSPICIOUS, "missing": ("rules: late",)},
        {"decision": SUSPICIOUS},
        {"decision": BLOCK, "category": "ddos"},
        {"decision": ALLOW, "missing": ("rules: late",)},
        {"decision": ALLOW, "device": "ENG1"},
        {"decision": ALLOW, "age_s": 60.0},
        {"decision": Screening.UNKNOWN},
    ],
)
def test_only_a_complete_window_that_allows_the_device_counts_as_calm(meanwhile):
    cell = Cell()
    cell.set_tag()
    assert cell.written(100, **meanwhile) == []
    (revert,) = cell.written(6, decision=ALLOW)
    assert revert == (cell.t, "LOCK", 0.0)  # not before it was calm for clear_s


def test_a_hold_outlasts_every_device_that_asked_for_it():
    cell = Cell()
    cell.set_tag()
    cell.window(devices=("HMI1", "ENG1"))
    assert cell.written(40, decision=ALLOW, device="HMI1") == []
    assert cell.written(6, decision=ALLOW, devices=("HMI1", "ENG1"))


def test_windows_that_stop_coming_are_not_calm():
    cell = Cell()
    cell.set_tag()
    cell.t += 60
    assert cell.written(5, decision=ALLOW) == []
    assert len(cell.written(1, decision=ALLOW)) == 1


# -- what was not written --------------------------------


@pytest.mark.parametrize("status", [CommandStatus.REFUSED, CommandStatus.WITHHELD])
def test_a_write_that_was_not_accepted_is_tried_again_soon(status):
    cell = Cell()
    (command,) = cell.window().commands
    cell.answer(command, status)
    assert cell.written(8) == [(6, "LOCK", 1.0)]
    assert cell.written(15) == []  # no answer to the second: the hold time stands


def test_a_takeover_that_was_refused_is_tried_again_soon():
    cell = Cell(LOCK, SAFE)
    cell.set_tag()
    (command,) = cell.window(category="fault").commands
    cell.answer(command, CommandStatus.REFUSED)
    assert cell.written(6, category="fault") == [(7, "LOCK", 2.0)]


def test_retries_leave_half_of_the_rate_to_others():
    cell = Cell(LOCK, {**LOCK, "tag": "OTHER", "categories": ["fault"]}, max_commands=6)
    for _ in range(50):
        for command in cell.window().commands:
            cell.answer(command, CommandStatus.REFUSED)
    assert [c.tag for c in cell.window(category="fault").commands] == ["OTHER"]


def test_a_tag_of_no_catalogue_costs_nothing():
    cell = Cell({**LOCK, "tag": "LOKC", "hold_s": 0}, {**LOCK, "hold_s": 0}, max_commands=3)
    answer = cell.window()
    assert [c.tag for c in answer.commands] == ["LOCK"]
    assert answer.held_back == (("LOKC", "LOKC is in no catalogue of a connected PLC"),)
    assert len(cell.written(5)) == 2


# -- late windows --------------------------------


@pytest.mark.parametrize(("age_s", "writes"), [(1.9, True), (2.1, False), (3600.0, False)])
def test_a_window_that_comes_late_raises_alarms_and_writes_nothing(age_s, writes):
    cell = Cell()
    answer = cell.window(age_s=age_s)
    assert bool(answer.commands) == writes
    if not writes:
        assert answer.held_back == (("LOCK", "its window is older than 2 s"),)
    assert [(a.key, a.priority) for a in cell.response.alarms.alarms()] == [("HMI1/dos", Priority.CRITICAL)]


def test_a_late_window_may_write_as_long_as_its_rule_or_the_budget_says():
    assert Cell({**LOCK, "valid_for_s": 10.0}).window(age_s=9.0).commands
    assert Cell(max_age_s=10.0).window(age_s=9.0).commands


# -- the clock is set --------------------------------


@pytest.mark.parametrize("step_s", [-3600, -10, 3600])
def test_setting_the_clock_stops_neither_writes_nor_reverts(step_s):
    cell = Cell()
    cell.set_tag()
    cell.step_s = step_s
    assert cell.written(19) == []  # the hold time goes on
    assert cell.written(1) == [(21, "LOCK", 1.0)]
    assert cell.written(30, decision=ALLOW) == [(41, "LOCK", 0.0)]


def test_a_row_of_windows_does_not_reach_over_a_new_beginning():
    cell = Cell(alone_windows=3)
    assert cell.written(2, sources=("rules",)) == []
    cell.step_s = -3600
    assert cell.written(2, sources=("rules",)) == []
    assert cell.written(1, sources=("rules",))


# -- the way back --------------------------------


def test_a_takeover_by_a_rule_without_revert_keeps_the_way_back():
    cell = Cell(LOCK, SAFE)
    cell.set_tag()
    (command,) = cell.window(category="fault").commands
    cell.answer(command)
    assert cell.written(60, decision=ALLOW)[0] == (22, "LOCK", 0.0)


def test_an_answer_that_comes_after_the_takeover_still_counts():
    cell = Cell(LOCK, SAFE)
    (first,) = cell.window().commands
    (second,) = cell.window(category="fault").commands
    cell.answer(first)
    cell.answer(second, CommandStatus.REFUSED)
    assert cell.written(60, decision=ALLOW)[0][1:] == ("LOCK", 0.0)


def test_what_an_operator_is_to_set_back_is_not_set_back_by_a_later_rule():
    cell = Cell({**LOCK, "revert": math.nan}, {**SAFE, "revert": 0})
    cell.set_tag()
    (command,) = cell.window(category="fault").commands
    cell.answer(command)
    assert cell.written(60, decision=ALLOW) == []


def test_a_revert_survives_a_restart():
    cell = Cell()
    cell.set_tag()
    kept = json.loads(json.dumps(cell.response.holds()))
    again = Cell()
    again.response.restore(kept, 0)
    assert again.written(15) == []
    (revert,) = again.written(20, decision=ALLOW)
    assert revert[1:] == ("LOCK", 0.0)


def test_what_was_not_confirmed_or_has_no_way_back_is_not_kept():
    cell, by_hand = Cell(), Cell({**LOCK, "revert": math.nan})
    cell.window()
    by_hand.set_tag()
    assert cell.response.holds() == by_hand.response.holds() == {}


@pytest.mark.parametrize("data", [{}, {"rule": {}}, {"rule": {"action": "x"}, "device": "", "devices": []}])
def test_damaged_holds_are_refused(data):
    with pytest.raises(ValueError):
        Cell().response.restore({"LOCK": data}, 0)


# -- names --------------------------------


def test_names_are_those_of_the_plant_the_policy_and_the_judged():
    cell = Cell({"action": "safe_state", "method": "PLC2/Stop", "devices": ["ROBOT"]})
    cell.window(ALLOW, device="HMI1")
    assert cell.response.names() == {
        "*", "LOCK", "OTHER", "tank", "PLC1", "PLC2/Stop()", "PLC2", "ROBOT", "HMI1",
    }  # fmt: skip


def test_an_override_of_a_plc_covers_tags_whose_device_has_another_name():
    cell = Cell()
    cell.response.hand_over(frozenset({"PLC1"}), frozenset(), START)
    assert cell.written(3) == []
