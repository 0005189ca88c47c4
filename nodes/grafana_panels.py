"""What the Grafana dashboards of a record show; `nodes.grafana` makes them of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cellwatch.nodes.drivers.record_schema import MONITORS

LOSSES = "/^(.*_)?(lost|dropped|late|malformed|errors)(_.*)?$/"  # counters of what went wrong


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of one measurement.

    A timeline shows codes as coloured stretches, a graph numbers over time, a table rows with their text.
    `fields` are names, or one regular expression (RE2) between slashes. `how` sums up what falls together.
    """

    title: str
    kind: Literal["graph", "timeline", "table"]
    measurement: str
    fields: tuple[str, ...]
    how: Literal["mean", "max", "last", "sum"] = "last"
    by: tuple[str, ...] = ()  # tags: one line for each value
    choose: tuple[str, ...] = ()  # tags that a variable of the dashboard chooses
    width: int = 12
    height: int = 8


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page. A variable is a tag key with a measurement and field that has it; with "*" it is a field."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str, str], ...] = ()


DASHBOARDS = (
    Dashboard(
        "cell",
        "Cellwatch: the cell",
        (
            Panel("Decision", "timeline", "fused", ("decision",), "max", ("device",), ("device",), width=24),
            Panel("P(attack)", "graph", "fused", ("probability",), "max", ("device",), ("device",)),
            Panel("Alarms", "timeline", "alarms", ("state",), "last", ("device", "category"), ("device",)),
            Panel(
                "Alarms and who did what",
                "table",
                "alarms",
                ("state", "priority", "message", "user", "reason"),
                by=("device", "category"),
                choose=("device",),
                width=24,
            ),
            Panel(
                "Rules broken",
                "table",
                "violations",
                ("observed", "low", "high", "category", "attack_id"),
                by=("device", "feature", "rule"),
                choose=("device",),
            ),
            Panel(
                "Why",
                "table",
                "fused",
                ("decision", "probability", "category", "attack_type", "explanation"),
                by=("device",),
                choose=("device",),
            ),
            Panel("Commands", "timeline", "commands", ("status",), "last", ("tag",)),
            Panel(
                "Commands: asked and read back", "graph", "commands", ("value", "read_back"), "last", ("tag",)
            ),
            Panel("Tags", "graph", "tags", ("value",), "mean", ("tag",), ("tag",), width=24, height=10),
            Panel("Quality of tags", "timeline", "tags", ("quality",), "max", ("tag",), ("tag",), width=24),
            Panel("Gaps in tags", "graph", "gaps", ("duration_s",), "max", ("plc",)),
            Panel("Truth", "table", "labels", ("name", "category", "type", "devices"), by=("kind", "device")),
        ),
        (("device", "fused", "decision"), ("tag", "tags", "value")),
    ),
    Dashboard(
        "models",
        "Cellwatch: models and drift",
        (
            Panel("Drift", "timeline", "drift", ("state",), "max"),
            Panel("Candidate", "timeline", "candidate", ("stage",), "last"),
            *(
                Panel(f"Drift: {name.replace('_', ' ')}", "graph", "drift", (name, f"{name}_limit"), width=8)
                for name in MONITORS
            ),
            Panel("Candidate beside its parent", "graph", "candidate", ("errors", "parent_errors"), "last"),
            Panel(
                "Why a candidate stands where it does", "table", "candidate", ("stage", "version", "reason")
            ),
            Panel(
                "Versions in service",
                "table",
                "models",
                ("version", "detectors", "failed", "detail"),
                by=("node",),
            ),
            Panel("Detectors that failed", "graph", "models", ("failed",), "max", ("node",)),
            Panel(
                "P(attack) of each detector",
                "graph",
                "verdicts",
                ("p_attack",),
                "max",
                ("device", "detector"),
                ("device",),
            ),
            Panel("Window to verdict", "graph", "verdicts", ("latency_s",), "max", ("source",)),
            Panel(
                "What each feature adds to P(attack)",
                "graph",
                "attributions",
                ("/^[^w]/",),
                "mean",
                ("device",),
                ("device",),
            ),
            Panel("Feature", "graph", "features", ("/^$feature$/",), "mean", ("device",), ("device",)),
        ),
        (("device", "fused", "decision"), ("feature", "features", "*")),
    ),
    Dashboard(
        "health",
        "Cellwatch: health",
        (
            Panel("Nodes", "timeline", "health", ("level",), "max", ("name",), width=24),
            Panel("What was lost", "graph", "health", (LOSSES,), "max", ("name",)),
            Panel("Messages of nodes", "table", "health", ("level", "message"), by=("name",)),
            Panel("Packets in a window", "graph", "traffic", ("packets",), "mean"),
            Panel(
                "Packets lost, late or malformed", "graph", "traffic", ("malformed", "dropped", "late"), "max"
            ),
            Panel(
                "Samples dropped, batches missed", "graph", "gaps", ("dropped", "batches"), "sum", ("plc",)
            ),
            Panel("Devices heard", "graph", "traffic", ("devices",), "max"),
        ),
    ),
)
