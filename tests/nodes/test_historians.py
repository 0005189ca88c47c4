"""Real historians hold what was recorded, value for value, once: VictoriaMetrics (v2) and InfluxDB 1.x."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from cellwatch.nodes.drivers import store as store_module
from cellwatch.nodes.drivers.line_protocol import parse_name
from cellwatch.nodes.drivers.record_schema import BY_NAME
from cellwatch.nodes.drivers.store import ExportStats, Recorder, RecorderSettings, Store

NOW = 1_700_000_000_000_000_000
SECOND = 10**9
CONTROLS = {0x2400 + c: c for c in range(0x20)}  # their look-alikes in a string


def forward(folder, target, *blocks):
    recorder = Recorder(folder, RecorderSettings(influx=target))
    for lines in blocks:
        recorder.append(lines)
    stats = recorder.close(30)
    assert (stats.pending, stats.lost) == (0, 0)
    return stats.written


def recorded(folder):
    """Points by measurement, tags and time; the later one wins, field by field."""
    points = {}
    for point in Store(folder).points():
        key = point.measurement, tuple(sorted(point.tags.items())), point.time_ns
        points[key] = points.get(key, {}) | point.fields
    return points


def in_influxdb(server, database):
    """The same, as InfluxDB 1.x holds it. Look-alikes stand for what servers read differently."""
    points = {}
    for name, schema in BY_NAME.items():
        for row in server.select(database, f'select * from "{name}"'):
            tags = {key: parse_name(row.pop(key)) for key in schema.tags if row.get(key)}
            fields = {
                parse_name(key): value.translate(CONTROLS) if isinstance(value, str) else value
                for key, value in row.items()
                if value is not None and key not in {"time", *schema.tags}
            }
            points[name, tuple(sorted(tags.items())), row["time"]] = fields
    return points


def in_victoriametrics(server):
    """Numbers by measurement, field, tags and time in ms, as VictoriaMetrics holds them."""
    found = {}
    for series in server.export('{__name__!=""}'):
        labels = {key: parse_name(value) for key, value in series["metric"].items()}
        name, tags = labels.pop("__name__"), {key: v for key, v in labels.items() if key != "db"}
        for at, value in zip(series["timestamps"], series["values"], strict=True):
            found.setdefault((name, tuple(sorted(tags.items())), at), []).append(value)
    return found


def test_influxdb_gives_every_measurement_back_value_for_value(influx, one_of_each, tmp_path):
    blocks = [one_of_each(NOW + k * SECOND, k) for k in range(3)]
    assert forward(tmp_path, f"{influx.url}?db=each", *blocks) == sum(b.count(b"\n") for b in blocks)
    expected, found = recorded(tmp_path), in_influxdb(influx, "each")
    assert {name for name, *_ in expected} == set(BY_NAME)
    assert found == expected
    for key, fields in expected.items():
        for name, value in fields.items():
            assert isinstance(found[key][name], str) == isinstance(value, str)
            assert isinstance(found[key][name], bool) == isinstance(value, bool)


def test_victoriametrics_gives_every_number_back(victoria, one_of_each, tmp_path):
    target = f"{victoria.url}?org=o&bucket=each"
    forward(tmp_path, target, *(one_of_each(NOW + k * SECOND, k) for k in range(3)))
    found = in_victoriametrics(victoria)
    expected = {
        (f"{name}_{field}", tags, at // 10**6): float(value)
        for (name, tags, at), fields in recorded(tmp_path).items()
        for field, value in fields.items()
        if not isinstance(value, str)
    }
    assert {name.split("_")[0] for name, *_ in expected} == set(BY_NAME)
    for key, value in expected.items():
        assert found[key] == [pytest.approx(value, rel=1e-12)], key


@pytest.mark.parametrize("kind", ["influxdb", "victoriametrics"])
def test_a_log_that_is_sent_again_doubles_nothing(request, one_of_each, tmp_path, kind):
    server = request.getfixturevalue("influx" if kind == "influxdb" else "victoria")
    target = f"{server.url}?db=again" if kind == "influxdb" else f"{server.url}?org=o&bucket=again"

    def held():
        return in_influxdb(server, "again") if kind == "influxdb" else in_victoriametrics(server)

    lines = one_of_each(NOW + 10**6 * SECOND)
    written = forward(tmp_path, target, lines)
    before = held()
    (tmp_path / "cursor.json").unlink()
    assert forward(tmp_path, target) == written
    assert held() == before
    assert len(before) > 20


FORWARD = """
import sys, time
from cellwatch.nodes.drivers.store import Recorder, RecorderSettings
recorder = Recorder(sys.argv[1], RecorderSettings(influx=sys.argv[2]))
print("started", flush=True)
print("sent" if recorder.close(60).pending == 0 else "waiting", flush=True)
"""


@pytest.mark.parametrize("kind", ["influxdb", "victoriametrics"])
def test_an_exporter_that_is_killed_again_and_again_sends_all_once(request, tmp_path, kind):
    server = request.getfixturevalue("influx" if kind == "influxdb" else "victoria")
    target = f"{server.url}?db=killed_again" if kind == "influxdb" else f"{server.url}?org=o&bucket=killed"
    total, step = 100_000, 1000
    recorder = Recorder(tmp_path, RecorderSettings(segment_bytes=1 << 20))
    for first in range(0, total, step):
        times = range(first, first + step)
        recorder.append(b"".join(b"killed,tag=a value=%d %d\n" % (i, NOW + i * 10**6) for i in times), step)
    recorder.close()
    patience, kills, said = random.Random(5), 0, b""
    while said != b"sent\n":
        node = subprocess.Popen([sys.executable, "-c", FORWARD, tmp_path, target], stdout=subprocess.PIPE)
        assert node.stdout.readline() == b"started\n"
        if kills < 4:
            time.sleep(0.05 + 0.2 * patience.random())
            node.send_signal(signal.SIGKILL)
            kills += 1
        said = node.communicate()[0]
    if kind == "influxdb":
        rows = server.select("killed_again", "select value from killed")
        assert [row["value"] for row in rows] == list(range(total))
    else:
        end = time.monotonic() + 20
        found = []
        while len(found) < total and time.monotonic() < end:  # what is confirmed may take seconds to show
            (series,) = server.export('{__name__="killed_value"}')
            found = sorted(zip(series["timestamps"], series["values"], strict=True))
        assert [value for _, value in found] == list(range(total))


def test_a_full_disk_delays_what_the_server_gets_and_no_more(influx, small_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "RETRY_S", 0.05)
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        recorder = Recorder(disk, RecorderSettings(influx=f"{influx.url}?db=full"))
        for k in range(60):
            if k == 20:
                assert recorder.flush()
                ballast.write_bytes(bytes(280_000))
            times = range(100 * k, 100 * k + 100)
            recorder.append(b"".join(b"full,tag=a value=%d %d\n" % (i, NOW + i) for i in times), 100)
        end = time.monotonic() + 10
        while not any("No space left" in text for text in recorder.warnings):
            assert time.monotonic() < end
            time.sleep(0.02)
        ballast.unlink()
        assert recorder.flush()
        assert recorder.close(20) == ExportStats(6000, 0, 0)
        rows = influx.select("full", 'select value from "full"')
        assert [row["value"] for row in rows] == list(range(6000))


OUTAGE_S = 600.0


@pytest.mark.soak
def test_ten_minutes_without_a_server_and_a_killed_exporter_cost_a_cell_nothing_uncounted(influx, tmp_path):
    command = [sys.executable, "-m", "cellwatch.nodes.cli", "run", "--no-dashboard", "--json"]
    command += ["--duration", str(OUTAGE_S + 60), "--influx", f"{influx.url}?db=cell"]
    cell = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"CELLWATCH_HOME": str(tmp_path)},
    )
    try:
        end = time.monotonic() + 120
        while not influx.ask("", "SHOW DATABASES")[0].get("values", []).count(["cell"]):
            assert time.monotonic() < end
            time.sleep(1)
        time.sleep(10)
        influx.stop(signal.SIGKILL)
        time.sleep(OUTAGE_S / 2)
        exporters = [
            child
            for child in psutil.Process(cell.pid).children(recursive=True)
            if "__node:=influx_export_node" in " ".join(child.cmdline())
        ]
        assert exporters
        exporters[0].kill()
        time.sleep(OUTAGE_S / 2)
        influx.start()
        out, err = cell.communicate(timeout=300)
    finally:
        cell.kill()
        if influx.process.poll() is not None:
            influx.start()
    assert cell.returncode == 0, err.decode()
    export = json.loads(out)["export"]
    record = next(tmp_path.glob("cells/*/record"))
    points = recorded(record)
    # What came while the exporter was down was published to nobody: no loss of the record, but told in it.
    missed = sum(fields.get("batches", 0) for (name, *_), fields in points.items() if name == "gaps")
    assert 0 < missed == export["lost"] < 150, export
    assert in_influxdb(influx, "cell") == points


def test_the_recipe_for_retention_works_as_the_docs_show_it(influx, root):
    text = (root / "docs" / "recording.md").read_text()
    for statement in text.split("```sql\n")[1].split("```")[0].splitlines():
        influx.ask("", statement)
    (series,) = influx.ask("plant", "SHOW RETENTION POLICIES")
    kept = {row[0]: row[series["columns"].index("duration")] for row in series["values"]}
    assert kept == {"raw": "720h0m0s", "years": "17472h0m0s"}
    (queries,) = (each for each in influx.ask("", "SHOW CONTINUOUS QUERIES") if each["name"] == "plant")
    assert [row[0] for row in queries["values"]] == ["minutes"]
    influx.ask("", 'DROP DATABASE "plant"')
