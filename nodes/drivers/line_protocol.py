r"""InfluxDB line protocol: from the values of `models.types` to bytes, and back.

One line is one point: ``measurement,tag=..,tag=.. field=..,field=.. time_ns``. Every encoder returns whole
lines, each ended by a newline, and the same value always gives the same bytes. A server overwrites a point
that has the same measurement, tags and time, so sending a line twice leaves one point.

Two samples of one tag with the same source time are one point: the later line wins, field by field.

The measurements with their tags and fields: `record_schema`. NaN and infinity are left out: a sample without
a number keeps its status, so that bad quality is history too.

Escaping follows the InfluxDB reference. Where servers read the same bytes differently, a look-alike stands in
and `parse_line` turns it back: a control character becomes its Unicode picture (newline: U+240A), a backslash
of a name before a special character or at its end becomes U+FF3C, a quote in a field key U+FF02.
Source: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from cellwatch.models.types import (
    Alarm,
    CandidateState,
    CommandResult,
    DriftEvent,
    FeatureWindow,
    FusedWindow,
    Incident,
    TagBatch,
    TagCatalog,
    TrafficBatch,
    Verdicts,
    severity,
)

Field: TypeAlias = bool | int | float | str

INT64_MAX = 2**63 - 1
STRING_LIMIT = 8192  # characters; InfluxDB refuses strings above 64 KB

_PICTURES = {c: 0x2400 + c for c in range(0x20)}
_CONTROLS = {picture: c for c, picture in _PICTURES.items()}
_NAME: dict[int, int | str] = {**_PICTURES, ord(","): r"\,", ord("="): r"\=", ord(" "): r"\ "}
_STRING: dict[int, int | str] = {**_PICTURES, ord('"'): r"\"", ord("\\"): r"\\"}
_LOOSE_BACKSLASH = re.compile(r'\\(?=[ ,="\\\x00-\x1f]|\Z)')
_BACKSLASH, _QUOTE = "\uff3c", "\uff02"


def escape_name(text: str) -> str:
    r"""Measurement, tag key, tag value or field key as it stands in a line.

    >>> escape_name("flow rate, a=b")
    'flow\\ rate\\,\\ a\\=b'
    """
    if "\\" in text:
        text = _LOOSE_BACKSLASH.sub(_BACKSLASH, text)
    return text.translate(_NAME)


def escape_string(text: str) -> str:
    r"""Value of a string field with its quotes, at most `STRING_LIMIT` characters of it.

    >>> print(escape_string('say "hi"'))
    "say \"hi\""
    """
    return f'"{text[:STRING_LIMIT].translate(_STRING)}"'


def _field(value: Field) -> str:
    """Value of a field, "" for what the protocol cannot carry (NaN, infinity)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{max(-INT64_MAX - 1, min(INT64_MAX, value))}i"
    if isinstance(value, str):
        return escape_string(value)
    return repr(value) if math.isfinite(value) else ""


def _f32(value: float) -> str:
    """Text of a float32: nine digits restore it exactly."""
    return f"{value:.9g}"


def _prefix(measurement: str, tags: Mapping[str, str]) -> str:
    """Series key; an empty tag value is left out, because servers refuse it."""
    pairs = [f",{escape_name(k)}={escape_name(v)}" for k, v in sorted(tags.items()) if v]
    return escape_name(measurement) + "".join(pairs)


def line(measurement: str, tags: Mapping[str, str], fields: Mapping[str, Field], time_ns: int) -> str:
    r"""One line with its newline, "" if no field has a value.

    >>> line("health", {"name": "tap"}, {"dropped": 3, "lag_s": 0.5}, 7)
    'health,name=tap dropped=3i,lag_s=0.5 7\n'
    """
    texts = [(k, _field(v)) for k, v in fields.items()]
    body = ",".join([f"{escape_field(k)}={v}" for k, v in texts if v])
    return f"{_prefix(measurement, tags)} {body} {time_ns}\n" if body else ""


