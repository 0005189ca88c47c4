"""PLC1: one scan cycle with two PI loops, interlocks and a latched safe state.

A scan reads the transmitters, applies interlocks, computes both controllers and sets the outputs.
`scan` is pure; writes from the network change the state between two scans (`write`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from cellwatch.plc_sim.plant import Action, Readings
from cellwatch.plc_sim.tags import INDEX, TAGS

SCAN_S = 0.1  # s, cycle time


class Mode(IntEnum):
    """Operating mode of the unit (tag XS101_MODE); MANUAL is kept for the operator panel to come."""

    AUTO = 0
    MANUAL = 1
    SAFE = 2


class Refusal(IntEnum):
    """Why a write was refused, as an OPC UA StatusCode (Part 6, annex A)."""

    NONE = 0
    NOT_WRITABLE = 0x803B0000
    OUT_OF_RANGE = 0x803C0000
    TYPE_MISMATCH = 0x80740000
    LOCKED = 0x801F0000  # Bad_UserAccessDenied
    UNKNOWN = 0x80340000  # Bad_NodeIdUnknown


@dataclass(frozen=True, slots=True)
class Loop:
    """Tuning of one PI controller, output 0..100 %."""

    gain: float  # % of output per unit of error
    reset_s: float  # s, integral time
    bias: float  # %, output at start


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


@dataclass(frozen=True, slots=True)
class PlcState:
    """Memory of the PLC between two scans."""

    level_sp: float = 60.0  # %
    temp_sp: float = 30.0  # degC
    level_integral: float = LEVEL.bias  # %
    temp_integral: float = TEMPERATURE.bias  # %
    level_cv: float = LEVEL.bias
    temp_cv: float = TEMPERATURE.bias
    mode: Mode = Mode.AUTO
    lock: bool = False
    high_trip: bool = False
    low_trip: bool = False
    dry_s: float = 0.0  # s, how long P101 has run without flow


def scan(state: PlcState, seen: Readings, dt: float = SCAN_S) -> tuple[PlcState, Action]:
    """One cycle: new memory and outputs."""
    high = seen.level > (HIGH_LEVEL - HYSTERESIS if state.high_trip else HIGH_LEVEL)
    low = seen.level < (LOW_LEVEL + HYSTERESIS if state.low_trip else LOW_LEVEL)
    dry_s = state.dry_s + dt if state.level_cv > DRY_SPEED and seen.inflow < DRY_FLOW else 0.0
    if state.mode == Mode.SAFE or dry_s > DRY_S:
        safe = replace(
            state, mode=Mode.SAFE, level_cv=0.0, temp_cv=0.0, high_trip=high, low_trip=low, dry_s=0.0
        )
        return safe, Action(pump=0.0, heater=0.0, outlet_open=False)
    level_cv, level_i = pi(LEVEL, state.level_sp - seen.level, state.level_integral, dt, blocked=high)
    temp_cv, temp_i = pi(TEMPERATURE, state.temp_sp - seen.temp, state.temp_integral, dt, blocked=low)
    after = replace(
        state,
        level_integral=level_i,
        temp_integral=temp_i,
        level_cv=level_cv,
        temp_cv=temp_cv,
        high_trip=high,
        low_trip=low,
        dry_s=dry_s,
    )
    return after, Action(pump=level_cv / 100.0, heater=temp_cv / 100.0, outlet_open=True)


def pi(loop: Loop, error: float, integral: float, dt: float, blocked: bool) -> tuple[float, float]:
    """Output (%) and new integral (%) of a PI controller; the integral stops while the output is clamped.

    >>> pi(Loop(gain=2.0, reset_s=10.0, bias=50.0), error=1.0, integral=50.0, dt=0.1, blocked=False)
    (52.02, 50.02)
    >>> pi(Loop(gain=2.0, reset_s=10.0, bias=50.0), error=90.0, integral=50.0, dt=0.1, blocked=False)
    (100.0, 50.0)
    """
    if blocked:
        return 0.0, integral
    grown = integral + loop.gain * error * dt / loop.reset_s
    output = loop.gain * error + grown
    if 0.0 <= output <= 100.0:
        return output, grown
    clamped = min(max(output, 0.0), 100.0)
    winds_up = (output > 100.0) == (error > 0.0)
    return clamped, integral if winds_up else grown


def write(state: PlcState, tag: str, value: float) -> tuple[PlcState, Refusal]:
    """Take a write from the network: new memory, or the old one and why it was refused."""
    if tag not in INDEX:
        return state, Refusal.UNKNOWN
    spec = TAGS[INDEX[tag]]
    if not spec.writable:
        return state, Refusal.NOT_WRITABLE
    if not spec.low <= value <= spec.high:  # NaN fails too
        return state, Refusal.OUT_OF_RANGE
    if tag == "XS101_SAFE":
        if value:
            return replace(state, mode=Mode.SAFE), Refusal.NONE
        if state.mode != Mode.SAFE:
            return state, Refusal.NONE
        return _reset(state), Refusal.NONE
    if tag == "XS102_LOCK":
        return replace(state, lock=bool(value)), Refusal.NONE
    if state.lock:
        return state, Refusal.LOCKED
    if tag == "LIC101_SP":
        return replace(state, level_sp=value), Refusal.NONE
    return replace(state, temp_sp=value), Refusal.NONE


def _reset(state: PlcState) -> PlcState:
    """Leave the safe state: automatic, controllers from their start values."""
    return PlcState(level_sp=state.level_sp, temp_sp=state.temp_sp, lock=state.lock)
