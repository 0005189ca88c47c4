"""What the OPC UA servers of the factory cost and hold.

    python benchmarks/servers.py

Servers and subscriber are two processes of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np
import psutil

SITE = "factory"
HERTZ = 10.0  # scans a second


@dataclass(frozen=True)
class Held:
    """What the servers of a site held."""

    tags: int
    started_s: tuple[float, ...]  # to start each server
    memory_mb: float
    written: float  # /s
    received: float  # /s
    lag_s: float  # largest time by which a scan was late
    cpu: float  # share of a core, servers


def _serve(times: int, hertz: float, seconds: float, ready: Event, done: Event, out: Any) -> None:
    from cellwatch.plc_sim.servers.opcua import PlcServer
    from cellwatch.plc_sim.sites import SITES
    from cellwatch.plc_sim.tags import PLC_TAGS, TagSpec

    async def main() -> None:
        servers, started = [], []
        for plc in SITES[SITE].plcs:
            specs = [
                TagSpec(f"{tag.name}_{k}", tag.unit, 0, 100) for k in range(times) for tag in PLC_TAGS[plc]
            ]
            server = PlcServer(plc, specs, lambda _tag, _value: 0)
            begin = time.perf_counter()
            await server.start(0, [0.0] * len(specs))
            started.append(time.perf_counter() - begin)
            servers.append(server)
        memory_mb = psutil.Process().memory_info().rss / 1e6
        out.put([(server.plc, server.endpoint) for server in servers])
        await asyncio.to_thread(ready.wait)
        written, lag, k, cpu, begin = 0, 0.0, 0, time.process_time(), time.monotonic()
        while (now := time.monotonic()) - begin < seconds:
            lag = max(lag, now - begin - k / hertz)
            k += 1
            for server in servers:
                values = (np.arange(len(server.tags)) + k % 50).tolist()
                written += await server.publish(time.time_ns(), values)
            await asyncio.sleep(max(begin + k / hertz - time.monotonic(), 0.0))
        span = time.monotonic() - begin
        tags = sum(len(server.tags) for server in servers)
        out.put((tags, tuple(started), memory_mb, written / span, lag, (time.process_time() - cpu) / span))
        await asyncio.to_thread(done.wait, 20.0)
        for server in servers:
            await server.stop()

    asyncio.run(main())


async def _subscribe(endpoints: list[tuple[str, str]], ready: Event, seconds: float) -> int:
    from contextlib import AsyncExitStack

    from asyncua import Client

    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    got = 0

    class Counter:
        def datachange_notification(self, *_: object) -> None:
            nonlocal got
            got += 1

        def status_change_notification(self, *_: object) -> None:
            pass

    async with AsyncExitStack() as stack:
        for plc, endpoint in endpoints:
            client = await stack.enter_async_context(Client(endpoint))
            ns = await client.get_namespace_index("urn:cellwatch:plc_sim")
            folder = await client.nodes.objects.get_child(f"{ns}:{plc}")
            subscription = await client.create_subscription(100, Counter(), queue_maxsize=100_000)
            await subscription.subscribe_data_change(await folder.get_variables(), queuesize=20)
        await asyncio.sleep(0.5)
        got = 0
        ready.set()
        await asyncio.sleep(seconds + 1.0)
    return got


def hold(times: int, hertz: float, seconds: float) -> Held:
    """Serve `times` times the tags of the site, all changing `hertz` times a second, to one subscriber."""
    context = multiprocessing.get_context("spawn")
    ready, done, out = context.Event(), context.Event(), context.Queue()
    servers = context.Process(target=_serve, daemon=True, args=(times, hertz, seconds, ready, done, out))
    servers.start()
    try:
        received = asyncio.run(_subscribe(out.get(timeout=60), ready, seconds))
        tags, started, memory_mb, written, lag, cpu = out.get(timeout=60)
    finally:
        done.set()
        servers.join(10)
    return Held(tags, started, memory_mb, written, received / seconds, lag, cpu)


def main() -> None:
    """Print the table."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    seconds = args.parse_args().seconds
    print("| tags on 4 servers, 10 Hz | written /s | received /s | latest scan | server CPU |")
    print("|---|---|---|---|---|")
    starts = best = ""
    for times in (1, 5, 10, 15, 20, 25):
        held = hold(times, HERTZ, seconds)
        print(
            f"| {held.tags} | {held.written:,.0f} | {held.received:,.0f} | {1000 * held.lag_s:.0f} ms "
            f"| {100 * held.cpu:.0f} % |",
            flush=True,
        )
        if held.lag_s < 1.0 / HERTZ and held.received > 0.99 * held.written:
            best = f"{held.written:,.0f} /s"
        starts = starts or (
            f"start of each server: {', '.join(f'{each:.2f}' for each in held.started_s)} s; "
            f"memory of their process: {held.memory_mb:.0f} MB"
        )
    print(f"\nheld without a late scan or a lost update: {best}\n{starts}")


if __name__ == "__main__":
    main()
