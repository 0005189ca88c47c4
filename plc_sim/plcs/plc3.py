"""PLC3 runs unit 300: belt speed, filling by volume, release of the robot's picks.

| interlock      | sets                                            | does                  | ends           |
|----------------|-------------------------------------------------|-----------------------|----------------|
| product_trip   | PIT302 below 50 kPa                             | shuts the nozzle      | above 70 kPa   |
| air_trip       | PIT303 below 400 kPa                            | no new pick           | above 450 kPa  |
| overload_trip  | IIT301 above 3 A for 2 s                        | safe state            | reset          |
| vibration_trip | VIT301 above 4.5 mm/s for 3 s (zone D)          | safe state            | reset          |
| hot_trip       | TIT301 above 110 degC                           | safe state            | reset          |

Limits of VIT301 are those of ISO 10816-1, annex B, class I (motors up to 15 kW): zone C from 1.8 mm/s, zone D
from 4.5 mm/s.
"""

from __future__ import annotations

from typing import NamedTuple

from cellwatch.plc_sim.plcs.alarms import Deviation, Limit, Trip
from cellwatch.plc_sim.plcs.parts import AUTO, MAINTENANCE, MANUAL, SAFE, SCAN_S, Loop, Mode, Program, pi
from cellwatch.plc_sim.units.constants import RHO
from cellwatch.plc_sim.units.conveyor import Action, Readings

# 100 % is 0.30 m/s and settles within a scan: mostly integral action with a closed-loop time of 1 s.
SPEED = Loop(gain=50.0, reset_s=0.15, bias=57.5)

ZONE_C, ZONE_D = 1.8, 4.5  # mm/s
LOW_PRODUCT, PRODUCT_BACK = 50.0, 70.0  # kPa
LOW_AIR, AIR_BACK = 400.0, 450.0  # kPa
OVERLOAD, OVERLOAD_S, SHAKING_S = 3.0, 2.0, 3.0  # A, s, s
HOT = 110.0  # degC
G_PER_SCAN = RHO / 60.0 * SCAN_S  # g in a scan at 1 L/min
FULL_FLOW = 10.0  # L/min, flow through the open nozzle until it has been measured
ENOUGH = 1.0  # g, how close to the set-point a container counts as full

OFF = Action()


class Memory(NamedTuple):
    """Memory of the PLC between two scans."""

    speed_sp: float = 0.15  # m/s
    weight_sp: float = 250.0  # g
    drive: float = SPEED.bias  # outputs, %
    nozzle: float = 0.0
    speed_i: float = SPEED.bias  # %
    dosed: float = 0.0  # g, in the container under the nozzle
    full_flow: float = FULL_FLOW  # L/min
    full: bool = False
    mode: Mode = AUTO
    lock: bool = False
    product_trip: bool = False
    air_trip: bool = False
    overload_trip: bool = False
    vibration_trip: bool = False
    hot_trip: bool = False
    overload_s: float = 0.0  # s, how long the current has been too high
    shaking_s: float = 0.0  # s, how long the vibration has been in zone D


def scan(memory: Memory, seen: Readings, dt: float = SCAN_S) -> tuple[Memory, Action]:
    """One cycle: new memory and outputs."""
    (speed_sp, weight_sp, drive, nozzle, speed_i, dosed, full_flow, full, mode, lock,
     product, air, overload, vibration, hot, overload_s, shaking_s) = memory  # fmt: skip
    product = seen.product < (PRODUCT_BACK if product else LOW_PRODUCT)
    air = seen.air < (AIR_BACK if air else LOW_AIR)
    overload_s = overload_s + dt if seen.current > OVERLOAD else 0.0
    shaking_s = shaking_s + dt if seen.vibration > ZONE_D else 0.0
    if mode is not MAINTENANCE:
        overload = overload or overload_s > OVERLOAD_S
        vibration = vibration or shaking_s > SHAKING_S
        hot = hot or seen.bearing > HOT
        if overload or vibration or hot:
            mode = SAFE
    dosed = dosed + seen.flow * G_PER_SCAN if seen.at_gate else 0.0
    full = bool(seen.at_gate) and (full or weight_sp - dosed < ENOUGH)
    if mode is SAFE or mode is MAINTENANCE:
        return Memory(
            speed_sp, weight_sp, 0.0, 0.0, speed_i, dosed, full_flow, full, mode, lock,
            product, air, overload, vibration, hot, overload_s, shaking_s,
        ), OFF  # fmt: skip
    if nozzle == 100.0:
        full_flow = max(seen.flow, 1.0)
    if mode is MANUAL:
        speed_i = drive  # so that AUTO goes on from here
        nozzle = 0.0 if product else nozzle
    else:
        drive, speed_i = pi(SPEED, speed_sp - seen.speed, speed_i, dt, blocked=False)
        nozzle = 0.0
        if seen.at_gate and not full and not product:  # the last scan opens just as far as is needed
            nozzle = min(100.0 * (weight_sp - dosed) / (full_flow * G_PER_SCAN), 100.0)
    return Memory(
        speed_sp, weight_sp, drive, nozzle, speed_i, dosed, full_flow, full, mode, lock,
        product, air, overload, vibration, hot, overload_s, shaking_s,
    ), Action(drive / 100.0, nozzle / 100.0, full, not air)  # fmt: skip


def shown(memory: Memory) -> tuple[float, ...]:
    """Values of the tags behind the readings."""
    mode = memory.mode
    return (*memory[:4], float(mode), float(mode is SAFE), float(memory.lock))


PROGRAM = Program(
    plc="PLC3",
    readings=Readings,
    memory=Memory(),
    scan=scan,
    shown=shown,
    first=Action(SPEED.bias / 100.0, 0.0, release=False, pick=True),
    off=OFF,
    setpoints={"SIC301_SP": "speed_sp", "WIC301_SP": "weight_sp"},
    outputs=("drive", "nozzle"),
    trips=(
        Trip("product_trip", "PIT302", "nozzle shut: no product"),
        Trip("air_trip", "PIT303", "no picks: air pressure low"),
        Trip("overload_trip", "IIT301", "safe state: M301 overloaded"),
        Trip("vibration_trip", "VIT301", "safe state: vibration in zone D"),
        Trip("hot_trip", "TIT301", "safe state: bearing of M301 hot"),
    ),
    limits=(
        Limit("VIT301", hysteresis=0.2, hi=ZONE_C, hihi=ZONE_D),
        Limit("TIT301", hysteresis=2.0, hi=85.0, hihi=100.0),
        Limit("IIT301", hysteresis=0.2, hi=2.5),
        Limit("PIT302", hysteresis=10.0, lo=60.0),
        Limit("PIT303", hysteresis=20.0, lolo=400.0, lo=480.0, hi=900.0),
        Limit("KIT301", hysteresis=0.1, hi=3.0),
        Limit("QIT302", hysteresis=0.5, hi=1.0),
    ),
    deviations=(
        Deviation("SIT301", "SIC301_SP", limit=0.03, delay_s=5.0),
        Deviation("WIT301", "WIC301_SP", limit=15.0, delay_s=1.0),
    ),
)
