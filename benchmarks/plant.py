# mypy: disable-error-code="attr-defined"
"""How fast the plant is: packets made, plant seconds, OPC UA updates that its server holds.

python benchmarks/plant.py [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np

from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.frames import merge
from cellwatch.plc_sim.network import Network
from cellwatch.plc_sim.recording import simulate


def packets_per_second(seconds: float) -> float:
    """A SYN flood of 20,000 attack packets a tick of 0.1 s, made, checksummed and merged."""
    rng = np.random.default_rng(0)
    net = Network(rng, 0)
    attack = ATTACKS["dos/syn-flood"]
    made, tick, begin = 0, 0, time.process_time()
    while time.process_time() - begin < seconds:
        at = np.sort(rng.integers(tick * 10**8, (tick + 1) * 10**8, size=20_000))
        made += len(merge([], attack.make(rng, net.hosts["attacker0"], net.hosts["PLC1"], at, made)))
        tick += 1
    return made / (time.process_time() - begin)


def plant_seconds(scenario: str, network: bool, seconds: float) -> float:
    """Seconds of plant time per second of CPU."""
    done, begin = 0.0, time.process_time()
    while time.process_time() - begin < seconds:
        simulate(scenario, int(done), 60.0, network=network)
        done += 60.0
    return done / (time.process_time() - begin)


def _serve(tags: int, seconds: float, ready: Event, out: Any, hertz: float, done: Event) -> None:
    from cellwatch.plc_sim.server import PlcServer
    from cellwatch.plc_sim.tags import TagSpec

    async def main() -> None:
        specs = [TagSpec(f"T{i}", "%", 0, 100) for i in range(tags)]
        server = PlcServer("PLC1", specs, lambda _tag, _value: 0)
        out.put(await server.start(0, [0.0] * tags))
        await asyncio.to_thread(ready.wait)
        written, k, cpu, begin = 0, 0, time.process_time(), time.monotonic()
        while (now := time.monotonic()) - begin < seconds:
            k += 1
            written += await server.publish(time.time_ns(), (np.arange(tags) + k % 50).tolist())
            await asyncio.sleep(max(begin + k / hertz - now, 0.0))
        span = time.monotonic() - begin
        out.put((written / span, (time.process_time() - cpu) / span))
        await asyncio.to_thread(done.wait, 20.0)
        await server.stop()

    asyncio.run(main())


async def _subscribe(endpoint: str, ready: Event, seconds: float) -> int:
    import logging

    from asyncua import Client

    logging.getLogger("asyncua").setLevel(logging.ERROR)
    got = 0

    class Counter:
        def datachange_notification(self, *_: object) -> None:
            nonlocal got
            got += 1

        def status_change_notification(self, *_: object) -> None:
            pass

    async with Client(endpoint) as client:
        ns = await client.get_namespace_index("urn:cellwatch:plc_sim")
        nodes = await (await client.nodes.objects.get_child(f"{ns}:PLC1")).get_children()
        subscription = await client.create_subscription(100, Counter())
        await subscription.subscribe_data_change(nodes, queuesize=20)
        got = 0
        ready.set()
        await asyncio.sleep(seconds + 0.6)
        await subscription.delete()
    return got


def updates_per_second(tags: int, hertz: float, seconds: float) -> tuple[float, float, float]:
    """Updates written and received per second, and the server's share of a core."""
    context = multiprocessing.get_context("spawn")
    ready, done, out = context.Event(), context.Event(), context.Queue()
    server = context.Process(target=_serve, daemon=True, args=(tags, seconds, ready, out, hertz, done))
    server.start()
    try:
        received = asyncio.run(_subscribe(out.get(timeout=60), ready, seconds))
        written, cpu = out.get(timeout=60)
    finally:
        done.set()
        server.join(10)
    return written, received / seconds, cpu


def main() -> None:
    """Print the table."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    seconds = args.parse_args().seconds
    print("| figure | value |\n|---|---|")
    print(f"| packets made (flood, one core) | {packets_per_second(seconds):,.0f} /s |")
    for label, scenario, network in (
        ("process and PLC only", "quiet", False),
        ("with benign traffic", "quiet", True),
        ("with traffic, fault and attack", "demo", True),
    ):
        print(f"| plant seconds per CPU second, {label} | {plant_seconds(scenario, network, seconds):,.0f} |")
    for tags, hertz in ((14, 10.0), (1000, 10.0)):
        written, received, cpu = updates_per_second(tags, hertz, seconds)
        print(
            f"| OPC UA, {tags} tags, {hertz:g} Hz: written, received | {written:,.0f}, {received:,.0f} /s, "
            f"server {100 * cpu:.0f} % CPU |"
        )


if __name__ == "__main__":
    main()
