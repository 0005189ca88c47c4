"""What tests of the record share: real servers, a small disk, and one point of every kind."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest

from cellwatch.models.types import (
    Alarm,
    AlarmState,
    CandidateState,
    CommandResult,
    CommandStatus,
    DriftEvent,
    DriftFigure,
    DriftState,
    FeatureWindow,
    FusedVerdict,
    FusedWindow,
    Gap,
    Incident,
    Level,
    LevelScores,
    Ne107,
    Priority,
    Screening,
    Stage,
    StageFigures,
    TagBatch,
    TagCatalog,
    TagInfo,
    TrafficBatch,
    Verdicts,
    Violation,
)
from cellwatch.nodes.drivers import line_protocol as lp
from cellwatch.nodes.drivers.record_schema import MONITORS


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


class Server:
    """A real server on loopback that can be killed and started again on its data."""

    def __init__(self, folder, address, command, ready):
        self.url = f"http://{address}"
        self._log, self._command, self._ready = folder / "server.log", command, ready
        self.process = None
        self.start()

    def start(self):
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                get(self.url + self._ready)
                return
            assert self.process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < end, self._log.read_text()[-2000:]
            time.sleep(0.1)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(20)


class Influx(Server):
    def select(self, database, query):
        """Rows of an InfluxQL query as dicts; the tags of a series are among the columns."""
        return [
            dict(zip(series["columns"], row, strict=True)) | series.get("tags", {})
            for series in self.ask(database, query)
            for row in series["values"]
        ]

    def ask(self, database, query, **more):
        """Series of an InfluxQL query."""
        parameters = urllib.parse.urlencode({"db": database, "epoch": "ns", "q": query} | more)
        (result,) = json.loads(get(f"{self.url}/query?{parameters}"))["results"]
        assert "error" not in result, (query, result)
        return result.get("series", [])


class Victoria(Server):
    def export(self, match):
        """Series: labels, values, times in ms."""
        get(self.url + "/internal/force_flush")
        query = urllib.parse.urlencode({"match[]": match})
        return [json.loads(row) for row in get(f"{self.url}/api/v1/export?{query}").splitlines()]


@pytest.fixture(scope="session")
def influx(tmp_path_factory):
    """InfluxDB 1.x."""
    binary = shutil.which("influxd")
    if binary is None:
        pytest.skip("no influxd here: apt-get install influxdb")
    folder, port = tmp_path_factory.mktemp("influx"), free_port()
    (folder / "influxdb.conf").write_text(f"""
