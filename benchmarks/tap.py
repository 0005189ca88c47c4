"""Packets per second from a capture file to complete per-device windows, beside other tools.

    python benchmarks/tap.py [CAPTURE] [--packets 500000] [--json]

Without CAPTURE the captures under CELLWATCH_DATA are repeated until there are `--packets`. One process, one
core, one run each, one after the other. What a row does is in its last column: only ours computes all 64
columns. dpkt and scapy sum packets and bytes by device and second; tshark prints the ten fields that the
columns need; nfstream keeps its flow statistics, without application names.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from cellwatch.models.features.packets import parse
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.nodes.drivers.capture import read_all

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
FIELDS = (
    "frame.time_epoch", "frame.len", "eth.src", "eth.dst", "ip.src", "ip.dst", "tcp.flags",
    "tcp.window_size_value", "ip.ttl", "ip.len",
)  # fmt: skip


def build(path: Path, packets: int) -> None:
    """Write `packets` packets, 47 us apart, by repeating every Ethernet capture there is."""
    records = []
    for file in [*sorted(DATA.glob("pcaps/*/*.pcap*")), *sorted(DATA.glob("lemay_modbus/*.pcap"))]:
        for block in read_all(file):
            if block.link_type == 1:
                data = block.data.tobytes()
                spans = zip(
                    block.offset.tolist(), block.length.tolist(), block.wire_length.tolist(), strict=True
                )
                records += [(data[at : at + n], wire) for at, n, wire in spans]
    if not records:
        sys.exit(f"no captures under {DATA}: set CELLWATCH_DATA or name a capture")
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for i in range(packets):
            data, wire = records[i % len(records)]
            at = 1_700_000_000_000_000 + i * 47
            out.write(struct.pack("<IIII", at // 10**6, at % 10**6, len(data), wire) + data)


def cellwatch(path: Path) -> int:
    windows = TrafficWindows(1.0)
    for block in read_all(path):
        windows.add(parse(block))
        windows.close(windows.newest_ns - 1_000_000_000)
    windows.close(None)
    return windows.packets


def reading(path: Path) -> int:
    return sum(len(block.time_ns) for block in read_all(path))


def parsing(path: Path) -> int:
    return sum(len(parse(block)) for block in read_all(path))


def with_dpkt(path: Path) -> int:
    import dpkt

    sums: dict[tuple[bytes, int], list[int]] = defaultdict(lambda: [0, 0])
    count = 0
    with path.open("rb") as file:
        for at, raw in dpkt.pcap.Reader(file):
            count += 1
            try:
                frame = dpkt.ethernet.Ethernet(raw)
            except dpkt.Error:
                continue
            for mac in (frame.src, frame.dst):
                one = sums[mac, int(at)]
                one[0] += 1
                one[1] += len(raw)
    return count


def with_scapy(path: Path) -> int:
    from scapy.all import Ether, PcapReader

    sums: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    count = 0
    with PcapReader(str(path)) as reader:
        for packet in reader:
            count += 1
            if count > 20_000:  # a sample: all would take minutes
                break
            if Ether in packet:
                for mac in (packet.src, packet.dst):
                    one = sums[mac, int(packet.time)]
                    one[0] += 1
                    one[1] += len(packet)
    return count


def with_tshark(path: Path) -> int:
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", *[w for f in FIELDS for w in ("-e", f)]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        return sum(1 for _ in process.stdout)


def with_nfstream(path: Path) -> int:
    from nfstream import NFStreamer

    streamer = NFStreamer(str(path), statistical_analysis=True, n_dissections=0, n_meters=1)
    return sum(flow.bidirectional_packets for flow in streamer)


TOOLS: list[tuple[str, Callable[[Path], int], str]] = [
    ("cellwatch: read", reading, "packets found in the file"),
    ("cellwatch: read, parse", parsing, "all header fields"),
    ("cellwatch", cellwatch, "64 columns per device and second"),
    ("nfstream", with_nfstream, "flow statistics, no DPI"),
    ("dpkt", with_dpkt, "packets and bytes per device and second"),
    ("tshark", with_tshark, "10 fields as text"),
    ("scapy", with_scapy, "packets and bytes per device and second (20,000 packets)"),
]
NEEDS = {"nfstream": "nfstream", "dpkt": "dpkt", "scapy": "scapy"}


def available(name: str) -> bool:
    from importlib.util import find_spec

    return (
        shutil.which("tshark") is not None
        if name == "tshark"
        else name not in NEEDS or find_spec(name) is not None
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("capture", nargs="?", type=Path)
    parser.add_argument("--packets", type=int, default=500_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--skip", default="", help="tools to leave out, by comma")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.capture or Path(folder) / "made.pcap"
        if args.capture is None:
            build(path, args.packets)
        rows = []
        for name, tool, what in TOOLS:
            if name in args.skip.split(",") or not available(name):
                continue
            start = time.perf_counter()
            packets = tool(path)
            seconds = time.perf_counter() - start
            rows.append(
                {"tool": name, "packets": packets, "packets_per_s": round(packets / seconds), "does": what}
            )
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{'tool':24}{'packets':>10}{'packets/s':>12}  does")
    for row in rows:
        print(f"{row['tool']:24}{row['packets']:>10,}{row['packets_per_s']:>12,}  {row['does']}")


if __name__ == "__main__":
    main()
