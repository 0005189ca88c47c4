"""The tags of PLC1, named as on a P&ID (ISA-5.1), in index order."""

from __future__ import annotations

from dataclasses import dataclass

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


TAGS: tuple[TagSpec, ...] = (
    TagSpec("LIT101", "%", 0, 100, about="level of T101"),
    TagSpec("TIT101", "Cel", 0, 80, about="temperature of T101"),
    TagSpec("FIT101", "L/min", 0, 40, about="flow from P101 into T101"),
    TagSpec("FIT102", "L/min", 0, 40, about="flow out of T101"),
    TagSpec("PIT101", "kPa", 0, 160, about="discharge pressure of P101"),
    TagSpec("IIT101", "A", 0, 10, about="motor current of P101"),
    TagSpec("EIT101", "kW", 0, 20, about="electrical power of H101"),
    TagSpec("LIC101_SP", "%", 20, 80, writable=True, about="level set-point"),
    TagSpec("TIC101_SP", "Cel", 20, 45, writable=True, about="temperature set-point"),
    TagSpec("LIC101_CV", "%", 0, 100, about="output of the level controller to P101"),
    TagSpec("TIC101_CV", "%", 0, 100, about="output of the temperature controller to H101"),
    TagSpec("XS101_MODE", "", 0, 2, role="mode", kind="int", about="0 auto, 1 manual, 2 safe state"),
    TagSpec(
        "XS101_SAFE", "", 0, 1, writable=True, role="command", kind="bool", about="true: go to the safe state"
    ),
    TagSpec(
        "XS102_LOCK",
        "",
        0,
        1,
        writable=True,
        role="command",
        kind="bool",
        about="true: refuse set-points from the network",
    ),
)
INDEX = {tag.name: i for i, tag in enumerate(TAGS)}