reporting-disabled = true
bind-address = "127.0.0.1:{free_port()}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
query-log-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
[monitor]
store-enabled = false
""")
    server = Influx(folder, f"127.0.0.1:{port}", [binary, "-config", folder / "influxdb.conf"], "/ping")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def victoria(tmp_path_factory):
    """VictoriaMetrics, which speaks the v2 API and 1.x; not at an address where bodies go unpacked."""
    binary = shutil.which("victoria-metrics")
    if binary is None:
        pytest.skip("no victoria-metrics here: apt-get install victoria-metrics")
    folder, port = tmp_path_factory.mktemp("victoria"), free_port()
    command = [binary, f"-httpListenAddr=127.0.0.2:{port}", f"-storageDataPath={folder}/data"]
    command += ["-retentionPeriod=100y", "-dedup.minScrapeInterval=1ms"]
    server = Victoria(folder, f"127.0.0.2:{port}", command, "/health")
    yield server
    server.stop()


@pytest.fixture
def small_disk():
    """Mounts a disk that is soon full."""
    return _small_disk


@contextlib.contextmanager
def _small_disk(folder, size="400k"):
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a small tmpfs needs the right to mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="session")
def one_of_each():
    """Lines of every encoder at a time, with every field that there is; awkward names and texts."""
    return _one_of_each


ODD = 'Füll "5 % \\ =", then\nleft, ä'


def _one_of_each(at, k=0):
    device, other = "tank 1, A=b", "pump\\"
    none = np.zeros((2, 0), dtype=np.float32)
    values = np.array([[0.1 + k, math.nan], [-3e-7, 1.5e9]], dtype=np.float32)
    catalog = TagCatalog("plc 1", (TagInfo("LIC101.PV", "ns=2;s=a", device), TagInfo(ODD, "ns=2;s=b", other)))
    stamps = np.array([at, at], dtype=np.int64)
    tags = TagBatch(
        "plc 1", 7 + k, np.array([0, 1], dtype=np.uint32), np.array([1 / 3 + k, math.nan]),
        np.array([0, 0x80340000], dtype=np.uint32), stamps, stamps, at,
        gaps=(Gap(at, at + 2_500_000_000, ODD),),
    )  # fmt: skip
    dropped = TagBatch("plc 2", 9, *(np.zeros(0, t) for t in "IdIqq"), at, dropped=4)
    rule = Violation(device, "LIC101/mean", 9.5, 0.25, 8.0, "range", "fault", "T0831")
    levels = (
        LevelScores(Level.L1, ("forest", "mlp"), ("benign", "attack"),
                    np.array([[[0.25, 0.75], [math.nan] * 2]] * 2, dtype=np.float32)),
        LevelScores(Level.L2, ("forest",), ("dos", "man in, the middle"),
                    np.array([[[0.1, 0.9]], [[0.7, 0.3]]], dtype=np.float32)),
    )  # fmt: skip
    verdicts = Verdicts(
        "rules", k, at, at, (device, other), np.array([3, 1], dtype=np.uint8),
        np.array([0.9, 0.1], dtype=np.float32), levels, (rule,), abstained=ODD, latency_s=0.125,
    )  # fmt: skip
    window = FeatureWindow(
        k, at - 10**9, at, at, "s", (device, other), values, (), np.zeros(0, "I"), none, held=(other,)
    )
    fused = (
        FusedVerdict(device, Screening.BLOCK, 0.7, 0.5, "dos", "dos/syn-flood", violations=(rule,),
                     explanation=ODD, explanation_json='{"a": "b\\n"}'),
        FusedVerdict(other, Screening.ALLOW, math.nan, 0.5),
    )  # fmt: skip
    alarm = Alarm(
        "t/dos", device, "dos", "dos/syn-flood", AlarmState.ACKNOWLEDGED, Priority.HIGH, Ne107.FAILURE,
        True, False, at, at, 3, ODD, user="ada", reason=ODD,
    )  # fmt: skip
    result = CommandResult(f"c{k}", k, "P1.speed", 0.5, CommandStatus.REFUSED, ODD, 0.25, at, at - 5)
    drift = DriftEvent(
        at, DriftState.DRIFT, Level.L1, "v1", "A", at - 9,
        tuple(DriftFigure(name, 0.5 + i, 0.25, f"{device} size") for i, name in enumerate(MONITORS)),
        ("loss", "ADWIN"), 7, 30, 2,
    )  # fmt: skip
    candidate = CandidateState(
        at, Stage.CANARY, True, "B", "v2", "v1", (device,), at - 9, ODD,
        StageFigures(60, 400, 8, 40, 5, 30, 0.25, 0.5),
    )  # fmt: skip
    return b"".join(
        [
            lp.TagEncoder(catalog).encode(tags),
            lp.TagEncoder(catalog).encode(dropped),
            lp.missed_lines("plc 1", 3, 9, at + 1),
            lp.traffic_lines(TrafficBatch(k, at - 1, at, (), (device,), none, 12, 1, 2, 3)),
            lp.feature_lines(window, ("level mean", "network,ports=all")),
            lp.verdict_lines(verdicts),
            lp.fused_lines(FusedWindow(k, at, at, fused)),
            lp.attribution_lines(k, at, device, {"level mean": 0.25, "x": math.nan}, ODD),
            lp.alarm_lines([alarm]),
            lp.command_lines(result),
            lp.label_lines(Incident("leak", "fault", "process", "leak", device, at, at + 5, (device,), "T1")),
            lp.drift_lines(drift),
            lp.candidate_lines(candidate),
            lp.model_lines("ensemble_node", "v1", 23, 1, 0, 1, ODD, at),
            lp.health_lines("tap", 1, {"message": ODD, "lost_batches": 5.0, "lag_s": 0.5}, at),
        ]
    )
