"""The cell's configuration: one YAML file, checked key by key."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cellwatch.models.response.alarms import AlarmSettings
from cellwatch.models.response.interlocks import InterlockSettings
from cellwatch.models.response.policy import ResponseRule, parse_rule
from cellwatch.models.rules.rule_file import RuleFile
from cellwatch.nodes.drivers.tag_map import TagMap, TagMapError

MOST_FALSE_ALARMS = 3600.0  # an hour
MOST_SETTLE_S = 86_400.0
MOST_CORES, MOST_STORE_MB = 256, 1_000_000
MOST_PORT = 65_535
BLACK_BOX = (
    ("before_s", 0, 3600),
    ("after_s", 0, 3600),
    ("memory_mb", 1, 65_536),
    ("max_mb", 1, 10_000_000),
)


class ConfigError(ValueError):
    """The configuration cannot be used; the text names file, key and cure."""


@dataclass(frozen=True)
class PlcConfig:
    """One OPC UA link."""

    name: str
    tag_map: str
    endpoint: str = ""  # the simulated plant fills it in
    security_policy: str = "None"
    security_mode: str = "SignAndEncrypt"
    user: str = ""
    password_env: str = "CELLWATCH_OPCUA_PASSWORD"  # noqa: S105 - the name of a variable
    certificate: str = ""
    private_key: str = ""
    server_certificate: str = ""
    publishing_ms: float = 100.0


@dataclass(frozen=True)
class TapConfig:
    """Where packets come from: an interface, a capture file or a FIFO; empty: nowhere."""

    source: str = ""
    speed: float = 1.0
    lateness_s: float = 0.2
    promiscuous: bool = True
    snap: int = 262_144  # bytes of a packet
    ring_mib: int = 32


@dataclass(frozen=True)
class EnsembleConfig:
    """The models and who serves them; see `cellwatch.nodes.ensemble_node`."""

    models: str = ""  # folder of a registry or a bundle; empty: those of the simulated site
    budget_s: float = 0.2  # time for one window; a model that is late abstains
    replicas: int = 1  # nodes that share the devices, on all machines together
    local: list[int] = field(default_factory=list)  # numbers of those that run here; empty: all


@dataclass(frozen=True)
class EwadConfig:
    """The EWAD that stands beside the models; see `cellwatch.models.ewad.watch`."""

    model: str = ""  # folder of a trained one; empty: what commissioning made, or that of the simulated site
    false_alarms_per_hour: float = 0.1  # of the whole cell on quiet windows; 0: it scores and never objects


@dataclass(frozen=True)
class FusionConfig:
    """See `cellwatch.models.fusion.fusion.FusionSettings`."""

    threshold: float = 0.5
    budget_s: float = 0.25
    confirm_windows: int = 2
    confirm_alone: int = 4


@dataclass(frozen=True)
class DriftConfig:
    """The watch over the models; see `cellwatch.nodes.drift_node`."""

    truth: bool = False  # a simulated or replayed plant says what every window was
    settle_s: float = 30.0  # how long a label waits to be contradicted before it counts
    retrain: bool = False  # make a candidate version of the models by itself when they no longer fit
    promote: bool = False  # let a candidate come into service by itself, gate by gate
    cores: int = 1  # that retraining may take, at the lowest priority
    replay: str = ""  # table with the rows the models learnt from; a simulated site needs none
    store_mb: int = 512  # of windows and labels that are kept to learn from


@dataclass(frozen=True)
class RulesConfig:
    """See `cellwatch.models.rules.rulesense.RuleSettings`."""

    suspicious_points: float = 1.0
    block_points: float = 6.0
    margin: float = 0.5
    rules_file: str = ""  # limits, physics and rules of the user (docs/rule-language.md)


@dataclass(frozen=True)
class ResponseConfig:
    """One rule of the response; see `cellwatch.models.response.policy.parse_rule`."""

    action: str
    decision: str = "block"
    categories: list[str] = field(default_factory=lambda: ["*"])
    devices: list[str] = field(default_factory=lambda: ["*"])
    tag: str = ""
    method: str = ""
    value: float = 1.0
    range: list[float] = field(default_factory=list)
    revert: float = math.nan
    revert_method: str = ""
    hold_s: float = 60.0
    valid_for_s: float = 2.0
    priority: str = ""


@dataclass(frozen=True)
class PolicyFile:
    """A file of its own for the response."""

    response: list[ResponseConfig]
    interlocks: InterlockSettings = field(default_factory=InterlockSettings)
    alarms: AlarmSettings = field(default_factory=AlarmSettings)


@dataclass(frozen=True)
class RecordConfig:
    """Recording: the embedded store, and the InfluxDB it is forwarded to."""

    influx: str = ""
    max_mb: int = 2048
    segment_mb: int = 32


@dataclass(frozen=True)
class BlackBoxConfig:
    """The minutes around every alarm, on disk; see `cellwatch.nodes.black_box_node`."""

    before_s: float = 60.0
    after_s: float = 60.0
    memory_mb: int = 64  # of the messages that are kept in memory
    max_mb: int = 1024  # of the recordings; the oldest go


@dataclass(frozen=True)
class DashboardConfig:
    """The operator's page; see `cellwatch.nodes.dashboard_node`."""

    enabled: bool = True
    host: str = "127.0.0.1"  # any but loopback needs users: `cellwatch users add`
    port: int = 8080  # or the next that is free
    names: list[str] = field(default_factory=list)  # by which browsers may call this machine
    certificate: str = ""  # for TLS; without it passwords travel in the open
    private_key: str = ""


