"""EWAD on the sessions of a simulated site: false alarms when quiet, and which attacks it finds.

    python benchmarks/ewad_cell.py --site bench [--cache FOLDER] [--ewad FOLDER] [--models FOLDER]
                                   [--per-hour 0.1] [--json]

The sessions are those of `cellwatch train`: played into `--cache` if they are not there. EWAD has learnt from
the quiet training sessions alone, and its threshold stands on the quiet validation sessions; what is judged
here are the test sessions. `alone` is EWAD with its own threshold. `fused` is what the cell would raise (not
ALLOW), first from the models and RuleSense's limits, then with EWAD beside them; the threshold of the fusion
is that of the models' `fusion.json`. An incident counts as found if one of its windows is raised. A false
alarm is a rise on a benign window of a device; those within two windows after an incident are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.detectors.serving import session
from cellwatch.models.features.schema import default_schema
from cellwatch.models.fusion.fit import FusionFit
from cellwatch.models.fusion.formulas import attack_probability
from cellwatch.models.fusion.settings import FUSED, RULESENSE, FusionSettings
from cellwatch.models.registry import ewad_bundle
from cellwatch.models.registry.bundle import Bundle, read
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.model_set import graphs_of
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.rulesense import RuleSense
from cellwatch.models.types import Bool, Level, Screening
from cellwatch.nodes.data_sources import read_sessions, simulated_folder
from cellwatch.nodes.ewad_bundling import watch_of
from cellwatch.nodes.runner import home

SHIPPED = Path(str(resources.files("cellwatch"))) / "config"
GRACE = 2  # windows after an incident
BATCH = 4096


def raised_by_models(held: Bundle, sessions: list[SessionWindows]) -> list[Bool]:
    """(w, d) of each session: the fusion of rules and models, or the rules' limits, object."""
    manifest, profile = held.manifest, Profile.parse(held.files["profile.json"].decode(), "profile.json")
    rules = RuleSense(profile)
    scaler = Scaler.from_dict(manifest.scaler)
    fit = FusionFit.from_json(held.files["fusion.json"].decode())
    settings = fit.settings(FusionSettings())
    graphs = [g for g in graphs_of(held) if g.level == 1]
    names = (*(g.detector for g in graphs), RULESENSE)
    weights = settings.weight(Level.L1, names)
    columns = settings.calibration.columns(tuple(f"L1/{name}" for name in names))
    served = [(g.kind == "sequence", session(g.content)) for g in graphs]
    out = []
    for one in sessions:
        w, d, f = one.values.shape
        flat = one.values.reshape(w * d, f)
        x = scaler.transform(flat)
        past = np.maximum(np.arange(w)[:, None] + np.arange(1 - manifest.sequence, 1), 0)
        rows = (past[:, None, :] * d + np.arange(d)[:, None]).reshape(w * d, -1)
        scores = np.empty((w * d, len(names)))
        for k, (sequence, graph) in enumerate(served):
            for part in np.array_split(np.arange(w * d), w * d // BATCH + 1):
                seen = x[rows[part]] if sequence else x[part]
                scores[part, k] = graph.run(["probabilities"], {"x": seen})[0][:, 1]
        screening, _, confidence = rules.judge_many(flat, rules.rows(list(one.devices) * w))
        scores[:, -1] = confidence
        p = settings.calibration.apply(FUSED, attack_probability(columns.apply(scores), weights))
        objects = (p >= settings.threshold) | (screening >= Screening.SUSPICIOUS)
        out.append(objects.reshape(w, d))
    return out


def figures(
    raised: list[Bool], sessions: list[SessionWindows], classes: list[str], window_s: float
) -> dict[str, Any]:
    """False alarms an hour, on quiet sessions and on the benign windows of all, and recall by category."""
    alarms, hours = defaultdict(int), defaultdict(float)
    found: dict[str, list[bool]] = defaultdict(list)
    windows: dict[str, list[float]] = defaultdict(list)
    for one, said in zip(sessions, raised, strict=True):
        attacked = (one.y > 0) | ~one.clear
        near = attacked.copy()
        for k in range(1, GRACE + 1):
            near[k:] |= attacked[:-k]
        rises = said & ~np.vstack([np.zeros((1, said.shape[1]), bool), said[:-1]])
        kind = "busy" if (one.y > 0).any() else "quiet"
        alarms[kind] += int((rises & ~near).sum())
        hours[kind] += len(said) * window_s / 3600 * float((~near).mean())
        for i in range(len(one.sizes)):
            mine = one.incident == i
            if mine.any():
                category = classes[int(one.y[mine][0])].split("/")[0]
                found[category].append(bool(said[mine].any()))
                windows[category].append(float(said[mine].mean()))
    everything = [x for each in found.values() for x in each]
    return {
        "false_alarms_per_hour": {k: alarms[k] / hours[k] for k in sorted(hours)},
        "hours": {k: hours[k] for k in sorted(hours)},
        "incidents": len(everything),
        "recall": float(np.mean(everything)),
        "recall_by_category": {k: float(np.mean(v)) for k, v in sorted(found.items())},
        "windows_by_category": {k: float(np.mean(v)) for k, v in sorted(windows.items())},
        "incidents_by_category": {k: len(v) for k, v in sorted(found.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--site", default="bench", choices=("bench", "factory"))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--ewad", type=Path, default=None, help="folder of an EWAD; else that of the release")
    parser.add_argument(
        "--models", type=Path, default=None, help="folder of models; else those of the release"
    )
    parser.add_argument("--per-hour", type=float, default=0.1, help="false alarms that EWAD may raise")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    site, keys = options.site, Keys(home() / "keys")
    from cellwatch.nodes.simulated import generate

    folder = generate(site, simulated_folder(site, options.cache or home() / "datasets"))
    about, sessions = read_sessions(folder)
    tests = [s for s in sessions if s.split == "test"]
    window_s = float(about["window_s"])
    held = ewad_bundle.read(
        options.ewad or SHIPPED / "ewad" / site,
        keys,
        schema_id=default_schema().schema_id,
        window_s=window_s,
        site=site,
    )
    watch = watch_of(held, options.per_hour)
    alone = [watch.replay(s.values, s.devices)[1] for s in tests]
    models = raised_by_models(read(options.models or SHIPPED / "models" / site, keys), tests)
    said = {
        "EWAD": alone,
        "models": models,
        "models and EWAD": [a | b for a, b in zip(alone, models, strict=True)],
    }
    result = {name: figures(raised, tests, about["classes"], window_s) for name, raised in said.items()}
    if options.json:
        json.dump({"site": site, "ewad": held.version, "rows": result}, sys.stdout, indent=1)
        return
    table = Table(title=f"{site}, EWAD {held.version}, test sessions")
    categories = list(result["EWAD"]["recall_by_category"])
    for column in ("", "false alarms/h quiet", "busy", "recall", *categories):
        table.add_column(column)
    for name, row in result.items():
        rate = row["false_alarms_per_hour"]
        table.add_row(
            name,
            *(f"{rate[k]:.1f}" for k in ("quiet", "busy")),
            f"{row['recall']:.2f}",
            *(f"{row['recall_by_category'][c]:.2f}" for c in categories),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
