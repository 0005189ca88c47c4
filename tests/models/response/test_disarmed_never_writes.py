"""No sequence of inputs makes a disarmed cell write: policy, interlocks and the real write guard together."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cellwatch.models.response.interlocks import InterlockSettings, Supervision, owner
from cellwatch.models.response.policy import parse_rule
from cellwatch.models.response.response import Response
from cellwatch.models.types import (
    Command,
    CommandStatus,
    FusedVerdict,
    FusedWindow,
    Screening,
    TagInfo,
)
from cellwatch.nodes.drivers.opcua_writer import WriteGuard, WriteRule, result_of

S = 10**9
RULES = (
    {"action": "safe_state", "categories": ["fault"], "tag": "SAFE", "hold_s": 3, "revert": 0},
    {"action": "quarantine", "decision": "suspicious", "tag": "LOCK", "hold_s": 1, "revert": 0},
    {"action": "clamp", "tag": "SP", "range": [30, 60], "hold_s": 1},
    {"action": "quarantine", "tag": "PV"},
    {"action": "safe_state", "method": "PLC2/SafeState", "revert_method": "PLC2/Reset", "hold_s": 2},
)
TAGS = tuple(TagInfo(t, "", "PLC1", writable=t != "PV") for t in ("SAFE", "LOCK", "SP", "PV"))
GUARD = (
    WriteRule("SAFE", True, 0, 1, 1, "Boolean"),
    WriteRule("LOCK", True, 0, 1, 1, "Boolean"),
    WriteRule("SP", True, 20, 80, 2, "Double"),
    WriteRule("PV", False, 0, 100, 1, "Double"),
    WriteRule("PLC2/SafeState()", True, 1, 1, 1),
    WriteRule("PLC2/Reset()", True, 1, 1, 1),
)
RANGES = {r.name: (r.low, r.high, r.min_interval_s) for r in GUARD}
DEVICES = st.sampled_from(["PLC1", "PLC2", "HMI1"])
TARGETS = st.sampled_from(["SAFE", "LOCK", "SP", "PLC1", "PLC2", "HMI1", "*"])
CATEGORIES = st.sampled_from(["fault", "dos", "mitm", "unknown"])


class ArmedOrNot(RuleBasedStateMachine):
    """A cell whose operator arms, disarms, overrides and services it while anything comes in."""

    @initialize(supervised=st.booleans(), armed=st.booleans())
    def build(self, supervised, armed):
        dead_man_s = 3.0 if supervised else 0.0
        settings_ = InterlockSettings(dead_man_s, alone_windows=2, max_commands=6, per_s=20, clear_s=2)
        self.response = Response(tuple(map(parse_rule, RULES)), settings_)
        self.response.catalog(TAGS)
        self.gate = Supervision(dead_man_s)
        self.guard = WriteGuard()
        self.guard.set_rules(GUARD)
        self.limit_s, self.beat_ns = dead_man_s, None
        self.armed = armed
        self.now = 1_700_000_000 * S
        self.window_id = self.forged = 0
        self.overridden, self.maintenance = set(), set()
        self.pending: list[Command] = []
        self.writes: list[tuple[int, str, float]] = []
        self.tell()

    def tell(self):
        self.response.hand_over(frozenset(self.overridden), frozenset(self.maintenance), self.now)
        self.gate.take(self.overridden, self.maintenance)

    def pass_on(self, command):
        """What the OPC UA link does with a command, down to the write."""
        names = (command.tag, command.device, owner(command.tag, "PLC1"))
        decided = self.guard.decide(
            command, self.now, armed=self.armed, objection=self.gate.objection(names, self.now)
        )
        if decided is None:
            assert self.armed, f"disarmed, and yet {command} is written"
            touched = {*names, "*"}
            assert not touched & self.overridden, "an override was passed by"
            assert not touched & self.maintenance, "maintenance was passed by"
            assert self.limit_s == 0 or (
                self.beat_ns is not None and self.now - self.beat_ns <= self.limit_s * S
            ), "nobody supervises"
            low, high, interval = RANGES[command.tag]
            assert low <= command.value <= high
            assert all(self.now - t >= interval * S for t, tag, _ in self.writes if tag == command.tag)
            self.writes.append((self.now, command.tag, command.value))
            decided = result_of(command, CommandStatus.ACCEPTED, self.now)
        self.response.result(decided)

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0, 8.0]))
    def time_passes(self, seconds):
        self.now += round(seconds * S)

    @rule()
    def beats(self):
        self.beat_ns = self.now
        for dead_man in (self.response.supervision.dead_man, self.gate.dead_man):
            dead_man.beat(self.now, self.now)

    @rule(armed=st.booleans())
    def arm(self, armed):
        self.armed = armed

    @rule(what=TARGETS, on=st.booleans())
    def override(self, what, on):
        (self.overridden.add if on else self.overridden.discard)(what)
        self.tell()

    @rule(what=TARGETS, on=st.booleans())
    def maintain(self, what, on):
        (self.maintenance.add if on else self.maintenance.discard)(what)
        self.tell()

    @rule(value=st.floats(allow_nan=True, allow_infinity=True))
    def plant_shows(self, value):
        self.response.show({"SP": value})

    @rule(
        verdicts=st.lists(
            st.builds(
                FusedVerdict,
                device=DEVICES,
                decision=st.sampled_from(Screening),
                probability=st.floats(0, 1),
                threshold=st.just(0.5),
                category=CATEGORIES,
                agreeing=st.lists(st.sampled_from(["rules", "ensemble", "limits"]), unique=True).map(tuple),
            ),
            max_size=3,
        ),
        stale=st.booleans(),
        at_once=st.booleans(),
    )
    def window(self, verdicts, stale, at_once):
        self.window_id += 0 if stale else 1
        self.now += 0 if stale else S
        answer = self.response.step(
            FusedWindow(self.window_id, self.now, self.now, tuple(verdicts)), self.now, self.now
        )
        for command in answer.commands:
            if at_once:
                self.pass_on(command)
            else:
                self.pending.append(command)

    @rule(category=CATEGORIES, device=DEVICES, at_once=st.booleans(), beating=st.booleans())
    def an_incident(self, category, device, at_once, beating):
        if beating:
            self.beats()
        verdict = FusedVerdict(device, Screening.BLOCK, 0.9, 0.5, category, agreeing=("rules", "ensemble"))
        self.window([verdict], stale=False, at_once=at_once)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def a_waiting_command_arrives(self, data):
        """Late, out of order, or twice."""
        self.pass_on(data.draw(st.sampled_from(self.pending)))

    @rule(
        tag=st.sampled_from([*RANGES, "NOSUCH", ""]),
        value=st.sampled_from([1.0, 0.0, 45.0, 100.0, float("nan"), float("inf")]),
        age_s=st.sampled_from([0.0, 1.0, 5.0, -5.0]),
        valid_for_s=st.sampled_from([2.0, 4.0, 0.0, float("nan"), float("inf")]),
        command_id=st.sampled_from(["", *(f"id{i}" for i in range(20))]),
        device=DEVICES,
    )
    def somebody_forges_a_command(self, tag, value, age_s, valid_for_s, command_id, device):
        issued = self.now - round(age_s * S)
        self.pass_on(Command(command_id, 0, device, tag, value, issued, valid_for_s, "forged"))

    @rule(tag=st.sampled_from([t for t in RANGES if t != "PV"]), over=st.booleans())
    def somebody_forges_a_good_one(self, tag, over):
        """As good as the response's own, but for a value that may be out of range."""
        self.forged += 1
        high = RANGES[tag][1]
        value = high + 1 if over else high
        self.pass_on(Command(f"forged{self.forged}", 0, "HMI1", tag, value, self.now, 2.0, "forged"))

    @invariant()
    def alarms_are_one_of_their_states(self):
        if hasattr(self, "response"):
            assert all(a.state > 0 for a in self.response.alarms.alarms())


TestNoDisarmedCellWrites = ArmedOrNot.TestCase
TestNoDisarmedCellWrites.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_same_machine_does_write_when_armed():
    """Otherwise the machine would prove nothing."""
    cell = ArmedOrNot()
    cell.build(supervised=True, armed=False)
    cell.beats()
    cell.arm(armed=True)
    verdict = FusedVerdict("PLC1", Screening.BLOCK, 0.9, 0.5, "fault", agreeing=("rules", "ensemble"))
    cell.window([verdict], stale=False, at_once=True)
    assert {tag for _, tag, _ in cell.writes} == {"SAFE", "LOCK", "PLC2/SafeState()"}
