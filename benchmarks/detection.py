"""How well the demonstration cell is watched: detection, latency and false alarms over many seeds.

    python benchmarks/detection.py [--seeds N] [--json]

The same simulator, features, rules, ensemble and fusion as in the running cell, offline and at full speed, on
run seeds (training never sees them). Unarmed: nothing that is detected changes the course of a run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict

import numpy as np
from rich.console import Console

from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.features.window import windows_from_recording
from cellwatch.models.fusion.fit import FusionFit
from cellwatch.models.fusion.fusion import Fusion, FusionSettings
from cellwatch.models.registry.model_set import ModelSet, ensemble_of
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.rulesense import RuleSense
from cellwatch.models.types import Screening
from cellwatch.nodes.config import CellConfig, load
from cellwatch.nodes.model_sets import for_cell
from cellwatch.nodes.runner import CONFIG, home
from cellwatch.nodes.simulated import EPOCH_NS, RECIPES, assembler, packets, tag_batches
from cellwatch.plc_sim.recording import simulate

BENCH = RECIPES["bench"]
SECONDS = 90.0
BUDGET_S = 60.0  # no model is late here


def fusion_of(cell: CellConfig, models: ModelSet) -> Fusion:
    """The fusion as the node of the cell sets it up."""
    settings = FusionSettings(weights=models.bundle.manifest.fusion_weights(), **asdict(cell.fusion))
    if "fusion.json" in models.bundle.files:
        settings = FusionFit.from_json(models.bundle.files["fusion.json"].decode()).settings(settings)
    return Fusion(settings)


def judge(
    cell: CellConfig, models: ModelSet, seed: int
) -> tuple[list, list[tuple[int, int, str, Screening, str]]]:
    """Incidents of one run, and its alarms as (start_ns, end_ns, device, decision, category)."""
    rules = RuleSense(Profile.parse(models.bundle.files["profile.json"].decode()))
    ensemble = ensemble_of(models.bundle, BUDGET_S, time.perf_counter)
    fusion = fusion_of(cell, models)
    phase = int(
        np.random.default_rng(seed).integers(round(BENCH.window_s * 1e9))
    )  # scans anywhere on the grid
    recording = simulate("demo", seed, SECONDS, EPOCH_NS + phase)
    traffic = TrafficWindows(BENCH.window_s, recording.devices)
    traffic.add(packets(recording.frames))
    catalogs, batches = tag_batches(recording.tags, recording.time_ns, recording.values, recording.status)
    core = assembler(BENCH, TagBaseline.from_dict(json.loads(models.bundle.files["baseline.json"])), 0.0)
    alarms: list[tuple[int, int, str, Screening, str]] = []
    for window in windows_from_recording(core, catalogs, batches, traffic.close(None)):
        fusion.offer(rules.judge(window), window.closed_ns)
        fusion.offer(ensemble.judge(window), window.closed_ns)
        alarms += [
            (window.start_ns, window.end_ns, v.device, v.decision, v.category)
            for v in fusion.step(window.closed_ns)[0].verdicts
            if v.decision != Screening.ALLOW
        ]
    return list(recording.incidents), alarms


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cell = load(CONFIG / "cells" / "demo.yaml")
    models = for_cell(cell, home(), CONFIG / "models", Console(stderr=True))
    if models is None:
        raise SystemExit("there are no models for the demonstration cell")
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    false = {"SUSPICIOUS": 0, "BLOCK": 0}
    for seed in range(args.seeds):
        incidents, alarms = judge(cell, models, seed)
        for incident in incidents:
            hits = [
                a
                for a in alarms
                if a[2] in {incident.device, *incident.devices}
                and a[1] > incident.onset_ns
                and a[0] < incident.end_ns + 1_000_000_000
            ]
            row = rows[incident.type]
            row["detected"].append(bool(hits))
            row["blocked"].append(any(a[3] == Screening.BLOCK for a in hits))
            if hits:
                row["latency_s"].append((hits[0][1] - incident.onset_ns) / 1e9)
                row["named"].append(any(a[4] == incident.category for a in hits if a[3] == Screening.BLOCK))
            alarms = [a for a in alarms if a not in hits]
        for alarm in alarms:
            false[alarm[3].name] += 1
    table = [
        {
            "type": kind,
            "incidents": len(row["detected"]),
            "detected": float(np.mean(row["detected"])),
            "blocked": float(np.mean(row["blocked"])),
            "category_right": float(np.mean(row["named"])) if row["named"] else None,
            "latency_p50_s": round(float(np.median(row["latency_s"])), 2) if row["latency_s"] else None,
            "latency_max_s": round(float(np.max(row["latency_s"])), 2) if row["latency_s"] else None,
        }
        for kind, row in sorted(rows.items())
    ]
    hours = args.seeds * SECONDS / 3600
    if args.json:
        print(json.dumps({"rows": table, "false_alarms": false, "hours": hours}, indent=1))
        return
    for row in table:
        print("  ".join(f"{k} {v}" for k, v in row.items()))
    print(f"false alarms in {hours:.2f} h: {false}")


if __name__ == "__main__":
    main()
