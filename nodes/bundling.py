"""From trained models to a bundle that a cell can serve: weights, calibration, what lies beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.models.datasets.dataset import DataSet
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.fusion.calibration import Calibration, fit
from cellwatch.models.fusion.fit import FusionFit, Hold, fit_fusion
from cellwatch.models.registry.bundle import Bundle
from cellwatch.models.registry.manifest import Manifest, ModelEntry
from cellwatch.models.types import SEQUENCE, Level, LevelScores
from cellwatch.nodes.judging import RULES, Judge
from cellwatch.nodes.trainer import Trained, data_digest, schema_of, versions

BUDGETS = (1.0, 3.0, 10.0, 30.0, 100.0)  # false alarms of the cell an hour
SHOWN = {"accuracy": "accuracy", "f1": "f1_macro", "mcc": "mcc"}  # in a manifest: in a model card


def bundle(
    data: DataSet,
    models: Sequence[Trained],
    judge: Judge,
    *,
    seed: int,
    serve_all: bool,
    beside: dict[str, bytes],
    serve: Mapping[str, Sequence[str]] | None = None,
    budgets: Sequence[float] = BUDGETS,
    hold: Hold | None = None,
) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and files. `beside`: baseline.json and profile.json of a site.

    A cell serves, at each level, what `serve` names, else the paper's ensemble that does best on validation,
    or everything. Weights are those of the served members; the others would add nothing and have 0.
    `budgets`, `hold`: see `fusion_of`.
    """
    files = dict(beside)
    levels = data.only({one.level for one in models}).classes
    entries, chosen, weights = [], {}, {}
    for one in models:
        stem = f"L{one.level}-{one.detector}"
        files[f"{stem}.onnx"] = one.graph
        files[f"{stem}.card.json"] = json.dumps(one.card).encode()
        figures = one.card["validation"]
        metrics = {name: figures[key] for name, key in SHOWN.items() if key in figures}
        entries.append(ModelEntry(one.detector, one.level, one.kind, f"{stem}.onnx", metrics))
    for level in sorted(levels):
        everyone = tuple(m.detector for m in models if m.level == level)
        if serve is not None:
            members = tuple(serve[str(level)])
        else:
            members = everyone if serve_all else judge.best_ensemble(level) or everyone
        if level == 1 and judge.rules is not None and RULES not in members:
            members = (*members, RULES)
        weights[str(level)] = dict.fromkeys(everyone, 0.0) | judge.weights_of(level, members)
        chosen[str(level)] = [name for name in members if name != RULES]
    if "benign_hours" in data.facts and 1 in levels:
        files["fusion.json"] = fusion_of(data.only(levels), judge, chosen, budgets, hold).to_json().encode()
    manifest = Manifest(
        site=str(data.facts.get("site", data.name)),
        schema_id=schema_of(data).schema_id,
        window_s=float(data.facts.get("window_s", 1.0)),  # type: ignore[arg-type]
        classes={str(level): list(names) for level, names in levels.items()},
        scaler=judge.scaler.to_dict(),
        models=entries,
        weights=weights,
        serve=chosen,
        sequence=SEQUENCE,
        lineage={
            "parents": [],
            "data": data.fingerprint,
            "digest": data_digest(data),
            "seed": seed,
            "name": data.name,
            "columns": list(data.columns),
            "versions": versions(),
        },
    )
    return manifest, files


def fusion_of(
    data: DataSet,
    judge: Judge,
    serve: Mapping[str, list[str]],
    budgets: Sequence[float] = BUDGETS,
    hold: Hold | None = None,
) -> FusionFit:
    """What validation says of the fusion of the served models: weights, calibration, threshold.

    All its rows do, benign ones unthinned, for an alarm that lasts for several windows is one.

    The threshold keeps the first of `budgets` (false alarms an hour) that can be kept; ValueError if there
    is none. `hold`, about the same rows, comes first.
    """
    part = data.running if data.running is not None else data.validation
    said = judge.said(part, {(name, level) for level in data.classes for name in serve[str(level)]})
    levels, truth = {}, {}
    for level, classes in data.classes.items():
        members = tuple(serve[str(level)]) + ((RULES,) if level == 1 and judge.rules is not None else ())
        p = np.stack([said[name, level] for name in members], axis=1)
        levels[Level(level)] = LevelScores(Level(level), members, classes, p)
        truth[Level(level)] = part.y[level]
    stream = np.char.add(np.char.add(part.group, "/"), part.device)
    hours = float(data.facts["benign_hours"])  # type: ignore[arg-type]
    for per_hour in budgets:
        with suppress(ValueError):
            found = fit_fusion(levels, truth, stream, hours=hours, per_hour=per_hour, hold=hold)
            break
    else:
        raise ValueError(f"{data.name}: no threshold keeps even {budgets[-1]:g} false alarms an hour")
    weights = dict(found.weights)
    calibrators = dict(found.calibration.by_name)
    for level in sorted(set(data.classes) - {1}):
        names = serve[str(level)]
        weights |= {f"L{level}/{name}": w for name, w in judge.weights_of(level, names).items()}
        pooled = judge.ensemble(level, names, said)
        attacked = (truth[Level.L1] > 0) & (truth[Level(level)] >= 0)
        if pooled is not None:
            right = pooled[attacked].argmax(axis=1) == truth[Level(level)][attacked]
            if right.any() and not right.all():
                score = pooled[attacked].max(axis=1).astype(np.float64)
                calibrators[f"L{level}/fused"] = fit(score, right)
    return replace(found, weights=weights, calibration=Calibration(calibrators), vote="posterior")


def trained_of(held: Bundle) -> tuple[list[Trained], Scaler]:
    """The models of a bundle and their scaler."""
    models = [
        Trained(m.detector, m.level, m.kind, held.files[m.file], _card(held, f"L{m.level}-{m.detector}"))
        for m in held.manifest.models
    ]
    return models, Scaler.from_dict(held.manifest.scaler)


def table(held: Bundle, folder: Path) -> list[dict[str, Any]]:
    """One row a model and level, for `cellwatch models`."""
    return [
        {
            "name": m.detector,
            "level": m.level,
            "accuracy": m.metrics.get("accuracy"),
            "f1": m.metrics.get("f1"),
            "mcc": m.metrics.get("mcc"),
            "size_mb": round(len(held.files[m.file]) / 1e6, 4),
            "schema_id": held.manifest.schema_id,
            "version": held.version,
            "site": held.manifest.site,
            "served": m in held.manifest.served(),
            "folder": folder.name,
        }
        for m in held.manifest.models
    ]


def _card(held: Bundle, stem: str) -> dict[str, Any]:
    content = held.files.get(f"{stem}.card.json")
    card: dict[str, Any] = json.loads(content) if content else {}
    return card
