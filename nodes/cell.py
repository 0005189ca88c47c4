"""One table of nodes and parameters: `cellwatch run` and `ros2 launch` both start from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from cellwatch.models.response.alarms import AlarmSettings
from cellwatch.models.response.interlocks import InterlockSettings
from cellwatch.nodes.config import CellConfig

DASHBOARD = "dashboard_node"
ARMED_FILE = "armed"  # what `set_armed` last said, so that a link that falls comes back as it was


@dataclass(frozen=True)
class NodeSpec:
    """One node of the cell."""

    name: str
    executable: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifacts:
    """Files that the nodes read or write."""

    folder: Path  # of the cell: record, audit log
    models: str = ""  # registry or bundle that the ensemble serves
    fallback: str = ""  # bundle that the cell was started with
    version: str = ""  # of that bundle
    surroundings: dict[str, Any] = field(default_factory=dict)  # of that bundle, see `Manifest`
    ewad: str = ""  # folder of the EWAD; empty: the cell has none
    keys: str = ""  # who may sign models
    cache: str = ""  # data sets that models learnt from
    baseline_file: str = ""
    profile_file: str = ""
    traffic_file: str = ""  # the profile with the traffic of a capture
    fit_file: str = ""  # of fusion: weights, calibration, threshold
    weights: dict[str, float] = field(default_factory=dict)
    users: str = ""  # file of the page's users


def node_table(
    cell: CellConfig,
    files: Artifacts,
    *,
    armed: bool = False,
    commissioning_s: float = 0.0,
    network_s: float = 0.0,
    dashboard: bool = False,
) -> list[NodeSpec]:
    """All nodes, sinks first: the order in which they are brought up.

    Listeners stand before the first word is said, so nothing published at the start goes unheard;
    the way down is the reverse, so the last words are heard too.
    """
    devices = list(dict.fromkeys([p.name for p in cell.plcs] + list(cell.devices.values())))
    served = {
        "models": files.models,
        "fallback": files.fallback,
        "keys": files.keys,
        "version": files.version,
    }
    table = [
        NodeSpec(
            "influx_export_node",
            "influx_export_node",
            {
                "folder": str(files.folder / "record"),
                "influx": cell.record.influx,
                "max_mb": cell.record.max_mb,
                "segment_mb": cell.record.segment_mb,
            },
        ),
        NodeSpec(
            "black_box_node",
            "black_box_node",
            {"folder": str(files.folder / "black_box"), **asdict(cell.black_box)},
        ),
        *([_dashboard(cell, files, devices)] if dashboard and cell.dashboard.enabled else []),
        NodeSpec(
            "drift_node",
            "drift_node",
            {
                "state_file": str(files.folder / "drift.json"),
                **{name: getattr(cell.drift, name) for name in ("truth", "settle_s", "retrain")},
            },
        ),
        NodeSpec(
            "retrain_node",
            "retrain_node",
            {
                "models": files.models,
                "fallback": files.fallback,
                "keys": files.keys,
                "store": str(files.folder / "samples"),
                "cache": files.cache,
                "work": str(files.folder / "retraining"),
                "audit_file": str(files.folder / "audit.jsonl"),
                "points": json.dumps([cell.rules.suspicious_points, cell.rules.block_points]),
                "window_s": cell.window_s,
                **{name: getattr(cell.drift, name) for name in ("promote", "cores", "replay", "store_mb")},
            },
        ),
        NodeSpec(
            "fusion_node",
            "fusion_node",
            {
                **asdict(cell.fusion),
                "sources": json.dumps(["rules", "ensemble", *(["ewad"] if files.ewad else [])]),
                "weights": json.dumps(files.weights),
                "fit": files.fit_file,
                **served,
                "response": json.dumps([asdict(r) for r in cell.response]),
                "interlocks": json.dumps(asdict(_interlocks(cell))),
                "alarms": json.dumps(asdict(_alarms(cell))),
                "state_file": str(files.folder / "response.json"),
                "audit_file": str(files.folder / "audit.jsonl"),
                "hard_cases": str(files.folder / "hard_cases.bin"),
            },
        ),
        *(
            NodeSpec(
                "ensemble_node" + (f"_{i}" if i > 1 else ""),
                "ensemble_node",
                {
                    "models": files.models,
                    "fallback": files.fallback,
                    "surroundings": json.dumps(files.surroundings),
                    "keys": files.keys,
                    "ewad": files.ewad,
                    "false_alarms_per_hour": cell.ewad.false_alarms_per_hour,
                    "window_s": cell.window_s,
                    "budget_s": cell.ensemble.budget_s,
                    "replica": i,
                    "replicas": cell.ensemble.replicas,
                },
            )
            for i in cell.ensemble.local or range(1, cell.ensemble.replicas + 1)
        ),
        NodeSpec(
            "rule_node",
            "rule_node",
            {
                "profile_file": files.profile_file,
                "commissioning_s": commissioning_s,
                "network_commissioning_s": network_s,
                "traffic_file": files.traffic_file,
                **served,
                **asdict(cell.rules),
            },
        ),
        NodeSpec(
            "feature_node",
            "feature_node",
            {
                "window_s": cell.window_s,
                "devices": json.dumps(devices),
                "baseline_file": files.baseline_file,
                "commissioning_s": commissioning_s,
            },
        ),
        NodeSpec(
            "network_tap_node",
            "network_tap_node",
            {
                **asdict(cell.tap),
                "window_s": cell.window_s,
                "devices": json.dumps(cell.devices),
                "place_file": str(files.folder / "tap.json"),
            },
        ),
    ]
    for name, plc in zip(link_names(cell), cell.plcs, strict=True):
        settings = asdict(plc)
        settings["plc"] = settings.pop("name")
        more = {
            "armed": armed,
            "audit_file": str(files.folder / "audit.jsonl"),
            "armed_file": str(files.folder / ARMED_FILE),
            "only_plc": len(cell.plcs) == 1,
            "dead_man_s": cell.interlocks.dead_man_s,
        }
        table.append(NodeSpec(name, "opcua_client_node", {**settings, **more}))
    by_name = {spec.name: spec for spec in table}
    by_name["retrain_node"].parameters["judges"] = json.dumps(shadow_parameters(table))
    return table


def _dashboard(cell: CellConfig, files: Artifacts, devices: list[str]) -> NodeSpec:
    page = asdict(cell.dashboard)
    del page["enabled"]
    more = {
        "names": json.dumps(page.pop("names")),
        "users": files.users,
        "cell": cell.cell,
        "devices": json.dumps(devices),
        "links": json.dumps(link_names(cell)),
        "window_s": cell.window_s,
        "record": str(files.folder / "record"),
        "audit_file": str(files.folder / "audit.jsonl"),
    }
    return NodeSpec(DASHBOARD, "dashboard_node", {**page, **more})


def shadow_parameters(specs: list[NodeSpec]) -> dict[str, dict[str, Any]]:
    """Parameters of the nodes of the shadow (see `shadow`), by name, made from those of the cell's own.

    They judge alike, and keep, command and follow nothing; what a version brings is put in at its start.
    """
    alone = {"models": "", "fallback": "", "version": ""}
    instead: dict[str, dict[str, Any]] = {
        "fusion_node": {
            **alone,
            "response": "[]",
            "interlocks": json.dumps({"dead_man_s": 0}),
            "state_file": "",
            "audit_file": "",
            "hard_cases": "",
        },
        "ensemble_node": {"fallback": "", "surroundings": "{}", "ewad": "", "replica": 1, "replicas": 1},
        "rule_node": {
            **alone,
            "commissioning_s": 0.0,
            "network_commissioning_s": 0.0,
            "traffic_file": "",
        },
    }
    own = {spec.executable: spec.parameters for spec in reversed(specs)}
    return {name: {**own[name], **other} for name, other in instead.items()}


def _interlocks(cell: CellConfig) -> InterlockSettings:
    """A window that waited its whole budget is not too old to write."""
    settings = cell.interlocks
    return replace(settings, max_age_s=max(settings.max_age_s, cell.fusion.budget_s + 1.0))


def _alarms(cell: CellConfig) -> AlarmSettings:
    """A condition that stands is seen once a window: an alarm must outlast the gap, and one lost window."""
    settings = cell.alarms
    return replace(settings, off_delay_s=max(settings.off_delay_s, 2.5 * cell.window_s))


def link_names(cell: CellConfig) -> list[str]:
    """Names of the nodes that hold the links, one for each PLC; the first has none of its PLC."""
    return ["opcua_client_node" + (f"_{plc.name}" if i else "") for i, plc in enumerate(cell.plcs)]


def namespace(cell: CellConfig) -> str:
    """ROS namespace of a cell: ROS knows letters, digits and underscores only."""
    return "/" + cell.cell.replace("-", "_")


def write_params(spec: NodeSpec, place: str, folder: Path) -> Path:
    """Parameter file of one node, as `--params-file` takes it."""
    path = folder / f"{spec.name}.yaml"
    path.write_text(yaml.safe_dump({f"{place}/{spec.name}": {"ros__parameters": spec.parameters}}))
    return path
