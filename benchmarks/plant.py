"""How fast the simulated plant is: process, network, both.

python benchmarks/plant.py [--seconds 5]

All figures are per second of CPU time of one process. What OPC UA servers hold is in benchmarks/servers.py.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.network import Network
from cellwatch.plc_sim.plcs import SCAN_S
from cellwatch.plc_sim.process import Process
from cellwatch.plc_sim.recording import simulate
from cellwatch.plc_sim.sites import SITES

TICK_NS = 100_000_000
FLOODS = ("dos/syn-flood", "ddos/udp-flood", "dos/http-flood")


def plant_seconds(site: str, seconds: float) -> float:
    """Plant seconds of the process and its PLCs alone."""
    process = Process(SITES[site], np.random.default_rng(0), np.random.default_rng(1))
    scans, begin = 0, time.process_time()
    while time.process_time() - begin < seconds:
        for _ in range(500):
            process.scan()
        scans += 500
    return scans * SCAN_S / (time.process_time() - begin)


def cell_seconds(scenario: str, network: bool, seconds: float) -> float:
    """Plant seconds of a whole cell, warm-up included."""
    done, begin = 0.0, time.process_time()
    while time.process_time() - begin < seconds:
        simulate(scenario, int(done), 60.0, network=network)
        done += 60.0
    return done / (time.process_time() - begin)


def packets(attack: str | None, seconds: float) -> float:
    """Frames of the factory's network with one severe flood: made, checksummed, merged in order of time."""
    rng = np.random.default_rng(0)
    network = Network(rng, 0, SITES["factory"])
    running = None
    if attack is not None:
        kind = ATTACKS[attack]
        running = kind.start(network, rng, kind.cast(rng), kind.targets["factory"][0], 1.0)
    made, now, begin = 0, 0, time.process_time()
    while time.process_time() - begin < seconds:
        extra = running.tick(now, now + TICK_NS, {})[0] if running else None
        made += len(network.tick(now, now + TICK_NS, extra))
        now += TICK_NS
    return made / (time.process_time() - begin)


def main() -> None:
    """Print the table."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    seconds = args.parse_args().seconds
    print("| figure, per CPU second | value |\n|---|---|")
    for site in SITES:
        print(f"| plant seconds, process of the {site} | {plant_seconds(site, seconds):,.0f} |")
    for scenario, network in (("quiet", False), ("quiet", True), ("demo", True)):
        traffic = "with traffic" if network else "no traffic"
        print(f"| plant seconds, `{scenario}`, {traffic} | {cell_seconds(scenario, network, seconds):,.0f} |")
    print(f"| packets, benign factory | {packets(None, seconds):,.0f} |")
    for attack in FLOODS:
        print(f"| packets, factory under {attack} | {packets(attack, seconds):,.0f} |")


if __name__ == "__main__":
    main()
