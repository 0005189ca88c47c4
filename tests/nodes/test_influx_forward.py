from __future__ import annotations

import contextlib
import gzip
import http.server
import math
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cellwatch.models.types import TagBatch, TagCatalog, TagInfo
from cellwatch.nodes.drivers import influx_forward as module
from cellwatch.nodes.drivers.influx_forward import parse_url
from cellwatch.nodes.drivers.line_protocol import TagEncoder, line
from cellwatch.nodes.drivers.store import ExportStats, Recorder, RecorderSettings, Store
from cellwatch.nodes.drivers.wal import load_cursor, segment_path, segments

NOW = 1_700_000_000_000_000_000
SECOND = 10**9
NAMES = [
    "LIC101.PV",
    "a b",
    "a,b",
    "a=b",
    "a\\b",
    "a\\",
    "a\\ b",
    "a\\\\b",
    'q"q',
    "Füll",
    "two\nlines",
    "tab\tbed",
    "'",
    "#x",
]


def shown(name):
    """A tag value as servers show it: look-alikes stand for what they read differently."""
    text = name.replace("\n", "\u240a").replace("\t", "\u2409")
    return {"a\\": "a\uff3c", "a\\ b": "a\uff3c b", "a\\\\b": "a\uff3c\\b"}.get(text, text)


def batches(count=20, decades=12):
    """A mix: every name, doubles of many sizes, NaN, bad and uncertain quality."""
    rng = np.random.default_rng(3)
    n = len(NAMES)
    catalog = TagCatalog(
        "plc 1", tuple(TagInfo(name, f"ns=2;i={i}", f"dev{i % 3}") for i, name in enumerate(NAMES))
    )
    encoder = TagEncoder(catalog)
    for k in range(count):
        value = rng.normal(size=n) * 10.0 ** rng.integers(-decades, decades + 1, n)
        value[rng.random(n) < 0.1] = math.nan
        status = np.where(np.isnan(value), 0x80340000, np.where(rng.random(n) < 0.1, 0x40920000, 0)).astype(
            np.uint32
        )
        time_ns = NOW + k * SECOND + np.arange(n) * 1_000_000
        tag = np.arange(n, dtype=np.uint32)
        yield encoder.encode(TagBatch("plc 1", k + 1, tag, value, status, time_ns, time_ns, NOW))


def rows(start, count, measurement="tags"):
    return b"".join(
        b"%b,tag=a value=%d %d\n" % (measurement.encode(), i, NOW + i) for i in range(start, start + count)
    )


