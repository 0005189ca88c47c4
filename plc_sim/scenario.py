"""Scenarios in YAML: where, what goes wrong and when, what benign life goes on meanwhile.

    name: demo
    about: One process fault and one network attack in the first minute.
    site: bench              # or factory
    duration_s: 90           # length of a run unless the command line says otherwise
    seed: 7                  # likewise
    intensity: [0, 1]        # size of incidents that state none: 0 mild .. 1 severe
    targets: [PLC1]          # what attacks that state none may hit; without it anything they can
    attackers: [attacker0]   # one of these attacks, unless the attack needs its own; without it any
    onset_s: [12, 40]        # incidents without a time begin in this window,
    gap_s: 5                 # at least this long apart,
    order: shuffled          # or as_written
    reset_s: 60              # an operator resets a PLC so long after its safe state began; else nobody does
    incidents:
      - fault: [pump_wear, level_sensor_drift]     # one of these, by the seed
        duration_s: [7, 9.5]
        size: [0, 1]
      - attack: dos/*                              # one of these; `repeat: each` makes one incident of each
        duration_s: [8, 11]
        repeat: 3                                  # three incidents
        target: PLC1
        attackers: [attacker0, attacker1]
      - fault: pump_wear
        duration_s: 9
        at_s: 60                                   # begins here, whatever else goes on
    activities:                                    # benign life that looks like trouble
      - {activity: backup, at_s: [20, 60]}
    chaos:                                         # what the OPC UA server of a PLC does to its clients
      - {step: server_restart, plc: PLC1, at_s: 70, duration_s: 5}

Every wrong key or value is refused with file, line and what is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.chaos import CHAOS
from cellwatch.plc_sim.faults import FAULTS
from cellwatch.plc_sim.network.activities import ACTIVITIES
from cellwatch.plc_sim.schedule import MAC_OF, Moment, Planned, Scenario, Slot, draw, hittable, longest_s
from cellwatch.plc_sim.seeds import TRAINING_FIRST
from cellwatch.plc_sim.sites import SITES

__all__ = ["Planned", "Scenario", "ScenarioError", "Slot", "draw", "load", "names", "parse", "scenario_dir"]

ORDERS = ("shuffled", "as_written")
LONGEST_S = 86_400.0
MOST_INCIDENTS = 10_000
KEYS = (
    "name", "about", "site", "duration_s", "seed", "intensity", "targets", "attackers", "onset_s", "gap_s",
    "order", "reset_s", "incidents", "activities", "chaos",
)  # fmt: skip
SLOT_KEYS = ("fault", "attack", "duration_s", "size", "at_s", "repeat", "target", "attackers")


class ScenarioError(ValueError):
    """A scenario that cannot be used; the message names file, line and cure."""


def scenario_dir() -> Path:
    """Where the scenarios that come with the project lie."""
    here = Path(__file__).resolve()
    for up in (here.parents[1], here.parents[2]):  # checkout; installed package
        if (up / "config" / "scenarios").is_dir():
            return up / "config" / "scenarios"
    raise ScenarioError(
        "config/scenarios is missing from this installation; give the path of a scenario file"
    )


def names() -> tuple[str, ...]:
    """Names of the scenarios that come with the project."""
    return tuple(sorted(each.stem for each in scenario_dir().glob("*.yaml")))


def load(name_or_file: str | Path) -> Scenario:
    """Load a scenario by name or from a file."""
    path = Path(name_or_file)
    if path.suffix not in {".yaml", ".yml"}:
        path = scenario_dir() / f"{name_or_file}.yaml"
        if not path.is_file():
            raise ScenarioError(
                f"no scenario {str(name_or_file)!r}; known: {', '.join(names())}; or give a .yaml file"
            )
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
        self.site = "bench"
        self.size = (0.0, 1.0)
        self.targets: tuple[str, ...] = ()

    def fail(self, node: yaml.Node, message: str) -> ScenarioError:
        return ScenarioError(f"{self.source}, line {node.start_mark.line + 1}: {message}")

    def scenario(self, root: yaml.Node) -> Scenario:
        fields = self.mapping(root, KEYS, required=("name",))
        default = Scenario("")
        self.site = self.choice(fields, "site", tuple(SITES), default.site)
        self.size = self.span(fields["intensity"], 0.0, 1.0) if "intensity" in fields else (0.0, 1.0)
        if "targets" in fields:
            self.targets = self.words(fields["targets"], "target", SITES[self.site].hosts)
        pairs = [(node, slot) for node in self.sequence(fields.get("incidents")) for slot in self.slots(node)]
        result = Scenario(
            name=self.text(fields["name"]),
            about=self.text(fields["about"]) if "about" in fields else "",
            site=self.site,
            duration_s=self.number(fields["duration_s"], 1.0, LONGEST_S)
            if "duration_s" in fields
            else default.duration_s,
            seed=int(self.number(fields["seed"], 0, TRAINING_FIRST - 1, whole=True))
            if "seed" in fields
            else 0,
            onset_s=self.span(fields["onset_s"], 0.0, LONGEST_S) if "onset_s" in fields else default.onset_s,
            gap_s=self.number(fields["gap_s"], 0.0, 3600.0) if "gap_s" in fields else default.gap_s,
            order=self.choice(fields, "order", ORDERS, "shuffled"),
            reset_s=self.number(fields["reset_s"], 0.0, LONGEST_S) if "reset_s" in fields else None,
            attackers=self.words(fields["attackers"], "attacker", tuple(MAC_OF))
            if "attackers" in fields
            else (),
            incidents=tuple(slot for _, slot in pairs),
            activities=self.life(fields.get("activities")),
            chaos=self.chaos(fields.get("chaos")),
        )
        self.check_window(result, fields.get("onset_s", root))
        self.check_end(result, fields, pairs)
        return result

    def check_window(self, plan: Scenario, node: yaml.Node) -> None:
        """Refuse an onset window that cannot hold its incidents."""
        free = [slot for slot in plan.incidents if slot.at_s is None]
        lengths = [longest_s(slot, plan.site) + plan.gap_s for slot in free]
        last = min(lengths, default=0.0) if plan.order == "shuffled" else (lengths[-1] if lengths else 0.0)
        need, have = sum(lengths) - last, plan.onset_s[1] - plan.onset_s[0]
        if need > have:
            raise self.fail(
                node,
                f"impossible schedule: {len(free)} incidents with recoveries and gaps need an "
                f"onset window of {need:g} s, onset_s gives {have:g} s",
            )

    def check_end(
        self, plan: Scenario, fields: dict[str, yaml.Node], pairs: Sequence[tuple[yaml.Node, Slot]]
    ) -> None:
        """Refuse what would still go on, or only begin, after the end."""
        length = f"duration_s is {plan.duration_s:g}" + ("" if "duration_s" in fields else " by default")
        for node, slot in pairs:
            begin = plan.onset_s[1] if slot.at_s is None else slot.at_s[1]
            if begin + slot.duration_s[1] > plan.duration_s:
                raise self.fail(
                    node,
                    f"impossible schedule: it may last until {begin + slot.duration_s[1]:g} s, {length}",
                )
        for key, moments in (("activities", plan.activities), ("chaos", plan.chaos)):
            late = [each for each in moments if each.at_s[1] > plan.duration_s]
            if late:
                raise self.fail(
                    fields[key],
                    f"impossible schedule: {late[0].name} may begin at {late[0].at_s[1]:g} s, {length}",
                )

    def slots(self, node: yaml.Node) -> list[Slot]:
        """One entry of `incidents`: as many slots as it repeats."""
        fields = self.mapping(node, SLOT_KEYS)
        kinds = [kind for kind in ("fault", "attack") if kind in fields]
        if len(kinds) != 1:
            raise self.fail(node, "an incident has exactly one of `fault` and `attack`")
        kind = kinds[0]
        choices = self.types(fields[kind], kind)
        if "duration_s" not in fields:
            raise self.fail(node, "`duration_s: [least, most]` is missing")
        for key in ("target", "attackers"):
            if key in fields and kind == "fault":
                raise self.fail(fields[key], f"a fault has no `{key}`; it acts where it acts")
        slot = Slot(
            kind=kind,
            choices=choices,
            duration_s=self.span(fields["duration_s"], 0.1, LONGEST_S),
            size=self.span(fields["size"], 0.0, 1.0) if "size" in fields else self.size,
            at_s=self.span(fields["at_s"], 0.0, LONGEST_S) if "at_s" in fields else None,
            targets=self.aims(fields, node, choices) if kind == "attack" else (),
            attackers=self.words(fields["attackers"], "attacker", tuple(MAC_OF))
            if "attackers" in fields
            else (),
        )
        return self.repeated(fields, slot)

    def types(self, node: yaml.Node, kind: str) -> tuple[str, ...]:
        """Faults or attacks of an incident that this site knows, with wildcards spelled out."""
        known = tuple(name for name, fault in FAULTS.items() if self.site in fault.sites)
        if kind == "attack":
            known = tuple(name for name in ATTACKS if hittable(name, self.site))
        found: list[str] = []
        for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            matching = [name for name in known if fnmatchcase(name, self.text(item))]
            if not matching:
                raise self.fail(item, f"unknown {kind} {item.value!r}; allowed: {', '.join(known)}")
            found += matching
        if not found:
            raise self.fail(node, f"no {kind} given; allowed: {', '.join(known)}")
        return tuple(dict.fromkeys(found))

    def aims(self, fields: dict[str, yaml.Node], slot: yaml.Node, choices: Sequence[str]) -> tuple[str, ...]:
        """Targets of an attack, each choice able to hit one of them."""
        node = fields.get("target", slot)
        targets = self.targets
        if "target" in fields:
            known = dict.fromkeys(name for each in choices for name in hittable(each, self.site))
            targets = self.words(node, "target", tuple(known))
        for choice in choices:
            if not hittable(choice, self.site, targets):
                able = ", ".join(hittable(choice, self.site))
                raise self.fail(node, f"{choice} cannot hit {', '.join(targets)}; allowed: {able}")
        return targets

    def repeated(self, fields: dict[str, yaml.Node], slot: Slot) -> list[Slot]:
        """`repeat: N` or `repeat: each`."""
        if "repeat" not in fields:
            return [slot]
        node = fields["repeat"]
        if slot.at_s is not None and slot.at_s[0] == slot.at_s[1]:
            raise self.fail(
                node, "impossible schedule: all of them at one time; give at_s a range, or leave it out"
            )
        if isinstance(node, yaml.ScalarNode) and node.value == "each":
            return [replace(slot, choices=(choice,)) for choice in slot.choices]
        return [slot] * int(self.number(node, 1, MOST_INCIDENTS, whole=True, instead="each"))

    def life(self, node: yaml.Node | None) -> tuple[Moment, ...]:
        """The entries of `activities`."""
        found: list[Moment] = []
        for each in self.sequence(node):
            fields = self.mapping(each, ("activity", "at_s", "repeat"), required=("activity", "at_s"))
            moment = Moment(
                self.choice(fields, "activity", tuple(ACTIVITIES), ""),
                self.span(fields["at_s"], 0.0, LONGEST_S),
            )
            times = self.number(fields["repeat"], 1, MOST_INCIDENTS, whole=True) if "repeat" in fields else 1
            found += [moment] * int(times)
        return tuple(found)

    def chaos(self, node: yaml.Node | None) -> tuple[Moment, ...]:
        """The entries of `chaos`."""
        keys = ("step", "plc", "at_s", "duration_s")
        found: list[Moment] = []
        for each in self.sequence(node):
            fields = self.mapping(each, keys, required=("step", "at_s", "duration_s"))
            plcs = SITES[self.site].plcs
            step = Moment(
                self.choice(fields, "step", tuple(CHAOS), ""),
                self.span(fields["at_s"], 0.0, LONGEST_S),
                self.number(fields["duration_s"], 0.1, LONGEST_S),
                self.choice(fields, "plc", plcs, plcs[0]),
            )
            for other in found:
                if step.plc == other.plc and step.may_meet(other):
                    raise self.fail(
                        each,
                        f"impossible schedule: {step.name} may overlap {other.name} on {step.plc}; "
                        "a server takes one step at a time",
                    )
            found.append(step)
        return tuple(found)

    def mapping(
        self, node: yaml.Node, allowed: tuple[str, ...], required: tuple[str, ...] = ()
    ) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, f"expected keys and values; allowed keys: {', '.join(allowed)}")
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.value not in allowed:
                raise self.fail(key, f"unknown key {key.value!r}; allowed: {', '.join(allowed)}")
            if key.value in fields:
                raise self.fail(key, f"key {key.value!r} stands twice")
            fields[key.value] = value
        for name in required:
            if name not in fields:
                raise self.fail(node, f"`{name}` is missing")
        return fields

    def sequence(self, node: yaml.Node | None) -> list[yaml.Node]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise self.fail(node, "expected a list")
        return list(node.value)

    def words(self, node: yaml.Node, what: str, known: tuple[str, ...]) -> tuple[str, ...]:
        """One word or a list of them, all known."""
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for item in items:
            if self.text(item) not in known:
                raise self.fail(item, f"unknown {what} {item.value!r}; allowed: {', '.join(known)}")
        if not items:
            raise self.fail(node, f"no {what} given; allowed: {', '.join(known)}")
        return tuple(dict.fromkeys(self.text(item) for item in items))

    def choice(self, fields: dict[str, yaml.Node], key: str, allowed: tuple[str, ...], default: str) -> str:
        if key not in fields:
            return default
        value = self.text(fields[key])
        if value not in allowed:
            raise self.fail(fields[key], f"{key} is {value!r}; allowed: {', '.join(allowed)}")
        return value

    def text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.fail(node, "expected a word")
        return str(node.value)

    def number(
        self, node: yaml.Node, low: float, high: float, *, whole: bool = False, instead: str = ""
    ) -> float:
        value: Any = None
        if isinstance(node, yaml.ScalarNode):
            with suppress(yaml.YAMLError, ValueError):  # "[1", a 99th month: not a number either
                value = yaml.safe_load(node.value)
        kind = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            noun, text = ("whole number", "{:.0f}".format) if whole else ("number", "{:g}".format)
            also = f" or `{instead}`" if instead else ""
            raise self.fail(node, f"expected a {noun} in {text(low)}..{text(high)}{also}")
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
