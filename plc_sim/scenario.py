"""Scenarios: what goes wrong in a run, read from YAML and drawn by a seed.

    name: demo
    about: One process fault and one network attack in the first minute.
    onset_s: [12, 40]        # all incidents begin in this window
    gap_s: 5                 # at least this long between two incidents
    order: shuffled          # or as_written
    incidents:
      - fault: [pump_wear, level_sensor_drift]     # one of these, by the seed
        duration_s: [7, 9.5]
        size: [0, 1]                               # 0 mild .. 1 severe
      - attack: [dos/syn-flood, recon/port-scan]
        duration_s: [8, 11]
        size: [0, 1]

Every wrong key or value is refused with file, line and what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.faults import FAULTS, RECOVERY_S
from cellwatch.plc_sim.incidents import Incident
from cellwatch.plc_sim.network import ATTACKERS

TARGET = "PLC1"
ORDERS = ("shuffled", "as_written")


class ScenarioError(ValueError):
    """A scenario that cannot be used; the message names file, line and cure."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One incident to be drawn."""

    kind: str  # "fault" | "attack"
    choices: tuple[str, ...]
    duration_s: tuple[float, float]
    size: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario as written."""

    name: str
    about: str = ""
    onset_s: tuple[float, float] = (12.0, 40.0)
    gap_s: float = 5.0
    order: str = "shuffled"
    incidents: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """One incident as drawn; times in seconds from the scenario's start."""

    kind: str
    type: str
    onset_s: float
    removal_s: float  # the cause is gone
    end_s: float  # the label ends: removal, and for a fault the recovery
    size: float
    attacker: str = ""

    def label(self, zero_ns: int) -> Incident:
        """Return the label, when the scenario starts at `zero_ns`."""
        onset, end = (zero_ns + round(t * 1e9) for t in (self.onset_s, self.end_s))
        if self.kind == "fault":
            return Incident(
                f"{self.type} of {TARGET}", "fault", "fault", self.type, TARGET, onset, end, devices=(TARGET,)
            )
        attack = ATTACKS[self.type]
        mac = next(mac for mac, name in ATTACKERS.items() if name == self.attacker)
        return Incident(
            name=f"{self.type} on {TARGET}",
            kind="attack",
            category=attack.category,
            type=self.type.split("/", 1)[1],
            device=TARGET,
            onset_ns=onset,
            end_ns=end,
            devices=(TARGET, self.attacker, mac),
            attack_id=attack.attack_id,
        )


def draw(scenario: Scenario, rng: np.random.Generator) -> tuple[Planned, ...]:
    """Draw the incidents of one run, in order of time.

    Onsets are spread evenly over what the window leaves free; incidents never overlap.
    """
    slots = list(scenario.incidents)
    if scenario.order == "shuffled":
        slots = [slots[i] for i in rng.permutation(len(slots))]
    drawn = [
        (
            slot,
            slot.choices[int(rng.integers(len(slot.choices)))],
            float(rng.uniform(*slot.duration_s)),
            float(rng.uniform(*slot.size)),
            list(ATTACKERS.values())[int(rng.integers(len(ATTACKERS)))],
        )
        for slot in slots
    ]
    occupied = [duration + _recovery(slot.kind) + scenario.gap_s for slot, _, duration, _, _ in drawn]
    low, high = scenario.onset_s
    free = high - low - sum(occupied[:-1])
    starts = np.sort(rng.uniform(0.0, free, size=len(drawn)))
    planned: list[Planned] = []
    before = low
    for (slot, kind_of, duration, size, attacker), start, span in zip(drawn, starts, occupied, strict=True):
        onset = before + float(start)
        removal = onset + duration
        planned.append(
            Planned(
                slot.kind,
                kind_of,
                onset,
                removal,
                removal + _recovery(slot.kind),
                size,
                attacker if slot.kind == "attack" else "",
            )
        )
        before += span
    return tuple(planned)


def _recovery(kind: str) -> float:
    return RECOVERY_S if kind == "fault" else 0.0


def scenario_dir() -> Path:
    """Where the scenarios that come with the project lie."""
    here = Path(__file__).resolve()
    for up in (here.parents[1], here.parents[2]):  # checkout; installed package
        if (up / "config" / "scenarios").is_dir():
            return up / "config" / "scenarios"
    raise ScenarioError(
        "config/scenarios is missing from this installation; give the path of a scenario file"
    )


