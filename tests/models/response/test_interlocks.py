"""Every interlock, and somebody who tries to get past it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cellwatch.models.response.interlocks import InterlockSettings, Supervision
from cellwatch.models.response.policy import parse_rule
from cellwatch.models.response.response import Response
from cellwatch.models.types import (
    CommandResult,
    CommandStatus,
    FusedVerdict,
    FusedWindow,
    Screening,
    TagInfo,
)

S = 10**9
START = 1_700_000_000 * S
SAFE = {"action": "safe_state", "tag": "SAFE", "hold_s": 20, "revert": 0}
TAGS = (
    TagInfo("SAFE", "", "PLC1", writable=True, role="command"),
    TagInfo("PV", "", "PLC1"),
    TagInfo("SP", "", "PLC2", writable=True),
    *(TagInfo(f"T{i}", "", "PLC2", writable=True) for i in range(8)),
)
BOTH = ("rules", "ensemble")


class Cell:
    """A response with its windows, one a second, and a supervisor that beats unless told otherwise."""

    def __init__(self, *rules, **settings):
        self.response = Response(
            tuple(parse_rule(r) for r in rules or (SAFE,)),
            InterlockSettings(**({"alone_windows": 4} | settings)),
        )
        self.response.catalog(TAGS)
        self.t = 0
        self.beating = True

    def window(self, decision=Screening.BLOCK, device="PLC1", agreeing=BOTH, t=None, window_id=None):
        self.t = self.t + 1 if t is None else t
        if self.beating:
            self.response.supervision.dead_man.beat(self.t, self.t * S)
        verdict = FusedVerdict(device, decision, 0.9, 0.5, "dos", agreeing=agreeing, explanation="why")
        now = START + self.t * S
        window = FusedWindow(self.t if window_id is None else window_id, now, now, (verdict,))
        return self.response.step(window, now, self.t * S)

    def calm(self, seconds):
        return [c for _ in range(seconds) for c in self.window(Screening.ALLOW).commands]

    def answer(self, command, status=CommandStatus.ACCEPTED):
        self.response.result(CommandResult(command.command_id, 0, command.tag, command.value, status))


def test_two_sources_act_at_once():
    (command,) = Cell().window().commands
    assert (command.tag, command.value, command.device, command.reason) == (
        "SAFE", 1.0, "PLC1", "safe_state: why",
    )  # fmt: skip


# -- agreement --------------------------------


@pytest.mark.parametrize("agreeing", [("rules",), ("ensemble",), ("rules", "limits"), (), ("rules", "rules")])
def test_one_witness_alone_needs_its_windows_in_a_row(agreeing):
    cell = Cell()
    answers = [cell.window(agreeing=agreeing) for _ in range(4)]
    assert [len(a.commands) for a in answers] == [0, 0, 0, 1]
    assert "of 4 windows" in answers[0].held_back[0][1]


def test_a_calm_window_breaks_the_row():
    cell = Cell()
    for _ in range(5):
        assert not [c for _ in range(3) for c in cell.window(agreeing=("rules",)).commands]
        cell.window(Screening.ALLOW)


def test_another_device_does_not_fill_the_row():
    cell = Cell()
    assert not [c for i in range(20) for c in cell.window(device=f"D{i % 7}", agreeing=("rules",)).commands]


def test_the_same_window_again_and_again_is_one_window():
    cell = Cell()
    assert not [c for _ in range(20) for c in cell.window(agreeing=("rules",), window_id=7).commands]
    assert not [c for i in range(7) for c in cell.window(agreeing=BOTH, window_id=i).commands]  # older ones


# -- the operator --------------------------------


@pytest.mark.parametrize("target", ["SAFE", "PLC1", "*"])
def test_an_override_of_tag_device_or_cell_wins_over_everything(target):
    cell = Cell()
    cell.response.hand_over(frozenset({target}), frozenset(), START)
    answers = [cell.window() for _ in range(30)]
    assert not [c for a in answers for c in a.commands]
    assert "overridden by an operator" in answers[0].held_back[0][1]
    cell.response.hand_over(frozenset(), frozenset(), START)
    assert cell.window().commands


def test_an_override_ends_the_automatic_revert_too():
    cell = Cell()
    cell.answer(cell.window().commands[0])
    cell.response.hand_over(frozenset({"SAFE"}), frozenset(), START)
    assert cell.calm(60) == []
    cell.response.hand_over(frozenset(), frozenset(), START)
    assert cell.calm(60) == []  # what stands in the tag is the operator's now


@pytest.mark.parametrize("target", ["SAFE", "PLC1", "*"])
def test_nothing_is_written_in_maintenance(target):
    cell = Cell()
    cell.response.hand_over(frozenset(), frozenset({target}), START)
    assert not [c for _ in range(30) for c in cell.window().commands]


def test_maintenance_of_one_device_does_not_hide_what_another_asks_for():
    cell = Cell()
    cell.response.hand_over(frozenset(), frozenset({"HMI1"}), START)
    cell.response.supervision.dead_man.beat(1, S)
    verdicts = tuple(
        FusedVerdict(d, Screening.BLOCK, 0.9, 0.5, "dos", agreeing=BOTH) for d in ("HMI1", "ENG1")
    )
    (command,) = cell.response.step(FusedWindow(1, START, START, verdicts), START, S).commands
    assert command.device == "ENG1"


def test_an_override_of_a_plc_covers_its_methods():
    cell = Cell({"action": "safe_state", "method": "PLC2/SafeState"})
    cell.response.hand_over(frozenset({"PLC2"}), frozenset(), START)
    assert not cell.window().commands
    cell.response.hand_over(frozenset({"PLC1x"}), frozenset(), START)
    assert cell.window(device="HMI1").commands


# -- dead-man --------------------------------


def test_no_supervisor_no_commands():
    cell = Cell()
    cell.beating = False
    answer = cell.window()
    assert (answer.commands, answer.held_back) == ((), (("SAFE", "the supervisor has not been heard"),))
    cell.beating = True
    assert cell.window().commands


def test_a_silent_supervisor_stops_commands_and_reverts():
    cell = Cell(dead_man_s=3)
    cell.answer(cell.window().commands[0])
    cell.beating = False
    assert cell.calm(60) == []
    cell.beating = True
    assert [c.value for c in cell.calm(1)] == [0.0]


def test_a_heartbeat_that_stands_still_is_silence():
    cell = Cell(dead_man_s=3)
    cell.beating = False
    for t in range(1, 40):
        cell.response.supervision.dead_man.beat(5, t * S)  # the same stamp again
        commands = cell.window(t=t, agreeing=("rules",)).commands
        assert bool(commands) == (t == 4)  # within 3 s of the first beat, and never again


def test_the_last_gate_passes_nothing_before_it_knows_the_overrides():
    gate = Supervision(3.0)
    gate.dead_man.beat(1, S)
    assert "not known" in gate.objection(["SAFE"], S)
    gate.take(["SP"], [])
    assert gate.objection(["SAFE", "PLC1"], S) == ""
    assert gate.objection(["SP", "PLC2"], S) == "SP is overridden by an operator"
    assert "silent for 3.5 s" in gate.objection(["SAFE"], S + 3_500_000_000)


# -- rate, hold, revert, allow-list --------------------------------


def test_many_rules_do_not_get_past_the_rate_limit():
    rules = [{"action": "quarantine", "tag": f"T{i}", "hold_s": 0} for i in range(8)]
    cell = Cell(*rules, max_commands=10, per_s=60)
    times = [cell.t for _ in range(130) for _ in cell.window().commands]
    assert len(times) > 20
    for first in times:
        assert sum(first <= t < first + 60 for t in times) <= 10


def test_the_hold_time_stands_whatever_comes():
    cell = Cell({**SAFE, "revert": math.nan})
    assert [cell.t for _ in range(50) if cell.window().commands] == [1, 21, 41]


def test_only_a_graver_action_takes_a_tag_over_within_its_hold_time():
    lesser = {"action": "quarantine", "devices": ["ENG1"], "tag": "SAFE", "value": 0, "hold_s": 20}
    graver = {"action": "safe_state", "devices": ["PLC1"], "tag": "SAFE", "value": 1, "hold_s": 20}
    cell = Cell(lesser, graver)
    assert [c.value for c in cell.window(device="ENG1").commands] == [0.0]
    assert [c.value for c in cell.window(device="PLC1").commands] == [1.0]
    assert not [c for _ in range(19) for c in cell.window(device="ENG1").commands]


def test_a_revert_comes_after_hold_and_calm_and_once():
    cell = Cell(clear_s=10)
    cell.answer(cell.window().commands[0])
    for _ in range(5):
        cell.window()
    last = cell.t
    commands = []
    while not commands:
        commands = list(cell.window(Screening.ALLOW).commands)
    assert (commands[0].tag, commands[0].value) == ("SAFE", 0.0)
    assert cell.t == max(1 + 20, last + 10)
    cell.answer(commands[0])
    assert cell.calm(100) == []


def test_a_cause_that_comes_back_delays_the_revert():
    cell = Cell(clear_s=10)
    cell.answer(cell.window().commands[0])
    commands = []
    for _ in range(10):
        commands += cell.calm(8)
        commands += cell.window(agreeing=("rules",)).commands
    assert [c.value for c in commands] == [1.0] * len(commands)


@pytest.mark.parametrize("status", [CommandStatus.WITHHELD, CommandStatus.REFUSED, None])
def test_what_was_not_written_is_not_reverted(status):
    cell = Cell()
    (command,) = cell.window().commands
    if status:
        cell.answer(command, status)
    assert cell.calm(100) == []


def test_a_revert_that_fails_is_tried_again_under_a_new_id():
    cell = Cell()
    cell.answer(cell.window().commands[0])
    first, second = cell.calm(60)[:2]
    assert first.value == second.value == 0.0
    assert first.command_id != second.command_id


def test_a_method_reverts_by_a_method():
    cell = Cell(
        {"action": "safe_state", "method": "PLC2/SafeState", "revert_method": "PLC2/Reset", "hold_s": 5}
    )
    (command,) = cell.window().commands
    assert (command.tag, command.value) == ("PLC2/SafeState()", 1.0)
    cell.answer(command)
    assert [(c.tag, c.value) for c in cell.calm(12)][:1] == [("PLC2/Reset()", 1.0)]


def test_a_tag_that_is_not_writable_is_not_asked_for():
    answer = Cell({"action": "quarantine", "tag": "PV"}).window()
    assert (answer.commands, answer.held_back) == ((), (("PV", "PV is not writable in the tag map"),))


def test_a_clamp_follows_what_the_plant_shows():
    cell = Cell({"action": "clamp", "tag": "SP", "range": [30, 60], "hold_s": 5})
    cell.response.show({"SP": 80.0})
    assert [c.value for c in cell.window().commands] == [60.0]
    cell.response.show({"SP": 60.0})
    assert not [c for _ in range(20) for c in cell.window().commands]


@pytest.mark.parametrize(
    "settings",
    [
        {"alone_windows": 0},
        {"dead_man_s": math.nan},
        {"per_s": -1.0},
        {"max_commands": -1},
        {"clear_s": math.inf},
    ],
)
def test_settings_that_would_open_an_interlock_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        replace(InterlockSettings(), **settings)
