"""Process faults: how each one changes the process or a reading.

A fault has a `size` between 0 (mild, still clearly visible) and 1 (severe); `RECOVERY_S` after its removal
the process is back within its normal spread, and only then the label ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from cellwatch.plc_sim.plant import Params, Readings

RECOVERY_S = (
    10.0  # s, from removal until all tags are back in their benign range (tests/plc_sim/test_faults.py)
)


class Effect(Protocol):
    """Process and readings under a fault of strength `amount`, `elapsed` seconds after its onset."""

    def __call__(self, p: Params, amount: float, elapsed: float) -> tuple[Params, float]:
        """Return the changed process and what is added to the level reading (%)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One type of fault."""

    tag: str  # where it shows first
    mild: float
    severe: float
    effect: Effect
    about: str

    def amount(self, size: float) -> float:
        """Strength for a size of 0..1."""
        return self.mild + size * (self.severe - self.mild)


def _pump_wear(p: Params, amount: float, elapsed: float) -> tuple[Params, float]:
    del elapsed
    return replace(p, pump_wear=amount), 0.0


def _heater_element_open(p: Params, amount: float, elapsed: float) -> tuple[Params, float]:
    del elapsed
    return replace(p, heater_open=amount), 0.0


def _level_sensor_drift(p: Params, amount: float, elapsed: float) -> tuple[Params, float]:
    return p, amount * (1.0 + elapsed)


FAULTS: dict[str, Fault] = {
    "pump_wear": Fault(
        "FIT101", 0.20, 0.32, _pump_wear, "impeller of P101 loses this share of head; the flow drops at once"
    ),
    "level_sensor_drift": Fault(
        "LIT101",
        0.9,
        1.3,
        _level_sensor_drift,
        "LIT101 reads this many % too high, and as much more every second",
    ),
    "heater_element_open": Fault(
        "EIT101", 0.25, 0.38, _heater_element_open, "this share of H101's elements is open-circuit"
    ),
}


def readings_with(seen: Readings, level_error: float) -> Readings:
    """Add the error of the level transmitter, which saturates at 0 and 105 % (NAMUR NE43)."""
    if level_error == 0.0:
        return seen
    return seen._replace(level=min(max(seen.level + level_error, 0.0), 105.0))
