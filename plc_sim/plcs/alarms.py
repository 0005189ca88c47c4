"""Alarms as ISA-18.2 and OPC UA Part 9 know them: limits with hysteresis, deviations, trips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

INF = float("inf")
SEVERITY = {"DEVIATION": 300, "HI": 500, "LO": 500, "HIHI": 700, "LOLO": 700, "TRIP": 900}  # Part 5: 1..1000


class AlarmEvent(NamedTuple):
    """A condition of one tag became active or inactive."""

    plc: str
    tag: str
    condition: str  # "HI" | "LO" | "HIHI" | "LOLO" | "DEVIATION" | "TRIP"
    active: bool
    severity: int  # 1..1000
    message: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Limits of one reading, in its unit; a condition ends `hysteresis` inside its limit."""

    tag: str
    hysteresis: float
    lolo: float = -INF
    lo: float = -INF
    hi: float = INF
    hihi: float = INF


@dataclass(frozen=True, slots=True)
class Deviation:
    """In AUTO, a reading further than `limit` from its set-point for `delay_s`; ends at half of it."""

    tag: str
    setpoint: str
    limit: float
    delay_s: float


@dataclass(frozen=True, slots=True)
class Trip:
    """An interlock: a flag of the program's memory, the reading that sets it, what it does."""

    flag: str
    tag: str
    message: str


class Alarms:
    """The alarms of one PLC; `update` after each scan."""

    def __init__(
        self,
        plc: str,
        index: Mapping[str, int],
        limits: Sequence[Limit],
        deviations: Sequence[Deviation],
        trips: Sequence[Trip],
    ) -> None:
        """`index`: position of each of the PLC's tags in its values."""
        self.plc = plc
        # (position, first low limit, first high limit, the limit itself): inside both is the quick way out
        self._limits = [
            (index[each.tag], max(each.lo, each.lolo), min(each.hi, each.hihi), each) for each in limits
        ]
        self._deviations = [(k, index[d.tag], index[d.setpoint], d) for k, d in enumerate(deviations)]
        self._waiting = [0.0] * len(deviations)  # s out of bounds
        self._trips = trips
        self._tripped: tuple[bool, ...] = (False,) * len(trips)
        self._active: set[tuple[str, str]] = set()  # tag, condition
        self._limited: set[int] = set()  # positions with an active limit

    def update(
        self, values: Sequence[float], tripped: tuple[bool, ...], dt: float, auto: bool
    ) -> list[AlarmEvent]:
        """Changes since the last call; `values` of the PLC's tags, flags of its interlocks."""
        events: list[AlarmEvent] = []
        limited = self._limited
        for i, low, high, limit in self._limits:
            if not low <= values[i] <= high or (limited and i in limited):
                events += self._limit(i, values[i], limit)
        for k, i, j, deviation in self._deviations:
            error = abs(values[i] - values[j])
            if error > 0.5 * deviation.limit or self._waiting[k] > 0.0:
                events += self._deviation(k, error if auto else 0.0, deviation, dt)
        if tripped != self._tripped:
            for trip, now, before in zip(self._trips, tripped, self._tripped, strict=True):
                if now != before:
                    events.append(self._event(trip.tag, "TRIP", now, trip.message))
            self._tripped = tripped
        return events

    def clear(self) -> list[AlarmEvent]:
        """Take all alarms out of service: what was active ends."""
        events = [self._event(tag, kind, False, "out of service") for tag, kind in sorted(self._active)]
        for trip, now in zip(self._trips, self._tripped, strict=True):
            if now:
                events.append(self._event(trip.tag, "TRIP", False, "out of service"))
        self._active.clear()
        self._limited.clear()
        self._waiting = [0.0] * len(self._waiting)
        self._tripped = (False,) * len(self._trips)
        return events

    def _limit(self, i: int, value: float, limit: Limit) -> list[AlarmEvent]:
        events = []
        limited = False
        for kind, over in (
            ("HI", value - limit.hi),
            ("HIHI", value - limit.hihi),
            ("LO", limit.lo - value),
            ("LOLO", limit.lolo - value),
        ):
            active = (limit.tag, kind) in self._active
            now = over > (-limit.hysteresis if active else 0.0)
            limited = limited or now
            if now != active:
                (self._active.add if now else self._active.discard)((limit.tag, kind))
                events.append(self._event(limit.tag, kind, now, f"{limit.tag} is {value:.4g}"))
        (self._limited.add if limited else self._limited.discard)(i)
        return events

    def _deviation(self, k: int, error: float, deviation: Deviation, dt: float) -> list[AlarmEvent]:
        key = (deviation.tag, "DEVIATION")
        active = key in self._active
        if error > (0.5 * deviation.limit if active else deviation.limit):
            self._waiting[k] += dt
            if active or self._waiting[k] < deviation.delay_s:
                return []
            self._active.add(key)
            return [self._event(*key, True, f"{error:.3g} from {deviation.setpoint}")]
        self._waiting[k] = 0.0
        if not active:
            return []
        self._active.discard(key)
        return [self._event(*key, False, f"{error:.3g} from {deviation.setpoint}")]

    def _event(self, tag: str, kind: str, active: bool, message: str) -> AlarmEvent:
        return AlarmEvent(self.plc, tag, kind, active, SEVERITY[kind], message)
