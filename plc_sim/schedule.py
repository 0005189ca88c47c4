"""What a scenario asks for, and how one run of it is drawn by a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.faults import FAULTS
from cellwatch.plc_sim.incidents import Incident
from cellwatch.plc_sim.network.hosts import ATTACKERS
from cellwatch.plc_sim.sites import SITES

MAC_OF = {name: mac for mac, name in ATTACKERS.items()}


@dataclass(frozen=True, slots=True)
class Slot:
    """One incident to be drawn."""

    kind: str  # "fault" | "attack"
    choices: tuple[str, ...]
    duration_s: tuple[float, float]
    size: tuple[float, float] = (0.0, 1.0)
    at_s: tuple[float, float] | None = None  # None: anywhere in the onset window, apart from the others
    targets: tuple[str, ...] = ()  # one of these; empty: any that the attack can hit
    attackers: tuple[str, ...] = ()  # empty: those of the scenario


@dataclass(frozen=True, slots=True)
class Moment:
    """A piece of benign life, or a step of chaos, at a drawn time."""

    name: str
    at_s: tuple[float, float]
    duration_s: float = 0.0  # of chaos
    plc: str = ""  # whose server the chaos strikes

    def may_meet(self, other: Moment) -> bool:
        """Whether both may go on at one time, or one begin as the other ends."""
        return (
            self.at_s[0] <= other.at_s[1] + other.duration_s
            and other.at_s[0] <= self.at_s[1] + self.duration_s
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario as written."""

    name: str
    about: str = ""
    site: str = "bench"
    duration_s: float = 90.0
    seed: int = 0
    onset_s: tuple[float, float] = (12.0, 40.0)
    gap_s: float = 5.0
    order: str = "shuffled"
    reset_s: float | None = (
        None  # an operator resets a PLC that was in its safe state for so long; None: nobody
    )
    attackers: tuple[str, ...] = ()  # one of these; empty: as the attack has it
    incidents: tuple[Slot, ...] = ()
    activities: tuple[Moment, ...] = ()
    chaos: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """One incident as drawn; times in seconds from the scenario's start."""

    kind: str
    type: str
    onset_s: float
    removal_s: float  # the cause is gone
    end_s: float  # the label ends: removal and recovery
    size: float
    target: str
    attackers: tuple[str, ...] = ()
    victims: tuple[str, ...] = ()  # devices that it is seen on
    name: str = ""

    def label(self, zero_ns: int) -> Incident:
        """Return the label, when the scenario starts at `zero_ns`."""
        onset, end = (zero_ns + round(t * 1e9) for t in (self.onset_s, self.end_s))
        if self.kind == "fault":
            return Incident(
                self.name, "fault", "fault", self.type, self.target, onset, end, devices=self.victims
            )
        attack = ATTACKS[self.type]
        involved = [*self.victims, *self.attackers, *(MAC_OF[name] for name in self.attackers)]
        return Incident(
            name=self.name,
            kind="attack",
            category=attack.category,
            type=attack.type,
            device=self.target,
            onset_ns=onset,
            end_ns=end,
            devices=tuple(dict.fromkeys(involved)),
            attack_id=attack.attack_id,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """A moment as drawn, seconds from the scenario's start."""

    name: str
    at_s: float
    duration_s: float = 0.0
    plc: str = ""


def draw(scenario: Scenario, rng: np.random.Generator) -> tuple[Planned, ...]:
    """Draw the incidents of one run, in order of onset.

    Slots without a time of their own are spread evenly over what the onset window leaves free and never
    overlap each other; slots with `at_s` begin there, whatever else goes on.
    """
    free = [slot for slot in scenario.incidents if slot.at_s is None]
    if scenario.order == "shuffled":
        free = [free[i] for i in rng.permutation(len(free))]
    drawn = [_what(slot, scenario, rng) for slot in free]
    occupied = [p.end_s + scenario.gap_s for p in drawn]
    low, high = scenario.onset_s
    spare = max(high - low - sum(occupied[:-1]), 0.0)  # a full window may come out at -1e-15
    starts = np.sort(rng.uniform(0.0, spare, size=len(drawn)))
    planned: list[Planned] = []
    before = low
    for incident, start, span in zip(drawn, starts, occupied, strict=True):
        planned.append(_shifted(incident, before + float(start)))
        before += span
    planned += [
        _shifted(_what(slot, scenario, rng), float(rng.uniform(*slot.at_s)))
        for slot in scenario.incidents
        if slot.at_s is not None
    ]
    planned.sort(key=lambda each: each.onset_s)
    return tuple(_named(planned))


def draw_events(moments: Sequence[Moment], rng: np.random.Generator) -> tuple[Event, ...]:
    """Draw benign life or chaos, in order of time."""
    drawn = [Event(each.name, float(rng.uniform(*each.at_s)), each.duration_s, each.plc) for each in moments]
    return tuple(sorted(drawn, key=lambda each: each.at_s))


def longest_s(slot: Slot, site: str) -> float:
    """Longest time from the onset to the end of the label, over all that a slot may become."""
    duration, size = slot.duration_s[1], slot.size[1]
    if slot.kind == "fault":
        return duration + max(FAULTS[name].recovers_in(duration) for name in slot.choices)
    return duration + max(
        ATTACKS[name].recovers_in(target, duration, size)
        for name in slot.choices
        for target in hittable(name, site, slot.targets)
    )


def _what(slot: Slot, scenario: Scenario, rng: np.random.Generator) -> Planned:
    """An incident drawn in everything but its time: onset 0."""
    kind_of = slot.choices[int(rng.integers(len(slot.choices)))]
    duration = float(rng.uniform(*slot.duration_s))
    size = float(rng.uniform(*slot.size))
    if slot.kind == "fault":
        device = FAULTS[kind_of].device
        end = duration + FAULTS[kind_of].recovers_in(duration)
        return Planned("fault", kind_of, 0.0, duration, end, size, device, victims=(device,))
    targets = hittable(kind_of, scenario.site, slot.targets)
    target = targets[int(rng.integers(len(targets)))]
    end = duration + ATTACKS[kind_of].recovers_in(target, duration, size)
    wanted = slot.attackers or scenario.attackers
    attackers = ATTACKS[kind_of].cast(rng)
    if wanted and not ATTACKS[kind_of].sources:
        attackers = (wanted[int(rng.integers(len(wanted)))],)
    victims = ATTACKS[kind_of].victims(target, SITES[scenario.site])
    return Planned("attack", kind_of, 0.0, duration, end, size, target, attackers, victims)


def hittable(attack: str, site: str, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """What an attack can hit at a site; of the wanted ones, if any are wanted."""
    can = ATTACKS[attack].targets.get(site, ())
    return tuple(each for each in can if each in wanted) if wanted else can


def _shifted(incident: Planned, onset_s: float) -> Planned:
    return replace(
        incident,
        onset_s=onset_s,
        removal_s=onset_s + incident.removal_s,
        end_s=onset_s + incident.end_s,
    )


def _named(planned: Sequence[Planned]) -> list[Planned]:
    """Give each incident a name of its own: the second of a kind gets a number."""
    seen: Counter[str] = Counter()
    named = []
    for each in planned:
        name = f"{each.type} {'of' if each.kind == 'fault' else 'on'} {each.target}"
        seen[name] += 1
        named.append(replace(each, name=name if seen[name] == 1 else f"{name} ({seen[name]})"))
    return named
