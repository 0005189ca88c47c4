"""Pictures of a comparison: scores, ROC and precision-recall curves, noise, size, the critic's loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.models.evaluation.anomalies import precision_recall, roc
from cellwatch.models.types import F64
from cellwatch.nodes.ewad_runs import CLEAN, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = ("ewad", "ewad_unsupervised")
SHARES: F64 = np.linspace(0, 1, 101)  # of false positives, or recall, at which curves of folds are averaged
MOST = 99.0  # percentile of the scores that is still drawn


def draw(found: Mapping[str, Any], results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw what an answer of `cellwatch ewad evaluate` has to show; the files. OSError."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    pictures: dict[str, Callable[[Axes], None]] = {}
    if found["table"] == "methods":
        pictures["roc"] = lambda axes: _curves(
            axes, results, roc, "false positive rate", "true positive rate"
        )
        pictures["precision-recall"] = lambda axes: _curves(
            axes, results, precision_recall, "recall", "precision"
        )
        first = next((r for name in OURS for r in results if r.method == name and not r.why), None)
        if first is not None:
            pictures["scores"] = lambda axes, r=first: _scores(axes, r)  # type: ignore[misc]
        learnt = next((r for r in results if r.method == OURS[1] and r.report), None)
        if learnt is not None:
            pictures["critic-loss"] = lambda axes, r=learnt: _critic(axes, r)  # type: ignore[misc]
    elif found["table"] == "noise":
        pictures |= {
            f"noise-{unit}": lambda axes, u=unit: _noise(axes, found["rows"], u)  # type: ignore[misc]
            for unit in dict.fromkeys(row["unit"] for row in found["rows"] if row["unit"])
        }
    elif found["table"] == "sizes":
        pictures["sizes"] = lambda axes: _sizes(axes, found["rows"])
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"ewad-{Path(found['data']).stem}-{found['protocol'].replace(', ', '-')}"
    paths = []
    for name, paint in pictures.items():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        paint(axes)
        axes.set_title(_title(found), fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        paths.append(folder / f"{stem}-{name}.svg")
        rcParams["svg.hashsalt"] = stem  # the same picture from the same figures
        figure.savefig(paths[-1], metadata={"Date": None})
    return paths


def _title(found: Mapping[str, Any]) -> str:
    limits = ", ".join(f"{name} {value}" for name, value in found["limits"].items())
    text = f"{found['data']}, protocol {found['protocol']}"
    return text + ("" if found["valid"] else " (INVALID)") + (f", limited: {limits}" if limits else "")


def _curves(
    axes: Axes, results: Sequence[Result], curve: Callable[..., tuple[F64, F64]], x: str, y: str
) -> None:
    """The mean curve over folds and seeds of each method."""
    for name in dict.fromkeys(r.method for r in results if not r.why):
        mine = [r for r in results if r.method == name and r.y.any() and not r.y.all()]
        if mine:
            mean = np.mean([np.interp(SHARES, *curve(r.y, r.scores[CLEAN])) for r in mine], axis=0)
            wide = {"linewidth": 2.4, "zorder": 3} if name in OURS else {"linewidth": 1.0}
            axes.plot(SHARES, mean, label=name, **wide)  # type: ignore[arg-type]
    axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=7, ncols=2)


def _scores(axes: Axes, result: Result) -> None:
    score = result.scores[CLEAN]
    low, high = float(score.min()), float(np.percentile(score, MOST))
    edges = np.linspace(low, max(high, low + 1e-9), 40)
    for wrong, text in ((False, "normal"), (True, "anomalous")):
        values = np.clip(score[result.y == wrong], low, high)
        axes.hist(values, edges.tolist(), density=True, alpha=0.6, label=f"{text} ({len(values)})")
    axes.axvline(result.threshold, color="0.3", linestyle="--", linewidth=1, label="threshold")
    axes.set(xlabel=f"score of {result.method}, {result.fold}", ylabel="density")
    axes.legend(frameon=False)


def _critic(axes: Axes, result: Result) -> None:
    losses = np.array(result.report["critic"], dtype=np.float64)  # (epochs, members), null: NaN
    for member, loss in enumerate(losses.T):
        axes.plot(np.arange(1, len(loss) + 1), loss, linewidth=1, label=f"member {member + 1}")
    axes.set(xlabel="epoch", ylabel=f"loss of the critic, {result.fold}")
    axes.legend(frameon=False, fontsize=8)


def _noise(axes: Axes, rows: Sequence[Mapping[str, Any]], unit: str) -> None:
    """AUC over noise; for sigma the rows without noise are 0."""
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = [
            r
            for r in rows
            if r["method"] == name and (r["unit"] == unit or (unit == "sigma" and not r["unit"]))
        ]
        mine.sort(key=lambda r: r["value"])
        axes.plot([r["value"] for r in mine], [r["auc"] for r in mine], marker="o", label=name)
    axes.set(xlabel="sigma, share of the range" if unit == "sigma" else "SNR, dB", ylabel="AUC")
    axes.legend(frameon=False, fontsize=8)


def _sizes(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """F1 and AUC over the number of members, and the memory of training."""
    sizes = [int(row["method"].removeprefix("I = ")) for row in rows]
    for name, text in (("auc", "AUC"), ("f1", "F1")):
        axes.errorbar(
            sizes,
            [r[name] for r in rows],
            [r[f"{name}_std"] for r in rows],
            marker="o",
            capsize=3,
            label=text,
        )
    memory = axes.twinx()
    memory.bar(sizes, [r["training_mb"] for r in rows], width=0.5, color="0.85", zorder=0)
    memory.set(ylabel="memory of training, MB")
    memory.set_zorder(axes.get_zorder() - 1)
    axes.set_frame_on(False)
    axes.set(xlabel="members I", ylabel="figure", ylim=(0, 1), xticks=sizes)
    axes.legend(frameon=False)
