"""What the drift monitors cost, and what they find in the published streams: the tables of docs/drift.md.

    python benchmarks/drift.py [--part cost|streams|plant] [--write docs/drift.md] [--json] [--cache DIR]

The cost is that of 40 devices with 90 features, judged by 22 models, for a window of the cell; beside it that
of the same histograms and distances by a plain loop over devices and features, in the same run, and that of
windows with their verdicts as the drift node gets them, without the reading of messages. Times are the
thread's own, so that other work on the machine counts little. The streams are run through by
`cellwatch drift evaluate --stream NAME --beside --json`, as a user starts it.

The plant: models that have seen a part of the simulated factory, what changes in the bench, and a quiet week.
With --write the picture and all figures lie in `pictures` beside the page. --cache is where the simulated
data sets lie, or are made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from cellwatch.models.drift.cell_watch import CellWatch
from cellwatch.models.drift.distribution import Distribution
from cellwatch.models.drift.sequential import NAMES
from cellwatch.models.drift.watch import DriftSettings, DriftWatch
from cellwatch.models.types import (
    FeatureWindow,
    FusedVerdict,
    FusedWindow,
    Level,
    LevelScores,
    Screening,
    Verdicts,
)
from cellwatch.nodes import drift_plant
from cellwatch.nodes.drift_plant_picture import draw
from cellwatch.nodes.runner import home
from cellwatch.nodes.text_file import fill_or_print

DEVICES, FEATURES, MODELS = 40, 90, 22
BLOCKS = 20
STREAMS = ("sea", "sea_stream", "elec2")


def cost() -> dict[str, float]:
    """Microseconds for one window of the cell, and for one labelled sample."""
    random = np.random.default_rng(0)
    settings = DriftSettings()
    watch = DriftWatch(settings, devices=DEVICES)
    values = random.normal(size=(settings.block, DEVICES, FEATURES)).astype(np.float32)
    scores = random.random((settings.block, DEVICES, MODELS)).astype(np.float32)
    loss = random.exponential(0.3, 20_000).clip(0, 4.6)
    for _ in range(settings.profile // settings.block):
        watch.unlabelled(values, scores)
    spent = []
    for _ in range(BLOCKS):
        for i in range(settings.block):
            begun = time.thread_time()
            watch.unlabelled(values[i : i + 1], scores[i : i + 1])
            spent.append(time.thread_time() - begun)
    begun = time.thread_time()
    watch.labelled(loss, loss > 1)
    labelled = time.thread_time() - begun
    profile = Distribution(values)
    begun = time.thread_time()
    found = profile.distance(values)
    together = time.thread_time() - begun
    begun = time.thread_time()
    looped = plain(profile._edges, profile._roots, values)  # noqa: SLF001 - what it learnt, to judge by
    alone = time.thread_time() - begun
    assert np.allclose(found, looped)
    whole = cell()
    return {
        "window_us": 1e6 * float(np.mean(spent)),
        "window_us_median": 1e6 * float(np.median(spent)),
        "window_us_most": 1e6 * float(np.max(spent)),
        "cell_us": 1e6 * float(np.mean(whole)),
        "cell_us_median": 1e6 * float(np.median(whole)),
        "labelled_sample_us": 1e6 * labelled / len(loss),
        "histograms_us": 1e6 * together / settings.block,
        "loop_us": 1e6 * alone / settings.block,
        "loop_ratio": alone / together,
    }


def cell() -> list[float]:
    """Seconds that `CellWatch` spends on each window."""
    random = np.random.default_rng(0)
    devices = tuple(f"device-{i}" for i in range(DEVICES))
    detectors = tuple(f"model-{i}" for i in range(MODELS))
    watch = CellWatch([f"feature-{i}" for i in range(FEATURES)])
    watch.model("v1", detectors)
    fused = tuple(FusedVerdict(name, Screening.ALLOW, 0.1, 0.5) for name in devices)
    none = np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)
    spent = []
    for i in range(1, 2_001):
        at = i * 10**9
        values = random.normal(size=(DEVICES, FEATURES)).astype(np.float32)
        attack = random.random((DEVICES, MODELS, 1)).astype(np.float32)
        both = np.concatenate([1 - attack, attack], axis=2)
        scores = LevelScores(Level.L1, detectors, ("benign", "attack"), both)
        window = FeatureWindow(i, at - 10**9, at, at, "", devices, values, (), *none)
        silent = np.zeros(DEVICES, np.uint8), np.zeros(DEVICES, np.float32)
        verdicts = Verdicts("ensemble", i, at, at, devices, *silent, (scores,))
        begun = time.thread_time()
        watch.features(window)
        watch.scores(verdicts)
        watch.fused(FusedWindow(i, at, at, fused))
        watch.news(at)
        spent.append(time.thread_time() - begun)
    return spent


def plain(edges: np.ndarray, roots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Hellinger's distances (d, c), a device and a feature at a time."""
    windows, devices, features = values.shape
    out = np.zeros((devices, features))
    for d in range(devices):
        for c in range(features):
            column = values[:, d, c]
            seen = column[np.isfinite(column)]
            counts = np.bincount(np.searchsorted(edges[:, d, c], seen), minlength=6)
            shares = np.append(counts, windows - len(seen)) / windows
            out[d, c] = np.sqrt(max(1 - (roots[:, d, c] * np.sqrt(shares)).sum(), 0))
    return out