@dataclass(frozen=True)
class CellConfig:
    """A whole cell."""

    cell: str
    plcs: list[PlcConfig]
    plant: str = "none"  # sim | sim:SCENARIO | replay:FILE | none
    window_s: float = 1.0
    commission_s: float = 60.0  # benign learning period of a cell without a profile
    devices: dict[str, str] = field(default_factory=dict)  # MAC -> name
    tap: TapConfig = field(default_factory=TapConfig)
    rules: RulesConfig = field(default_factory=RulesConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    ewad: EwadConfig = field(default_factory=EwadConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    response: list[ResponseConfig] = field(default_factory=list)
    response_file: str = ""  # instead of the three: a file with these keys
    interlocks: InterlockSettings = field(default_factory=InterlockSettings)
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    record: RecordConfig = field(default_factory=RecordConfig)
    black_box: BlackBoxConfig = field(default_factory=BlackBoxConfig)
    dashboard: DashboardConfig = field(default_factory=DashboardConfig)


def load(path: Path) -> CellConfig:
    """Read and check a cell file. Paths in it are relative to the file."""
    cell: CellConfig = _build(CellConfig, _yaml(path, "cell file"), str(path))
    if cell.response_file:
        cell = _with_policy(cell, path)
    policy_file = (path.parent / cell.response_file).resolve() if cell.response_file else path
    written = _check_response(cell.response, str(policy_file))
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", cell.cell):
        raise ConfigError(
            f"{path}: cell: '{cell.cell}' must be letters, digits, - and _, beginning with a letter"
        )
    if not cell.plcs:
        raise ConfigError(f"{path}: plcs: a cell needs at least one PLC")
    names = [p.name for p in cell.plcs]
    odd = next((n for n in names if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", n)), None)
    if odd is not None:
        raise ConfigError(f"{path}: plcs: '{odd}' must be letters, digits and _, beginning with a letter")
    if len(set(names)) != len(names):
        raise ConfigError(f"{path}: plcs: two PLCs share a name")
    plcs = []
    for plc in cell.plcs:
        files: dict[str, Any] = {
            key: str((path.parent / getattr(plc, key)).resolve())
            for key in ("tag_map", "certificate", "private_key", "server_certificate")
            if getattr(plc, key)
        }
        for key, file in files.items():
            if not Path(file).is_file():
                raise ConfigError(f"{path}: plcs: {plc.name}: {key}: no such file: {file}")
        plcs.append(dataclasses.replace(plc, **files))
    _check_targets(written, [plc.tag_map for plc in plcs], str(policy_file))
    rules = cell.rules
    if rules.rules_file:
        rules = dataclasses.replace(rules, rules_file=_rule_file(path, rules.rules_file))
    ensemble = cell.ensemble
    if not 1 <= ensemble.replicas <= 16:
        raise ConfigError(f"{path}: ensemble: replicas: {ensemble.replicas} is not 1 to 16")
    n = ensemble.replicas
    for number in ensemble.local:
        if not 1 <= number <= n or ensemble.local.count(number) > 1:
            raise ConfigError(
                f"{path}: ensemble: local: {ensemble.local} are not different numbers of 1 to {n}"
            )
    if ensemble.models:
        ensemble = dataclasses.replace(ensemble, models=str((path.parent / ensemble.models).resolve()))
    ewad = cell.ewad
    if not 0 <= ewad.false_alarms_per_hour <= MOST_FALSE_ALARMS:
        raise ConfigError(
            f"{path}: ewad: false_alarms_per_hour: {ewad.false_alarms_per_hour:g} is not "
            f"0 to {MOST_FALSE_ALARMS:g}"
        )
    if not 0 <= cell.drift.settle_s <= MOST_SETTLE_S:
        raise ConfigError(f"{path}: drift: settle_s: {cell.drift.settle_s:g} is not 0 to {MOST_SETTLE_S:g}")
    if not 1 <= cell.drift.cores <= MOST_CORES:
        raise ConfigError(f"{path}: drift: cores: {cell.drift.cores} is not 1 to {MOST_CORES}")
    if not 1 <= cell.drift.store_mb <= MOST_STORE_MB:
        raise ConfigError(f"{path}: drift: store_mb: {cell.drift.store_mb} is not 1 to {MOST_STORE_MB}")
    drift = cell.drift
    if drift.replay:
        replay = (path.parent / drift.replay).resolve()
        if not replay.exists():
            raise ConfigError(f"{path}: drift: replay: no such file: {replay}")
        drift = dataclasses.replace(drift, replay=str(replay))
    if ewad.model:
        ewad = dataclasses.replace(ewad, model=str((path.parent / ewad.model).resolve()))
    for key, low, high in BLACK_BOX:
        value = getattr(cell.black_box, key)
        if not low <= value <= high:
            raise ConfigError(f"{path}: black_box: {key}: {value:g} is not {low} to {high}")
    dashboard = _dashboard(cell.dashboard, path)
    return dataclasses.replace(
        cell, plcs=plcs, rules=rules, ensemble=ensemble, ewad=ewad, drift=drift, dashboard=dashboard
    )


def _dashboard(page: DashboardConfig, path: Path) -> DashboardConfig:
    """Checked, with whole paths."""
    where = f"{path}: dashboard"
    try:
        ipaddress.ip_address("127.0.0.1" if page.host == "localhost" else page.host)
    except ValueError:
        raise ConfigError(
            f"{where}: host: '{page.host}' is no address of this machine, such as 127.0.0.1 or 0.0.0.0"
        ) from None
    if not 0 <= page.port <= MOST_PORT:
        raise ConfigError(f"{where}: port: {page.port} is not 0 to {MOST_PORT}")
    if bool(page.private_key) and not page.certificate:
        raise ConfigError(f"{where}: private_key: there is no certificate")
    files = {
        key: str((path.parent / getattr(page, key)).resolve())
        for key in ("certificate", "private_key")
        if getattr(page, key)
    }
    for key, file in files.items():
        if not Path(file).is_file():
            raise ConfigError(f"{where}: {key}: no such file: {file}")
    return dataclasses.replace(page, **files)  # type: ignore[arg-type]


def _yaml(path: Path, what: str) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {what}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{path}: {where}not YAML: {getattr(error, 'problem', error)}") from None


def _with_policy(cell: CellConfig, path: Path) -> CellConfig:
    """The cell with the rules, interlocks and alarms of its policy file."""
    if cell.response:
        raise ConfigError(f"{path}: response_file: give it or response, not both")
    file = (path.parent / cell.response_file).resolve()
    policy: PolicyFile = _build(PolicyFile, _yaml(file, "policy file"), str(file))
    return dataclasses.replace(
        cell, response=policy.response, interlocks=policy.interlocks, alarms=policy.alarms
    )


def _check_response(rules: list[ResponseConfig], where: str) -> list[ResponseRule]:
    parsed = []
    for i, rule in enumerate(rules):
        try:
            parsed.append(parse_rule(dataclasses.asdict(rule)))
        except ValueError as error:
            raise ConfigError(f"{where}: response[{i}]: {error}") from None
    return parsed


def _check_targets(rules: list[ResponseRule], tag_maps: list[str], where: str) -> None:
    """All that the response writes stands in a tag map, as a writable tag or as a method."""
    wanted = [
        (f"response[{i}]: {prefix}{'method' if name.endswith('()') else 'tag'}", name)
        for i, rule in enumerate(rules)
        for prefix, name in (("", rule.tag), ("revert_", rule.revert_tag))
        if name
    ]
    if not wanted:
        return
    try:
        maps = [TagMap.load(file) for file in tag_maps]
    except TagMapError as error:
        raise ConfigError(str(error)) from None
    entries = [entry for one in maps for entry in one.rules if entry.writable]
    if any(entry.node and "{" in entry.name for entry in entries):
        return  # only the server knows the name of a node id
    named = [(entry.name, [s.pattern for s in entry.path] or [""]) for entry in entries]
    known = {name.format(name=steps[-1], parent=(steps[-2:-1] or [""])[0]) for name, steps in named}
    known |= {method.name for one in maps for method in one.methods}
    for key, name in wanted:
        if name not in known:
            there = ", ".join(sorted(known)) or "nothing"
            raise ConfigError(
                f"{where}: {key}: the tag maps have nothing writable named {name}; there is: {there}"
            )


def _rule_file(cell: Path, name: str) -> str:
    """Absolute path of a rule file, which must be in order."""
    path = (cell.parent / name).resolve()
    try:
        RuleFile.parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{cell}: rules: rules_file: {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return str(path)


def _build(kind: Any, data: object, where: str) -> Any:
    """A dataclass, list, dict or scalar of type `kind` from plain YAML data."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(data, dict):
            raise ConfigError(f"{where}: expected keys and values, found {_kind_of(data)}")
        fields = {f.name: f for f in dataclasses.fields(kind)}
        hints = typing.get_type_hints(kind)
        for key in data:
            if key not in fields:
                raise ConfigError(f"{where}: unknown key '{key}'; allowed: {', '.join(fields)}")
        for name, f in fields.items():
            optional = f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
            if name not in data and not optional:
                raise ConfigError(f"{where}: key '{name}' is missing")
        values = {str(k): _build(hints[str(k)], v, f"{where}: {k}") for k, v in data.items()}
        try:
            return kind(**values)  # type: ignore[operator]
        except ValueError as error:  # values that do not fit together
            raise ConfigError(f"{where}: {error}") from None
    origin = typing.get_origin(kind)
    if origin is list:
        if not isinstance(data, list):
            raise ConfigError(f"{where}: expected a list, found {_kind_of(data)}")
        (item,) = typing.get_args(kind)
        return [_build(item, v, f"{where}[{i}]") for i, v in enumerate(data)]
    if origin is dict:
        if not isinstance(data, dict):
            raise ConfigError(f"{where}: expected keys and values, found {_kind_of(data)}")
        return {str(k): _build(typing.get_args(kind)[1], v, f"{where}: {k}") for k, v in data.items()}
    if isinstance(kind, types.UnionType):
        raise TypeError(kind)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise ConfigError(f"{where}: expected {kind.__name__}, found {_kind_of(data)}")
    return data


def _kind_of(data: object) -> str:
    return "nothing" if data is None else f"{type(data).__name__} {data!r}"
