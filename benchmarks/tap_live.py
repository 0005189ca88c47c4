"""The highest rate at which the live tap loses nothing, over a pair of virtual interfaces.

    sudo python benchmarks/tap_live.py CAPTURE [--seconds 3] [--json]

Both ends are in a network namespace made for the run. A second process sends the packets of CAPTURE round and
round with sendmmsg; the tap makes complete windows of 1 s of them. The rate goes up by half until the kernel
drops packets, then halves the gap; where the sender cannot follow, it sends as fast as it can once more.
Sender and tap share the machine: with two cores each has one, and the kernel delivers in the sender's time. A
rate is held when every packet sent was seen and none was dropped.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from cellwatch.models.features.packets import parse
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.nodes.drivers.capture import LiveCapture, read_all

CLONE_NEWNET, SOL_PACKET, QDISC_BYPASS = 0x40000000, 263, 20
LIMIT = 100_000  # packets that are sent round and round
MTU = 1514
BATCH = 32
MESSAGE = np.dtype(  # struct mmsghdr
    [("name", "u8"), ("names", "u8"), ("iov", "u8"), ("iovs", "u8"), ("ctl", "u8"), ("ctls", "u8"),
     ("flags", "u8"), ("sent", "u8")]
)  # fmt: skip


def send(capture: Path, rate: float, seconds: float) -> None:
    """Send at `rate` packets/s for `seconds` (0: as fast as it goes); prints how many and how fast."""
    parts, sizes, left = [], [], LIMIT
    for block in read_all(capture):
        fits = np.flatnonzero((block.length >= 14) & (block.length <= MTU))[:left]
        parts += [block.data[block.offset[i] : block.offset[i] + block.length[i]].tobytes() for i in fits]
        sizes += block.length[fits].tolist()
        left -= len(fits)
        if block.link_type != 1 or not left:
            break
    data = np.frombuffer(b"".join(parts), np.uint8)
    length = np.array(sizes, np.uint64)
    spans = np.stack([data.ctypes.data + np.cumsum(length) - length, length], axis=1).astype(np.uint64)
    messages = np.zeros(len(spans), MESSAGE)
    messages["iov"] = spans.ctypes.data + 16 * np.arange(len(spans))
    messages["iovs"] = 1
    call, place = ctypes.CDLL(None, use_errno=True).sendmmsg, messages.ctypes.data
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.setsockopt(SOL_PACKET, QDISC_BYPASS, 1)
        out.bind(("g0", 0))
        handle, sent, at = out.fileno(), 0, 0
        start = now = time.perf_counter()
        while now - start < seconds:
            if rate and sent > (now - start) * rate:
                now = time.perf_counter()
                continue
            count = call(handle, ctypes.c_void_p(place + 64 * at), min(BATCH, len(spans) - at), 0)
            if count > 0:
                sent, at = sent + count, (at + count) % len(spans)
            now = time.perf_counter()
    print(json.dumps({"sent": sent, "rate": sent / (now - start)}))


def trial(capture: Path, rate: float, seconds: float) -> dict[str, float]:
    """One run at `rate`: what was sent, seen and dropped."""
    source, windows = LiveCapture("t0"), TrafficWindows(1.0)
    before = time.process_time()
    with subprocess.Popen(
        [sys.executable, __file__, str(capture), "--send", str(rate), "--seconds", str(seconds)],
        stdout=subprocess.PIPE,
    ) as sender:
        quiet = 0
        while quiet < 5:
            blocks = source.read(0.1)
            for block in blocks:
                windows.add(parse(block))
            windows.close(time.time_ns() - 200_000_000)
            quiet = 0 if blocks or sender.poll() is None else quiet + 1
        assert sender.stdout is not None
        told = json.loads(sender.stdout.read())
    windows.close(None)
    busy = time.process_time() - before
    result = {
        "asked": rate, "rate": told["rate"], "sent": told["sent"], "seen": windows.packets,
        "dropped": source.dropped, "frozen": source.frozen, "cpu_us": 1e6 * busy / max(windows.packets, 1),
    }  # fmt: skip
    source.close()
    return result


def search(capture: Path, seconds: float) -> list[dict[str, float]]:
    """Trials upwards, then between the last that held and the first that did not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        sys.exit(f"no network namespace: {os.strerror(ctypes.get_errno())}; run as root")
    for words in (
        "link add t0 type veth peer name g0",
        "link set t0 up",
        "link set g0 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    trial(capture, 10_000, 1.0)  # numba's first steps, and the kernel's own packets of a new interface
    trials, held, lost, rate = [], 0.0, 0.0, 50_000.0
    while not lost or lost / held > 1.1:
        one = trial(capture, rate, seconds)
        trials.append(one)
        if one["dropped"] == 0 and one["seen"] >= one["sent"]:
            held = max(held, one["rate"])
            if not rate:
                break
        else:
            lost = one["rate"]
            if not held:
                break
        behind = rate and one["rate"] < 0.97 * rate
        rate = (held + lost) / 2 if lost else 0.0 if behind else rate * 1.5
    return trials


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("capture", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--send", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.send is not None:
        send(args.capture, args.send, args.seconds)
        return
    trials = search(args.capture, args.seconds)
    if args.json:
        print(json.dumps(trials))
        return
    print(f"{'asked/s':>10}{'sent/s':>10}{'sent':>12}{'seen':>12}{'dropped':>10}{'us CPU':>8}")
    for t in trials:
        print(
            f"{t['asked']:>10,.0f}{t['rate']:>10,.0f}{t['sent']:>12,}{t['seen']:>12,}{t['dropped']:>10,}"
            f"{t['cpu_us']:>8.2f}"
        )
    held = max((t["rate"] for t in trials if not t["dropped"] and t["seen"] >= t["sent"]), default=0.0)
    print(f"held without a loss: {held:,.0f} packets/s")


if __name__ == "__main__":
    main()