def escape_field(name: str) -> str:
    """Field key; `time` is reserved by InfluxDB and gets an underscore."""
    return escape_name(name).replace('"', _QUOTE) if name != "time" else "time_"


@lru_cache(maxsize=64)
def _field_keys(columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{escape_field(c)}=" for c in columns)


def _encode(lines: Iterable[str]) -> bytes:
    return "".join(lines).encode("utf-8", "replace")


@lru_cache(maxsize=1024)
def _status_suffix(status: int) -> str:
    quality = int(severity(np.array([status], dtype=np.uint32))[0])
    return f",status={status}i,quality={quality}i "


class TagEncoder:
    """Samples of one PLC to lines; the series keys are made once for a catalogue."""

    def __init__(self, catalog: TagCatalog) -> None:
        self.catalog = catalog
        keys = [
            _prefix("tags", {"plc": catalog.plc, "tag": tag.name, "device": tag.device})
            for tag in catalog.tags
        ]
        self._with_value = np.array([f"{key} value=" for key in keys], dtype=object)
        self._plain = [f"{key} " for key in keys]

    def encode(self, batch: TagBatch) -> bytes:
        """Lines of all samples in order of arrival, then of the gaps and losses that the batch tells of.

        Time is the source time, else the server's, else the time of receipt.
        Raises ValueError if a tag index is not in the catalogue.
        """
        lines: list[str] = []
        if batch.tag.size:
            lines = self._samples(batch)
        for gap in batch.gaps:
            fields: dict[str, Field] = {
                "reason": gap.reason,
                "end_ns": gap.end_ns,
                "duration_s": (gap.end_ns - gap.start_ns) / 1e9,
            }
            lines.append(line("gaps", {"plc": batch.plc}, fields, gap.start_ns))
        if batch.dropped:
            fields = {"dropped": batch.dropped, "sequence": batch.sequence}
            lines.append(line("gaps", {"plc": batch.plc}, fields, batch.received_ns))
        return _encode(lines)

    def _samples(self, batch: TagBatch) -> list[str]:
        if int(batch.tag.max()) >= len(self._plain):
            raise ValueError(
                f"tag index {int(batch.tag.max())} of {batch.plc} is not in its catalogue of "
                f"{len(self._plain)} tags; wait for the new catalogue"
            )
        times = batch.source_ns
        if int(times.min()) <= 0:
            fallback = np.where(batch.server_ns > 0, batch.server_ns, batch.received_ns)
            times = np.where(times > 0, times, fallback)
        finite = np.isfinite(batch.value)
        first = int(batch.status[0])
        if finite.all() and bool((batch.status == first).all()):
            # One formatting call for the whole batch: a fifth faster than one for each line.
            parts: list[object] = [None] * (3 * batch.tag.size)
            parts[0::3], parts[1::3] = self._with_value[batch.tag].tolist(), batch.value.tolist()
            parts[2::3] = times.tolist()
            return [f"%s%r{_status_suffix(first)}%d\n" * batch.tag.size % tuple(parts)]
        keys = self._with_value[batch.tag].tolist()
        texts = list(map(repr, batch.value.tolist()))
        suffixes = list(map(_status_suffix, batch.status.tolist()))
        for i in np.flatnonzero(~finite).tolist():
            keys[i], texts[i], suffixes[i] = self._plain[batch.tag[i]], "", suffixes[i][1:]
        mixed = zip(keys, texts, suffixes, times.tolist(), strict=True)
        return [f"{key}{text}{suffix}{time}\n" for key, text, suffix, time in mixed]


def missed_lines(plc: str, batches: int, sequence: int, received_ns: int) -> bytes:
    """Encode that batches of a PLC before number `sequence` were not heard, so not recorded."""
    fields: dict[str, Field] = {"batches": batches, "sequence": sequence}
    return _encode([line("gaps", {"plc": plc}, fields, received_ns)])


def feature_lines(window: FeatureWindow, columns: tuple[str, ...]) -> bytes:
    """Device matrix of a window; `columns` are the names of its feature columns, in order.

    Raises ValueError if their number does not match.
    """
    if window.values.shape[1] != len(columns):
        raise ValueError(f"features: {len(columns)} column names for {window.values.shape[1]} columns")
    keys = _field_keys(columns)
    lines = []
    for device, row, finite in zip(
        window.devices, window.values.tolist(), np.isfinite(window.values).tolist(), strict=True
    ):
        head = _prefix("features", {"device": device})
        flags = f"window_id={window.window_id}i,commissioning={_field(window.commissioning)}"
        held = _field(device in window.held)
        body = "".join([f",{k}{v:.9g}" for k, v, ok in zip(keys, row, finite, strict=True) if ok])
        lines.append(f"{head} {flags},held={held}{body} {window.end_ns}\n")
    return _encode(lines)


def traffic_lines(batch: TrafficBatch) -> bytes:
    """Counters of one window of traffic; the values of each device are in `features`."""
    fields: dict[str, Field] = {
        "window_id": batch.window_id,
        "devices": len(batch.devices),
        "packets": batch.packets,
        "malformed": batch.malformed,
        "dropped": batch.dropped,
        "late": batch.late,
    }
    return _encode([line("traffic", {}, fields, batch.end_ns)])


def verdict_lines(verdicts: Verdicts) -> bytes:
    """Encode what one source says: one line a device, one a detector and level, one a violation."""
    source, end = verdicts.source, verdicts.end_ns
    broken = [v.device for v in verdicts.violations]
    lines = []
    for device, screening, confidence in zip(
        verdicts.devices, verdicts.screening.tolist(), verdicts.confidence.tolist(), strict=True
    ):
        fields: dict[str, Field] = {
            "window_id": verdicts.window_id,
            "screening": screening,
            "confidence": float(_f32(confidence)),
            "violations": broken.count(device),
            "latency_s": float(verdicts.latency_s),
        }
        if verdicts.abstained:
            fields["abstained"] = verdicts.abstained
        lines.append(line("verdicts", {"source": source, "device": device}, fields, end))
    for scores in verdicts.levels:
        keys = _field_keys(tuple(f"p_{name}" for name in scores.classes))
        for device, per_detector in zip(verdicts.devices, scores.probabilities.tolist(), strict=True):
            for detector, row in zip(scores.detectors, per_detector, strict=True):
                tags = {"source": source, "device": device, "detector": detector, "level": scores.level.name}
                p = ",".join([f"{k}{_f32(v)}" for k, v in zip(keys, row, strict=True) if math.isfinite(v)])
                body = p or 'abstained="no score"'
                lines.append(f"{_prefix('verdicts', tags)} window_id={verdicts.window_id}i,{body} {end}\n")
    for v in verdicts.violations:
        tags = {"source": source, "device": v.device, "feature": v.feature, "rule": v.rule}
        fields = {"observed": v.observed, "low": v.low, "high": v.high, "category": v.category}
        fields = {"window_id": verdicts.window_id, **fields, "attack_id": v.attack_id}
        lines.append(line("violations", tags, fields, end))
    return _encode(lines)


def fused_lines(window: FusedWindow) -> bytes:
    """Encode the cell's verdict on each device of one window."""
    lines = []
    for v in window.verdicts:
        fields: dict[str, Field] = {
            "window_id": window.window_id,
            "decision": int(v.decision),
            "probability": v.probability,
            "threshold": v.threshold,
            "category": v.category,
            "attack_type": v.attack_type,
            "violations": len(v.violations),
            "explanation": v.explanation,
        }
        if v.explanation_json:
            fields["explanation_json"] = v.explanation_json
        lines.append(line("fused", {"device": v.device}, fields, window.end_ns))
    return _encode(lines)


def attribution_lines(
    window_id: int, end_ns: int, device: str, shares: Mapping[str, float], explanation: str
) -> bytes:
    """Which features moved the models: what each adds to P(attack) of a device, -1 to 1, or takes away."""
    fields: dict[str, Field] = {"window_id": window_id, "explanation": explanation}
    fields |= {feature: float(_f32(share)) for feature, share in shares.items()}
    return _encode([line("attributions", {"device": device}, fields, end_ns)])


def alarm_lines(alarms: Iterable[Alarm]) -> bytes:
    """Encode the present state of alarms; an alarm that has not changed gives the same point again."""
    lines = []
    for a in alarms:
        fields: dict[str, Field] = {
            "state": int(a.state),
            "priority": int(a.priority),
            "ne107": int(a.ne107),
            "active": a.active,
            "annunciated": a.annunciated,
            "occurrences": a.occurrences,
            "message": a.message,
            "user": a.user,
            "reason": a.reason,
        }
        lines.append(line("alarms", {"device": a.device, "category": a.category}, fields, a.changed_ns))
    return _encode(lines)


def command_lines(result: CommandResult) -> bytes:
    """Encode what became of one command; time is when that was decided."""
    fields: dict[str, Field] = {
        "command_id": result.command_id,
        "window_id": result.window_id,
        "status": int(result.status),
        "value": result.value,
        "read_back": result.read_back,
        "error": result.error,
        "issued_ns": result.issued_ns,
    }
    return _encode([line("commands", {"tag": result.tag}, fields, result.decided_ns or result.issued_ns)])


def label_lines(incident: Incident) -> bytes:
    """Ground truth of one incident; time is its onset."""
    fields: dict[str, Field] = {
        "name": incident.name,
        "category": incident.category,
        "type": incident.type,
        "end_ns": incident.end_ns,
        "devices": " ".join(incident.devices),
        "attack_id": incident.attack_id or "",
    }
    return _encode(
        [line("labels", {"kind": incident.kind, "device": incident.device}, fields, incident.onset_ns)]
    )


def drift_lines(event: DriftEvent) -> bytes:
    """Encode how well the models still fit; time is when it was said."""
    fields: dict[str, Field] = {
        "state": int(event.state),
        "scenario": event.scenario,
        "since_ns": event.since_ns,
        "level": int(event.level),
        "version": event.version,
        "reasons": ", ".join(event.reasons),
        "windows": event.windows,
        "labelled": event.labelled,
        "held_back": event.held_back,
    }
    for one in event.figures:
        fields |= {one.monitor: float(one.value), f"{one.monitor}_limit": float(one.limit)}
        if one.place:
            fields[f"{one.monitor}_place"] = one.place
    return _encode([line("drift", {}, fields, event.at_ns)])


def candidate_lines(candidate: CandidateState) -> bytes:
    """Encode where the candidate stands; time is when it was said."""
    fields: dict[str, Field] = {
        "stage": int(candidate.stage),
        "held": candidate.held,
        "version": candidate.version,
        "parent": candidate.parent,
        "scenario": candidate.scenario,
        "devices": " ".join(candidate.devices),
        "since_ns": candidate.since_ns,
        "reason": candidate.reason,
        **asdict(candidate.figures),
    }
    return _encode([line("candidate", {}, fields, candidate.at_ns)])


def model_lines(
    node: str,
    version: str,
    detectors: int,
    failed: int,
    replica: int,
    replicas: int,
    detail: str,
    time_ns: int,
) -> bytes:
    """Encode which models a node serves; time is when it was said."""
    fields: dict[str, Field] = {
        "version": version,
        "detectors": detectors,
        "failed": failed,
        "replica": replica,
        "replicas": replicas,
        "detail": detail,
    }
    return _encode([line("models", {"node": node}, fields, time_ns)])


def health_lines(name: str, level: int, counters: Mapping[str, Field], time_ns: int) -> bytes:
    """Diagnostics of one node: `level` as in `diagnostic_msgs` (0 ok, 1 warning, 2 error, 3 stale).

    A counter must keep its type for ever: InfluxDB refuses a field that changes from integer to float.
    """
    return _encode([line("health", {"name": name}, {"level": level, **counters}, time_ns)])


@dataclass(frozen=True, slots=True)
class Point:
    """One parsed line."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, Field]
    time_ns: int


_SPLIT_LINE = re.compile(
    r'(?P<key>(?:[^ \\]|\\.)+) (?P<fields>(?:[^ "\\]|\\.|"(?:[^"\\]|\\.)*")+) (?P<time>-?\d+)\Z', re.DOTALL
)
_COMMA = re.compile(r"(?:[^,\\]|\\.)+", re.DOTALL)
_PAIR = re.compile(r"((?:[^=\\]|\\.)+)=(.*)", re.DOTALL)
_FIELD = re.compile(r'((?:[^=,"\\]|\\.)+)=("(?:[^"\\]|\\.)*"|[^,"]+)(?:,|\Z)', re.DOTALL)
_UNESCAPE = re.compile(r"\\([ ,=])")
_UNESCAPE_STRING = re.compile(r'\\(["\\])')


def parse_name(text: str) -> str:
    """Measurement, tag key, tag value or field key as it was before `escape_name`."""
    if "\\" in text:
        text = _UNESCAPE.sub(r"\1", text)
    return text if text.isascii() else text.translate(_CONTROLS).replace(_BACKSLASH, "\\")


def parse_field(text: str) -> str:
    """Field key as it was before `escape_field`, but for `time_`."""
    return parse_name(text).replace(_QUOTE, '"')


def parse_value(text: str) -> Field:
    """Value of a field as it stands in a line. Raises ValueError."""
    if not text:
        raise ValueError("empty field")
    if text[0] == '"':
        body = text[1:-1]
        if "\\" in body:
            body = _UNESCAPE_STRING.sub(r"\1", body)
        return body if body.isascii() else body.translate(_CONTROLS)
    if text[-1] in "iu":
        return int(text[:-1])
    if text[0] in "tTfF":
        return text[0] in "tT"
    return float(text)


def _parse_plain(whole: str) -> Point:
    """Point of a line without escapes and strings, the usual case. Raises ValueError."""
    key, body, time_ns = whole.split(" ")
    measurement, *pairs = key.split(",")
    tags = dict([pair.split("=") for pair in pairs])
    fields = {name: parse_value(value) for name, value in [pair.split("=") for pair in body.split(",")]}
    return Point(measurement, tags, fields, int(time_ns))


def parse_line(text: bytes) -> Point:
    r"""Point of one line, without its newline.

    Raises ValueError if it is not a line with a time.

    >>> parse_line(b'tags,tag=TI\ 1 value=2.5,status=0i 7').fields
    {'value': 2.5, 'status': 0}
    """
    whole = text.decode("utf-8", "replace").rstrip("\n")
    if whole.isascii() and "\\" not in whole and '"' not in whole:
        with suppress(ValueError):
            return _parse_plain(whole)
    match = _SPLIT_LINE.match(whole)
    if match is None:
        raise ValueError(f"not line protocol: {whole[:80]!r}")
    measurement, *pairs = _COMMA.findall(match["key"])
    tags: dict[str, str] = {}
    for pair in pairs:
        found = _PAIR.fullmatch(pair)
        if found is None:
            raise ValueError(f"not a tag: {pair[:80]!r}")
        tags[parse_name(found[1])] = parse_name(found[2])
    body, fields, at = match["fields"], dict[str, Any](), 0
    while at < len(body):
        found = _FIELD.match(body, at)
        if found is None:
            raise ValueError(f"not a field: {body[at : at + 80]!r}")
        fields[parse_field(found[1])] = parse_value(found[2])
        at = found.end()
    return Point(parse_name(measurement), tags, fields, int(match["time"]))
