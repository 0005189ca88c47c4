"""What one notification costs: asyncua's subscription handler against the link, on one server in one run.

    python benchmarks/link.py            # 1000 tags at 10 Hz, 10 s each
    python benchmarks/link.py --tags 5000 --json

The server is node-opcua where it is installed (tests/nodes/node_opcua), else asyncua. Each client runs in a
process of its own; CPU is that process's user + system time from the first sample to the last, without
connecting. "lost" counts samples that the server sent no more and no gap explains: each tag's value counts up
by one, so every hole shows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

NODE = Path(__file__).parents[1] / "tests" / "nodes" / "node_opcua"


def cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def holes(tag: np.ndarray, value: np.ndarray, excused: set[int]) -> int:
    """Steps that a tag skipped."""
    order = np.lexsort((value, tag))
    tag, value = tag[order], value[order]
    same, step = np.diff(tag) == 0, np.diff(value)
    lost = 0
    for start, n in zip(value[:-1][same & (step > 1)], step[same & (step > 1)], strict=True):
        lost += sum(int(start) + k not in excused for k in range(1, int(n)))
    return lost


def run_link(endpoint: str, seconds: float, period_ms: int, options: dict[str, str]) -> dict[str, Any]:
    from cellwatch.nodes.drivers.opcua_link import OpcuaLink
    from cellwatch.nodes.drivers.opcua_settings import LinkSettings
    from cellwatch.nodes.drivers.tag_map import TagMap

    tags = TagMap.parse('tags: [{path: "Objects/*:PLC1/*:T*", sampling_ms: 0, queue_size: 50}]')
    link = OpcuaLink(LinkSettings("plc1", endpoint, **options), tags)
    link.start(wait_s=30)
    time.sleep(1.0)
    batches = link.drain()
    cpu, wall, before = cpu_s(), time.perf_counter(), link.stats.received
    end = wall + seconds
    while time.perf_counter() < end:
        time.sleep(0.02)
        batches += link.drain()
    cpu, wall, n = cpu_s() - cpu, time.perf_counter() - wall, link.stats.received - before
    stats = link.stats
    link.stop()
    gaps = [g for b in batches for g in b.gaps]
    period_ns = period_ms * 1_000_000
    excused = {k for g in gaps for k in range(g.start_ns // period_ns, g.end_ns // period_ns + 1)}
    lost = holes(
        np.concatenate([b.tag for b in batches]), np.concatenate([b.value for b in batches]), excused
    )
    delay = np.concatenate([b.received_ns - b.source_ns for b in batches]) / 1e6
    return {
        "client": "link" + (", Basic256Sha256" if options else ""), "notifications": n, "rate": n / wall,
        "cpu_us": cpu / n * 1e6, "lost": lost, "gaps": len(gaps), "dropped": stats.dropped,
        "source_to_link_ms_p50": float(np.quantile(delay, 0.5)),
        "source_to_link_ms_p99": float(np.quantile(delay, 0.99)),
    }  # fmt: skip


async def run_stock(endpoint: str, seconds: float) -> dict[str, Any]:
    from asyncua import Client, ua

    class Handler:
        rows: list[tuple[Any, float]] = []  # noqa: RUF012

        def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
            del data
            self.rows.append((node.nodeid.Identifier, value))

    async with Client(endpoint) as client:
        children = await client.nodes.objects.get_children()
        names = [(await c.read_browse_name()).Name for c in children]
        nodes = await children[names.index("PLC1")].get_children()
        known = []
        for i in range(0, len(nodes), 250):  # inside the server's operation limits
            known += await client.read_attributes(nodes[i : i + 250], attr=ua.AttributeIds.BrowseName)
        nodes = [n for n, d in zip(nodes, known, strict=True) if d.Value.Value.Name.startswith("T")]
        handler = Handler()
        subscription = await client.create_subscription(100, handler)
        for i in range(0, len(nodes), 250):
            await subscription.subscribe_data_change(nodes[i : i + 250], queuesize=50, sampling_interval=0)
        await asyncio.sleep(1.0)
        cpu, wall, before = cpu_s(), time.perf_counter(), len(handler.rows)
        await asyncio.sleep(seconds)
        cpu, wall, n = cpu_s() - cpu, time.perf_counter() - wall, len(handler.rows) - before
        await subscription.delete()
    ids = {node: i for i, node in enumerate({row[0] for row in handler.rows})}
    tag = np.array([ids[row[0]] for row in handler.rows])
    return {
        "client": "asyncua handler", "notifications": n, "rate": n / wall, "cpu_us": cpu / n * 1e6,
        "lost": holes(tag, np.array([row[1] for row in handler.rows]), set()), "gaps": 0, "dropped": 0,
    }  # fmt: skip


async def serve_asyncua(port: int, tags: int, period_ms: int) -> None:
    from asyncua import Server

    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    plc = await server.nodes.objects.add_object(2, "PLC1")
    nodes = [await plc.add_variable(2, f"T{i}", 0.0) for i in range(tags)]
    async with server:
        print("ready", flush=True)
        step = time.time_ns() // (period_ms * 1_000_000)
        while True:
            while step * period_ms / 1000 < time.time():
                step += 1
                for node in nodes:
                    await node.write_value(float(step))
            await asyncio.sleep(0.005)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def server(kind: str, tags: int, period_ms: int, pki: str, *, secure: bool) -> Iterator[str]:
    port = free_port()
    if kind == "node-opcua":
        options = {"port": port, "tags": tags, "periodMs": period_ms, "pki": pki, "secure": secure}
        command, cwd = ["node", "server.js", json.dumps(options)], NODE
    else:
        command = [sys.executable, __file__, "--serve", json.dumps([port, tags, period_ms])]
        cwd = Path.cwd()
    child = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        if not any("ready" in line for line in child.stdout or ()):
            raise SystemExit(f"the {kind} server did not start")
        yield f"opc.tcp://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()


def client(
    endpoint: str, which: str, seconds: float, period_ms: int, options: dict[str, str]
) -> dict[str, Any]:
    request = json.dumps([endpoint, which, seconds, period_ms, options])
    done = subprocess.run(
        [sys.executable, __file__, "--client", request], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--tags", type=int, default=1000)
    args.add_argument("--hz", type=float, default=10.0)
    args.add_argument("--seconds", type=float, default=10.0)
    args.add_argument("--json", action="store_true")
    args.add_argument("--client", help=argparse.SUPPRESS)
    args.add_argument("--serve", help=argparse.SUPPRESS)
    given = args.parse_args()
    if given.serve:
        asyncio.run(serve_asyncua(*json.loads(given.serve)))
        return
    if given.client:
        endpoint, which, seconds, period, options = json.loads(given.client)
        row = (
            asyncio.run(run_stock(endpoint, seconds))
            if which == "stock"
            else run_link(endpoint, seconds, period, options)
        )
        print(json.dumps(row))
        return
    have_node = shutil.which("node") and (NODE / "node_modules" / "node-opcua").exists()
    kind, period_ms = "node-opcua" if have_node else "asyncua", round(1000 / given.hz)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        pki = str(Path(folder) / "pki")
        with server(kind, given.tags, period_ms, pki, secure=False) as endpoint:
            rows += [client(endpoint, which, given.seconds, period_ms, {}) for which in ("stock", "link")]
        if have_node:
            from cellwatch.nodes.drivers.opcua_settings import make_certificate

            certificate, key = map(str, make_certificate(folder))
            options = {
                "security_policy": "Basic256Sha256", "certificate": certificate, "private_key": key,
                "user": "anna", "password": "secret",
            }  # fmt: skip
            with server(kind, given.tags, period_ms, pki, secure=True) as endpoint:
                rows.append(client(endpoint, "link", given.seconds, period_ms, options))
    if given.json:
        print(json.dumps({"server": kind, "tags": given.tags, "hz": given.hz, "rows": rows}, indent=1))
        return
    print(f"{given.tags} tags at {given.hz:g} Hz from {kind}, {given.seconds:g} s, {os.cpu_count()} cores\n")
    print(
        "| client | notifications/s | CPU each (us) | lost | gaps | dropped | source to link p50 / p99 (ms) |"
    )
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        p50, p99 = r.get("source_to_link_ms_p50"), r.get("source_to_link_ms_p99")
        delay = f"{p50:.0f} / {p99:.0f}" if p50 is not None else "-"
        counts = f"{r['lost']} | {r['gaps']} | {r['dropped']}"
        print(f"| {r['client']} | {r['rate']:.0f} | {r['cpu_us']:.2f} | {counts} | {delay} |")


if __name__ == "__main__":
    main()
