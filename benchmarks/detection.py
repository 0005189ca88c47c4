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

import numpy as np
from rich.console import Console

from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.window import FeatureAssembler, windows_from_recording
from cellwatch.models.fusion.fusion import Fusion, FusionSettings
from cellwatch.models.registry.model_set import ModelSet, ensemble_of
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.rulesense import RuleSense
from cellwatch.models.types import Screening
from cellwatch.nodes import training
from cellwatch.nodes.config import load
from cellwatch.nodes.model_sets import for_cell
from cellwatch.nodes.runner import CONFIG, home
from cellwatch.plc_sim.recording import simulate

SECONDS = 90.0
BUDGET_S = 60.0  # no model is late here


def judge(models: ModelSet, seed: int) -> tuple[list, list[tuple[int, int, str, Screening, str]]]:
    """Incidents of one run, and its alarms as (start_ns, end_ns, device, decision, category)."""
    rules = RuleSense(Profile.parse(models.bundle.files["profile.json"].decode()))
    ensemble = ensemble_of(models.bundle, BUDGET_S, time.perf_counter)
    fusion = Fusion(FusionSettings(weights=models.bundle.manifest.fusion_weights()))
    recording = simulate("demo", seed, SECONDS, training.start(seed))
    baseline = TagBaseline.from_dict(json.loads(models.bundle.files["baseline.json"]))
    devices = tuple(dict.fromkeys(recording.devices.values()))
    core = FeatureAssembler(default_schema(), training.WINDOW_S, 0.5, devices, baseline)
    alarms: list[tuple[int, int, str, Screening, str]] = []
    for window in windows_from_recording(core, *training.streams(recording)):
        fusion.offer(rules.judge(window), 0)
        fusion.offer(ensemble.judge(window), 0)
        alarms += [
            (window.start_ns, window.end_ns, v.device, v.decision, v.category)
            for v in fusion.step(0)[0].verdicts
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
    models = for_cell(load(CONFIG / "cells" / "demo.yaml"), home(), CONFIG / "models", Console(stderr=True))
    assert models is not None  # the site of the demonstration cell always has some
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    false = {"SUSPICIOUS": 0, "BLOCK": 0}
    for seed in range(args.seeds):
        incidents, alarms = judge(models, seed)
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
