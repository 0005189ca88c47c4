"""The tag map: which variables of a PLC become tags, and what may be written.

    namespaces: {plc: "urn:acme:plc1"}       # short names for namespace URIs
    defaults: {sampling_ms: 100}
    tags:
      - path: "Objects/plc:PLC1/plc:Valve1"  # browse path, found again after every reconnect
        writable: true
        range: [0, 100]
      - path: "Objects/plc:PLC1/*:*"         # "*" in a segment, "**" for any depth
      - node: "nsu=urn:acme:plc1;s=Tank.Level"
    methods:                                 # without arguments, that the response may call
      - path: "Objects/plc:PLC1/plc:SafeState"

The first entry that matches a node owns it, so single tags stand above wildcards.
A wrong key, type or name raises one `TagMapError` that names file and key.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

ROLES = ("", "mode", "command")
TRIGGERS = ("status", "value", "timestamp")  # OPC UA Part 4, 7.10: DataChangeTrigger 0, 1, 2


class TagMapError(ValueError):
    """A tag map that cannot be used; the message names the file and the key."""


@dataclass(frozen=True, slots=True)
class Deadband:
    """Deadband of a monitored item (OPC UA Part 8, 7.2): `absolute` in tag units or `percent` of EURange."""

    kind: str
    value: float


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of a browse path. `namespace`: None = any, an index, or a URI; `any_depth` is ``**``."""

    pattern: str
    namespace: int | str | None = None
    any_depth: bool = False

    @property
    def wild(self) -> bool:
        return self.any_depth or "*" in self.pattern

    def matches(self, name: str, namespace: int, uris: list[str]) -> bool:
        """Say whether a browse name matches; `uris` is the server's NamespaceArray."""
        if isinstance(self.namespace, int) and self.namespace != namespace:
            return False
        if isinstance(self.namespace, str) and (namespace >= len(uris) or uris[namespace] != self.namespace):
            return False
        return _glob(self.pattern).fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class TagRule:
    """One entry of the tag map; exactly one of `node` and `path` is set."""

    key: str  # "tags[3]", for messages
    node: str = ""
    path: tuple[Segment, ...] = ()
    name: str = "{name}"  # {name}: browse name, {parent}: browse name of the parent
    device: str = ""  # "" = {parent} for a path, the PLC for a node id
    sampling_ms: float = 100.0  # 0 = as fast as the server can, -1 = the publishing interval
    queue_size: int = 10
    deadband: Deadband | None = None
    trigger: str = "value"
    writable: bool = False
    low: float = math.nan  # overrides EURange
    high: float = math.nan
    min_interval_s: float = 1.0  # shortest time between two writes
    role: str = ""
    unit: str = ""  # overrides EngineeringUnits

    @property
    def wild(self) -> bool:
        return any(segment.wild for segment in self.path)

    @property
    def source(self) -> str:
        """The node id or browse path as a reader would write it."""
        return self.node or "/".join(
            ("**" if s.any_depth else f"{'*' if s.namespace is None else s.namespace}:{s.pattern}")
            for s in self.path
        )


@dataclass(frozen=True, slots=True)
class MethodRule:
    """A method that the response may call, as the command "PARENT/NAME()"."""

    path: tuple[Segment, ...]
    min_interval_s: float = 1.0

    @property
    def name(self) -> str:
        """Name of its commands."""
        return "/".join(s.pattern for s in self.path[-2:]) + "()"


