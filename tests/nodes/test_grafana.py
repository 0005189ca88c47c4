"""The dashboards are made from the schema, and each of their queries finds data on a real server."""

from __future__ import annotations

import itertools
import json
import re
import urllib.parse
import urllib.request

import pytest

from cellwatch.nodes.drivers.record_schema import SCHEMA
from cellwatch.nodes.drivers.store import Recorder, RecorderSettings
from cellwatch.nodes.grafana import SOURCES, dashboard, files, influxql
from cellwatch.nodes.grafana_panels import DASHBOARDS, Panel

NOW = 1_700_000_000_000_000_000
SECOND = 10**9
LATER = NOW + 2 * 10**6 * SECOND  # other tests fill the time before
CHOSEN = {"device": ".*", "tag": ".*", "feature": "level mean"}


def pages(source):
    return [dashboard(page, source) for page in DASHBOARDS]


def targets(source):
    return [
        pytest.param(target, id=f"{panel['title']} {target['refId']}")
        for page in pages(source)
        for panel in page["panels"]
        for target in panel["targets"]
    ]


def filled_in(query, **more):
    """As Grafana would: one value for each variable."""
    for name, value in (CHOSEN | more).items():
        query = re.sub(rf"\${name}\b", lambda _, value=value: value, query)
    return query


def test_the_files_are_what_the_schema_makes(root):
    folder = root / "config" / "grafana"
    found = {path.name: path.read_text() for path in folder.glob("*.json")}
    assert found == files(), "run `python -m cellwatch.nodes.grafana`"


@pytest.mark.parametrize("source", SOURCES)
def test_a_dashboard_is_whole(source):
    for page in pages(source):
        ids = [panel["id"] for panel in page["panels"]]
        assert len(set(ids)) == len(ids)
        cells = [
            {(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
            for p in (panel["gridPos"] for panel in page["panels"])
        ]
        assert all(0 <= x < 24 for cell in cells for x, _ in cell)
        assert not any(one & other for one, other in itertools.combinations(cells, 2))
        known = {each["name"] for each in page["templating"]["list"]} | {"__interval", "timeFilter", "source"}
        known |= {"col"} | {f"tag_{tag}" for measurement in SCHEMA for tag in measurement.tags}
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(page))) - {"__all"}
        assert used <= known
    assert len({page["uid"] for each in SOURCES for page in pages(each)}) == len(files())


def test_every_measurement_is_shown():
    assert {panel.measurement for page in DASHBOARDS for panel in page.panels} == {m.name for m in SCHEMA}


def test_codes_are_shown_by_name_and_colour():
    (decision,) = (p for p in dashboard(DASHBOARDS[0], "influxdb")["panels"] if p["title"] == "Decision")
    (mapping,) = decision["fieldConfig"]["defaults"]["mappings"]
    assert mapping["options"]["3"] == {"text": "block", "color": "#e02f44", "index": 3}
    assert mapping["options"]["1"]["text"] == "allow"


def test_a_field_that_the_schema_lacks_is_an_error(monkeypatch):
    page = DASHBOARDS[0]
    for panel in (
        Panel("x", "graph", "tags", ("speed",)),
        Panel("x", "graph", "tags", ("value",), by=("node",)),
    ):
        bad = type(page)("x", "x", (panel,))
        with pytest.raises(KeyError, match=r"tags has no (field speed|tag node)"):
            dashboard(bad, "influxdb")
    assert influxql(Panel("x", "graph", "tags", ("value",), "mean")) == (
        'SELECT mean("value") AS "value" FROM "tags" WHERE $timeFilter GROUP BY time($__interval) fill(none)'
    )


@pytest.fixture(scope="module")
def filled(one_of_each, tmp_path_factory):
    """Fills a server with a few seconds of everything."""

    def fill(target):
        recorder = Recorder(tmp_path_factory.mktemp("grafana"), RecorderSettings(influx=target))
        for k in range(5):
            recorder.append(one_of_each(LATER + k * SECOND, k))
        stats = recorder.close(30)
        assert (stats.pending, stats.lost) == (0, 0)

    return fill


@pytest.fixture(scope="module")
def influxdb(influx, filled):
    filled(f"{influx.url}?db=grafana")
    return influx


@pytest.fixture(scope="module")
def victoriametrics(victoria, filled):
    filled(f"{victoria.url}?org=o&bucket=b")
    urllib.request.urlopen(victoria.url + "/internal/force_flush", timeout=10).close()
    return victoria


@pytest.mark.parametrize("target", targets("influxdb"))
def test_influxdb_answers_each_panel(influxdb, target):
    time = f"time >= {LATER} and time < {LATER + 9 * SECOND}"
    query = filled_in(target["query"], timeFilter=time, __interval="1s")
    rows = influxdb.select("grafana", query)
    assert any(value is not None for row in rows for key, value in row.items() if key != "time"), query


@pytest.mark.parametrize("target", targets("prometheus"))
def test_victoriametrics_answers_each_panel(victoriametrics, target):
    query = filled_in(target["expr"], __interval="2s")
    start = LATER // SECOND
    asked = urllib.parse.urlencode(
        {"query": query, "start": start, "end": start + 5, "step": "1s", "nocache": 1}
    )
    with urllib.request.urlopen(f"{victoriametrics.url}/api/v1/query_range?{asked}", timeout=10) as answer:
        assert json.load(answer)["data"]["result"], query


@pytest.mark.parametrize("variable", ["device", "tag", "feature"])
def test_influxdb_offers_the_values_of_each_variable(influxdb, variable):
    (query,) = {
        each["query"]
        for page in pages("influxdb")
        for each in page["templating"]["list"]
        if each["name"] == variable
    }
    values = {value for series in influxdb.ask("grafana", query) for row in series["values"] for value in row}
    assert {"device": "tank 1, A=b", "tag": "LIC101.PV", "feature": "level mean"}[variable] in values
