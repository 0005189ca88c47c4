"""Process faults: how each one changes the process or a reading.

A fault has a `size` between 0 (mild, still clearly visible) and 1 (severe). Some time after its removal
(`recovers_in`) the unit is back within its normal spread, and only then its label ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

BOTH = ("bench", "factory")
FACTORY = ("factory",)


@dataclass(frozen=True, slots=True)
class ReadingError:
    """What a transmitter does wrong, from the scan in which it first appears; the reading saturates.

    | kind    | amount                                                    |
    |---------|-----------------------------------------------------------|
    | bias    | added to the reading                                      |
    | drift   | added per second since the error began                    |
    | stuck   | not used: the reading holds its last value                |
    | noise   | standard deviation of extra noise                         |
    | dropout | share of scans, 0..1, that bring no value (Bad_NoData)    |
    | replace | read instead of the true value                            |
    """

    kind: str
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What is not as it should be: values of process parameters, errors of readings."""

    params: Mapping[str, float] = field(default_factory=dict)  # "tank_farm.valve_stiction": 0.05
    readings: Mapping[str, ReadingError] = field(default_factory=dict)  # tag: error


@dataclass(frozen=True, slots=True)
class Fault:
    """One type of fault."""

    tag: str  # where it shows first
    device: str  # the PLC that reads it
    mild: float
    severe: float
    cause: Callable[[float, float], Disturbance]  # amount, seconds since onset
    about: str
    sites: tuple[str, ...] = FACTORY
    recovery_s: float = 10.0  # at least
    recovery_share: float = 0.0  # of its duration, for one that grows as long as it lasts

    def recovers_in(self, duration_s: float) -> float:
        """Seconds from the removal to the end of the label, after a fault of this length."""
        return max(self.recovery_s, self.recovery_share * duration_s)

    def amount(self, size: float) -> float:
        """Strength for a size of 0..1."""
        return self.mild + size * (self.severe - self.mild)

    def disturbance(self, size: float, elapsed_s: float) -> Disturbance:
        """What it does `elapsed_s` seconds after its onset."""
        return self.cause(self.amount(size), elapsed_s)


def _set(name: str) -> Callable[[float, float], Disturbance]:
    """A process parameter takes the amount at once."""
    return lambda amount, _elapsed: Disturbance(params={name: amount})


def _reads(tag: str, kind: str) -> Callable[[float, float], Disturbance]:
    """A transmitter errs by the amount."""
    return lambda amount, _elapsed: Disturbance(readings={tag: ReadingError(kind, amount)})


def _level_sensor_drift(amount: float, elapsed: float) -> Disturbance:
    return Disturbance(readings={"LIT101": ReadingError("bias", amount * (1.0 + elapsed))})


def _bearing_damage(amount: float, elapsed: float) -> Disturbance:
    """A spall: half of the amount at once, the rest as it grows over a minute."""
    return Disturbance(params={"conveyor.bearing_damage": amount * min(0.5 + elapsed / 120.0, 1.0)})