@dataclass(frozen=True, slots=True)
class TagMap:
    """All entries of one PLC, in file order."""

    rules: tuple[TagRule, ...]
    namespaces: dict[str, str] = field(default_factory=dict)
    file: str = "<tag map>"
    methods: tuple[MethodRule, ...] = ()

    @classmethod
    def load(cls, file: str | Path) -> TagMap:
        """Read a YAML file; raises `TagMapError`."""
        path = Path(file)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise TagMapError(f"{path}: cannot read the tag map: {reason}") from error
        return cls.parse(text, file=str(path))

    @classmethod
    def parse(cls, text: str, file: str = "<tag map>") -> TagMap:
        """Read YAML text; raises `TagMapError`.

        >>> TagMap.parse("tags: [{node: 'ns=2;i=7', name: level, sampling_ms: 50}]").rules[0].sampling_ms
        50.0
        """
        try:
            data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            raise TagMapError(f"{file}{line}: not valid YAML: {getattr(error, 'problem', error)}") from error
        return _Reader(file).read(data)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice; plain YAML keeps the last one in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.namespaces: dict[str, str] = {}

    def fail(self, key: str, text: str) -> TagMapError:
        return TagMapError(f"{self.file}: {key}: {text}" if key else f"{self.file}: {text}")

    def read(self, data: Any) -> TagMap:
        top = self.mapping("", data, ("namespaces", "defaults", "tags", "methods"))
        for alias, uri in self.mapping("namespaces", top.get("namespaces", {})).items():
            if not isinstance(alias, str) or not re.fullmatch(r"[A-Za-z_][\w-]*", alias):
                raise self.fail(
                    "namespaces", f"{alias!r} is not a short name (a letter, then letters or digits)"
                )
            self.namespaces[alias] = self.text(f"namespaces.{alias}", uri)
        base = self.rule("defaults", top.get("defaults", {}), TagRule(key="defaults"), _DEFAULT_KEYS)
        entries = top.get("tags")
        if not isinstance(entries, list) or not entries:
            raise self.fail("tags", "expected a list with at least one entry")
        rules = tuple(
            self.rule(f"tags[{i}]", entry, replace(base, key=f"tags[{i}]"), _TAG_KEYS)
            for i, entry in enumerate(entries)
        )
        self.check(rules)
        return TagMap(rules, self.namespaces, self.file, self.methods(top.get("methods", [])))

    def methods(self, entries: Any) -> tuple[MethodRule, ...]:
        if not isinstance(entries, list):
            raise self.fail("methods", f"expected a list, got {_kind(entries)}")
        rules = []
        for i, entry in enumerate(entries):
            key = f"methods[{i}]"
            data = self.mapping(key, entry, ("path", "min_interval_s"))
            path = self.path(f"{key}.path", data.get("path"))
            if len(path) < 2 or any("*" in s.pattern for s in path):
                raise self.fail(f"{key}.path", "name the object and the method, without wildcards")
            interval = self.number(f"{key}.min_interval_s", data.get("min_interval_s", 1.0), 0.0, 86_400.0)
            rules.append(MethodRule(path, interval))
        return tuple(rules)

    def check(self, rules: tuple[TagRule, ...]) -> None:
        names: dict[str, str] = {}
        for rule in rules:
            if bool(rule.node) == bool(rule.path):
                raise self.fail(rule.key, "give either 'node' or 'path'")
            if rule.node and "{parent}" in rule.name:
                raise self.fail(f"{rule.key}.name", "{parent} needs a path")
            if rule.wild and "{name}" not in rule.name:
                raise self.fail(f"{rule.key}.name", "a wildcard needs {name} in its name")
            if rule.writable and rule.wild:
                raise self.fail(
                    f"{rule.key}.writable", "a writable tag is named one by one, without wildcards"
                )
            if "{" not in rule.name and names.setdefault(rule.name, rule.key) != rule.key:
                raise self.fail(
                    f"{rule.key}.name", f"{rule.name!r} is already the name of {names[rule.name]}"
                )
        sources: dict[str, str] = {}
        for rule in rules:
            if sources.setdefault(rule.source, rule.key) != rule.key:
                raise self.fail(rule.key, f"{rule.source!r} is already {sources[rule.source]}")

    def rule(self, key: str, data: Any, base: TagRule, allowed: tuple[str, ...]) -> TagRule:
        values: dict[str, Any] = {}
        for name, value in self.mapping(key, data, allowed).items():
            where = f"{key}.{name}"
            match name:
                case "node":
                    values["node"] = self.node(where, value)
                case "path":
                    values["path"] = self.path(where, value)
                case "name" | "device":
                    values[name] = self.template(where, value)
                case "unit":
                    values[name] = self.text(where, value)
                case "sampling_ms":
                    values[name] = self.number(where, value, -1.0, 3.6e6)
                case "queue_size":
                    values[name] = self.integer(where, value, 1, 100_000)
                case "min_interval_s":
                    values[name] = self.number(where, value, 0.0, 86_400.0)
                case "writable":
                    if not isinstance(value, bool):
                        raise self.fail(where, f"expected true or false, got {value!r}")
                    values[name] = value
                case "range":
                    values["low"], values["high"] = self.range(where, value)
                case "deadband":
                    values[name] = self.deadband(where, value)
                case "role":
                    values[name] = self.choice(where, value, ROLES)
                case "trigger":
                    values[name] = self.choice(where, value, TRIGGERS)
        return replace(base, **values)

    def mapping(self, key: str, data: Any, allowed: tuple[str, ...] | None = None) -> dict[Any, Any]:
        if not isinstance(data, dict):
            raise self.fail(key, f"expected a mapping, got {_kind(data)}")
        for name in data:
            if allowed is not None and name not in allowed:
                raise self.fail(f"{key}.{name}".lstrip("."), f"unknown key; known: {', '.join(allowed)}")
        return data

    def text(self, key: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.fail(key, f"expected text, got {_kind(value)}")
        return value

    def template(self, key: str, value: Any) -> str:
        text = self.text(key, value)
        for hole in re.findall(r"\{([^}]*)\}?", text):
            if hole not in {"name", "parent"}:
                raise self.fail(key, f"unknown placeholder {{{hole}}}; known: {{name}}, {{parent}}")
        return text

    def number(self, key: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(key, f"expected a finite number, got {_kind(value)}")
        if not low <= value <= high:
            raise self.fail(key, f"expected {low:g} to {high:g}, got {value:g}")
        return float(value)

    def integer(self, key: str, value: Any, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(key, f"expected a whole number, got {_kind(value)}")
        return int(self.number(key, value, low, high))

    def range(self, key: str, value: Any) -> tuple[float, float]:
        if not isinstance(value, list) or len(value) != 2:
            raise self.fail(key, f"expected [low, high], got {_kind(value)}")
        low, high = (self.number(key, v) for v in value)
        if low >= high:
            raise self.fail(key, f"low {low:g} is not below high {high:g}")
        return low, high

    def deadband(self, key: str, value: Any) -> Deadband:
        data = self.mapping(key, value, ("absolute", "percent"))
        if len(data) != 1:
            raise self.fail(key, "give either 'absolute' or 'percent'")
        ((kind, size),) = data.items()
        return Deadband(
            kind, self.number(f"{key}.{kind}", size, 0.0, 100.0 if kind == "percent" else math.inf)
        )

    def choice(self, key: str, value: Any, known: tuple[str, ...]) -> str:
        if value not in known:
            raise self.fail(key, f"expected one of {', '.join(repr(k) for k in known)}, got {value!r}")
        return str(value)

    def node(self, key: str, value: Any) -> str:
        text = self.text(key, value)
        if not re.fullmatch(r"((ns=\d+|nsu=[^;]+);)?(i=\d+|[sgb]=.+)", text):
            raise self.fail(key, f"{text!r} is not a node id such as 'ns=2;s=Tank.Level' or 'nsu=URI;i=7'")
        return text

    def path(self, key: str, value: Any) -> tuple[Segment, ...]:
        parts = re.split(r"(?<!&)/", self.text(key, value).strip("/"))
        if parts[0] in {"Objects", "0:Objects"}:
            parts = parts[1:]
        if not parts or not all(parts):
            raise self.fail(key, f"{value!r} is not a browse path such as 'Objects/plc:PLC1/*:*'")
        return tuple(self.segment(key, part) for part in parts)

    def segment(self, key: str, text: str) -> Segment:
        if text in {"**", "*:**"}:
            return Segment("*", None, any_depth=True)
        prefix, colon, name = text.partition(":")
        if not colon or prefix.endswith("&"):
            return Segment(_unescape(text))
        if not name:
            raise self.fail(key, f"segment {text!r} has no name")
        if prefix == "*":
            return Segment(_unescape(name))
        if prefix.isdigit():
            return Segment(_unescape(name), int(prefix))
        if prefix not in self.namespaces:
            raise self.fail(key, f"namespace {prefix!r} is not listed under 'namespaces'")
        return Segment(_unescape(name), self.namespaces[prefix])


_DEFAULT_KEYS = ("device", "sampling_ms", "queue_size", "deadband", "trigger", "min_interval_s")
_TAG_KEYS = (
    "node", "path", "name", *_DEFAULT_KEYS, "writable", "range", "role", "unit",
)  # fmt: skip


def _unescape(text: str) -> str:
    """Undo the ``&`` escapes of a relative path (OPC UA Part 4, A.2)."""
    return re.sub(r"&(.)", r"\1", text)


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(value)
