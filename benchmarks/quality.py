"""The tables of docs/quality.md: `cellwatch evaluate` on every data set, as Markdown.

    python benchmarks/quality.py [--models FOLDER] [--cache FOLDER] [--only NAME,...] [--test-seed N]
                                 [--write FILE]

`--models` has the factory's models (default: those of the release); tables are trained first, what is in the
cache is not trained again. `--test-seed` judges the simulated sites on new sessions, drawn with that seed:
figures of the data set's own tests were seen while the models were made. With `--write` each table goes
between its marks in the file, else to the screen.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import cellwatch
from cellwatch.nodes.text_file import fill_or_print

RELEASE = Path(cellwatch.__file__).parent / "config" / "models"
TABLES = ("nsl_kdd", "ton_iot", "lemay", "datasense", "edge_iiotset", "ton_iot_network", "cic_iot2023")
SITES = ("sim:factory", "sim:bench")
FIGURES = {
    "accuracy": "accuracy", "precision_macro": "precision", "recall_macro": "recall", "f1_macro": "F1",
    "f1_weighted": "F1 weighted", "mcc": "MCC",
}  # fmt: skip
MARK = {True: "✓", False: "⚠", None: "?"}  # None: not known, or not to be checked
HARDEST = 15  # classes listed with the lowest recall


def evaluate(name: str, models: Path | None, cache: Path | None, test_seed: int = 0) -> dict:
    command = [sys.executable, "-m", "cellwatch.nodes.cli", "evaluate", "--data", name, "--json"]
    command += ["--models", str(models)] if models else []
    command += ["--cache", str(cache)] if cache else []
    command += ["--test-seed", str(test_seed)] if test_seed else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def markdown(found: dict) -> str:
    """Checks and figures of every data set in one answer."""
    if "status" in found:
        return f"`{found['data']}`: {found['status']}."
    return "\n\n".join(part for data in found["data"] for part in _parts(data))


def _parts(data: dict) -> list[str]:
    rows = ", ".join(f"{n:,} {what}" for what, n in data["counts"].items() if n)
    out = [f"**{data['name']}**: {data['about']}. Rows: {rows}. Split: {data['split']}."]
    if data["checks"]:
        said = [f"- {MARK[c['ok']]} {c['test']}, {c['name']}: {c['detail']}" for c in data["checks"]]
        out.append("\n".join(said))
    tests = dict.fromkeys((r["test"], r["level"]) for r in data["rows"] if "accuracy" in r)
    out += [_figures(key, [r for r in data["rows"] if (r["test"], r["level"]) == key]) for key in tests]
    alarms = [r for r in data["rows"] if "false_alarm_rate" in r]
    if alarms:
        out.append(_alarms(alarms))
    out += _by_size(data.get("by_size") or {})
    out += _hardest(data["by_class"])
    return out


def _figures(key: tuple[str, int], rows: list[dict]) -> str:
    lines = [f"{key[0]}, L{key[1]} ({rows[0]['rows']:,} rows)", ""]
    lines += ["| model | " + " | ".join(FIGURES.values()) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for row in sorted(rows, key=lambda r: -r["mcc"]):
        name = f"**{row['name']}**" if "_Ens" in row["name"] else row["name"]
        lines.append(f"| {name} | " + " | ".join(f"{row[f]:.4f}" for f in FIGURES) + " |")
    return "\n".join(lines)


def _alarms(rows: list[dict]) -> str:
    lines = [f"False alarms on {rows[0]['rows']:,} benign rows of the test ({rows[0]['test']}), level 1", ""]
    lines += ["| model | rows called, % | an hour and device |", "|---|---|---|"]
    for row in sorted(rows, key=lambda r: r["false_alarm_rate"]):
        if row["level"] == 1:
            rate, hourly = 100 * row["false_alarm_rate"], row["false_alarms_per_device_hour"]
            lines.append(f"| {row['name']} | {rate:.3f} | {hourly:.2f} |")
    return "\n".join(lines)


def _by_size(found: dict[str, list[float]]) -> list[str]:
    """Recall of attacked rows by the size of their incident, of the first ensemble of each level."""
    rows = [(level, found.get(f"test/{level}/{level}_Ens1")) for level in ("L1", "L2", "L3")]
    if not all(recall for _, recall in rows):
        return []
    fifths = [f"{k / 5:g} to {(k + 1) / 5:g}" for k in range(5)]
    lines = ["Attacked rows whose class is found, %, by the size of the incident (0 mild, 1 severe)", ""]
    lines += ["| ensemble | " + " | ".join(fifths) + " |", "|---" * 6 + "|"]
    lines += [
        f"| {level}_Ens1 | " + " | ".join(f"{100 * r:.1f}" for r in recall or []) + " |"
        for level, recall in rows
    ]
    return ["\n".join(lines)]


def _hardest(by_class: dict[str, dict[str, float]]) -> list[str]:
    """Classes that the best-named ensemble of level 3 finds least."""
    found = by_class.get("test/L3/L3_Ens1")
    if not found:
        return []
    worst = sorted(found.items(), key=lambda item: item[1])[:HARDEST]
    said = ", ".join(f"{name} {100 * recall:.0f} %" for name, recall in worst)
    return [f"Hardest types for L3_Ens1 (recall): {said}."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=Path, default=RELEASE / "factory")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--test-seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    names = given.only.split(",") if given.only else [*TABLES, *SITES]
    for name in names:
        folder = given.models if name in {"datasense", "sim:factory"} else None
        folder = RELEASE / "bench" if name == "sim:bench" else folder
        found = evaluate(name, folder, given.cache, given.test_seed if name in SITES else 0)
        fill_or_print(given.write, {name: markdown(found)})


if __name__ == "__main__":
    main()
