"""PLC1: control, interlocks, safe state, writes."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.plc_sim.plcs import Mode, Refusal
from cellwatch.plc_sim.plcs import plc1 as plc
from cellwatch.plc_sim.plcs.plc1 import PlcState
from cellwatch.plc_sim.units import heated_tank as plant
from cellwatch.plc_sim.units.heated_tank import Params, Readings

NORMAL = Readings(level=60.0, temp=30.0, inflow=15.0, outflow=15.0, pressure=46.0, current=1.6, power=12.5)


def loop(state, seconds, params=None, memory=None):
    """Closed loop without noise."""
    p = params or Params(demand_sd=0.0)
    memory = memory or PlcState()
    rng, action = np.random.default_rng(0), plant.Action(0.64, 0.69)
    rows = []
    for _ in range(round(seconds / plc.SCAN_S)):
        memory, action = plc.scan(memory, plant.readings(state, action, p))
        state = plant.transition(state, action, rng, p)
        rows.append((100 * state.level / p.height, state.temp, memory.level_cv, memory.temp_cv))
    return state, memory, np.array(rows)


def test_loops_reach_their_set_points():
    start = plant.State(0.2, 24.0, 0.6, 30.0, 0.66)
    _, _, rows = loop(start, 40.0)
    assert rows[-1][:2] == pytest.approx([60.0, 30.0], abs=0.05)
    assert rows[:, 0].max() < 66.0  # little overshoot after a 20 % step
    assert rows[:, 1].max() < 32.0


def test_integral_stops_while_clamped():
    memory = PlcState()
    for _ in range(300):
        memory, action = plc.scan(memory, NORMAL._replace(level=20.0))
    assert action.pump == 1.0
    assert memory.level_integral <= 100.0
    memory, action = plc.scan(memory, NORMAL._replace(level=75.0))
    assert action.pump < 0.5  # comes back in one scan


def test_high_level_stops_the_pump_until_it_has_fallen():
    memory, action = plc.scan(PlcState(level_sp=80.0), NORMAL._replace(level=93.0))
    assert action.pump == 0.0
    memory, action = plc.scan(memory, NORMAL._replace(level=90.0))
    assert action.pump == 0.0
    assert memory.high_trip
    memory, _ = plc.scan(memory, NORMAL._replace(level=87.0))
    assert not memory.high_trip
    assert memory.mode == Mode.AUTO


def test_low_level_cuts_the_heater():
    memory, action = plc.scan(PlcState(), NORMAL._replace(level=11.0))
    assert action.heater == 0.0
    assert action.pump == 1.0
    _, action = plc.scan(memory, NORMAL._replace(level=17.0))
    assert action.heater > 0.0


def test_dry_run_goes_to_the_safe_state():
    memory, scans = PlcState(), 0
    while memory.mode == Mode.AUTO and scans < 100:
        memory, action = plc.scan(memory, NORMAL._replace(inflow=0.1, level=50.0))
        scans += 1
    assert memory.mode == Mode.SAFE
    assert scans * plc.SCAN_S == pytest.approx(plc.DRY_S, abs=0.2)
    assert (action.pump, action.heater, action.outlet_open) == (0.0, 0.0, False)


def test_safe_state_holds_until_reset():
    memory, refusal = plc.PROGRAM.write(PlcState(), "XS101_SAFE", 1.0)
    assert refusal == Refusal.NONE
    for _ in range(200):
        memory, action = plc.scan(memory, NORMAL)
    assert (action.pump, action.heater, action.outlet_open) == (0.0, 0.0, False)
    assert memory.mode == Mode.SAFE
    memory, _ = plc.PROGRAM.write(memory, "XS101_SAFE", 0.0)
    memory, action = plc.scan(memory, NORMAL)
    assert memory.mode == Mode.AUTO
    assert action.pump > 0.4


def test_safe_state_keeps_the_tank():
    start = plant.State(0.3, 30.0, 0.64, 37.0, 0.66)
    memory, _ = plc.PROGRAM.write(PlcState(), "XS101_SAFE", 1.0)
    end, _, _ = loop(start, 30.0, memory=memory)
    assert end.speed < 1e-6
    assert end.level == pytest.approx(0.3, abs=0.01)
    assert end.temp < 30.6


@pytest.mark.parametrize(
    ("tag", "value", "refusal"),
    [
        ("LIC101_SP", 50.0, Refusal.NONE),
        ("LIC101_SP", 81.0, Refusal.OUT_OF_RANGE),
        ("TIC101_SP", float("nan"), Refusal.OUT_OF_RANGE),
        ("LIT101", 50.0, Refusal.NOT_WRITABLE),
        ("XS101_MODE", 0.0, Refusal.NOT_WRITABLE),
        ("NOPE", 1.0, Refusal.UNKNOWN),
    ],
)
def test_writes(tag, value, refusal):
    before = PlcState()
    after, got = plc.PROGRAM.write(before, tag, value)
    assert got == refusal
    assert (after != before) == (refusal == Refusal.NONE)


def test_lock_refuses_set_points_but_not_the_safe_state():
    memory, _ = plc.PROGRAM.write(PlcState(), "XS102_LOCK", 1.0)
    assert plc.PROGRAM.write(memory, "LIC101_SP", 50.0)[1] == Refusal.LOCKED
    memory, refusal = plc.PROGRAM.write(memory, "XS101_SAFE", 1.0)
    assert refusal == Refusal.NONE
    memory, _ = plc.PROGRAM.write(memory, "XS102_LOCK", 0.0)
    assert plc.PROGRAM.write(memory, "LIC101_SP", 50.0)[1] == Refusal.NONE
