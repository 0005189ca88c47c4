"""All PLC programs: interlocks, modes, methods, writes, alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cellwatch.plc_sim.plcs import METHODS, PROGRAMS, SCAN_S, Mode, Refusal, plc1, plc2, plc3, plc4
from cellwatch.plc_sim.plcs.alarms import Alarms, Deviation, Limit, Trip
from cellwatch.plc_sim.process import Process
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import PLC_TAGS, TAG, index_of, tags_of

NORMAL = {
    "PLC1": plc1.Readings(60.0, 30.0, 15.0, 15.0, 46.0, 1.6, 12.5),
    "PLC2": plc2.Readings(60, 18, 15, 50, 24, 24, 26, 6, 10, 120, 3.3, 43, 44, 26),
    "PLC3": plc3.Readings(0.15, 0.95, 0.6, 49, 0, 250, 0, 120, 640, 2.2, 20, 0, 0, 0),
    "PLC4": plc4.Readings(650, 645, 120, 53, 2),
}
ALL = sorted(PROGRAMS)


def run(plc, seconds, memory=None, **changed):
    """Scans of unchanging readings."""
    program, seen = PROGRAMS[plc], NORMAL[plc]._replace(**changed)
    memory = memory or program.memory
    action = program.first
    for _ in range(round(seconds / SCAN_S)):
        memory, action = program.scan(memory, seen)
    return memory, action


# ---------------------------------------------------------------- interlocks

HOLDS = [  # plc, flag, reading, trips at, still at, ends at, what the action does meanwhile
    ("PLC1", "high_trip", "level", 93.0, 90.0, 87.0, lambda a: a.pump == 0.0),
    ("PLC1", "low_trip", "level", 11.0, 14.0, 17.0, lambda a: a.heater == 0.0),
    ("PLC2", "high1_trip", "level1", 93.0, 90.0, 87.0, lambda a: a.fcv201 == 0.0),
    ("PLC2", "low2_trip", "level2", 7.0, 10.0, 13.0, lambda a: a.pump == 0.0),
    ("PLC2", "hot_trip", "product", 46.0, 43.0, 41.0, lambda a: a.tcv203 == 1.0),
    ("PLC3", "product_trip", "product", 40.0, 60.0, 80.0, lambda a: a.nozzle == 0.0),
    ("PLC3", "air_trip", "air", 390.0, 440.0, 460.0, lambda a: not a.pick),
    ("PLC4", "high_trip", "receiver", 860.0, 820.0, 790.0, lambda a: a.load == 0.0),
]


@pytest.mark.parametrize(("plc", "flag", "reading", "at", "still", "ends", "acts"), HOLDS)
def test_interlock_acts_until_its_cause_has_gone(plc, flag, reading, at, still, ends, acts):
    gate = {"at_gate": 1.0} if plc == "PLC3" else {}
    memory, action = run(plc, 0.2, **{reading: at}, **gate)
    assert getattr(memory, flag) and acts(action)
    memory, action = run(plc, 0.2, memory, **{reading: still}, **gate)
    assert getattr(memory, flag) and acts(action)
    memory, action = run(plc, 0.2, memory, **{reading: ends}, **gate)
    assert not getattr(memory, flag)
    assert memory.mode == Mode.AUTO
    memory, action = run(plc, 0.2, **gate)
    assert not getattr(memory, flag)


STOPS = [  # plc, flag, readings, after s
    ("PLC1", "dry_trip", {"inflow": 0.1, "level": 50.0}, 3.0),
    ("PLC2", "dry_trip", {"header": 5.0}, 3.0),
    ("PLC3", "overload_trip", {"current": 3.5}, 2.0),
    ("PLC3", "vibration_trip", {"vibration": 5.0}, 3.0),
    ("PLC3", "hot_trip", {"bearing": 115.0}, 0.0),
    ("PLC4", "hot_trip", {"head": 125.0}, 0.0),
]


@pytest.mark.parametrize(("plc", "flag", "readings", "after"), STOPS)
def test_interlock_goes_to_the_safe_state_and_stays(plc, flag, readings, after):
    program = PROGRAMS[plc]
    if after:
        memory, _ = run(plc, after - 0.3, **readings)
        assert memory.mode == Mode.AUTO
    memory, action = run(plc, after + 0.3, **readings)
    assert memory.mode == Mode.SAFE and getattr(memory, flag) and action == program.off
    memory, action = run(plc, 5.0, memory)
    assert memory.mode == Mode.SAFE and action == program.off
    memory, refusal = program.call(memory, "SetMode", (Mode.AUTO,))
    assert refusal == Refusal.INVALID_STATE
    memory, refusal = program.call(memory, "Reset")
    memory, action = run(plc, 1.0, memory)
    assert refusal == Refusal.NONE and memory.mode == Mode.AUTO and action != program.off
    assert not getattr(memory, flag)


def test_every_interlock_of_every_program_is_tested():
    named = {(plc, trip.flag) for plc, program in PROGRAMS.items() for trip in program.trips}
    assert named == {(row[0], row[1]) for row in (*HOLDS, *STOPS)}


# ---------------------------------------------------------------- modes, methods, writes


@pytest.mark.parametrize("plc", ALL)
def test_manual_holds_and_sets_outputs_and_auto_takes_over_without_a_jump(plc):
    program = PROGRAMS[plc]
    memory, before = run(plc, 1.0)
    memory, refusal = program.call(memory, "SetMode", (Mode.MANUAL,))
    assert refusal == Refusal.NONE
    memory, held = run(plc, 5.0, memory)
    assert held == before
    memory, refusal = program.call(memory, "SetOutput", (1, 40.0))
    memory, action = run(plc, 0.1, memory)
    assert refusal == Refusal.NONE and getattr(memory, program.outputs[0]) == 40.0 and 0.4 in action
    if plc != "PLC4":  # a two-point controller jumps by nature
        memory, _ = program.call(memory, "SetMode", (Mode.AUTO,))
        memory, action = run(plc, 0.1, memory)
        assert getattr(memory, program.outputs[0]) == pytest.approx(40.0, abs=2.0)


def test_interlocks_act_in_manual():
    memory, _ = PROGRAMS["PLC2"].call(plc2.Memory(), "SetMode", (Mode.MANUAL,))
    _, action = run("PLC2", 0.2, memory, level1=95.0, level2=5.0)
    assert action.fcv201 == 0.0 and action.pump == 0.0


@pytest.mark.parametrize("plc", ALL)
def test_maintenance_is_off_without_trips(plc):
    program = PROGRAMS[plc]
    memory, refusal = program.call(program.memory, "SetMode", (Mode.MAINTENANCE,))
    assert refusal == Refusal.NONE
    for p, _, readings, after in STOPS:
        if p == plc:
            memory, action = run(plc, after + 1.0, memory, **readings)
            assert memory.mode == Mode.MAINTENANCE and action == program.off
    memory, refusal = program.call(memory, "SetMode", (Mode.AUTO,))
    memory, action = run(plc, 0.5, memory)
    assert refusal == Refusal.NONE and memory.mode == Mode.AUTO and action != program.off


@pytest.mark.parametrize("plc", ALL)
def test_methods_refuse(plc):
    program = PROGRAMS[plc]
    for method, arguments, refusal in (
        ("Explode", (), Refusal.UNKNOWN_METHOD),
        ("SetMode", (), Refusal.INVALID_ARGUMENT),
        ("Reset", (1.0,), Refusal.INVALID_ARGUMENT),
        ("SetMode", (7.0,), Refusal.INVALID_ARGUMENT),
        ("SetMode", (math.nan,), Refusal.INVALID_ARGUMENT),
        ("SetOutput", (1, 50.0), Refusal.INVALID_STATE),
    ):
        assert program.call(program.memory, method, arguments) == (program.memory, refusal)
    manual, _ = program.call(program.memory, "SetMode", (Mode.MANUAL,))
    for arguments, refusal in (
        ((0, 50.0), Refusal.INVALID_ARGUMENT),
        ((99, 50.0), Refusal.INVALID_ARGUMENT),
        ((1.5, 50.0), Refusal.INVALID_ARGUMENT),
        ((1, 101.0), Refusal.OUT_OF_RANGE),
        ((1, math.nan), Refusal.OUT_OF_RANGE),
    ):
        assert program.call(manual, "SetOutput", arguments) == (manual, refusal)
    locked, _ = program.write(program.memory, f"XS{plc[-1]}02_LOCK", 1.0)
    assert program.call(locked, "SetMode", (Mode.MANUAL,))[1] == Refusal.LOCKED
    assert program.call(locked, "SafeState")[1] == Refusal.NONE
    assert set(METHODS) == {"SafeState", "Reset", "SetMode", "SetOutput"}


@pytest.mark.parametrize("plc", ALL)
def test_every_tag_takes_or_refuses_writes_as_its_spec_says(plc):
    program = PROGRAMS[plc]
    for spec in PLC_TAGS[plc]:
        for value in (spec.low, spec.high, spec.low - 1.0, spec.high + 1.0, math.nan):
            after, refusal = program.write(program.memory, spec.name, value)
            if not spec.writable:
                assert (after, refusal) == (program.memory, Refusal.NOT_WRITABLE)
            elif spec.low <= value <= spec.high:
                assert refusal == Refusal.NONE
                shown = dict(
                    zip(
                        [t.name for t in PLC_TAGS[plc]][len(program.readings._fields) :],
                        program.shown(after),
                        strict=True,
                    )
                )
                assert shown[spec.name] == value
            else:
                assert (after, refusal) == (program.memory, Refusal.OUT_OF_RANGE)
    other = "LIC201_SP" if plc != "PLC2" else "LIC101_SP"
    assert program.write(program.memory, other, 50.0)[1] == Refusal.UNKNOWN


@pytest.mark.parametrize("plc", ALL)
def test_lock_refuses_set_points_and_reset_keeps_them(plc):
    program = PROGRAMS[plc]
    name, field = next(iter(program.setpoints.items()))
    memory, _ = program.write(program.memory, name, TAG[name].low)
    memory, _ = program.write(memory, f"XS{plc[-1]}02_LOCK", 1.0)
    assert program.write(memory, name, TAG[name].high) == (memory, Refusal.LOCKED)
    memory, _ = program.write(memory, f"XS{plc[-1]}01_SAFE", 1.0)
    memory, _ = run(plc, 0.2, memory)
    memory, _ = program.write(memory, f"XS{plc[-1]}01_SAFE", 0.0)
    assert memory.mode == Mode.AUTO and memory.lock and getattr(memory, field) == TAG[name].low


# ---------------------------------------------------------------- control


def test_filler_doses_what_is_asked():
    memory, dosed, flow = plc3.Memory(weight_sp=180.0), 0.0, 0.0
    for _ in range(60):
        memory, action = plc3.scan(memory, NORMAL["PLC3"]._replace(at_gate=1.0, flow=flow))
        flow = 12.0 * action.nozzle
        dosed += flow * plc3.G_PER_SCAN
        if action.release:
            break
    assert action.release and action.nozzle == 0.0
    assert dosed == pytest.approx(180.0, abs=plc3.ENOUGH)
    memory, action = plc3.scan(memory, NORMAL["PLC3"])
    assert not action.release and memory.dosed == 0.0


def test_compressor_loads_and_idles_around_its_set_point():
    memory, action = run("PLC4", 0.1, receiver=624.0)
    assert action.load == 1.0
    memory, action = run("PLC4", 0.1, memory, receiver=670.0)
    assert action.load == 1.0
    memory, action = run("PLC4", 0.1, memory, receiver=676.0)
    assert action.load == 0.0
    memory, action = run("PLC4", 0.1, memory, receiver=640.0)
    assert action.load == 0.0


@pytest.mark.parametrize(
    ("plc", "writes", "tags"),
    [
        ("PLC2", {"LIC201_SP": 70.0, "TIC203_SP": 26.0, "PIC202_SP": 140.0}, ("LIT201", "TIT203", "PIT202")),
        ("PLC3", {"SIC301_SP": 0.12, "WIC301_SP": 200.0}, ("SIT301", "WIT301")),
        ("PLC4", {"PIC401_SP": 700.0}, ("PIT401",)),
    ],
)
def test_factory_follows_new_set_points(plc, writes, tags):
    process = Process(SITES["factory"], np.random.default_rng(1), np.random.default_rng(2))
    for name, value in writes.items():
        assert process.write(plc, name, value) == Refusal.NONE
    values = np.array([process.scan().values for _ in range(2400)])[-600:]
    for name, value, tolerance in zip(tags, writes.values(), (0.03, 0.02, 0.02), strict=False):
        assert values[:, index_of(SITES["factory"])[name]].mean() == pytest.approx(value, rel=tolerance)


# ---------------------------------------------------------------- alarms

INDEX = {"PV": 0, "SP": 1}


def alarms():
    return Alarms(
        "PLC9",
        INDEX,
        [Limit("PV", hysteresis=2.0, lolo=10.0, lo=20.0, hi=80.0, hihi=90.0)],
        [Deviation("PV", "SP", limit=5.0, delay_s=0.3)],
        [Trip("a", "PV", "a stopped"), Trip("b", "PV", "b stopped")],
    )


def said(events):
    return [(e.condition, e.active) for e in events]


def test_limits_have_hysteresis():
    a = alarms()
    trace = [50, 81, 79, 78.5, 77.9, 81, 95, 88.5, 87.9, 50, 5, 11.5, 12.1, 21.9, 22.1]
    got = [(v, said(a.update([v, v], (False, False), 0.1, auto=True))) for v in trace]
    assert [x for x in got if x[1]] == [
        (81, [("HI", True)]),
        (77.9, [("HI", False)]),
        (81, [("HI", True)]),
        (95, [("HIHI", True)]),
        (87.9, [("HIHI", False)]),
        (50, [("HI", False)]),
        (5, [("LO", True), ("LOLO", True)]),
        (12.1, [("LOLO", False)]),
        (22.1, [("LO", False)]),
    ]


def test_noise_at_a_limit_rings_once():
    a, rng = alarms(), np.random.default_rng(0)
    events = [
        e
        for _ in range(500)
        for e in a.update([80 + 0.3 * rng.standard_normal(), 80], (False, False), 0.1, True)
    ]
    assert said(events) == [("HI", True)]


def test_deviation_needs_its_delay_and_only_counts_in_auto():
    a = alarms()
    rows = [(50, 50)] * 2 + [(56, 50)] * 2 + [(50, 50)] + [(56, 50)] * 4 + [(53, 50), (52, 50)]
    got = [said(a.update(v, (False, False), 0.1, auto=True)) for v in rows]
    assert [i for i, x in enumerate(got) if x] == [7, 10]
    assert got[7] == [("DEVIATION", True)] and got[10] == [("DEVIATION", False)]
    for _ in range(10):
        assert a.update((56, 50), (False, False), 0.1, auto=False) == []


def test_trips_and_what_maintenance_clears():
    a = alarms()
    (event,) = a.update([85, 85], (False, True), 0.1, auto=True)[1:]
    assert (event.condition, event.active, event.message, event.severity) == ("TRIP", True, "b stopped", 900)
    assert said(a.clear()) == [("HI", False), ("TRIP", False)]
    assert a.clear() == []


def test_alarms_reach_the_scan_as_events():
    process = Process(SITES["factory"], np.random.default_rng(1), np.random.default_rng(2))
    assert [e for _ in range(1200) for e in process.scan().alarms] == []  # quiet when all is well
    process.write("PLC4", "XS401_SAFE", 1.0)
    events = [e for _ in range(1500) for e in process.scan().alarms]
    first = {(e.plc, e.tag, e.condition): i for i, e in reversed(list(enumerate(events))) if e.active}
    assert first["PLC4", "PIT401", "LO"] < first["PLC4", "PIT401", "LOLO"]
    assert ("PLC3", "PIT303", "TRIP") in first
    process.call("PLC4", "SetMode", (Mode.MAINTENANCE,))  # refused: in the safe state
    process.call("PLC4", "Reset")
    events = [e for _ in range(1500) for e in process.scan().alarms]
    assert ("PIT401", "LO", False) in {(e.tag, e.condition, e.active) for e in events}


def test_limits_lie_in_range_and_name_tags_of_their_plc():
    for plc, program in PROGRAMS.items():
        names = {tag.name for tag in PLC_TAGS[plc]}
        for limit in program.limits:
            finite = [x for x in (limit.lolo, limit.lo, limit.hi, limit.hihi) if math.isfinite(x)]
            assert limit.tag in names and finite == sorted(finite)
            assert all(TAG[limit.tag].low <= x <= TAG[limit.tag].high for x in finite)
        assert {d.tag for d in program.deviations} | {d.setpoint for d in program.deviations} <= names
        assert {trip.tag for trip in program.trips} <= names
        assert program.setpoints.keys() == {tag.name for tag in PLC_TAGS[plc] if tag.name.endswith("_SP")}


def test_tag_names_are_unique_and_ordered():
    names = [tag.name for tag in tags_of(SITES["factory"])]
    assert len(set(names)) == len(names)
    assert tags_of(SITES["factory"])[: len(tags_of(SITES["bench"]))] == tags_of(SITES["bench"])
