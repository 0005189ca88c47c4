"""How far the models' probabilities can be believed, before and after calibration, on NSL-KDD.

python benchmarks/reliability.py [--models XGB,RandomForest] [--picture FILE.png] [--json | --markdown]

Detectors are trained at L1 on the published 20 % file, calibrators and weights are fitted on half of its
validation rows, and everything is judged on the other half and on Test+, which has attacks that training
lacks. CELLWATCH_DATA is the folder that holds nsl_kdd.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cellwatch.models.datasets import nsl_kdd
from cellwatch.models.datasets.dataset import L1, DataError, DataSet
from cellwatch.models.detectors.catalog import DETECTORS
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.fusion import calibration, formulas
from cellwatch.models.fusion.reliability import Reliability, reliability
from cellwatch.models.fusion.weights import validation_weights

MODELS = "XGB,RandomForest,LogReg,NaiveBayes,KNN,SVM"
FORMS = ("raw", *calibration.METHODS)
FUSED = "fused"
DRAWN = 10  # rows in a bin that is drawn, at least
HEADS = ("judged on", "model", *(f"ECE {form}" for form in FORMS), *(f"Brier {form}" for form in FORMS))
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """P(attack) of each model for some rows."""

    scores: Floats  # (n, m)
    attack: Bools  # (n,)


def scored(data: DataSet, names: list[str], console: Console) -> dict[str, Rows]:
    """Train each model and score the validation rows, in two halves, and Test+."""
    scaler = Scaler.fit(data.train.x)
    x = scaler.transform(data.train.x)
    other = {"validation": data.validation, "Test+": data.tests["Test+"]}
    found = {part: np.zeros((len(rows), len(names))) for part, rows in other.items()}
    for k, name in enumerate(track(names, "training", console=console, transient=True)):
        model = DETECTORS[name](L1, 0)
        model.fit(x, data.train.y[1])
        for part, rows in other.items():
            found[part][:, k] = model.predict_proba(scaler.transform(rows.x))[:, 1]
    truth = {part: rows.y[1] == 1 for part, rows in other.items()}
    first = np.arange(len(data.validation)) % 2 == 0
    return {
        "fitted": Rows(found["validation"][first], truth["validation"][first]),
        "validation": Rows(found["validation"][~first], truth["validation"][~first]),
        "Test+": Rows(found["Test+"], truth["Test+"]),
    }


def diagrams(rows: dict[str, Rows], names: list[str]) -> dict[tuple[str, str, str], Reliability]:
    """By (judged on, model, form); the fused score is the weighted mean, calibrated last of all."""
    base = rows["fitted"]
    said = (base.scores >= 0.5).astype(np.int64)
    weights = validation_weights(base.attack.astype(np.int64), said, 2)
    out = {}
    for form in FORMS:
        maps = {}
        columns = base.scores
        if form != "raw":
            for k, name in enumerate(names):
                maps[name] = calibration.fit(base.scores[:, k], base.attack, form)
            columns = calibration.Calibration(maps).columns(tuple(names)).apply(base.scores)
            fused = formulas.attack_probability(columns, weights)
            maps[FUSED] = calibration.fit(fused, base.attack, form)
        every = calibration.Calibration(maps)
        for part in ("validation", "Test+"):
            scores = every.columns(tuple(names)).apply(rows[part].scores)
            fused = every.apply(FUSED, formulas.attack_probability(scores, weights))
            for name, p in zip([*names, FUSED], [*scores.T, fused], strict=True):
                out[part, name, form] = reliability(p, rows[part].attack)
    return out


def draw(found: dict[tuple[str, str, str], Reliability], names: list[str], path: Path) -> None:
    """Reliability diagrams on the validation rows that nothing was fitted on."""
    from matplotlib import pyplot as plt

    shown = [*names, FUSED]
    wide = min(4, len(shown))
    high = -(-len(shown) // wide)
    figure, axes = plt.subplots(high, wide, figsize=(2.6 * wide, 2.7 * high), sharex=True, sharey=True)
    for axis, name in zip(np.ravel(axes), shown, strict=False):
        axis.plot([0, 1], [0, 1], color="0.8", lw=1)
        for form, style in zip(FORMS, ("o:", "s-", "^-"), strict=True):
            r = found["validation", name, form]
            label = f"{form}, ECE {100 * r.ece:.1f} %"
            many = r.count >= DRAWN
            axis.plot(r.said[many], r.happened[many], style, ms=3, lw=1, label=label)
        axis.set_title(name, fontsize=9)
        axis.legend(fontsize=6, frameon=False, loc="upper left")
    for axis in np.ravel(axes)[len(shown) :]:
        axis.axis("off")
    figure.supxlabel("said: P(attack)", fontsize=9)
    figure.supylabel("happened: share of attacks", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=MODELS, help="detectors that look at single rows")
    parser.add_argument("--picture", type=Path, help="draw the diagrams into this file")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    names = options.models.split(",")
    able = [n for n, kind in DETECTORS.items() if kind.KIND == "window"]
    if unable := [n for n in names if n not in able]:
        sys.exit(f"no such detector for single rows: {', '.join(unable)}; there are {', '.join(able)}")
    folder = Path(os.environ.get("CELLWATCH_DATA", "../shared/data")) / "nsl_kdd"
    try:
        data = nsl_kdd.load(folder)
    except DataError as error:
        sys.exit(f"{error}")
    console = Console(stderr=True)
    found = diagrams(scored(data, names, console), names)
    if options.picture:
        draw(found, names, options.picture)
    rows = [
        {"judged_on": part, "model": name}
        | {f"ece_{form}": found[part, name, form].ece for form in FORMS}
        | {f"brier_{form}": found[part, name, form].brier for form in FORMS}
        for part in ("validation", "Test+")
        for name in [*names, FUSED]
    ]
    cells = [[f"{100 * v:.1f} %" if isinstance(v, float) else v for v in row.values()] for row in rows]
    if options.json:
        print(json.dumps(rows, indent=1))
    elif options.markdown:
        print("| " + " | ".join(HEADS) + " |\n|" + "---|" * len(HEADS))
        print("\n".join("| " + " | ".join(row) + " |" for row in cells))
    else:
        table = Table(*HEADS, title="Expected calibration error and Brier score")
        for row in cells:
            table.add_row(*row)
        Console().print(table)


if __name__ == "__main__":
    main()
