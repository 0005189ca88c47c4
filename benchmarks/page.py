"""What the page costs: first paint, the server's CPU time, and whether a browser left open grows.

    python benchmarks/page.py [--devices 40] [--hz 10] [--browsers 2] [--seconds 30] [--json]

A made-up cell (4 PLCs, 5 tags a device, a verdict a second for each device, 100 alarms) fills a `LiveCell`
in a process of its own, which serves the page as the dashboard node does. So the figures hold what a page
costs on top of hearing the topics. Chromium (`--chromium`) opens it with an empty cache, then again.
CPU is that of the server's process, in percent of one core, without a browser and with 1 ... `--browsers`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import time
from itertools import pairwise
from typing import Any

import numpy as np
import psutil

TAGS = 5  # of a device
PLCS = 4
ALARMS = 100
PAINT = """() => performance.getEntriesByName("first-contentful-paint").map((e) => e.startTime)[0]"""
BYTES = """() => performance.getEntriesByType("resource").reduce((n, e) => n + e.encodedBodySize, 0)"""
SHOWN = "#view-overview .tile"


def serve(port: int, devices: int, hz: float) -> None:
    """Fill a cell and serve it until the process is ended."""
    import threading
    from pathlib import Path

    import uvicorn

    from cellwatch.nodes.page.access import Access
    from cellwatch.nodes.page.app import PageSettings, build_app
    from cellwatch.nodes.page.desk import Desk
    from cellwatch.nodes.page.live_cell import LiveCell
    from cellwatch.nodes.page.users import UsersFile

    names = [f"DEV{i:02}" for i in range(devices)]
    live = LiveCell("made-up", names)
    threading.Thread(target=fill, args=(live, names, hz), daemon=True).start()

    def nobody(_: Any) -> Any:
        raise RuntimeError("nobody presses a button")

    access = Access(UsersFile(Path(os.devnull).with_name("no-users")), local="benchmark")
    app = build_app(live, Desk(live, nobody, ()), access, PageSettings())
    uvicorn.run(app, host="127.0.0.1", port=port, http="h11", ws="none", log_level="error")


def fill(live: Any, names: list[str], hz: float) -> None:
    """Samples at `hz`, verdicts once a second, in which every tenth device is suspicious."""
    from cellwatch.models import types as t

    groups = [names[i::PLCS] for i in range(PLCS)]
    for i, group in enumerate(groups):
        tags = [t.TagInfo(f"{d}_T{k}", "", d, "bar", 0.0, 10.0, 1 / hz) for d in group for k in range(TAGS)]
        live.on_catalog(t.TagCatalog(f"PLC{i}", tuple(tags)))
    rng = np.random.default_rng(0)
    now = time.time_ns()
    live.on_alarms(
        tuple(
            t.Alarm(f"{names[i % len(names)]}/dos{i}", names[i % len(names)], "dos", "dos/syn-flood",
                    t.AlarmState.ACKNOWLEDGED, t.Priority.LOW, t.Ne107.NORMAL, True, True, now, now, 1, "")
            for i in range(ALARMS)
        ),
        0,
    )  # fmt: skip
    ticks, window = 0, 0
    next_s = time.monotonic()
    while True:
        now = time.time_ns()
        for i, group in enumerate(groups):
            n = len(group) * TAGS
            at = np.full(n, now)
            values = 5 + np.sin(ticks / 30 + np.arange(n)) + rng.normal(0, 0.02, n)
            live.on_tags(
                t.TagBatch(f"PLC{i}", ticks + 1, np.arange(n, dtype=np.uint32), values,
                           np.zeros(n, np.uint32), at, at, now)
            )  # fmt: skip
        if window != (window := now // 10**9):
            verdicts = [
                t.FusedVerdict(d, t.Screening.SUSPICIOUS if k % 10 == 0 else t.Screening.ALLOW,
                               float(rng.random()), 0.5, "dos" if k % 10 == 0 else "benign")
                for k, d in enumerate(names)
            ]  # fmt: skip
            live.on_fused(t.FusedWindow(window, window * 10**9, now, tuple(verdicts)))
            for node in ("opcua_client_node", "feature_node", "rule_node", "ensemble_node", "fusion_node"):
                live.on_health(node, 0, "well", {"windows": str(window), "pid": "1"})
        ticks += 1
        next_s += 1 / hz
        time.sleep(max(0.0, next_s - time.monotonic()))


def cpu(process: psutil.Process, seconds: float) -> float:
    """Percent of one core."""
    before, at = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    return 100 * (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - at)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def measure(o: argparse.Namespace) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    port = free_port()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(port, o.devices, o.hz), daemon=True
    )
    server.start()
    url = f"http://127.0.0.1:{port}/"
    _wait(port)
    process = psutil.Process(server.pid)
    time.sleep(3)
    found: dict[str, Any] = {"devices": o.devices, "hz": o.hz, "cpu_percent": [cpu(process, o.seconds)]}
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=o.chromium, args=root)
        paints: dict[str, list[float]] = {"cold": [], "warm": []}
        shown: dict[str, list[float]] = {"cold": [], "warm": []}
        pages = []
        for _ in range(max(o.browsers, o.paints)):
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            for kind, times in paints.items():
                page.goto(url)
                page.wait_for_selector(SHOWN)
                shown[kind].append(page.evaluate("() => performance.now()"))
                times.append(page.evaluate(PAINT))
                if kind == "cold":
                    found["bytes"] = page.evaluate(BYTES)
            pages.append(page)
            if len(pages) > o.browsers:
                pages.pop().context.close()
        found["first_paint_ms"] = {kind: statistics.median(ms) for kind, ms in paints.items()}
        found["shown_ms"] = {kind: statistics.median(ms) for kind, ms in shown.items()}
        for page in pages:
            page.goto("about:blank")
        heaps = []
        for page in pages:
            page.goto(url)
            page.wait_for_selector(SHOWN)
            time.sleep(2)
            found["cpu_percent"].append(cpu(process, o.seconds))
        found["server_mb"] = [process.memory_info().rss / 1e6]
        session = pages[0].context.new_cdp_session(pages[0])
        for _ in range(3):
            session.send("HeapProfiler.collectGarbage")
            heaps.append(pages[0].evaluate("() => performance.memory.usedJSHeapSize") / 1e6)
            time.sleep(o.seconds)
        found["server_mb"].append(process.memory_info().rss / 1e6)
        found["heap_mb"] = heaps
        browser.close()
    server.terminate()
    return found


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the server does not start")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--devices", type=int, default=40)
    p.add_argument("--hz", type=float, default=10.0)
    p.add_argument("--browsers", type=int, default=2)
    p.add_argument("--paints", type=int, default=5, help="how often the first paint is measured")
    p.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    p.add_argument("--chromium", default="/usr/bin/chromium")
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    found = measure(o)
    if o.json:
        print(json.dumps(found))
        return
    print(f"{o.devices} devices, {TAGS * o.devices} tags at {o.hz:g} Hz, {ALARMS} alarms")
    for n, share in enumerate(found["cpu_percent"]):
        print(f"server, {n} browsers: {share:.1f} % of a core")
    for kind, ms in found["first_paint_ms"].items():
        print(f"first paint, {kind}: {ms:.0f} ms; devices shown after {found['shown_ms'][kind]:.0f} ms")
    print(f"fetched: {found['bytes'] / 1000:.0f} kB")
    print("page's heap:", ", ".join(f"{mb:.1f}" for mb in found["heap_mb"]), "MB, growth",
          ", ".join(f"{b - a:+.1f}" for a, b in pairwise(found["heap_mb"])))  # fmt: skip
    print("server:", ", ".join(f"{mb:.0f}" for mb in found["server_mb"]), "MB")


if __name__ == "__main__":
    main()
