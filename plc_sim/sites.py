"""The sites: which units, PLCs and hosts belong together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Site:
    """One plant to simulate; the names are those of `units`, `tags` and the table of hosts."""

    name: str
    units: tuple[str, ...]
    plcs: tuple[str, ...]
    hosts: tuple[str, ...]


# The cast of the DataSense testbed (CIC IIoT 2025, devices.csv), without its attackers.
_SENSORS = (
    "weather", "water", "soil", "steam", "gas", "sound", "vibration", "ultrasonic", "light", "accelerometer",
    "proximity-collision", "motion", "rfid", "flame",
)  # fmt: skip
_CAMERAS = ("yi", "blurams", "dekco", "myq", "geeni", "wisenet")
_PLUGS = (
    "all-cameras", "all-rpb", "mqtt", "rfid", "edge1", "motion", "flame", "proximity", "vibration",
    "cameras-yi", "cameras-geeni", "cameras-dekco-blurams", "all-sensors",
)  # fmt: skip

SITES: dict[str, Site] = {
    "bench": Site(
        "bench",
        units=("heated_tank",),
        plcs=("PLC1",),
        hosts=(
            "PLC1",
            "HMI1",
            "ENG1",
            "mqtt-broker",
            "steam-sensor",
            "water-sensor",
            "vibration-sensor",
            "router",
        ),
    ),
    "factory": Site(
        "factory",
        units=("heated_tank", "tank_farm", "conveyor", "compressed_air"),
        plcs=("PLC1", "PLC2", "PLC3", "PLC4"),
        hosts=(
            "PLC1",
            "PLC2",
            "PLC3",
            "PLC4",
            "MB401",
            "HMI1",
            "ENG1",
            "router",
            "mqtt-broker",
            "edge1",
            "switch",
            "ap",
            *(f"{name}-sensor" for name in _SENSORS),
            *(f"{name}-camera" for name in _CAMERAS),
            *(f"plug-{name}" for name in _PLUGS),
            "iot-cloud",
        ),
    ),
}
