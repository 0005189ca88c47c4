"""Grafana dashboards of a record, made from its schema: `python -m cellwatch.nodes.grafana [FOLDER]`.

One set for InfluxDB (InfluxQL: 1.x, and 2 by its 1.x interface), one for VictoriaMetrics (PromQL), which
keeps numbers only and so has no tables of text. Source of the form: https://grafana.com/docs/grafana/latest/dashboards/
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

from cellwatch.nodes.drivers.record_schema import BY_NAME, Field
from cellwatch.nodes.grafana_panels import DASHBOARDS, Dashboard, Panel

Source: TypeAlias = Literal["influxdb", "prometheus"]
SOURCES: dict[Source, str] = {"influxdb": "InfluxDB", "prometheus": "VictoriaMetrics"}
COLUMNS = 24  # of Grafana's grid
GREY, YELLOW, RED = "#8e8e8e", "#f2cc0c", "#e02f44"
COLOURS = {  # as on a control room's screen: grey is normal, colour is not
    "SUSPICIOUS": YELLOW, "BLOCK": RED, "UNCERTAIN": YELLOW, "BAD": RED, "WARNING": YELLOW, "DRIFT": RED,
    "UNACKNOWLEDGED": RED, "ACKNOWLEDGED": YELLOW, "RETURNED_UNACKNOWLEDGED": YELLOW, "REFUSED": RED,
    "WITHHELD": YELLOW, "REJECTED": RED, "ROLLED_BACK": RED, "ERROR": RED, "STALE": RED,
}  # fmt: skip
HELD = {"alarms", "candidate", "models"}  # said at a change, and true until the next
HELD_S = 86_400


def files() -> dict[str, str]:
    """Name and text of every dashboard file."""
    return {
        f"cellwatch-{each.name}-{source}.json": json.dumps(dashboard(each, source), indent=1) + "\n"
        for each in DASHBOARDS
        for source in SOURCES
    }


def dashboard(page: Dashboard, source: Source) -> dict[str, Any]:
    """One dashboard as Grafana imports it."""
    shown = [each for each in page.panels if source == "influxdb" or each.kind != "table"]
    places = _places(shown)
    panels = [
        _panel(i + 1, each, place, source) for i, (each, place) in enumerate(zip(shown, places, strict=True))
    ]
    variables = [
        {"name": "source", "label": "Data source", "type": "datasource", "query": source, "current": {}}
    ]
    variables += [_variable(*each, source) for each in page.variables]
    found: dict[str, Any] = {
        "uid": f"cellwatch-{page.name}-{source}",
        "title": f"{page.title} ({SOURCES[source]})",
        "tags": ["cellwatch"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "5s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "graphTooltip": 1,
        "templating": {"list": variables},
        "panels": panels,
    }
    if source == "influxdb":
        truth = {
            "name": "Truth", "enable": True, "iconColor": RED, "datasource": _source(source),
            "query": 'SELECT "name", "kind", "device" FROM "labels" WHERE $timeFilter',
            "textColumn": "name", "tagsColumn": "kind,device",
        }  # fmt: skip
        found["annotations"] = {"list": [truth]}
    return found


def _places(panels: list[Panel]) -> Iterator[dict[str, int]]:
    """Where each panel stands: row after row, as wide as the panels say."""
    x = y = row = 0
    for each in panels:
        if x + each.width > COLUMNS:
            x, y, row = 0, y + row, 0
        yield {"x": x, "y": y, "w": each.width, "h": each.height}
        x, row = x + each.width, max(row, each.height)


def _source(source: Source) -> dict[str, str]:
    return {"type": source, "uid": "${source}"}


def _panel(number: int, panel: Panel, place: dict[str, int], source: Source) -> dict[str, Any]:
    first = _field(panel, panel.fields[0])
    kinds = {"graph": "timeseries", "timeline": "state-timeline", "table": "table"}
    config: dict[str, Any] = {"mappings": _mappings(first), "unit": _unit(first)}
    config["color"] = {"mode": "palette-classic" if panel.kind == "graph" else "thresholds"}
    config["thresholds"] = {"mode": "absolute", "steps": [{"color": GREY, "value": None}]}
    if panel.kind == "timeline":
        config["custom"] = {"lineWidth": 0, "fillOpacity": 80, "spanNulls": panel.measurement in HELD}
    overrides = []
    if panel.kind == "table":
        overrides = [_override(name, _field(panel, name)) for name in panel.fields]
        config |= {"mappings": [], "unit": ""}
    return {
        "id": number,
        "title": panel.title,
        "type": kinds[panel.kind],
        "gridPos": place,
        "datasource": _source(source),
        "targets": list(_targets(panel, source)),
        "fieldConfig": {"defaults": config, "overrides": overrides},
        "options": {"showHeader": True} if panel.kind == "table" else {"legend": {"displayMode": "list"}},
    }


def _field(panel: Panel, name: str) -> Field | None:
    """Field of the schema, None for a regular expression. KeyError if the schema has no such field."""
    found = None if name.startswith("/") else BY_NAME[panel.measurement].field(name)
    if found is None and not name.startswith("/"):
        raise KeyError(f"{panel.title}: {panel.measurement} has no field {name}")
    if unknown := set(panel.by) - set(BY_NAME[panel.measurement].tags):
        raise KeyError(f"{panel.title}: {panel.measurement} has no tag {', '.join(unknown)}")
    return found


def _mappings(field: Field | None) -> list[dict[str, Any]]:
    """Codes by their name and colour."""
    if field is None or field.codes is None:
        return []
    options = {
        str(code.value): {
            "text": code.name.lower().replace("_", " "), "color": COLOURS.get(code.name, GREY), "index": i,
        }
        for i, code in enumerate(field.codes)
    }  # fmt: skip
    return [{"type": "value", "options": options}]


def _unit(field: Field | None) -> str:
    return field.unit if field is not None and field.unit in {"s", "ns"} else "none"


def _override(name: str, field: Field | None) -> dict[str, Any]:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "mappings", "value": _mappings(field)}],
    }


def _targets(panel: Panel, source: Source) -> Iterator[dict[str, Any]]:
    if source == "influxdb":
        form = "table" if panel.kind == "table" else "time_series"
        alias = " ".join(["$col", *(f"$tag_{tag}" for tag in panel.by)])
        yield {
            "refId": "A", "datasource": _source(source), "rawQuery": True, "query": influxql(panel),
            "resultFormat": form, **({"alias": alias} if form == "time_series" else {}),
        }  # fmt: skip
        return
    for i, name in enumerate(panel.fields):
        what = ["{{__name__}}"] if name.startswith("/") else [name] if len(panel.fields) > 1 else []
        legend = " ".join([*what, *(f"{{{{{tag}}}}}" for tag in panel.by)])
        yield {
            "refId": chr(ord("A") + i), "datasource": _source(source), "expr": promql(panel, name),
            "legendFormat": legend or name,
        }  # fmt: skip


def influxql(panel: Panel) -> str:
    """Query of a panel for InfluxDB."""
    chosen = [f'"{tag}" =~ /^${tag}$/' for tag in panel.choose]
    start = f'FROM "{panel.measurement}" WHERE {" AND ".join([*chosen, "$timeFilter"])}'
    if panel.kind == "table":
        names = ", ".join(f'"{name}"' for name in (*panel.by, *panel.fields))
        return f"SELECT {names} {start} ORDER BY time DESC LIMIT 500"
    fields = ", ".join(
        f"{panel.how}({name})" if name.startswith("/") else f'{panel.how}("{name}") AS "{name}"'
        for name in panel.fields
    )
    groups = ", ".join(["time($__interval)", *(f'"{tag}"' for tag in panel.by)])
    fill = "previous" if panel.measurement in HELD else "none"
    return f"SELECT {fields} {start} GROUP BY {groups} fill({fill})"


def promql(panel: Panel, name: str) -> str:
    """Query of a field of a panel for VictoriaMetrics."""
    chosen = [f'{tag}=~"${tag}"' for tag in panel.choose]
    if name.startswith("/"):
        pattern = name.strip("/")
        tail = pattern.removeprefix("^") if pattern.startswith("^") else f".*{pattern}"
        tail = tail.removesuffix("$") if tail.endswith("$") else f"{tail}.*"
        names = f'__name__=~"{panel.measurement}_{tail}"'
        metric = f"{{{', '.join([names, *chosen])}}}"
    else:
        metric = f"{panel.measurement}_{name}{{{', '.join(chosen)}}}"
    ways = {"mean": "avg", "max": "max", "last": "last", "sum": "sum"}
    reach = f"{HELD_S}s" if panel.measurement in HELD else "$__interval"
    by = ", ".join((*panel.by, *(["__name__"] if name.startswith("/") else [])))
    return f"max({ways[panel.how]}_over_time({metric}[{reach}])) by ({by})"


def _variable(name: str, measurement: str, field: str, source: Source) -> dict[str, Any]:
    queries = {
        "influxdb": f'SHOW TAG VALUES FROM "{measurement}" WITH KEY = "{name}"',
        "prometheus": f"label_values({measurement}_{field}, {name})",
    }
    if field == "*":
        queries = {
            "influxdb": f'SHOW FIELD KEYS FROM "{measurement}"',
            "prometheus": f"metrics({measurement}_)",
        }
    found = {
        "name": name, "label": name.capitalize(), "type": "query", "datasource": _source(source),
        "query": queries[source], "refresh": 2, "sort": 1, "multi": True, "includeAll": field != "*",
    }  # fmt: skip
    if field == "*":
        found |= {"multi": False, "regex": f"/{measurement}_(.*)/" if source == "prometheus" else "/^[^ch]/"}
    else:
        found["allValue"] = ".*"
        found["current"] = {"text": "All", "value": "$__all"}
    return found


def main() -> None:
    """Write the dashboards into a folder, without one into that of the package."""
    folder = (
        Path(sys.argv[1])
        if len(sys.argv) > 1
        else Path(str(resources.files("cellwatch"))) / "config" / "grafana"
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