def wait(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def test_influxdb_holds_what_was_recorded_value_for_value(influx, tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(influx=f"{influx.url}?db=parity"))
    for lines in batches():
        recorder.append(lines)
    text = 'He said "5 % \\ = high", then\nleft ä'
    recorder.append(
        line("fused", {"device": "tank"}, {"explanation": text, "decision": 3, "ok": True}, NOW).encode()
    )
    total = 20 * len(NAMES) + 1
    assert recorder.close() == ExportStats(total, 0, 0)
    stored = {(r["tag"], r["time"]): r for r in influx.select("parity", "select * from tags")}
    assert len(stored) == total - 1
    for point in Store(tmp_path).points("tags"):
        row = stored[shown(point.tags["tag"]), point.time_ns]
        assert (row["plc"], row["device"]) == ("plc 1", point.tags["device"])
        assert row["value"] == point.fields.get("value")
        assert (row["status"], row["quality"]) == (point.fields["status"], point.fields["quality"])
    (fused,) = influx.select("parity", "select * from fused")
    assert (fused["explanation"], fused["decision"], fused["ok"]) == (text.replace("\n", "\u240a"), 3, True)


@pytest.mark.parametrize("query", ["?org=o&bucket=b", "?db=b", "/api/v2/write?org=o&bucket=b", "/write?db=b"])
def test_victoriametrics_holds_what_was_recorded_over_both_apis(victoria, tmp_path, query):
    plc = f"plc{abs(hash(query))}"
    recorder = Recorder(tmp_path, RecorderSettings(influx=victoria.url + query))
    for lines in batches(5, decades=0):
        recorder.append(lines.replace(b"plc=plc\\ 1", b"plc=" + plc.encode()))
    assert recorder.close() == ExportStats(5 * len(NAMES), 0, 0)
    stored = {
        (series["metric"]["tag"], field, time_ms): value
        for field in ("value", "status")
        for series in victoria.export(f'{{__name__="tags_{field}",plc="{plc}"}}')
        for time_ms, value in zip(series["timestamps"], series["values"], strict=True)
    }
    expected = {
        (shown(p.tags["tag"]), field, p.time_ns // 1_000_000): p.fields[field]
        for p in Store(tmp_path).points("tags")
        for field in ("value", "status")
        if field in p.fields
    }
    assert stored.keys() == expected.keys()
    for key, value in expected.items():
        assert stored[key] == pytest.approx(
            value, rel=1e-12
        )  # it keeps decimals of one exponent, not doubles


def test_an_outage_of_the_server_costs_nothing_and_doubles_nothing(influx, tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(influx=f"{influx.url}?db=outage", segment_bytes=20_000))
    stop, sent = threading.Event(), 0

    def feed():
        nonlocal sent
        while not stop.is_set():
            recorder.append(rows(sent, 20), 20)
            sent += 20
            time.sleep(0.01)

    thread = threading.Thread(target=feed)
    thread.start()
    wait(lambda: recorder.stats.written > 200)
    influx.stop(signal.SIGKILL)
    try:
        time.sleep(5)
        assert any("no answer from" in w and "Points wait on disk" in w for w in recorder.warnings)
        assert recorder.stats.pending > 4000
        assert recorder.stats.lost == 0
    finally:
        influx.start()
    wait(lambda: recorder.stats.pending < 2000)
    stop.set()
    thread.join()
    assert recorder.close(20) == ExportStats(sent, 0, 0)
    assert recorder.warnings == ()
    assert [r["value"] for r in influx.select("outage", "select value from tags")] == list(range(sent))


def test_a_killed_node_goes_on_where_the_server_confirmed(influx, tmp_path):
    code = f"""
import time
from cellwatch.nodes.drivers.store import Recorder, RecorderSettings
recorder = Recorder({str(tmp_path)!r}, RecorderSettings(influx="{influx.url}?db=killed", sync_s=0.01))
for i in range(100000):
    points = range(50 * i, 50 * i + 50)
    recorder.append(b"".join(b"tags,tag=a value=%d %d\\n" % (k, {NOW} + k) for k in points), 50)
    if recorder.stats.written > 500:
        print("sending", flush=True)
    time.sleep(0.002)
"""
    node = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert node.stdout.readline() == b"sending\n"
    node.send_signal(signal.SIGKILL)
    node.communicate()
    recorder = Recorder(tmp_path, RecorderSettings(influx=f"{influx.url}?db=killed"))
    stats = recorder.close(20)
    assert (stats.pending, stats.lost) == (0, 0)
    recorded = [p.fields["value"] for p in Store(tmp_path).points("tags")]
    assert len(recorded) > 500
    assert [r["value"] for r in influx.select("killed", "select value from tags")] == recorded


def test_lines_that_the_server_refuses_are_put_aside_and_the_others_go(influx, tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(influx=f"{influx.url}?db=refused"))
    recorder.append(rows(0, 1000))
    recorder.flush()
    bad = [b'tags,tag=a value="text" %d\n' % (NOW + 5), b"broken\n", b"tags,tag= value=1 %d\n" % NOW]
    recorder.append(rows(1000, 300) + bad[0] + rows(1300, 400) + bad[1] + bad[2] + rows(1700, 300))
    assert recorder.close(20) == ExportStats(2000, 0, 3)
    assert "refused 3 points, see rejected.lp" in recorder.warnings[0]
    assert [r["value"] for r in influx.select("refused", "select value from tags")] == list(range(2000))
    aside = (tmp_path / "rejected.lp").read_bytes().splitlines(keepends=True)
    assert aside[1::2] == bad
    assert b"field type conflict" in aside[0]


def test_a_log_that_was_recorded_without_a_server_is_sent_when_there_is_one(influx, tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(segment_bytes=2000, sync_s=0.001))
    for i in range(50):
        recorder.append(rows(20 * i, 20))
        recorder.flush()
    recorder.close()
    path = segment_path(tmp_path, segments(tmp_path)[3])
    damaged = bytearray(path.read_bytes())
    damaged[300] ^= 1
    path.write_bytes(damaged)
    recorder = Recorder(tmp_path, RecorderSettings(influx=f"{influx.url}?db=later"))
    assert sum(recorder.stats) == 1000
    assert recorder.close(20) == ExportStats(980, 0, 20)
    assert len(influx.select("later", "select value from tags")) == 980
    assert load_cursor(tmp_path).at == 1000
    again = Recorder(tmp_path, RecorderSettings(influx=f"{influx.url}?db=later"))
    assert again.close() == ExportStats(0, 0, 0)


def test_what_retention_deletes_before_it_was_sent_is_lost_and_counted(tmp_path):
    settings = RecorderSettings(
        influx="http://127.0.0.1:9?db=x", segment_bytes=2000, max_bytes=10_000, sync_s=0.001
    )
    recorder = Recorder(tmp_path, settings)
    for i in range(100):
        recorder.append(rows(20 * i, 20))
        recorder.flush()
    stats = recorder.close(0.1)
    kept = Store(tmp_path).stats().points
    assert stats == ExportStats(0, kept, 2000 - kept)
    assert 0 < kept < 1000


class Fussy(http.server.BaseHTTPRequestHandler):
    """A real HTTP server that answers from a script: (status, body, headers, delay in s)."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        script = self.server.script
        status, text, headers, delay = script.pop(0) if script else (204, b"", {}, 0)
        self.server.seen.append((self.path, self.headers, status, body))
        time.sleep(delay)
        with contextlib.suppress(OSError):
            self.send_response(status)
            for key, value in {**headers, "Content-Length": len(text)}.items():
                self.send_header(key, str(value))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def fussy():
    server = http.server.ThreadingHTTPServer(("127.0.0.2", 0), Fussy)  # not LOOPBACK: bodies are packed
    server.script, server.seen = [], []
    server.url = f"http://127.0.0.2:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def confirmed(server):
    return [
        int(r.split(b"=")[2].split()[0])
        for *_, status, body in server.seen
        if status == 204
        for r in body.splitlines()
    ]


@pytest.mark.parametrize("query", ["?db=x", "?org=o&bucket=x"])
def test_a_server_in_trouble_is_asked_again(fussy, tmp_path, query, monkeypatch):
    monkeypatch.setattr(module, "BACKOFF_S", (0.05, 0.3))
    fussy.script += [(s, b"no", {}, 0) for s in (500, 503, 429, 401, 404)]
    recorder = Recorder(tmp_path, RecorderSettings(influx=fussy.url + query))
    recorder.append(rows(0, 100))
    wait(lambda: recorder.stats.written == 100)
    assert recorder.close() == ExportStats(100, 0, 0)
    assert recorder.warnings == ()
    assert [s for _, _, s, _ in fussy.seen][:5] == [500, 503, 429, 401, 404]
    assert confirmed(fussy) == list(range(100))


def test_the_wait_that_a_server_asks_for_is_kept_and_warned_of(fussy, tmp_path):
    fussy.script.append((429, b'{"code":"too many requests","message":"slow down"}', {"Retry-After": "2"}, 0))
    recorder = Recorder(tmp_path, RecorderSettings(influx=fussy.url + "?db=x"))
    recorder.append(rows(0, 10))
    wait(lambda: recorder.warnings)
    begin = time.monotonic()
    assert "?db=x answers 429 slow down. Points wait on disk" in recorder.warnings[0]
    wait(lambda: recorder.stats.written == 10)
    assert time.monotonic() - begin > 1.5
    recorder.close()


def test_a_wrong_token_is_explained(fussy, tmp_path):
    fussy.script += [(401, b'{"code":"unauthorized","message":"unauthorized access"}', {}, 0)] * 50
    recorder = Recorder(tmp_path, RecorderSettings(influx=fussy.url + "?org=o&bucket=x"))
    recorder.append(rows(0, 10))
    wait(lambda: recorder.warnings)
    assert "answers 401 unauthorized access; set INFLUXDB_TOKEN" in recorder.warnings[0]
    assert recorder.close(0.2) == ExportStats(0, 10, 0)


def test_a_server_that_does_not_answer_in_time_gets_smaller_requests(fussy, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(module, "BACKOFF_S", (0.05, 0.3))
    fussy.script += [(204, b"", {}, 0.6)] * 2
    recorder = Recorder(tmp_path)
    for i in range(100):
        recorder.append(rows(1000 * i, 1000))
        recorder.flush()
    recorder.close()
    recorder = Recorder(tmp_path, RecorderSettings(influx=fussy.url + "?db=x"))
    assert recorder.close(20) == ExportStats(100_000, 0, 0)
    sizes = [len(body) for *_, body in fussy.seen]
    assert sizes[0] > 1.7 * sizes[1] > 3 * sizes[2]
    assert set(confirmed(fussy)) == set(range(100_000))


def test_secrets_travel_in_headers_only(fussy, tmp_path, monkeypatch):
    monkeypatch.setenv("INFLUXDB_TOKEN", "geheim")
    urls = [fussy.url + "?db=x&rp=week", fussy.url + "?org=o&bucket=x"]
    urls[0] = urls[0].replace("//", "//user:pass%40word@")
    for i, url in enumerate(urls):
        recorder = Recorder(tmp_path / str(i), RecorderSettings(influx=url))
        recorder.append(rows(0, 1))
        recorder.close()
        assert "geheim" not in (tmp_path / str(i) / "cursor.json").read_text()
    (path1, headers1, _, _), (path2, headers2, _, _) = fussy.seen
    assert path1 == "/write?db=x&precision=ns&rp=week"
    assert headers1["Authorization"] == "Basic dXNlcjpwYXNzQHdvcmQ="
    assert path2.startswith("/api/v2/write?")
    assert headers2["Authorization"] == "Token geheim"
    assert "word" not in repr(parse_url(urls[0]))


def test_url_forms():
    v2 = parse_url("http://h?org=o&bucket=b", {"INFLUXDB_TOKEN": "t"})
    assert (v2.version, v2.port, v2.bucket, v2.org, v2.token, v2.path) == (2, 8086, "b", "o", "t", "")
    v1 = parse_url("https://h/influx/write?db=b", {"INFLUXDB_USER": "u", "INFLUXDB_PASSWORD": "p"})
    assert (v1.version, v1.port, v1.path, v1.user, v1.password) == (1, 443, "/influx", "u", "p")
    assert parse_url("http://[::1]:99?db=b", {}).base == "http://[::1]:99"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:8086", "not a web address"),
        ("ftp://h?db=x", "not a web address"),
        ("http://h:8086", "name either a bucket or a database"),
        ("http://h?db=x&bucket=y", "name either a bucket or a database"),
        ("http://h:99999?db=x", "out of range"),
        ("http://u:pw@h", r"http://u:\.\.\.@h: name either"),
    ],
)
def test_a_wrong_url_is_explained_before_anything_is_made(tmp_path, url, why):
    with pytest.raises(ValueError, match=rf"--influx .*{why}.*http://HOST:8086\?db=NAME"):
        Recorder(tmp_path / "new", RecorderSettings(influx=url))
    assert not (tmp_path / "new").exists()