def evaluated(stream: str) -> dict:
    """What `cellwatch drift evaluate` says of a stream."""
    done = subprocess.run(
        [*(sys.executable, "-m", "cellwatch.nodes.cli", "drift", "evaluate"),
         *("--stream", stream, "--beside", "--json")],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cost_table(found: dict[str, float]) -> str:
    """One line a figure."""
    names = {
        "window_us": "one window of the cell, mean",
        "window_us_median": "one window of the cell, median",
        "window_us_most": "the window that ends a block, the longest",
        "cell_us": "the same in the drift node, with pairing, scores and fused verdicts, mean",
        "cell_us_median": "this, median",
        "labelled_sample_us": f"one labelled sample: loss, errors, {', '.join(NAMES)}",
        "histograms_us": "of a window: histograms and distances of the features",
        "loop_us": "the same by a loop over devices and features",
    }
    rows = [[text, f"{found[name]:,.0f}"] for name, text in names.items()]
    return table(["", "µs"], rows) + f"\n\nThe loop costs {found['loop_ratio']:.1f} times as much."


def stream_table(found: dict[str, dict]) -> str:
    """One line a method and stream."""
    rows = []
    for stream, one in found.items():
        for name, figures in one["methods"].items():
            alarms = figures["alarms"]
            cells = [stream, name, f"{figures['accuracy']:.4f}", str(len(alarms))]
            if one["drifts"] is None:
                rows.append([*cells, "not known", "not known"])
                continue
            delays = ", ".join("missed" if d is None else f"{d:,}" for d in figures["delays"])
            rows.append([*cells, delays or "no drift", str(figures["false_alarms"])])
    return table(["stream", "", "accuracy", "alarms", "rows until found", "false alarms"], rows)


def alarm_table(found: dict[str, dict]) -> str:
    """One line an alarm of the monitors."""
    rows = [
        [stream, f"{a['alarm']:,}", f"{a['since']:,}", a["scenario"], f"{a['false_alarm_rise']:+.3f}",
         f"{a['miss_rise']:+.3f}", ", ".join(a["reasons"])]
        for stream, one in found.items()
        for a in one["details"]
    ]  # fmt: skip
    head = ["stream", "alarm at row", "since about", "scenario", "rise of FPR", "rise of FNR", "raised by"]
    return table(head, rows)


def plant(cache: Path) -> dict[str, dict]:
    """What `drift_plant` finds."""
    begun = time.monotonic()

    def told(text: str) -> None:
        print(f"{time.monotonic() - begun:5.0f} s  {text}", file=sys.stderr)

    parts = {"shares": drift_plant.shares, "changes": drift_plant.changes, "week": drift_plant.week}
    return {name: part(cache, told=told) for name, part in parts.items()}


def share_table(found: dict) -> str:
    """One line a share; in brackets the share of the quality of a model that was trained on everything."""
    full = found["full"]
    head = ["seen", "devices, classes", "static F1", "adaptive F1", "late: static F1", "adaptive F1", "MCC",
            "alarms"]  # fmt: skip
    rows = []
    for one in found["shares"]:
        cells = [f"{one['share']:.0%}", f"{one['devices']}, {one['classes']}"]
        for part, name, figure in (
            ("whole", "static", "f1"),
            ("whole", "adaptive", "f1"),
            ("late", "static", "f1"),
            ("late", "adaptive", "f1"),
            ("late", "adaptive", "mcc"),
        ):
            value = one[name][part][figure]
            cells.append(f"{value:.3f} ({value / full[part][figure]:.0%})")
        early = sum(a["window"] < 0 for a in one["alarms"])
        refused = sum(a["served"] is None for a in one["alarms"])
        notes = [f"{n} {what}" for n, what in ((early, "early"), (refused, "refused")) if n]
        rows.append([*cells, ", ".join([str(len(one["alarms"])), *notes])])
    whole, late = full["whole"], full["late"]
    rows.append(
        ["everything", "", f"{whole['f1']:.3f}", "", f"{late['f1']:.3f}", "", f"{late['mcc']:.3f}", ""]
    )
    return table(head, rows)


def change_table(found: dict) -> str:
    """One line a model of each case."""
    head = ["case", "found after", "scenario", "recovered after", "F1 (MCC)", "before", "during", "after"]
    rows = []
    for name, one in found["cases"].items():
        minutes = {
            key: "missed" if one[key] is None else f"{one[key] * found['window_s'] / 60:.0f} min"
            for key in ("found_after", "recovered_after")
        }
        scenario = f"{one['scenario'] or 'none'} (is {one['expected']})"
        about = [name, minutes["found_after"], scenario, minutes["recovered_after"]]
        for model, quality in one["quality"].items():
            figures = [
                f"{quality[k]['f1']:.3f} ({quality[k]['mcc']:.3f})" if k in quality else "-"
                for k in ("before", "during", "after")
            ]
            rows.append([*about, model, *figures])
            about = [""] * 4
    return table(head, rows)


def week_text(found: dict) -> str:
    """Alarms in a quiet week."""
    labelled, unlabelled = len(found["alarms_labelled"]), len(found["alarms_unlabelled"])
    return (
        f"{found['windows']:,} windows, out of {found['sessions']} quiet sessions in any order: "
        f"{labelled} alarms with all labels, {unlabelled} without any."
    )


def plant_tables(found: dict[str, dict]) -> dict[str, str]:
    """By mark."""
    return {
        "shares": share_table(found["shares"]),
        "changes": change_table(found["changes"]),
        "week": week_text(found["week"]),
    }


def keep(found: dict[str, dict], pictures: Path) -> None:
    """The picture, and beside it all figures."""
    draw(found["shares"], found["changes"], pictures / "drift-plant.svg")
    (pictures / "drift-plant.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("cost", "streams", "plant"))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cache", type=Path, default=home() / "datasets", help="simulated data sets")
    args = parser.parse_args()
    figures: dict = {}
    parts = {}
    if args.part in (None, "cost"):
        figures["cost"] = cost()
        parts["cost"] = cost_table(figures["cost"])
    if args.part in (None, "streams"):
        figures["streams"] = {name: evaluated(name) for name in STREAMS}
        parts["streams"] = stream_table(figures["streams"])
        parts["alarms"] = alarm_table(figures["streams"])
    if args.part in (None, "plant"):
        figures["plant"] = found = plant(args.cache)
        parts |= plant_tables(found)
        if args.write:
            keep(found, args.write.parent / "pictures")
    if args.json:
        print(json.dumps(figures, indent=1))
        return
    fill_or_print(args.write, parts)


if __name__ == "__main__":
    main()
