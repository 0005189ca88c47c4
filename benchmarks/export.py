"""How fast samples reach a historian: `python benchmarks/export.py [--json] [--points N] [--runs N]`.

All the way of the cell (encode, log on disk, forward, confirmed), next to influxdb-client's own
way (a `Point` a sample, its batching writer) into the same server in the same run; in turn, the median of
the runs counts. Each way ends when the server has confirmed all, and the server is asked how many it holds.
Needs `victoria-metrics` (v2 API) on the PATH; with `influxd` (1.x) ours goes there too.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from recording import TAGS, batches, catalog

from cellwatch.nodes.drivers.influx_forward import BATCH_BYTES
from cellwatch.nodes.drivers.line_protocol import TagEncoder
from cellwatch.nodes.drivers.store import Recorder, RecorderSettings

AIM = 6.0
PACKED = "127.0.0.2"  # bodies go packed to any address but that of this very host


def free_ports(number):
    with contextlib.ExitStack() as open_ports:
        probes = [open_ports.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def server(program, folder, host="127.0.0.1"):
    """A server on loopback: its URL."""
    port, other = free_ports(2)
    url = f"http://{host}:{port}"
    if program == "victoria-metrics":
        command = [program, f"-httpListenAddr={host}:{port}", f"-storageDataPath={folder}/data"]
        command += ["-retentionPeriod=100y"]
    else:
        settings = folder / "influxdb.conf"
        settings.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{other}"\n'
            f'[meta]\ndir = "{folder}/meta"\n'
            f'[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\n[http]\n'
            f'bind-address = "127.0.0.1:{port}"\nlog-enabled = false\n[monitor]\nstore-enabled = false\n'
        )
        command = [program, "-config", settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                get(f"{url}/ping")
                break
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


def check(url, plc, points):
    """Whether VictoriaMetrics holds all samples of a PLC; what it has confirmed may take seconds to show."""
    query = urllib.parse.urlencode({"match[]": f'{{__name__="tags_value",plc="{plc}"}}'})
    for _ in range(60):
        get(f"{url}/internal/force_flush")
        answer = get(f"{url}/api/v1/export?{query}").splitlines()
        held = sum(len(json.loads(row)["values"]) for row in answer)
        if held == points:
            return
        time.sleep(0.5)
    sys.exit(f"the server holds {held} of {points} points of {plc}")


def ours(samples, target, folder, plc):
    """Wall and CPU seconds from the samples in memory until the server has confirmed the last."""
    book = catalog(plc)
    wall, cpu = time.perf_counter(), time.process_time()
    recorder, encoder = Recorder(folder, RecorderSettings(influx=target)), TagEncoder(book)
    for batch in samples:
        recorder.append(encoder.encode(batch), TAGS)
    stats = recorder.close(600)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if stats != (len(samples) * TAGS, 0, 0):
        sys.exit(f"points were lost on the way: {stats}")
    return wall, cpu


def theirs(samples, url, plc, options):
    """The same with influxdb-client alone."""
    from influxdb_client import InfluxDBClient, Point, WritePrecision

    tags = catalog(plc).tags
    failed = []
    wall, cpu = time.perf_counter(), time.process_time()
    with (
        InfluxDBClient(url=url, token="", org="o") as client,
        client.write_api(write_options=options, error_callback=lambda *why: failed.append(why)) as api,
    ):
        for batch in samples:
            rows = zip(batch.tag.tolist(), batch.value.tolist(), batch.source_ns.tolist(), strict=True)
            for i, value, at in rows:
                point = Point("tags").tag("device", tags[i].device).tag("plc", plc).tag("tag", tags[i].name)
                point.field("value", value).field("status", 0).field("quality", 0).time(at, WritePrecision.NS)
                api.write(bucket="b", record=point)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if failed:
        sys.exit(f"influxdb-client failed: {failed[0]}")
    return wall, cpu


def stages(samples):
    """CPU microseconds a line of what we do on the way, one after the other."""
    encoder, cpu = TagEncoder(catalog()), time.process_time()
    lines = [encoder.encode(batch) for batch in samples]
    encoded = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(folder)
        for block in lines:
            recorder.append(block, TAGS)
        recorder.close(600)
    logged = time.process_time()
    whole = b"".join(lines)
    packed = [gzip.compress(whole[i : i + BATCH_BYTES], 1) for i in range(0, len(whole), BATCH_BYTES)]
    done = time.process_time()
    points = len(samples) * TAGS / 1e6
    return {
        "stage_encode_us": (encoded - cpu) / points,
        "stage_log_us": (logged - encoded) / points,
        "stage_gzip_us": (done - logged) / points,
        "gzip_ratio": len(whole) / sum(map(len, packed)),
    }


def measure(points, runs):
    from influxdb_client.client.write_api import WriteOptions  # the import counts for neither

    samples = list(batches(max(1, points // TAGS)))
    few = samples[: max(1, len(samples) // 5)]  # theirs takes long; a rate is a rate
    ways = {"default": WriteOptions(), "batch_5000": WriteOptions(batch_size=5000)}
    walls = {"ours": [], **{name: [] for name in ways}}
    cpus = {name: [] for name in walls}
    with tempfile.TemporaryDirectory() as name, server("victoria-metrics", Path(name)) as url:
        for run in range(runs):
            plc = f"ours{run}"
            found = ours(samples, f"{url}?org=o&bucket=b", f"{name}/log{run}", plc)
            walls["ours"].append(found[0] / len(samples) / TAGS)
            cpus["ours"].append(found[1] / len(samples) / TAGS)
            check(url, plc, len(samples) * TAGS)
            for way, options in ways.items():
                found = theirs(few, url, f"{way}{run}", options)
                walls[way].append(found[0] / len(few) / TAGS)
                cpus[way].append(found[1] / len(few) / TAGS)
                check(url, f"{way}{run}", len(few) * TAGS)
    result = {"points": len(samples) * TAGS, "runs": runs}
    for way, values in walls.items():
        label = way if way == "ours" else f"influxdb_client_{way}"
        result[f"{label}_lines_per_s"] = 1 / statistics.median(values)
        result[f"{label}_cpu_us"] = statistics.median(cpus[way]) * 1e6
    ratios = [min(walls[way][i] for way in ways) / walls["ours"][i] for i in range(runs)]
    result |= {"times_faster": statistics.median(ratios), "times_faster_least": min(ratios)}
    with tempfile.TemporaryDirectory() as name, server("victoria-metrics", Path(name), PACKED) as url:
        found = ours(samples, f"{url}?org=o&bucket=b", f"{name}/log", "plc1")
        result["ours_packed_lines_per_s"] = len(samples) * TAGS / found[0]
    if shutil.which("influxd"):
        with tempfile.TemporaryDirectory() as name, server("influxd", Path(name)) as url:
            found = ours(samples, f"{url}?db=b", f"{name}/log", "plc1")
            result["ours_influxdb1_lines_per_s"] = len(samples) * TAGS / found[0]
    return result | stages(samples)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--points", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    options = parser.parse_args()
    if shutil.which("victoria-metrics") is None:
        sys.exit("no victoria-metrics here: apt-get install victoria-metrics")
    result = measure(options.points, options.runs)
    if options.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:36} {value:>14,.{0 if value >= 1000 else 2}f}")
    if result["times_faster"] < AIM:
        sys.exit(f"below the aim: {AIM:g} times as fast as influxdb-client")


if __name__ == "__main__":
    main()