def load(name_or_file: str | Path) -> Scenario:
    """Load a scenario by name or from a file."""
    path = Path(name_or_file)
    if path.suffix not in {".yaml", ".yml"}:
        folder = scenario_dir()
        path = folder / f"{name_or_file}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(each.stem for each in folder.glob("*.yaml")))
            raise ScenarioError(f"no scenario {str(name_or_file)!r}; known: {known}; or give a .yaml file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Scenario:
    """Parse a scenario from YAML text; `source` names it in errors."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ScenarioError(f"{source}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if root is None:
        raise ScenarioError(f"{source}: empty; write at least `name:`")
    return _Reader(source).scenario(root)


class _Reader:
    """Turns YAML nodes into values, with the line in every error."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, node: yaml.Node, message: str) -> ScenarioError:
        return ScenarioError(f"{self.source}, line {node.start_mark.line + 1}: {message}")

    def scenario(self, root: yaml.Node) -> Scenario:
        fields = self.mapping(root, ("name", "about", "onset_s", "gap_s", "order", "incidents"))
        if "name" not in fields:
            raise self.fail(root, "`name` is missing")
        slots: tuple[Slot, ...] = ()
        if "incidents" in fields:
            slots = tuple(self.slot(node) for node in self.sequence(fields["incidents"]))
        order = self.text(fields["order"]) if "order" in fields else "shuffled"
        if order not in ORDERS:
            raise self.fail(fields["order"], f"order is {order!r}; allowed: {', '.join(ORDERS)}")
        result = Scenario(
            name=self.text(fields["name"]),
            about=self.text(fields["about"]) if "about" in fields else "",
            onset_s=self.span(fields["onset_s"], 0.0, 86_400.0) if "onset_s" in fields else (12.0, 40.0),
            gap_s=self.number(fields["gap_s"], 0.0, 3600.0) if "gap_s" in fields else 5.0,
            order=order,
            incidents=slots,
        )
        lengths = [slot.duration_s[1] + _recovery(slot.kind) + result.gap_s for slot in slots]
        last = min(lengths, default=0.0) if order == "shuffled" else (lengths[-1] if lengths else 0.0)
        need, have = sum(lengths) - last, result.onset_s[1] - result.onset_s[0]
        if need > have:
            raise self.fail(
                fields.get("onset_s", root),
                f"impossible schedule: incidents, recovery ({RECOVERY_S:g} s after a fault) and gaps need "
                f"an onset window of {need:g} s, onset_s gives {have:g} s",
            )
        return result

    def slot(self, node: yaml.Node) -> Slot:
        fields = self.mapping(node, ("fault", "attack", "duration_s", "size"))
        kinds = [kind for kind in ("fault", "attack") if kind in fields]
        if len(kinds) != 1:
            raise self.fail(node, "an incident has exactly one of `fault` and `attack`")
        kind = kinds[0]
        known = tuple(FAULTS if kind == "fault" else ATTACKS)
        named = fields[kind]
        items = named.value if isinstance(named, yaml.SequenceNode) else [named]
        choices = tuple(self.text(item) for item in items)
        for item, choice in zip(items, choices, strict=True):
            if choice not in known:
                raise self.fail(item, f"unknown {kind} {choice!r}; allowed: {', '.join(known)}")
        if not choices:
            raise self.fail(named, f"no {kind} given; allowed: {', '.join(known)}")
        if "duration_s" not in fields:
            raise self.fail(node, "`duration_s: [least, most]` is missing")
        return Slot(
            kind=kind,
            choices=choices,
            duration_s=self.span(fields["duration_s"], 0.1, 86_400.0),
            size=self.span(fields["size"], 0.0, 1.0) if "size" in fields else (0.0, 1.0),
        )

    def mapping(self, node: yaml.Node, allowed: tuple[str, ...]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, f"expected keys and values; allowed keys: {', '.join(allowed)}")
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.value not in allowed:
                raise self.fail(key, f"unknown key {key.value!r}; allowed: {', '.join(allowed)}")
            if key.value in fields:
                raise self.fail(key, f"key {key.value!r} stands twice")
            fields[key.value] = value
        return fields

    def sequence(self, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.fail(node, "expected a list")
        return list(node.value)

    def text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.fail(node, "expected a word")
        return str(node.value)

    def number(self, node: yaml.Node, low: float, high: float) -> float:
        value: Any = yaml.safe_load(node.value) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.fail(node, f"expected a number in {low:g}..{high:g}")
        return float(value)

    def span(self, node: yaml.Node, low: float, high: float) -> tuple[float, float]:
        if isinstance(node, yaml.ScalarNode):
            value = self.number(node, low, high)
            return value, value
        items = self.sequence(node)
        if len(items) != 2:
            raise self.fail(node, "expected [least, most]")
        least, most = (self.number(item, low, high) for item in items)
        if least > most:
            raise self.fail(node, f"[{least:g}, {most:g}] is upside down: write [least, most]")
        return least, most
