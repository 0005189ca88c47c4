"""What a record holds: its measurements, their tags and fields. The encoders of `line_protocol` keep to it.

Tags have few values (devices, tags, rules, detectors), so that servers stay quick; all else is a field.
Enumerations are the integers of `models.types`; NaN and infinity are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase

from cellwatch.models.types import (
    AlarmState,
    CommandStatus,
    DriftState,
    Level,
    Ne107,
    Priority,
    Screening,
    Severity,
    Stage,
)

MONITORS = (
    "loss",
    "errors",
    "features",
    "scores",
    "disagreement",
    "calibration",
    "loss_category",
    "loss_type",
)  # of drift


class Health(IntEnum):
    """Level of a node, as in `diagnostic_msgs/DiagnosticStatus`."""

    OK = 0
    WARNING = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True, slots=True)
class Field:
    """One field, or with a "*" in its name a family of them."""

    name: str
    kind: type[bool | int | float | str]
    text: str = ""
    unit: str = ""
    codes: type[IntEnum] | None = None  # what its integers mean


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement; `tags` are its keys, of which a point may lack some."""

    name: str
    text: str
    tags: tuple[str, ...]
    fields: tuple[Field, ...]
    time: str  # which time a point has

    def field(self, name: str) -> Field | None:
        """Field of that name, None if there is none."""
        return next((f for f in self.fields if f.name == name), None) or next(
            (f for f in self.fields if "*" in f.name and fnmatchcase(name, f.name)), None
        )


_WINDOW = Field("window_id", int, "number of the window")
_END = "end of the window"
_SAID = "when it was said"
_SINCE = Field("since_ns", int, "since when", "ns")

