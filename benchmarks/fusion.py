"""What the fusion of 23 sources (RuleSense and 22 models) costs for a device window.

python benchmarks/fusion.py [--windows 300] [--json | --markdown]

All three levels (2, 10 and 75 classes), weights and calibrators for every model; from the verdicts of both
sources to the fused window with contributions. `suspicious` devices are voted on at L2 and L3 and explained
in words and JSON. Medians of the thread's own time, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from cellwatch.models.fusion.calibration import Calibration, Isotonic
from cellwatch.models.fusion.fusion import Fusion, FusionSettings
from cellwatch.models.types import Level, LevelScores, Screening, Verdicts, Violation

MODELS = 22
CATEGORIES = ("benign", "fault", "dos", "ddos", "recon", "web", "mitm", "bruteforce", "malware", "ics")
TYPES = ("benign", *(f"{CATEGORIES[1 + i % 9]}/type{i}" for i in range(74)))
CASES = ((1, 0), (1, 1), (8, 1), (45, 0), (45, 4), (45, 45))  # devices, of them suspicious
HEADS = ("devices", "suspicious", "us a window", "us a device window")
VIOLATIONS = 8


def sources(devices: int, suspicious: int) -> tuple[Verdicts, Verdicts]:
    """What RuleSense and the models say of one window."""
    random = np.random.default_rng(0)
    names = tuple(f"device{i}" for i in range(devices))
    bad = np.arange(devices) < suspicious
    confidence = np.where(bad, 0.9, 0.05).astype(np.float32)
    l1 = random.uniform(0.0, 0.1, (devices, MODELS)).astype(np.float32)
    l1[bad] += 0.85
    rules = LevelScores(
        Level.L1,
        ("rulesense",),
        ("benign", "attack"),
        np.stack([1 - confidence, confidence], axis=1)[:, None],
    )
    detectors = tuple(f"model{i}" for i in range(MODELS))
    levels = [LevelScores(Level.L1, detectors, ("benign", "attack"), np.stack([1 - l1, l1], axis=2))]
    for level, classes in ((Level.L2, CATEGORIES), (Level.L3, TYPES)):
        p = random.dirichlet(np.full(len(classes), 0.1), (devices, MODELS)).astype(np.float32)
        levels.append(LevelScores(level, detectors, classes, p))
    violations = tuple(
        Violation(names[i], f"network_feature{k}_avg", 9.0, 0.0, 1.0, "limit", "dos", "T0814")
        for i in np.flatnonzero(bad)
        for k in range(VIOLATIONS)
    )
    screening = np.where(bad, Screening.BLOCK, Screening.ALLOW).astype(np.uint8)
    nothing = np.zeros(devices, np.uint8)
    return (
        Verdicts("rules", 0, 0, 0, names, screening, confidence, (rules,), violations),
        Verdicts("ensemble", 0, 0, 0, names, nothing, nothing.astype(np.float32), tuple(levels)),
    )


def measure(devices: int, suspicious: int, windows: int) -> float:
    """Median seconds a window."""
    curve = Isotonic(tuple(np.linspace(0, 1, 64).tolist()), tuple((np.linspace(0.01, 0.99, 64)).tolist()))
    names = ["rulesense", *(f"model{i}" for i in range(MODELS))]
    core = Fusion(
        FusionSettings(
            weights={f"L{level}/{d}": 1.5 for level in (1, 2, 3) for d in names},
            calibration=Calibration({f"L1/{d}": curve for d in [*names, "fused"]}),
        )
    )
    said = sources(devices, suspicious)
    spent = []
    for window_id in range(1, windows + 1):
        now = [Verdicts(v.source, window_id, *[getattr(v, f) for f in Verdicts.__slots__[2:]]) for v in said]
        begun = time.thread_time()
        for verdicts in now:
            core.offer(verdicts, 0)
        (window,) = core.step(0)
        spent.append(time.thread_time() - begun)
        assert len(window.verdicts) == devices
    return float(np.median(spent))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    rows = []
    for devices, suspicious in CASES:
        us = 1e6 * measure(devices, suspicious, options.windows)
        rows.append(
            {"devices": devices, "suspicious": suspicious, "window_us": us, "device_window_us": us / devices}
        )
    cells = [
        [str(r["devices"]), str(r["suspicious"]), f"{r['window_us']:.0f}", f"{r['device_window_us']:.1f}"]
        for r in rows
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
    elif options.markdown:
        print("| " + " | ".join(HEADS) + " |\n|" + "---|" * len(HEADS))
        print("\n".join("| " + " | ".join(row) + " |" for row in cells))
    else:
        table = Table(*HEADS, title="Fusion of 23 sources")
        for row in cells:
            table.add_row(*row)
        Console().print(table)


if __name__ == "__main__":
    main()
