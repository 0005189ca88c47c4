"""PLC1 runs unit 100: two PI loops, interlocks and a latched safe state.

| interlock | sets                            | does                  | ends                              |
|-----------|---------------------------------|-----------------------|-----------------------------------|
| high_trip | LIT101 above 92 %               | stops P101            | below 88 %                        |
| low_trip  | LIT101 below 12 %               | cuts H101             | above 16 %                        |
| dry run   | P101 above 60 %, FIT101 below 1 | safe state after 3 s  | reset                             |
"""

from __future__ import annotations

from typing import NamedTuple

from cellwatch.plc_sim.plcs.alarms import Deviation, Limit, Trip
from cellwatch.plc_sim.plcs.parts import (
    AUTO,
    MAINTENANCE,
    MANUAL,
    SAFE,
    SCAN_S,
    Loop,
    Mode,
    Program,
    pi,
)
from cellwatch.plc_sim.units.heated_tank import Action, Readings

# Tuned for a closed-loop time of 1-2 s: the level integrates 10 %/s at full flow, the temperature rises
# 1.4 K/s at full power (SIMC rules, Skogestad 2003: gain = 1/(k tau_c), reset = 4 tau_c).
LEVEL = Loop(gain=12.0, reset_s=3.5, bias=64.0)
TEMPERATURE = Loop(gain=45.0, reset_s=5.0, bias=69.0)

HIGH_LEVEL = 92.0  # %, P101 stops above, starts again below HIGH_LEVEL - HYSTERESIS
LOW_LEVEL = 12.0  # %, H101 off below: its element must stay covered
HYSTERESIS = 4.0  # %
DRY_FLOW = 1.0  # L/min, less than this with P101 running ...
DRY_SPEED = 60.0  # %, ... at this command ...
DRY_S = 3.0  # s, ... for this long means a dry pump: safe state

OFF = Action(pump=0.0, heater=0.0, outlet_open=False)


class PlcState(NamedTuple):
    """Memory of the PLC between two scans."""

    level_sp: float = 60.0  # %
    temp_sp: float = 30.0  # degC
    level_integral: float = LEVEL.bias  # %
    temp_integral: float = TEMPERATURE.bias  # %
    level_cv: float = LEVEL.bias  # %
    temp_cv: float = TEMPERATURE.bias  # %
    mode: Mode = AUTO
    lock: bool = False
    high_trip: bool = False
    low_trip: bool = False
    dry_s: float = 0.0  # s, how long P101 has run without flow
    dry_trip: bool = False


def scan(state: PlcState, seen: Readings, dt: float = SCAN_S) -> tuple[PlcState, Action]:
    """One cycle: new memory and outputs."""
    level_sp, temp_sp, level_i, temp_i, level_cv, temp_cv, mode, lock, high, low, dry_s, dry = state
    high = seen.level > (HIGH_LEVEL - HYSTERESIS if high else HIGH_LEVEL)
    low = seen.level < (LOW_LEVEL + HYSTERESIS if low else LOW_LEVEL)
    dry_s = dry_s + dt if level_cv > DRY_SPEED and seen.inflow < DRY_FLOW else 0.0
    if dry_s > DRY_S and mode is not MAINTENANCE:
        mode, dry = SAFE, True
    if mode is SAFE or mode is MAINTENANCE:
        after = PlcState(level_sp, temp_sp, level_i, temp_i, 0.0, 0.0, mode, lock, high, low, 0.0, dry)
        return after, OFF
    if mode is MANUAL:
        level_i, temp_i = level_cv, temp_cv  # so that AUTO goes on from here
        level_cv, temp_cv = (0.0 if high else level_cv), (0.0 if low else temp_cv)
    else:
        level_cv, level_i = pi(LEVEL, level_sp - seen.level, level_i, dt, high)
        temp_cv, temp_i = pi(TEMPERATURE, temp_sp - seen.temp, temp_i, dt, low)
    after = PlcState(level_sp, temp_sp, level_i, temp_i, level_cv, temp_cv, mode, lock, high, low, dry_s, dry)
    return after, Action(level_cv / 100.0, temp_cv / 100.0, True)


def shown(state: PlcState) -> tuple[float, ...]:
    """Values of the tags behind the readings."""
    level_sp, temp_sp, _, _, level_cv, temp_cv, mode, lock, *_ = state
    return (level_sp, temp_sp, level_cv, temp_cv, float(mode), float(mode is SAFE), float(lock))


PROGRAM = Program(
    plc="PLC1",
    readings=Readings,
    memory=PlcState(),
    scan=scan,
    shown=shown,
    first=Action(LEVEL.bias / 100.0, TEMPERATURE.bias / 100.0, outlet_open=True),
    off=OFF,
    setpoints={"LIC101_SP": "level_sp", "TIC101_SP": "temp_sp"},
    outputs=("level_cv", "temp_cv"),
    trips=(
        Trip("high_trip", "LIT101", "P101 stopped: level high"),
        Trip("low_trip", "LIT101", "H101 off: level low"),
        Trip("dry_trip", "FIT101", "safe state: P101 runs dry"),
    ),
    limits=(
        Limit("LIT101", hysteresis=2.0, lolo=12.0, lo=30.0, hi=85.0, hihi=92.0),
        Limit("TIT101", hysteresis=1.0, lo=18.0, hi=50.0, hihi=60.0),
        Limit("PIT101", hysteresis=3.0, hi=130.0),
        Limit("IIT101", hysteresis=0.3, hi=6.0),
    ),
    deviations=(
        Deviation("LIT101", "LIC101_SP", limit=6.0, delay_s=10.0),
        Deviation("TIT101", "TIC101_SP", limit=4.0, delay_s=20.0),
    ),
)
