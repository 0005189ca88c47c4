"""The whole cell, armed: latency from a closed window to a command in the PLC, and memory.

    python benchmarks/cell.py [--runs N] [--json]

Runs the demonstration cell with a response that repeats its command in every window of an incident, so
that the percentiles stand on more than two commands, and samples the resident memory of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).resolve().parent.parent


def cell_file(folder: Path) -> Path:
    cell = yaml.safe_load((ROOT / "config" / "cells" / "demo.yaml").read_text())
    cell["cell"] = "bench"
    cell["plcs"][0]["tag_map"] = str(ROOT / "config" / "tags" / "plc1.yaml")
    cell["rules"]["rules_file"] = str(ROOT / "config" / "rules" / "bench.yaml")
    # The lock is harmless to the process, so the incident goes on and every window may ask again.
    cell["response"] = [{"action": "quarantine", "tag": "XS102_LOCK", "value": 1, "hold_s": 0.0}]
    cell["interlocks"] = {"max_commands": 1000}
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(cell))
    return path


def memory(parent: int) -> tuple[float, float]:
    """Resident and proportional set size of a process and all its children, MB."""
    rss = pss = 0
    try:
        tree = [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0, 0.0
    for process in tree:
        try:
            info = process.memory_full_info()
        except psutil.Error:
            continue
        rss += info.rss
        pss += info.pss
    return rss / 1e6, pss / 1e6


def one_run(path: Path, seed: int) -> dict:
    command = [
        sys.executable,
        "-m",
        "cellwatch.nodes.cli",
        "run",
        "--config",
        str(path),
        "--arm",
        "--no-dashboard",
        "--duration",
        "60",
        "--seed",
        str(seed),
        "--json",
    ]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, cwd=ROOT)
        peak_rss = peak_pss = 0.0
        while process.poll() is None:
            rss, pss = memory(process.pid)
            peak_rss, peak_pss = max(peak_rss, rss), max(peak_pss, pss)
            time.sleep(0.5)
        out.seek(0)
        report = json.loads(out.read())
    latency = report["latency_ms"]
    return {
        "seed": seed,
        "commands": report["commands"]["accepted"],
        "window_to_command_p50_ms": latency["window_to_command"]["p50"],
        "window_to_command_p99_ms": latency["window_to_command"]["p99"],
        "window_to_verdict_p99_ms": latency["window_to_verdict"]["p99"],
        "tag_to_topic_p50_ms": latency["tag_to_topic"]["p50"],
        "peak_rss_mb": round(peak_rss),
        "peak_pss_mb": round(peak_pss),
        "samples": report["tags"]["received"],
        "lost": report["export"]["lost"] + report["tags"]["dropped"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("ROS_DOMAIN_ID", "77")
        rows = [one_run(cell_file(Path(folder)), seed) for seed in range(args.runs)]
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    for key in rows[0]:
        print(f"{key:28}" + "".join(f"{row[key]:>12}" for row in rows))


if __name__ == "__main__":
    main()
