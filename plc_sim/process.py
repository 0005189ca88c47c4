"""The units and PLCs of a site, advanced one PLC scan at a time; reads no clock.

One scan: transmitters are read (noise, errors), the programs run, the process moves on by 0.1 s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from operator import add, attrgetter
from typing import NamedTuple

import numpy as np

from cellwatch.plc_sim import plant
from cellwatch.plc_sim.faults import Disturbance, ReadingError
from cellwatch.plc_sim.plcs import PROGRAMS
from cellwatch.plc_sim.plcs.alarms import AlarmEvent, Alarms
from cellwatch.plc_sim.plcs.parts import AUTO, MAINTENANCE, SAFE, SCAN_S, Refusal
from cellwatch.plc_sim.sites import Site
from cellwatch.plc_sim.tags import PLC_TAGS, STATUS_BAD_NO_DATA, STATUS_GOOD, TAG, TagSpec, tags_of
from cellwatch.plc_sim.units.draws import Draws

NOISE_SCANS = 256  # the transmitters' noise is drawn for this many scans at once
OVERRANGE = 1.05  # a transmitter saturates at 105 % of its range (NAMUR NE 43)


class Scan(NamedTuple):
    """What one scan brought."""

    values: tuple[float, ...]  # one a tag, in the order of `Process.tags`; switches and modes as numbers
    status: tuple[int, ...]  # OPC UA StatusCode; with a bad one comes the last good value
    alarms: tuple[AlarmEvent, ...]  # what changed in this scan
    entered_safe: tuple[str, ...]  # PLCs that went to their safe state in this scan


class Process:
    """The process of a site and the PLCs that run it.

    The same generators and calls give the same values. A disturbance names parameters of units in
    `site.units` and tags that a transmitter reads; KeyError for others.
    """

    def __init__(self, site: Site, rng_plant: np.random.Generator, rng_noise: np.random.Generator) -> None:
        """Start near the steady state, all PLCs in AUTO."""
        self.site = site
        self.tags: tuple[TagSpec, ...] = tags_of(site)
        self.params = plant.Params()
        self.state = plant.initial(rng_plant, site, self.params)
        self._draws = Draws(rng_plant)
        self._rng_errors = rng_noise.spawn(1)[0]  # so that an error leaves the noise as it was
        self._plcs = [_Plc(name) for name in site.plcs]
        self._action = plant.Action(*[each.action for each in self._plcs])
        read = [tag for each in self._plcs for tag in each.read]
        self._place = {tag: i for i, tag in enumerate(read)}  # among the readings
        self._index = [self.tags.index(TAG[tag]) for tag in read]  # among all tags
        self._noise = _noise_rows(rng_noise, [sd for unit in site.units for sd in plant.UNITS[unit].NOISE])
        self._seen: list[float] = []  # what the transmitters read in the last scan
        self._good = (STATUS_GOOD,) * len(self.tags)
        self._changes: dict[str, float] = {}
        self._changed = self.params
        for each, true in zip(self._plcs, plant.readings(self.state, self._action, self.params), strict=True):
            each.values = (*true, *each.program.shown(each.memory))
        self._errors: dict[tuple[str, str], tuple[float, float]] = {}  # tag, kind: age (s), value held

    def scan(self, disturbances: Sequence[Disturbance] = (), skipped: Collection[str] = ()) -> Scan:
        """Advance by one PLC cycle of `SCAN_S`.

        The PLCs in `skipped` miss it: their outputs hold and their values stay as they were.
        """
        params = self._disturbed(disturbances) if disturbances or self._changes else self.params
        true = plant.readings(self.state, self._action, params)
        seen = list(map(add, chain.from_iterable(true), next(self._noise)))
        bad = self._misread(disturbances, seen) if disturbances or self._errors else ()
        self._seen = seen
        alarms: list[AlarmEvent] = []
        entered: list[str] = []
        begin = 0
        for each in self._plcs:
            end = begin + len(each.read)
            if each.name not in skipped:
                alarms += each.scan(seen[begin:end])
                if each.entered_safe:
                    entered.append(each.name)
            begin = end
        self._action = plant.Action(*[each.action for each in self._plcs])
        self.state = plant.transition(self.state, self._action, self._draws, params, SCAN_S)
        values = tuple(chain.from_iterable([each.values for each in self._plcs]))
        status = self._status(bad) if bad else self._good
        return Scan(values, status, tuple(alarms), tuple(entered))

    def write(self, plc: str, tag: str, value: float) -> Refusal:
        """Take a write from the network; it takes effect at the next scan. KeyError for an unknown PLC."""
        return self._plc(plc).write(tag, value)

    def call(self, plc: str, method: str, arguments: Sequence[float] = ()) -> Refusal:
        """Run one of `parts.METHODS`; it takes effect at the next scan. KeyError for an unknown PLC."""
        return self._plc(plc).call(method, arguments)

    def stop_plc(self, plc: str) -> None:
        """Stop the program: outputs off; its inputs are still read. KeyError for an unknown PLC."""
        self._plc(plc).stop()

    def start_plc(self, plc: str) -> None:
        """Start the program again, from AUTO; does nothing to one that runs. KeyError for an unknown PLC."""
        self._plc(plc).start()

    def _plc(self, name: str) -> _Plc:
        for each in self._plcs:
            if each.name == name:
                return each
        raise KeyError(f"{name} is no PLC of {self.site.name}: {', '.join(self.site.plcs)}")

    def _disturbed(self, disturbances: Sequence[Disturbance]) -> plant.Params:
        """Return the parameters; where two disturbances set the same one, the later wins."""
        changes: dict[str, float] = {}
        for each in disturbances:
            changes.update(each.params)
        if changes != self._changes:
            self._changes = changes
            self._changed = plant.changed(self.params, changes, self.site)
        return self._changed

    def _misread(self, disturbances: Sequence[Disturbance], seen: list[float]) -> list[int]:
        """Apply the errors to `seen`; returns the places of readings without a value."""
        before = self._seen or seen
        errors: dict[tuple[str, str], tuple[float, float]] = {}
        bad = []
        for each in disturbances:
            for tag, error in each.readings.items():
                i = self._place[tag]
                age, held = self._errors.get((tag, error.kind), (0.0, before[i]))
                errors[tag, error.kind] = (age + SCAN_S, held)
                if error.kind == "dropout":
                    if self._rng_errors.random() < error.amount:
                        seen[i] = before[i]
                        bad.append(i)
                    continue
                spec = self.tags[self._index[i]]
                value = self._wrong(error, seen[i], age, held)
                seen[i] = min(max(value, spec.low), spec.low + OVERRANGE * (spec.high - spec.low))
        self._errors = errors
        return bad

    def _wrong(self, error: ReadingError, value: float, age: float, held: float) -> float:
        match error.kind:
            case "bias":
                return value + error.amount
            case "drift":
                return value + error.amount * age
            case "stuck":
                return held
            case "noise":
                return value + error.amount * float(self._rng_errors.standard_normal())
            case "replace":
                return error.amount
        raise ValueError(f"unknown reading error {error.kind!r}")

    def _status(self, bad: Sequence[int]) -> tuple[int, ...]:
        status = list(self._good)
        for i in bad:
            status[self._index[i]] = STATUS_BAD_NO_DATA
        return tuple(status)


class _Plc:
    """One PLC: its program, memory, outputs and alarms."""

    def __init__(self, name: str) -> None:
        self.name = name
        program = self.program = PROGRAMS[name]
        names = [tag.name for tag in PLC_TAGS[name]]
        self.read: tuple[str, ...] = tuple(names[: len(program.readings._fields)])
        self.memory = program.memory
        self.action = program.first
        self.entered_safe = False
        self.values: tuple[float, ...] = ()
        self._running = True
        self._was_safe = False
        index = {tag: i for i, tag in enumerate(names)}
        self._alarms = Alarms(name, index, program.limits, program.deviations, program.trips)
        self._flags = attrgetter(*[trip.flag for trip in program.trips])

    def scan(self, seen: list[float]) -> list[AlarmEvent]:
        """One cycle; the changes of its alarms."""
        program = self.program
        if self._running:
            self.memory, self.action = program.scan(self.memory, program.readings(*seen))
        memory = self.memory
        self.values = (*seen, *program.shown(memory))
        is_safe = memory.mode is SAFE
        self.entered_safe = is_safe and not self._was_safe
        self._was_safe = is_safe
        if not self._running:
            return []
        if memory.mode is MAINTENANCE:
            return self._alarms.clear()
        return self._alarms.update(self.values, self._flags(memory), SCAN_S, memory.mode is AUTO)

    def write(self, tag: str, value: float) -> Refusal:
        if not self._running:
            return Refusal.INVALID_STATE
        self.memory, refusal = self.program.write(self.memory, tag, value)
        return refusal

    def call(self, method: str, arguments: Sequence[float]) -> Refusal:
        if not self._running:
            return Refusal.INVALID_STATE
        self.memory, refusal = self.program.call(self.memory, method, arguments)
        return refusal

    def stop(self) -> None:
        self._running = False
        self.memory = self.memory._replace(**dict.fromkeys(self.program.outputs, 0.0))
        self.action = self.program.off

    def start(self) -> None:
        if not self._running:
            self._running = True
            self.memory = self.program.reset(self.memory)


def _noise_rows(rng: np.random.Generator, deviations: Sequence[float]) -> Iterator[list[float]]:
    """Rows of noise for one scan each, without end; zero where the standard deviation is zero."""
    scale = np.array(deviations)
    while True:
        yield from (rng.standard_normal((NOISE_SCANS, len(scale))) * scale).tolist()
