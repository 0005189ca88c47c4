"""What all PLC programs share: modes, refusals, PI controllers, writes and methods.

A program is a set of pure functions over its memory (a NamedTuple): `scan` makes new memory and outputs,
`write` and `call` take what the network asks for between two scans.

| mode        | outputs                                        | left by                   |
|-------------|------------------------------------------------|---------------------------|
| AUTO        | controllers                                    | SetMode                   |
| MANUAL      | as set by SetOutput; interlocks still act      | SetMode                   |
| MAINTENANCE | off; alarms are out of service (ISA-18.2, 5.5) | SetMode                   |
| SAFE        | off, latched                                   | Reset, or XSn01_SAFE false|
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cellwatch.plc_sim.plcs.alarms import Deviation, Limit, Trip
from cellwatch.plc_sim.tags import PLC_TAGS

SCAN_S = 0.1  # s, cycle time of every PLC
METHODS: dict[str, tuple[str, ...]] = {  # name: arguments
    "SafeState": (),
    "Reset": (),
    "SetMode": ("mode",),
    "SetOutput": ("output", "percent"),
}


class Mode(IntEnum):
    """Operating mode of a PLC (tag XSn01_MODE)."""

    AUTO = 0
    MANUAL = 1
    SAFE = 2
    MAINTENANCE = 3


# Looking a member up in its enumeration takes seven times as long; programs compare with `is`.
AUTO, MANUAL, SAFE, MAINTENANCE = Mode


class Refusal(IntEnum):
    """Why a write or a call was refused, as an OPC UA StatusCode (Part 6, annex A)."""

    NONE = 0
    NOT_WRITABLE = 0x803B0000
    OUT_OF_RANGE = 0x803C0000
    LOCKED = 0x801F0000  # Bad_UserAccessDenied
    UNKNOWN = 0x80340000  # Bad_NodeIdUnknown
    UNKNOWN_METHOD = 0x80750000  # Bad_MethodInvalid
    INVALID_ARGUMENT = 0x80AB0000
    INVALID_STATE = 0x80AF0000


@dataclass(frozen=True, slots=True)
class Loop:
    """Tuning of one PI controller, output 0..100 %."""

    gain: float  # % of output per unit of error
    reset_s: float  # s, integral time
    bias: float  # %, output at start


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
    winds_up = (output > 100.0) == (error * loop.gain > 0.0)
    return min(max(output, 0.0), 100.0), integral if winds_up else grown


@dataclass(frozen=True, slots=True)
class Program:
    """One PLC program. Its memory has the fields `mode` and `lock` beside its own."""

    plc: str
    readings: Any  # type of what it reads: a NamedTuple in the order of its tags
    memory: Any  # at first start
    scan: Callable[[Any, Any], tuple[Any, Any]]  # memory, readings -> memory, action
    shown: Callable[[Any], tuple[float, ...]]  # memory -> values of the tags behind the readings
    first: Any  # the action before the first scan
    off: Any  # the action when the program does not run
    setpoints: Mapping[str, str]  # tag: field of the memory
    outputs: tuple[str, ...]  # fields that SetOutput sets in MANUAL, first is 1
    trips: tuple[Trip, ...]  # interlocks
    limits: tuple[Limit, ...] = ()
    deviations: tuple[Deviation, ...] = ()

    def write(self, memory: Any, tag: str, value: float) -> tuple[Any, Refusal]:
        """Take a write from the network: new memory, or the old one and why it was refused."""
        spec = next((spec for spec in PLC_TAGS[self.plc] if spec.name == tag), None)
        if spec is None:
            return memory, Refusal.UNKNOWN
        if not spec.writable:
            return memory, Refusal.NOT_WRITABLE
        if not spec.low <= value <= spec.high:  # NaN fails too
            return memory, Refusal.OUT_OF_RANGE
        if tag.endswith("_SAFE"):
            return self.call(memory, "SafeState" if value else "Reset")
        if tag.endswith("_LOCK"):
            return memory._replace(lock=bool(value)), Refusal.NONE
        if memory.lock:
            return memory, Refusal.LOCKED
        return memory._replace(**{self.setpoints[tag]: value}), Refusal.NONE

    def call(self, memory: Any, method: str, arguments: Sequence[float] = ()) -> tuple[Any, Refusal]:
        """Run a method of `METHODS`: new memory, or the old one and why it was refused."""
        if method not in METHODS:
            return memory, Refusal.UNKNOWN_METHOD
        if len(arguments) != len(METHODS[method]):
            return memory, Refusal.INVALID_ARGUMENT
        if method == "SafeState":
            return memory._replace(mode=SAFE), Refusal.NONE
        if method == "Reset":
            return (self.reset(memory) if memory.mode is SAFE else memory), Refusal.NONE
        if memory.lock:
            return memory, Refusal.LOCKED
        if method == "SetMode":
            return self._set_mode(memory, arguments[0])
        if memory.mode is not MANUAL:
            return memory, Refusal.INVALID_STATE
        number, percent = arguments
        if number not in range(1, len(self.outputs) + 1):
            return memory, Refusal.INVALID_ARGUMENT
        if not 0.0 <= percent <= 100.0:
            return memory, Refusal.OUT_OF_RANGE
        return memory._replace(**{self.outputs[int(number) - 1]: percent}), Refusal.NONE

    def reset(self, memory: Any) -> Any:
        """Automatic, everything from its start value, but set-points and lock as they were."""
        kept = {name: getattr(memory, name) for name in (*self.setpoints.values(), "lock")}
        return self.memory._replace(**kept)

    def _set_mode(self, memory: Any, mode: float) -> tuple[Any, Refusal]:
        if mode not in tuple(Mode):
            return memory, Refusal.INVALID_ARGUMENT
        if memory.mode is SAFE and mode != SAFE:
            return memory, Refusal.INVALID_STATE
        return memory._replace(mode=Mode(int(mode))), Refusal.NONE
