"""How fast the recording is: `python benchmarks/recording.py [--json] [--points N]`.

Encode, append to the log and read back, next to influxdb-client's `Point` in the same run. All the way to a
server: `benchmarks/export.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cellwatch.models.types import TagBatch, TagCatalog, TagInfo
from cellwatch.nodes.drivers.line_protocol import TagEncoder
from cellwatch.nodes.drivers.store import Recorder
from cellwatch.nodes.history import History

TAGS = 1000
NOW = 1_700_000_000_000_000_000


def batches(number):
    """Batches of one sample of each tag, 10 Hz, doubles with all their digits."""
    rng = np.random.default_rng(1)
    tag, status = np.arange(TAGS, dtype=np.uint32), np.zeros(TAGS, dtype=np.uint32)
    for k in range(number):
        times = NOW + k * 100_000_000 + np.arange(TAGS, dtype=np.int64)
        yield TagBatch("plc1", k + 1, tag, rng.normal(50, 10, TAGS), status, times, times, NOW)


def catalog(plc="plc1"):
    tags = tuple(TagInfo(f"area1.TIC{i:04d}.PV", f"ns=2;i={i}", f"device{i % 20:02d}") for i in range(TAGS))
    return TagCatalog(plc, tags)


def client_points(samples, tags, limit):
    """Seconds a point that influxdb-client's Point takes for the same lines, None without the client."""
    try:
        from influxdb_client import Point, WritePrecision
    except ImportError:
        return None
    cpu, done = time.process_time(), 0
    for batch in samples:
        rows = zip(batch.tag.tolist(), batch.value.tolist(), batch.source_ns.tolist(), strict=True)
        for i, value, at in rows:
            point = Point("tags").tag("device", tags[i].device).tag("plc", "plc1").tag("tag", tags[i].name)
            point.field("value", value).field("status", 0).field("quality", 0).time(at, WritePrecision.NS)
            point.to_line_protocol().encode()
        done += TAGS
        if done >= limit:
            break
    return (time.process_time() - cpu) / done


def measure(points):
    number = max(1, points // TAGS)
    samples, book = list(batches(number)), catalog()
    total = number * TAGS
    encoder, cpu = TagEncoder(book), time.process_time()
    lines = [encoder.encode(batch) for batch in samples]
    encode_s = (time.process_time() - cpu) / total
    result = {
        "points": total,
        "bytes_per_point": round(sum(map(len, lines)) / total, 1),
        "encode_us_per_point": encode_s * 1e6,
        "encode_points_per_s": 1 / encode_s,
    }
    reference = client_points(samples, book.tags, 20_000)
    if reference is not None:
        result["influxdb_client_point_us_per_point"] = reference * 1e6
        result["encode_times_faster_than_point"] = reference / encode_s
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recorder = Recorder(folder)
        wall, cpu = time.perf_counter(), time.process_time()
        for block in lines:
            recorder.append(block, TAGS)
        recorder.flush(120)
        result["append_points_per_s"] = total / (time.perf_counter() - wall)
        result["append_us_per_point"] = (time.process_time() - cpu) / total * 1e6
        recorder.close()
        wall = time.perf_counter()
        values = History(folder).series("tags", "value", {"tag": book.tags[3].name}).low
        result["read_lines_per_s"] = total / (time.perf_counter() - wall)
        if len(values) != number:
            sys.exit(f"read {len(values)} of {number} points back")
    # The cell's pace: 10 k samples/s in ten batches a second, all the way to the disk.
    with tempfile.TemporaryDirectory() as name:
        recorder, cpu, begin = Recorder(name), time.process_time(), time.monotonic()
        paced = samples[:50]
        for k, batch in enumerate(paced):
            recorder.append(encoder.encode(batch), TAGS)
            time.sleep(max(0.0, begin + (k + 1) * 0.1 - time.monotonic()))
        recorder.close()
        result["core_percent_at_10k_per_s"] = 100 * (time.process_time() - cpu) / (len(paced) * 0.1)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    options = parser.parse_args()
    result = measure(options.points)
    if options.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:36} {value:>14,.{0 if value >= 1000 else 2}f}")


if __name__ == "__main__":
    main()
