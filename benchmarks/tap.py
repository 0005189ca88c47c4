"""Packets per second from a capture file to complete per-device windows, beside other tools.

    python benchmarks/tap.py [CAPTURE] [--packets 500000] [--repeat 1] [--json]

Without CAPTURE the captures under CELLWATCH_DATA are repeated until there are `--packets`, 47 us apart. Each
tool runs in a process of its own, one after the other, on the same file; imports and a first small run
(compilers, caches) are not timed. With `--repeat` the quickest of so many runs counts.

Only cellwatch computes all its columns. nfstream keeps flow statistics without application names: of ours it
has the packet counts, the packet sizes (minimum, mean, maximum, deviation), the times between packets and
the six TCP flag counts, per flow and not per device and second. dpkt and scapy sum packets and bytes by
device and second; tshark prints the ten fields that such columns need. scapy runs over 20,000 packets only.

The ratios say how many times slower than cellwatch a tool is, by the clock and by processor time; `us CPU` is
the processor time a packet, of all processes of the tool: it stands when others use the machine.
`MiB` is the peak of memory above that after the small run, of the tool's largest process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from cellwatch.nodes.drivers.capture import read_all

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
FIELDS = (
    "frame.time_epoch", "frame.len", "eth.src", "eth.dst", "ip.src", "ip.dst", "tcp.flags",
    "tcp.window_size_value", "ip.ttl", "ip.len",
)  # fmt: skip
SAMPLE = 20_000  # packets of the small run, and of scapy's


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


def beginning(path: Path, small: Path) -> None:
    """Write the first packets of `path` as a pcap of their own."""
    left = SAMPLE
    with small.open("wb") as out:
        for block in read_all(path):
            if left == SAMPLE:
                out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, block.link_type))
            for at, n, wire, t in zip(
                block.offset[:left], block.length[:left], block.wire_length[:left], block.time_ns[:left],
                strict=True,
            ):  # fmt: skip
                head = struct.pack("<IIII", t // 10**9, t % 10**9 // 1000, n, wire)
                out.write(head + block.data[at : at + n].tobytes())
            left -= min(left, len(block.time_ns))
            if not left:
                return


def reading(path: Path) -> int:
    return sum(len(block.time_ns) for block in read_all(path))


def parsing(path: Path) -> int:
    from cellwatch.models.features.packets import parse

    return sum(len(parse(block)) for block in read_all(path))


def cellwatch(path: Path) -> int:
    from cellwatch.models.features.packets import parse
    from cellwatch.models.features.traffic import TrafficWindows

    windows = TrafficWindows(1.0)
    for block in read_all(path):
        windows.add(parse(block))
        windows.close(windows.newest_ns - 1_000_000_000)
    windows.close(None)
    return windows.packets


def with_nfstream(path: Path) -> int:
    from nfstream import NFStreamer

    streamer = NFStreamer(str(path), statistical_analysis=True, n_dissections=0, n_meters=1)
    return sum(flow.bidirectional_packets for flow in streamer)


def with_dpkt(path: Path) -> int:
    import dpkt

    sums: dict[tuple[bytes, int], list[int]] = defaultdict(lambda: [0, 0])
    count = 0
    with path.open("rb") as file:
        for at, raw in dpkt.pcap.UniversalReader(file):
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
            if Ether in packet:
                for mac in (packet.src, packet.dst):
                    one = sums[mac, int(packet.time)]
                    one[0] += 1
                    one[1] += len(packet)
            if count == SAMPLE:
                break
    return count


def with_tshark(path: Path) -> int:
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", *[w for f in FIELDS for w in ("-e", f)]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        return sum(1 for _ in process.stdout)


TOOLS: dict[str, tuple[Callable[[Path], int], str]] = {
    "cellwatch: read": (reading, "packets found in the file"),
    "cellwatch: read, parse": (parsing, "all header fields"),
    "cellwatch": (cellwatch, "all columns per device and second"),
    "nfstream": (with_nfstream, "flow statistics, no application names"),
    "dpkt": (with_dpkt, "packets and bytes per device and second"),
    "tshark": (with_tshark, "10 fields as text"),
    "scapy": (with_scapy, "packets and bytes per device and second"),
}


def missing(name: str) -> str:
    """What a tool lacks on this machine, "" if nothing."""
    if name == "tshark":
        return "" if shutil.which(name) else "apt-get install tshark"
    if name.startswith("cellwatch") or importlib.util.find_spec(name):
        return ""
    return f"pip install {name}"


def one(name: str, path: Path, small: Path) -> dict[str, object]:
    """Run one tool in this process."""
    tool = TOOLS[name][0]
    tool(small)
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)

    def cpu() -> float:
        return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, both))

    def peak() -> int:
        return max(resource.getrusage(who).ru_maxrss for who in both)

    base, used, start = peak(), cpu(), time.perf_counter()
    packets = tool(path)
    seconds, used = time.perf_counter() - start, cpu() - used
    return {
        "tool": name, "packets": packets, "packets_per_s": round(packets / seconds),
        "cpu_us": round(1e6 * used / packets, 3), "mib": round((peak() - base) / 1024, 1),
        "does": TOOLS[name][1],
    }  # fmt: skip


def measured(path: Path, small: Path, skip: list[str], repeat: int) -> list[dict[str, object]]:
    """A row for each tool."""
    rows = []
    for name in TOOLS:
        lacks = missing(name)
        if name in skip or lacks:
            if lacks:
                print(f"{name} left out: {lacks}", file=sys.stderr)
            continue
        runs = []
        for _ in range(repeat):
            command = [sys.executable, __file__, str(path), "--one", name, "--small", str(small)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                print(f"{name} failed", file=sys.stderr)
                break
            runs.append(json.loads(done.stdout.splitlines()[-1]))
        if runs:
            rows.append(max(runs, key=lambda run: run["packets_per_s"]))
    ours = next((row for row in rows if row["tool"] == "cellwatch"), None)
    for row in rows:
        row["ratio"] = round(ours["packets_per_s"] / row["packets_per_s"], 2) if ours else None
        row["cpu_ratio"] = round(row["cpu_us"] / ours["cpu_us"], 2) if ours else None
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("capture", nargs="?", type=Path)
    parser.add_argument("--packets", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--skip", default="", help="tools to leave out, by comma")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--small", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.capture, args.small)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = args.capture or Path(folder) / "made.pcap"
        if args.capture is None:
            build(path, args.packets)
        small = Path(folder) / "small.pcap"
        beginning(path, small)
        rows = measured(path, small, args.skip.split(","), args.repeat)
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{'tool':24}{'packets':>10}{'packets/s':>12}{'ratio':>9}{'us CPU':>9}{'ratio':>9}{'MiB':>8}  does")
    for row in rows:
        print(
            f"{row['tool']:24}{row['packets']:>10,}{row['packets_per_s']:>12,}{row['ratio'] or 0:>9.2f}"
            f"{row['cpu_us']:>9.2f}{row['cpu_ratio'] or 0:>9.2f}{row['mib']:>8.1f}  {row['does']}"
        )


if __name__ == "__main__":
    main()
