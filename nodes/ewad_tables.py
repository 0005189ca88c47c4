"""Tables of a comparison of detectors: figures of each row, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellwatch.models.evaluation.anomalies import called, ranking
from cellwatch.models.ewad.noise import Noise
from cellwatch.nodes.ewad_runs import CLEAN, Result

RANKING = ("auc", "average_precision")
CALLED = (
    "f1", "g_mean", "precision", "recall", "specificity", "accuracy", "false_alarm_rate", "missed_rate",
)  # fmt: skip
SPREAD = (*RANKING, "f1", "g_mean")  # figures that also get a standard deviation
SHOWN = {
    "method": "method", "auc": "AUC", "average_precision": "AP", "f1": "F1", "g_mean": "G-mean",
    "precision": "precision", "recall": "recall", "accuracy": "accuracy", "train_s": "training, s",
    "ms_per_sample": "ms a row",
}  # fmt: skip
SHORT = {
    "method": "method", "auc": "AUC", "auc_std": "±", "average_precision": "AP", "f1": "F1", "g_mean": "G",
    "precision": "prec", "recall": "rec", "accuracy": "acc", "train_s": "s", "ms_per_sample": "ms",
}  # fmt: skip
SHOWN_POOLED = {"false_alarm_rate": "false alarms", "missed_rate": "missed"}
COSTS = ("train_s", "ms_per_sample")
SHOWN_SIZES = {"training_mb": "memory, MB", "model_mb": "model, MB"}


def rows(results: Sequence[Result], *, pooled: bool, noise: str = CLEAN) -> list[dict[str, Any]]:
    """One row a method, in their order: mean and standard deviation over folds and seeds.

    `of` says of how many runs, where the method could not learn from all of them.

    `pooled`: what is called is counted over the rows of all folds of a seed, as SKAB's publishers do.
    """
    out = []
    for name in dict.fromkeys(r.method for r in results):
        every = [r for r in results if r.method == name]
        mine = [r for r in every if not r.why]
        if mine:
            out.append({"method": name} | _figures(mine, pooled, noise))
            if len(mine) < len(every):
                out[-1]["of"] = f"{len(mine)} of {len(every)} runs"
    return out


def skipped(results: Sequence[Result]) -> list[dict[str, str]]:
    """Methods that could not learn, and why."""
    whys = {(r.method, r.why): r.fold for r in results if r.why}
    return [{"method": name, "fold": fold, "why": why} for (name, why), fold in whys.items()]


def noise_rows(results: Sequence[Result], noises: Sequence[Noise], *, pooled: bool) -> list[dict[str, Any]]:
    """One row a method and noise, that without noise (unit "", value 0) first."""
    clean = [row | {"noise": "none", "unit": "", "value": 0.0} for row in rows(results, pooled=pooled)]
    return clean + [
        row | {"noise": str(noise), "unit": noise.unit, "value": noise.value}
        for noise in noises
        for row in rows(results, pooled=pooled, noise=str(noise))
    ]


def counts(results: Sequence[Result]) -> dict[str, int]:
    """Test rows, and anomalies among them, over all folds."""
    first = {r.fold: r.y for r in results}
    return {
        "test rows": sum(len(y) for y in first.values()),
        "anomalies": int(sum(y.sum() for y in first.values())),
    }


def _figures(results: Sequence[Result], pooled: bool, noise: str) -> dict[str, Any]:
    each = [_of_fold(r, noise) for r in results]
    out: dict[str, Any] = {}
    for name in (*RANKING, *CALLED):
        values = np.array([figures[name] for figures in each])
        if np.isnan(values).all():
            out[name] = float("nan")
            continue
        out[name] = float(np.nanmean(values))
        if name in SPREAD:
            out[f"{name}_std"] = float(np.nanstd(values))
    if pooled:
        out |= _pooled(results, noise)
    out["train_s"] = float(np.mean([r.train_s for r in results]))
    out["ms_per_sample"] = float(np.mean([r.ms_per_sample for r in results]))
    if all(r.report for r in results):
        out["training_mb"] = float(np.mean([r.report["training_bytes"] for r in results])) / 1e6
        out["model_mb"] = float(np.mean([r.report["bytes"] for r in results])) / 1e6
        out["diverged"] = sum(len(r.report["diverged"]) for r in results)
    return out


def _of_fold(result: Result, noise: str) -> dict[str, float]:
    score = result.scores[noise]
    found = ranking(result.y, score)
    ranked = {"auc": found.auc, "average_precision": found.average_precision}
    return ranked | called(result.y, score > result.threshold).to_dict()


def _pooled(results: Sequence[Result], noise: str) -> dict[str, float]:
    """What is called, counted over all rows; the mean and deviation are those of the seeds."""
    seeds = []
    for seed in sorted({r.seed for r in results}):
        mine = [r for r in results if r.seed == seed]
        y = np.concatenate([r.y for r in mine])
        alarm = np.concatenate([r.scores[noise] > r.threshold for r in mine])
        seeds.append(called(y, alarm).to_dict())
    out = {name: float(np.mean([s[name] for s in seeds])) for name in CALLED}
    return out | {f"{name}_std": float(np.std([s[name] for s in seeds])) for name in ("f1", "g_mean")}


def heading(found: Mapping[str, Any]) -> str:
    """What the table was made of, in words."""
    said = f"{found['about']}. Protocol **{found['protocol']}**: {found['split']}."
    if not found["valid"]:
        said += " **Invalid**: test rows are mixtures of training rows."
    counted = ", ".join(f"{n:,} {what}" for what, n in found["counts"].items())
    said += f" {counted}; folds {found['folds']}; seeds {', '.join(map(str, found['seeds']))}."
    if found["limits"]:
        limits = ", ".join(f"{name} {value}" for name, value in found["limits"].items())
        said += f" **Limited run** ({limits})."
    return said


def cells(found: Mapping[str, Any], *, short: bool = False) -> tuple[list[str], list[list[str]]]:
    """Titles and text of the table; `short` fits a screen of 80 columns."""
    columns = dict(SHORT if short else SHOWN)
    if short and (found["pooled"] or found["table"] == "sizes"):
        columns = {k: v for k, v in columns.items() if k not in {"accuracy", *COSTS}}
    if found["pooled"]:
        columns |= SHOWN_POOLED
    if found["table"] == "sizes":
        columns |= SHOWN_SIZES
    if found["table"] == "noise":
        columns = {"noise": "noise"} | {k: v for k, v in columns.items() if k not in COSTS}
    return list(columns.values()), [
        [_cell(row, name, spread=not short) for name in columns] for row in found["rows"]
    ]


def markdown(found: Mapping[str, Any], command: str) -> str:
    """The table of an answer of `cellwatch ewad evaluate`, with what it was made of."""
    titles, body = cells(found)
    lines = [f"`{command}`", "", heading(found), ""]
    lines += ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    lines += ["| " + " | ".join(line) + " |" for line in body]
    if found["skipped"]:
        why = "; ".join(f"{s['method']}: {s['why']}" for s in found["skipped"])
        lines += ["", f"Not in the table: {why}."]
    return "\n".join(lines)


def _cell(row: Mapping[str, Any], name: str, *, spread: bool) -> str:
    value = row.get(name)
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return ""
    if isinstance(value, str):
        if name == "method" and "of" in row:
            value += f" ({row['of']})"
        return f"**{value}**" if value == "ewad" else value
    if name == "ms_per_sample":
        return f"{value:.4f}"
    if name in {"train_s", "training_mb", "model_mb"}:
        return f"{value:.1f}"
    deviation = row.get(f"{name}_std")
    return f"{value:.3f}" + (f" ± {deviation:.3f}" if spread and name in RANKING and deviation else "")
