"""PLC4 runs unit 400: it loads and idles compressor C401 around the set-point.

| interlock  | sets                       | does       | ends             |
|------------|----------------------------|------------|------------------|
| high_trip  | PIT401 above 850 kPa       | idles C401 | below 800 kPa    |
| hot_trip   | TIT401 above 120 degC      | safe state | reset            |
"""

from __future__ import annotations

from typing import NamedTuple

from cellwatch.plc_sim.plcs.alarms import Deviation, Limit, Trip
from cellwatch.plc_sim.plcs.parts import AUTO, MAINTENANCE, SAFE, Mode, Program
from cellwatch.plc_sim.units.compressed_air import Action, Readings

BAND = 25.0  # kPa, C401 loads this far below the set-point and idles this far above
HIGH, HIGH_ENDS = 850.0, 800.0  # kPa
HOT = 120.0  # degC

OFF = Action(run=False)


class Memory(NamedTuple):
    """Memory of the PLC between two scans."""

    pressure_sp: float = 650.0  # kPa
    load: float = 100.0  # %: 100 loaded, 0 idling
    mode: Mode = AUTO
    lock: bool = False
    high_trip: bool = False
    hot_trip: bool = False


def scan(memory: Memory, seen: Readings) -> tuple[Memory, Action]:
    """One cycle: new memory and outputs."""
    pressure_sp, load, mode, lock, high, hot = memory
    high = seen.receiver > (HIGH_ENDS if high else HIGH)
    if seen.head > HOT and mode is not MAINTENANCE:
        mode, hot = SAFE, True
    if mode is SAFE or mode is MAINTENANCE:
        return Memory(pressure_sp, 0.0, mode, lock, high, hot), OFF
    if mode is AUTO:
        if seen.receiver < pressure_sp - BAND:
            load = 100.0
        elif seen.receiver > pressure_sp + BAND:
            load = 0.0
    if high:
        load = 0.0
    return Memory(pressure_sp, load, mode, lock, high, hot), Action(run=True, load=load / 100.0)


def shown(memory: Memory) -> tuple[float, ...]:
    """Values of the tags behind the readings."""
    mode = memory.mode
    return (memory.pressure_sp, memory.load, float(mode), float(mode is SAFE), float(memory.lock))


PROGRAM = Program(
    plc="PLC4",
    readings=Readings,
    memory=Memory(),
    scan=scan,
    shown=shown,
    first=Action(run=True, load=1.0),
    off=OFF,
    setpoints={"PIC401_SP": "pressure_sp"},
    outputs=("load",),
    trips=(
        Trip("high_trip", "PIT401", "C401 idles: pressure high"),
        Trip("hot_trip", "TIT401", "safe state: C401 hot"),
    ),
    limits=(
        Limit("PIT401", hysteresis=15.0, lolo=450.0, lo=540.0, hi=790.0, hihi=850.0),
        Limit("PIT402", hysteresis=15.0, lolo=400.0, lo=500.0),
        Limit("TIT401", hysteresis=2.0, hi=95.0, hihi=115.0),
        Limit("IIT401", hysteresis=0.3, hi=6.0),
    ),
    deviations=(Deviation("PIT401", "PIC401_SP", limit=60.0, delay_s=10.0),),
)
