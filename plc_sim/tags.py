"""The tags of all PLCs, named as on a P&ID (ISA-5.1); within a PLC in the order its program shows them.

Names are unique over the PLCs. Units are UCUM codes; air volumes are at 101.325 kPa and 20 degC (ISO 2787
normal litres). `XSn01_MODE`, `XSn01_SAFE` and `XSn02_LOCK` are the same on every PLC.
"""

from __future__ import annotations

from dataclasses import dataclass

from cellwatch.plc_sim.sites import Site

STATUS_GOOD = 0
STATUS_BAD_NO_DATA = 0x809B0000  # OPC UA Part 6, annex A: Bad_NoData


@dataclass(frozen=True, slots=True)
class TagSpec:
    """One tag: name, unit (UCUM), engineering range, and what a client may do with it."""

    name: str
    unit: str = ""
    low: float = float("nan")
    high: float = float("nan")
    writable: bool = False
    role: str = ""  # "" | "mode" | "command"
    device: str = "PLC1"
    kind: str = "float"  # "float" | "int" | "bool": Double, Int32 or Boolean in OPC UA
    about: str = ""


def _tags(plc: str, *rows: tuple[str, str, float, float, str]) -> tuple[TagSpec, ...]:
    """Tags of one PLC (set-points are writable, ZS are switches), and the three that every PLC has."""
    n = plc[-1]
    return (
        *(
            TagSpec(
                name,
                unit,
                low,
                high,
                writable=name.endswith("_SP"),
                device=plc,
                kind="bool" if name.startswith("ZS") else "float",
                about=about,
            )
            for name, unit, low, high, about in rows
        ),
        TagSpec(
            f"XS{n}01_MODE",
            low=0,
            high=3,
            role="mode",
            device=plc,
            kind="int",
            about="0 auto, 1 manual, 2 safe state, 3 maintenance",
        ),
        _command(f"XS{n}01_SAFE", plc, "true: go to the safe state"),
        _command(f"XS{n}02_LOCK", plc, "true: refuse set-points from the network"),
    )


def _command(name: str, plc: str, about: str) -> TagSpec:
    return TagSpec(name, "", 0, 1, writable=True, role="command", device=plc, kind="bool", about=about)


PLC_TAGS: dict[str, tuple[TagSpec, ...]] = {
    "PLC1": _tags(
        "PLC1",
        ("LIT101", "%", 0, 100, "level of T101"),
        ("TIT101", "Cel", 0, 80, "temperature of T101"),
        ("FIT101", "L/min", 0, 40, "flow from P101 into T101"),
        ("FIT102", "L/min", 0, 40, "flow out of T101"),
        ("PIT101", "kPa", 0, 160, "discharge pressure of P101"),
        ("IIT101", "A", 0, 10, "motor current of P101"),
        ("EIT101", "kW", 0, 20, "electrical power of H101"),
        ("LIC101_SP", "%", 20, 80, "level set-point"),
        ("TIC101_SP", "Cel", 20, 45, "temperature set-point"),
        ("LIC101_CV", "%", 0, 100, "output of the level controller to P101"),
        ("TIC101_CV", "%", 0, 100, "output of the temperature controller to H101"),
    ),
    "PLC2": _tags(
        "PLC2",
        ("LIT201", "%", 0, 100, "level of raw water tank T201"),
        ("TIT201", "Cel", 0, 60, "temperature of T201"),
        ("FIT201", "L/min", 0, 60, "flow of mains water into T201"),
        ("LIT202", "%", 0, 100, "level of product tank T202"),
        ("TIT202", "Cel", 0, 60, "temperature of T202"),
        ("TIT203", "Cel", 0, 60, "product behind cooler E201"),
        ("TIT204", "Cel", 0, 60, "cooling water behind E201"),
        ("FIT203", "L/min", 0, 60, "flow of cooling water"),
        ("FIT202", "L/min", 0, 40, "product to the customer"),
        ("PIT202", "kPa", 0, 250, "pressure of the product header behind P202"),
        ("IIT202", "A", 0, 15, "motor current of P202"),
        ("ZIT201", "%", 0, 100, "position of FCV201, mains water"),
        ("ZIT202", "%", 0, 100, "position of FCV202, product to the customer"),
        ("ZIT203", "%", 0, 100, "position of TCV203, cooling water"),
        ("LIC201_SP", "%", 30, 80, "level set-point of T201"),
        ("LIC202_SP", "%", 30, 80, "level set-point of T202"),
        ("TIC203_SP", "Cel", 20, 40, "set-point of the product temperature behind E201"),
        ("PIC202_SP", "kPa", 80, 160, "set-point of the header pressure"),
        ("LIC201_CV", "%", 0, 100, "output to FCV201"),
        ("LIC202_CV", "%", 0, 100, "output to FCV202"),
        ("TIC203_CV", "%", 0, 100, "output to TCV203"),
        ("PIC202_CV", "%", 0, 100, "output to P202"),
    ),
    "PLC3": _tags(
        "PLC3",
        ("SIT301", "m/s", 0, 0.5, "speed of the belt"),
        ("IIT301", "A", 0, 5, "current of belt motor M301"),
        ("VIT301", "mm/s", 0, 12, "vibration velocity (RMS) at the bearing of M301"),
        ("TIT301", "Cel", 0, 150, "bearing temperature of M301"),
        ("FIT301", "L/min", 0, 30, "flow through the filling nozzle"),
        ("WIT301", "g", 0, 500, "net weight of the last container filled"),
        ("PIT301", "kPa", 0, 1000, "pressure in the gripper of robot R301"),
        ("PIT302", "kPa", 0, 250, "product pressure at the filling nozzle"),
        ("PIT303", "kPa", 0, 1000, "instrument air at R301"),
        ("KIT301", "s", 0, 10, "time of the robot's last pick"),
        ("QIT301", "/min", 0, 60, "containers picked"),
        ("QIT302", "/min", 0, 60, "containers dropped"),
        ("ZS301", "", 0, 1, "container under the nozzle"),
        ("ZS302", "", 0, 1, "container at the pick point"),
        ("SIC301_SP", "m/s", 0.05, 0.30, "set-point of the belt speed"),
        ("WIC301_SP", "g", 100, 350, "set-point of the net weight"),
        ("SIC301_CV", "%", 0, 100, "output to the drive of M301"),
        ("WIC301_CV", "%", 0, 100, "output to the filling valve"),
    ),
    "PLC4": _tags(
        "PLC4",
        ("PIT401", "kPa", 0, 1000, "pressure in receiver V401"),
        ("PIT402", "kPa", 0, 1000, "pressure of the instrument air behind filter F401"),
        ("FIT401", "L/min", 0, 400, "air to the consumers"),
        ("TIT401", "Cel", 0, 150, "discharge temperature of compressor C401"),
        ("IIT401", "A", 0, 10, "motor current of C401"),
        ("PIC401_SP", "kPa", 500, 750, "set-point of the receiver pressure"),
        ("PIC401_CV", "%", 0, 100, "C401: 100 loaded, 0 idling"),
    ),
}
TAG: dict[str, TagSpec] = {tag.name: tag for tags in PLC_TAGS.values() for tag in tags}


def tags_of(site: Site) -> tuple[TagSpec, ...]:
    """All tags of a site in their fixed order: PLC by PLC."""
    return tuple(tag for plc in site.plcs for tag in PLC_TAGS[plc])


def index_of(site: Site) -> dict[str, int]:
    """Position of each tag in `tags_of(site)`."""
    return {tag.name: i for i, tag in enumerate(tags_of(site))}
