"""The PLC programs: one file per PLC, and the parts they share."""

from cellwatch.plc_sim.plcs import plc1, plc2, plc3, plc4
from cellwatch.plc_sim.plcs.alarms import AlarmEvent
from cellwatch.plc_sim.plcs.parts import METHODS, SCAN_S, Mode, Program, Refusal

PROGRAMS: dict[str, Program] = {each.PROGRAM.plc: each.PROGRAM for each in (plc1, plc2, plc3, plc4)}

__all__ = ["METHODS", "PROGRAMS", "SCAN_S", "AlarmEvent", "Mode", "Program", "Refusal"]
