"""Memory stays flat however long the capture is: each run in a process of its own, whose peak counts."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resource")
MIB = 1 << 20
HEADER = np.array([0xA1B2C3D4, 0x00040002, 0, 0, 262144, 1], "<u4").tobytes()

READ = """
import resource, sys
from cellwatch.models.features.packets import parse
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.nodes.drivers.capture import FileCapture
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source, windows, base, count = FileCapture(sys.argv[1]), TrafficWindows(1.0), 0, 0
while not source.exhausted:
    for block in source.read():
        windows.add(parse(block))
    windows.close(windows.newest_ns - 10**9)
    base = base or (peak() if windows.packets > int(sys.argv[2]) else 0)
assert not source.damage, source.damage
print(windows.packets, base, peak() - base)
"""


def growth(path: Path, warm: int) -> tuple[int, int]:
    """Packets read, and growth of the peak in KiB after the first `warm` packets."""
    command = [sys.executable, "-c", READ, str(path), str(warm)]
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    packets, base, more = map(int, done.stdout.split())
    assert base > 0
    return packets, more


def records(first: int, count: int, gap_us: int, flows: int) -> bytes:
    """`count` UDP packets of 66 bytes in `flows` flows, `gap_us` apart."""
    rows = np.zeros(count, [("head", "<u4", 4), ("frame", "u1", 66)])
    number = np.arange(first, first + count, dtype=np.uint64)
    at = number * gap_us + 1_700_000_000_000_000
    rows["head"][:, 0], rows["head"][:, 1] = at // 10**6, at % 10**6
    rows["head"][:, 2:] = 66
    rows["frame"][:] = np.frombuffer(
        bytes.fromhex("0200000000020200000000010800450000340000400040110000" + "0a000001" + "0a000002")
        + bytes.fromhex("c000115c00200000") + bytes(24),
        np.uint8,
    )  # fmt: skip
    rows["frame"][:, 35] = number % flows
    return rows.tobytes()


def test_memory_stays_flat_over_a_packed_stream(tmp_path: Path) -> None:
    path = tmp_path / "long.pcap.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(HEADER)
        for first in range(0, 4_000_000, 100_000):  # 328 MB
            out.write(records(first, 100_000, 50, 40))
    packets, more = growth(path, 1_000_000)
    assert packets == 4_000_000
    assert more < 24 * 1024


def test_memory_stays_flat_over_big_packets(tmp_path: Path) -> None:
    path = tmp_path / "sparse.pcap"
    with path.open("wb") as out:
        out.write(HEADER)
        for i in range(5000):  # 325 MB, of which the disk keeps the headers
            out.write(np.array([1_700_000_000 + i // 50, i % 50 * 20_000, 65_000, 65_000], "<u4").tobytes())
            out.seek(65_000, os.SEEK_CUR)
        out.truncate()
    packets, more = growth(path, 1000)
    assert packets == 5000
    assert more < 24 * 1024