FAULTS: dict[str, Fault] = {
    # unit 100
    "pump_wear": Fault(
        "FIT101",
        "PLC1",
        0.20,
        0.32,
        _set("heated_tank.pump_wear"),
        "impeller of P101 loses this share of head; the flow drops at once",
        BOTH,
    ),
    "level_sensor_drift": Fault(
        "LIT101",
        "PLC1",
        0.9,
        1.3,
        _level_sensor_drift,
        "LIT101 reads this many % too high, and as much more every second",
        BOTH,
        recovery_share=0.6,
    ),
    "heater_element_open": Fault(
        "EIT101",
        "PLC1",
        0.25,
        0.38,
        _set("heated_tank.heater_open"),
        "this share of H101's elements is open-circuit",
        BOTH,
    ),
    "tank_leak": Fault(
        "FIT101",
        "PLC1",
        1.5e-5,
        4.0e-5,
        _set("heated_tank.leak_area"),
        "hole of this many m2 at the bottom of T101: more flows in than out",
        BOTH,
    ),
    "level_sensor_stuck": Fault(
        "LIT101",
        "PLC1",
        0.0,
        0.0,
        _reads("LIT101", "stuck"),
        "LIT101 holds its last value to the last digit, and the level follows the demand",
        BOTH,
    ),
    "flow_sensor_noise": Fault(
        "FIT102",
        "PLC1",
        0.6,
        2.0,
        _reads("FIT102", "noise"),
        "FIT102 reads with extra noise of this many L/min",
        BOTH,
    ),
    # unit 200
    "valve_stiction": Fault(
        "ZIT201",
        "PLC2",
        0.06,
        0.20,
        _set("tank_farm.valve_stiction"),
        "FCV201 sticks until its command is this share of its stroke away: ZIT201 leaves LIC201_CV",
        recovery_s=60.0,
    ),
    "cooler_fouling": Fault(
        "FIT203",
        "PLC2",
        0.35,
        0.60,
        _set("tank_farm.fouling"),
        "E201 loses this share of its heat transfer; it needs more cooling water",
        recovery_s=60.0,
    ),
    "header_leak": Fault(
        "PIT202",
        "PLC2",
        1.5e-5,
        4.0e-5,
        _set("tank_farm.leak_area"),
        "hole of this many m2 in the product header",
        recovery_s=180.0,
    ),
    "temperature_sensor_bias": Fault(
        "TIT203",
        "PLC2",
        1.5,
        4.0,
        _reads("TIT203", "bias"),
        "TIT203 reads this many degrees too high, and the product gets colder",
        recovery_s=180.0,
    ),
    "flow_sensor_dropout": Fault(
        "FIT201",
        "PLC2",
        0.2,
        0.8,
        _reads("FIT201", "dropout"),
        "this share of the scans brings no value of FIT201",
    ),
    "pressure_sensor_noise": Fault(
        "PIT202",
        "PLC2",
        3.0,
        10.0,
        _reads("PIT202", "noise"),
        "PIT202 reads with extra noise of this many kPa",
    ),
    # unit 300
    "bearing_damage": Fault(
        "VIT301",
        "PLC3",
        0.15,
        0.5,
        _bearing_damage,
        "spall in the bearing of M301, 0..1: half at once, the rest within a minute",
        recovery_s=180.0,
    ),
    "fill_meter_bias": Fault(
        "WIT301",
        "PLC3",
        0.8,
        3.0,
        _reads("FIT301", "bias"),
        "FIT301 reads this many L/min too high, and containers are underfilled",
    ),
    "gripper_leak": Fault(
        "PIT301",
        "PLC3",
        0.20,
        0.60,
        _set("conveyor.grip_leak"),
        "the gripper's seal loses this share of its pressure; full containers may fall",
        recovery_s=150.0,
    ),
    # unit 400
    "air_leak": Fault(
        "FIT401",
        "PLC4",
        0.5e-6,
        1.6e-6,
        _set("compressed_air.leak_area"),
        "hole of this many m2 in the air main",
        recovery_s=30.0,
    ),
    "filter_clogging": Fault(
        "PIT402",
        "PLC4",
        0.5,
        0.85,
        _set("compressed_air.filter_clogged"),
        "this share of the area of filter F401 is clogged",
        recovery_s=20.0,
    ),
    "compressor_wear": Fault(
        "PIC401_CV",
        "PLC4",
        0.30,
        0.55,
        _set("compressed_air.compressor_wear"),
        "C401 loses this share of its delivery and stays loaded for longer",
        recovery_s=60.0,
    ),
    "pressure_sensor_drift": Fault(
        "PIT401",
        "PLC4",
        1.0,
        3.0,
        _reads("PIT401", "drift"),
        "PIT401 reads this many kPa more every second",
        recovery_s=30.0,
    ),
}
