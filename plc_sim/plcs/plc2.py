"""PLC2 runs unit 200: levels of T201 and T202, product temperature, header pressure.

| interlock  | sets                                  | does                 | ends                   |
|------------|---------------------------------------|----------------------|------------------------|
| high1_trip | LIT201 above 92 %                     | shuts FCV201         | below 88 %             |
| low2_trip  | LIT202 below 8 %                      | stops P202           | above 12 %             |
| hot_trip   | TIT203 above 45 degC                  | opens TCV203         | below 42 degC          |
| dry_trip   | P202 above 50 %, PIT202 below 20 kPa  | safe state after 3 s | reset                  |
"""

from __future__ import annotations

from typing import NamedTuple

from cellwatch.plc_sim.plcs.alarms import Deviation, Limit, Trip
from cellwatch.plc_sim.plcs.parts import AUTO, MAINTENANCE, MANUAL, SAFE, SCAN_S, Loop, Mode, Program, pi
from cellwatch.plc_sim.units.tank_farm import Action, Readings

# SIMC rules (Skogestad 2003). FCV201 moves the level by 0.019 %/s per %, FCV202 by -0.012: T202 smooths the
# flow to the customer. TCV203 moves the product by about -0.15 K per % within 4 s, P202 the header by 3 kPa.
LEVEL1 = Loop(gain=5.0, reset_s=40.0, bias=43.0)
LEVEL2 = Loop(gain=-4.0, reset_s=60.0, bias=44.0)
TEMPERATURE = Loop(gain=-4.0, reset_s=6.0, bias=26.0)
PRESSURE = Loop(gain=0.15, reset_s=1.0, bias=83.0)

HIGH1, LOW2, HYSTERESIS = 92.0, 8.0, 4.0  # %
HOT, COOLED = 45.0, 42.0  # degC
DRY_PRESSURE, DRY_SPEED, DRY_S = 20.0, 50.0, 3.0  # kPa, %, s

OFF = Action()


class Memory(NamedTuple):
    """Memory of the PLC between two scans."""

    level1_sp: float = 60.0  # %
    level2_sp: float = 50.0  # %
    temp_sp: float = 24.0  # degC
    header_sp: float = 120.0  # kPa
    level1_i: float = LEVEL1.bias  # integrals, %
    level2_i: float = LEVEL2.bias
    temp_i: float = TEMPERATURE.bias
    header_i: float = PRESSURE.bias
    fcv201: float = LEVEL1.bias  # outputs, %
    fcv202: float = LEVEL2.bias
    tcv203: float = TEMPERATURE.bias
    pump: float = PRESSURE.bias
    mode: Mode = AUTO
    lock: bool = False
    high1_trip: bool = False
    low2_trip: bool = False
    hot_trip: bool = False
    dry_trip: bool = False
    dry_s: float = 0.0  # s, how long P202 has run without pressure


def scan(memory: Memory, seen: Readings, dt: float = SCAN_S) -> tuple[Memory, Action]:
    """One cycle: new memory and outputs."""
    (sp1, sp2, temp_sp, header_sp, i1, i2, temp_i, header_i, fcv201, fcv202, tcv203, pump, mode, lock,
     high1, low2, hot, dry, dry_s) = memory  # fmt: skip
    high1 = seen.level1 > (HIGH1 - HYSTERESIS if high1 else HIGH1)
    low2 = seen.level2 < (LOW2 + HYSTERESIS if low2 else LOW2)
    hot = seen.product > (COOLED if hot else HOT)
    dry_s = dry_s + dt if pump > DRY_SPEED and seen.header < DRY_PRESSURE else 0.0
    if dry_s > DRY_S and mode is not MAINTENANCE:
        mode, dry = SAFE, True
    if mode is SAFE or mode is MAINTENANCE:
        return Memory(
            sp1, sp2, temp_sp, header_sp, i1, i2, temp_i, header_i, 0.0, 0.0, 0.0, 0.0, mode, lock,
            high1, low2, hot, dry, 0.0,
        ), OFF  # fmt: skip
    if mode is MANUAL:
        i1, i2, temp_i, header_i = fcv201, fcv202, tcv203, pump  # so that AUTO goes on from here
        fcv201, pump = (0.0 if high1 else fcv201), (0.0 if low2 else pump)
    else:
        fcv201, i1 = pi(LEVEL1, sp1 - seen.level1, i1, dt, high1)
        fcv202, i2 = pi(LEVEL2, sp2 - seen.level2, i2, dt, blocked=False)
        tcv203, temp_i = pi(TEMPERATURE, temp_sp - seen.product, temp_i, dt, blocked=False)
        pump, header_i = pi(PRESSURE, header_sp - seen.header, header_i, dt, low2)
    if hot:
        tcv203 = 100.0
    return Memory(
        sp1, sp2, temp_sp, header_sp, i1, i2, temp_i, header_i, fcv201, fcv202, tcv203, pump, mode, lock,
        high1, low2, hot, dry, dry_s,
    ), Action(fcv201 / 100.0, fcv202 / 100.0, tcv203 / 100.0, pump / 100.0)  # fmt: skip


def shown(memory: Memory) -> tuple[float, ...]:
    """Values of the tags behind the readings."""
    mode = memory.mode
    return (*memory[:4], *memory[8:12], float(mode), float(mode is SAFE), float(memory.lock))


PROGRAM = Program(
    plc="PLC2",
    readings=Readings,
    memory=Memory(),
    scan=scan,
    shown=shown,
    first=Action(LEVEL1.bias / 100.0, LEVEL2.bias / 100.0, TEMPERATURE.bias / 100.0, PRESSURE.bias / 100.0),
    off=OFF,
    setpoints={
        "LIC201_SP": "level1_sp",
        "LIC202_SP": "level2_sp",
        "TIC203_SP": "temp_sp",
        "PIC202_SP": "header_sp",
    },
    outputs=("fcv201", "fcv202", "tcv203", "pump"),
    trips=(
        Trip("high1_trip", "LIT201", "FCV201 shut: level high"),
        Trip("low2_trip", "LIT202", "P202 stopped: level low"),
        Trip("hot_trip", "TIT203", "TCV203 opened: product hot"),
        Trip("dry_trip", "PIT202", "safe state: P202 runs dry"),
    ),
    limits=(
        Limit("LIT201", hysteresis=2.0, lolo=10.0, lo=25.0, hi=85.0, hihi=92.0),
        Limit("LIT202", hysteresis=2.0, lolo=8.0, lo=20.0, hi=85.0, hihi=95.0),
        Limit("TIT203", hysteresis=1.0, lo=14.0, hi=42.0, hihi=45.0),
        Limit("PIT202", hysteresis=5.0, lo=60.0, hi=190.0),
        Limit("IIT202", hysteresis=0.5, hi=12.0),
    ),
    deviations=(
        Deviation("LIT201", "LIC201_SP", limit=6.0, delay_s=20.0),
        Deviation("LIT202", "LIC202_SP", limit=10.0, delay_s=30.0),
        Deviation("TIT203", "TIC203_SP", limit=2.0, delay_s=15.0),
        Deviation("PIT202", "PIC202_SP", limit=25.0, delay_s=10.0),
    ),
)
