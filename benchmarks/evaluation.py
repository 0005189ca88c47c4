"""The tables of docs/evaluation.md, from a report of `cellwatch evaluate` and the choice that follows it.

cellwatch evaluate --data sim:factory --metrics --report docs/factory
cellwatch select --scores docs/factory/sim-factory-scores.csv --data sim:factory --json > choice.json
python benchmarks/evaluation.py --report docs/factory --choice choice.json [--write docs/evaluation.md]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from cellwatch.nodes.text_file import fill_or_print

COSTS = {
    "training_time_s": ("training, s", 1.0, ".1f"), "inference_time_s": ("a row, ms", 1e3, ".3f"),
    "ram_train_mb": ("RAM in training, MB", 1.0, ".0f"), "ram_infer_mb": ("RAM in inference, MB", 1.0, ".0f"),
    "size_mb": ("size, MB", 1.0, ".2f"), "detection_latency_s": ("latency, s", 1.0, ".1f"),
    "class_coverage": ("classes", 1.0, ".3f"), "device_coverage": ("devices", 1.0, ".3f"),
}  # fmt: skip
DIMENSIONS = ("detection_quality", "resource_usage", "speed_latency", "coverage")
TEST = "test"


def figure(value: Any, scale: float = 1.0, form: str = ".3f") -> str:
    """A number for a table; nothing where it is not known."""
    return "" if value is None or not math.isfinite(value) else format(scale * value, form)


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def models(data: dict[str, Any]) -> str:
    """Quality, cost and scores of each model, one table a level."""
    quality = {(r["level"], r["name"]): r for r in data["rows"] if r["test"] == TEST}
    scores = {(r["level"], r["model"]): r for r in data["scores"]}
    out = []
    for level in sorted({row["level"] for row in data["metrics"]}):
        rows = []
        for row in sorted(
            (r for r in data["metrics"] if r["level"] == level), key=lambda r: -(r["mcc"] or -1.0)
        ):
            key = level, row["name"]
            costs = [figure(row[name], scale, form) for name, (_, scale, form) in COSTS.items()]
            found = [figure(scores.get(key, {}).get(name)) for name in DIMENSIONS]
            f1 = quality.get(key, {}).get("f1_macro")
            rows.append(
                [row["name"], figure(row["accuracy"]), figure(f1), figure(row["mcc"]), *costs, *found]
            )
        columns = ["model", "accuracy", "F1", "MCC", *(text for text, _, _ in COSTS.values())]
        names = [*columns, "quality", "resources", "speed", "coverage"]
        out.append(f"**Level {level}**, {len(rows)} models\n\n{markdown(names, rows)}")
    return "\n\n".join(out)


def natural(data: dict[str, Any]) -> str:
    """Events and alarms where attacks are as rare as they are."""
    rows = [r for r in data["beside"] if r["test"] == "natural"]
    columns = {
        "name": "model", "events": "events", "event_recall": "found", "latency_s": "after, s",
        "event_precision": "precision by event", "false_alarms_per_hour": "false alarms an hour",
        "prevalence": "share of attacks",
    }  # fmt: skip
    lines = [
        [str(r[c]) if isinstance(r[c], str | int) else figure(r[c], 1.0, ".4g") for c in columns if c in r]
        for r in rows
    ]
    return markdown([text for c, text in columns.items() if rows and c in rows[0]], lines)


def duels(choice: dict[str, Any]) -> str:
    """The best ensemble by either fitness, level by level."""
    measured = choice["measured"]
    tests = list(dict.fromkeys(test for found in measured.values() for test in found["mcnemar_p"]))
    rows = []
    for level, found in measured.items():
        for name, key in (("mean of the members", "mean"), ("measured", "measured")):
            best = found[key]
            figures = [figure(best["validation"], 1.0, ".4f")]
            figures += [figure(best["test"].get(test), 1.0, ".4f") for test in tests]
            p = [
                figure(found["mcnemar_p"].get(test), 1.0, ".2g") if key == "measured" else ""
                for test in tests
            ]
            rows.append([f"L{level}", name, " + ".join(best["models"]), *figures, *p])
    columns = ["level", "fitness", "ensemble", "validation", *tests, *(f"p on {test}" for test in tests)]
    return markdown(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--choice", type=Path)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    (data,) = json.loads((given.report / "report.json").read_text())["data"]
    parts = {"models": models(data), "natural": natural(data)}
    if given.choice:
        parts["fitness"] = duels(json.loads(given.choice.read_text()))
    fill_or_print(given.write, parts)


if __name__ == "__main__":
    main()