SCHEMA = (
    Measurement(
        "tags", "samples of the PLCs", ("plc", "device", "tag"),
        (
            Field("value", float, "absent where the sample has no number"),
            Field("status", int, "OPC UA StatusCode"),
            Field("quality", int, "severity of the status", codes=Severity),
        ),
        "source time, else the server's, else that of receipt",
    ),
    Measurement(
        "gaps", "what is missing: stretches, samples, batches", ("plc",),
        (
            Field("reason", str),
            Field("end_ns", int, "end of the gap", "ns"),
            Field("duration_s", float, "", "s"),
            Field("dropped", int, "samples that the link dropped"),
            Field("batches", int, "batches that the record lacks"),
            Field("sequence", int, "number of the batch that tells so"),
        ),
        "begin of the gap, or receipt of the batch",
    ),
    Measurement(
        "traffic", "counters of one window of traffic", (),
        (
            _WINDOW,
            Field("devices", int, "devices heard"),
            Field("packets", int),
            Field("malformed", int, "packets that could not be read"),
            Field("dropped", int, "packets that the capture lost"),
            Field("late", int, "packets behind their window"),
        ),
        _END,
    ),
    Measurement(
        "features", "what is measured of a device in one window", ("device",),
        (
            _WINDOW,
            Field("commissioning", bool, "the cell still learns what is normal"),
            Field("held", bool, "its process is not judged"),
            Field("*", float, "one field a feature, see features.md"),
        ),
        _END,
    ),
    Measurement(
        "verdicts", "what one source says of a device, and what each of its detectors does",
        ("source", "device", "detector", "level"),
        (
            _WINDOW,
            Field("screening", int, "of the source", codes=Screening),
            Field("confidence", float, "of the screening, 0 to 1"),
            Field("violations", int, "rules broken"),
            Field("latency_s", float, "end of the window to the verdict", "s"),
            Field("abstained", str, "why there is no score"),
            Field("p_*", float, "of a detector: probability of a class"),
        ),
        _END,
    ),
    Measurement(
        "violations", "rules that were broken", ("source", "device", "feature", "rule"),
        (
            _WINDOW,
            Field("observed", float, "value of the feature"),
            Field("low", float, "least value that the rule allows"),
            Field("high", float, "greatest"),
            Field("category", str),
            Field("attack_id", str, "technique of MITRE ATT&CK for ICS"),
        ),
        _END,
    ),
    Measurement(
        "fused", "the cell's verdict on a device", ("device",),
        (
            _WINDOW,
            Field("decision", int, "", codes=Screening),
            Field("probability", float, "P(attack), 0 to 1"),
            Field("threshold", float, "above which it blocks"),
            Field("category", str),
            Field("attack_type", str),
            Field("violations", int, "rules broken"),
            Field("explanation", str, "one sentence"),
            Field("explanation_json", str, "the evidence, where the decision is not ALLOW"),
        ),
        _END,
    ),
    Measurement(
        "attributions", "which features moved the models", ("device",),
        (
            _WINDOW,
            Field("explanation", str, "one sentence"),
            Field("*", float, "one field a feature: what it adds to P(attack), -1 to 1"),
        ),
        _END,
    ),
    Measurement(
        "alarms", "alarms, at each change", ("device", "category"),
        (
            Field("state", int, "as in ISA-18.2", codes=AlarmState),
            Field("priority", int, "", codes=Priority),
            Field("ne107", int, "NAMUR NE 107", codes=Ne107),
            Field("active", bool, "its cause is there"),
            Field("annunciated", bool, "it is shown"),
            Field("occurrences", int),
            Field("message", str),
            Field("user", str, "who did it"),
            Field("reason", str, "and why"),
        ),
        "last change",
    ),
    Measurement(
        "commands", "what became of commands", ("tag",),
        (
            Field("command_id", str),
            _WINDOW,
            Field("status", int, "", codes=CommandStatus),
            Field("value", float, "commanded"),
            Field("read_back", float, "what stood in the PLC afterwards"),
            Field("error", str),
            Field("issued_ns", int, "when it was given", "ns"),
        ),
        "when it was decided",
    ),
    Measurement(
        "labels", "the truth about a stretch of time", ("kind", "device"),
        (
            Field("name", str),
            Field("category", str),
            Field("type", str),
            Field("end_ns", int, "end of the stretch", "ns"),
            Field("devices", str, "all that it concerns"),
            Field("attack_id", str, "technique of MITRE ATT&CK for ICS"),
        ),
        "onset",
    ),
    Measurement(
        "drift", "whether the models still fit", (),
        (
            Field("state", int, "", codes=DriftState),
            Field("scenario", str, "A false alarms, B misses"),
            _SINCE,
            Field("level", int, "", codes=Level),
            Field("version", str, "of the models"),
            Field("reasons", str, "monitors that raised it"),
            Field("windows", int, "watched"),
            Field("labelled", int, "samples with a label"),
            Field("held_back", int, "labels that contradict others"),
            *(
                each
                for name in MONITORS
                for each in (
                    Field(name, float, "last figure of the monitor"),
                    Field(f"{name}_limit", float, "absent while there is none"),
                    Field(f"{name}_place", str, "what moved most"),
                )
            ),
        ),
        _SAID,
    ),
    Measurement(
        "candidate", "a version of the models on its way into service", (),
        (
            Field("stage", int, "", codes=Stage),
            Field("held", bool, "by a person"),
            Field("version", str),
            Field("parent", str, "version that it was made from"),
            Field("scenario", str, "of the drift that it answers"),
            Field("devices", str, "for which it decides"),
            _SINCE,
            Field("reason", str),
            Field("windows", int, "since the stage began, as are the rest"),
            Field("labelled", int, "samples with a label"),
            Field("errors", int, "of the candidate"),
            Field("parent_errors", int),
            Field("false_alarms", int, "of the candidate"),
            Field("parent_false_alarms", int),
            Field("latency_s", float, "mean, window to verdict", "s"),
            Field("parent_latency_s", float, "", "s"),
        ),
        _SAID,
    ),
    Measurement(
        "models", "which models a node serves", ("node",),
        (
            Field("version", str, '"" = none'),
            Field("detectors", int),
            Field("failed", int, "detectors that do not work"),
            Field("replica", int),
            Field("replicas", int),
            Field("detail", str),
        ),
        _SAID,
    ),
    Measurement(
        "health", "diagnostics of a node", ("name",),
        (
            Field("level", int, "", codes=Health),
            Field("message", str),
            Field("*", float, "one field a counter"),
        ),
        _SAID,
    ),
)  # fmt: skip

BY_NAME = {measurement.name: measurement for measurement in SCHEMA}


def field_of(measurement: str, name: str) -> Field | None:
    """Field of a measurement, None if the schema does not have it."""
    found = BY_NAME.get(measurement)
    return found.field(name) if found else None


def as_markdown() -> str:
    """The measurements as the table of docs/recording.md."""
    rows = ["| measurement | tags | fields | time |", "|---|---|---|---|"]
    for each in SCHEMA:
        of_monitors = each.name == "drift"
        fields = "; ".join(
            _described(f) for f in each.fields if not (of_monitors and f.name.startswith(MONITORS))
        )
        if of_monitors:
            names = ", ".join(f"`{name}`" for name in MONITORS)
            fields += (
                f"; for each monitor M of {names}: `M` (its last figure), `M_limit` (absent while there is "
                "none), `M_place` (what moved most)"
            )
        tags = ", ".join(f"`{tag}`" for tag in each.tags) or "none"
        rows.append(f"| `{each.name}`: {each.text} | {tags} | {fields} | {each.time} |")
    return "\n".join(rows) + "\n"


def _described(one: Field) -> str:
    codes = ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in one.codes or ())
    unit = one.unit and f"in {one.unit}"
    text = ", ".join(part for part in (one.text, unit, codes) if part)
    return f"`{one.name}` {one.kind.__name__}{text and f' ({text})'}"
