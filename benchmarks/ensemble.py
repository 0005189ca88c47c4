"""All detectors of all levels on one batch: served as in the cell, beside a plain loop over native models.

    python benchmarks/ensemble.py [--models a,b] [--rows 6000] [--repeat 20] [--json]

The detectors are fitted on made-up rows of the real width, networks for one epoch only: what they say is
worthless, what they cost is not. Both sides get the same scaled windows and sequences, and their answers are
compared. Of `--repeat` rounds the median counts; served and native take turns, so that a busy machine slows
both, and processor time stands beside the clock. `p99` is the whole step of the node for 40 devices with the
best ensembles of the paper (Table 2), from the raw window to the verdicts, over 1,000 windows. `MiB` is what
a model alone adds to the memory of a process that holds ONNX Runtime already. Without ROS; on a GPU when ONNX
Runtime has one.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cellwatch.models.detectors.catalog import DETECTORS
from cellwatch.models.detectors.detector import SEQUENCE, Detector
from cellwatch.models.detectors.ensemble import Ensemble
from cellwatch.models.detectors.merged import ServedGraph
from cellwatch.models.detectors.network import Network, Training
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.detectors.serving import Feeds, Group, session
from cellwatch.models.evaluation.pool import TABLE_2
from cellwatch.models.features.schema import default_schema
from cellwatch.models.types import FeatureWindow

CLASSES = {1: 2, 2: 10, 3: 75}
BATCHES = (1, 40, 1024)
PAPER = {1: "L1_Ens1", 2: "L2_Ens2", 3: "L3_Ens1"}
WINDOWS = 1000
FEATURES = len(default_schema().names)


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of `n` windows of 75 kinds, (n, T, f) float32, and their kind."""
    rng = np.random.default_rng(seed)
    centre = np.random.default_rng(0).normal(scale=2.0, size=(CLASSES[3], FEATURES))
    kind = rng.integers(CLASSES[3], size=n)
    kind[: CLASSES[3]] = np.arange(CLASSES[3])
    x = centre[kind][:, None] + rng.normal(scale=2.0, size=(n, SEQUENCE, FEATURES))
    return np.clip(x, -10, 10).astype(np.float32), kind


def fit(names: list[str], n: int, console: Console) -> dict[tuple[int, str], Detector]:
    """Every detector on every level."""
    x, kind = rows(n, 1)
    made: dict[tuple[int, str], Detector] = {}
    todo = [(level, name) for level in CLASSES for name in names]
    for level, name in track(todo, "fitting", console=console, transient=True):
        cls = DETECTORS[name]
        more = {"training": replace(Training(), epochs=1)} if issubclass(cls, Network) else {}
        model = cls(tuple(map(str, range(CLASSES[level]))), seed=1, **more)
        model.fit(x if cls.KIND == "sequence" else x[:, -1], kind % CLASSES[level])
        made[level, name] = model
    return made


def resident() -> int:
    """Bytes in memory."""
    gc.collect()
    return psutil.Process().memory_info().rss


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds that it takes, by the clock and of processor time."""
    begun, busy = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - begun, time.process_time() - busy


def compare(
    graphs: list[ServedGraph], models: dict[tuple[int, str], Detector], batch: int, repeat: int
) -> dict[str, float]:
    """Median seconds of both sides, and the largest difference of a probability."""
    s, _ = rows(max(batch, CLASSES[3]), 2)
    s = np.ascontiguousarray(s[:batch])
    x = np.ascontiguousarray(s[:, -1])
    group, feeds = Group(graphs), Feeds(x, s)

    def native() -> dict[tuple[int, str], np.ndarray]:
        return {
            (g.level, g.detector): models[g.level, g.detector].predict_proba(s if g.kind == "sequence" else x)
            for g in graphs
        }

    truth, served = native(), group.run(feeds)
    worst = 0.0
    for level, p in served.items():
        for k, name in enumerate(group.names(level)):
            worst = max(worst, float(np.abs(p[:, k] - truth[level, name]).max()))
    pairs = [(*timed(lambda: group.run(feeds)), *timed(native)) for _ in range(repeat)]
    ours, ours_cpu, theirs, theirs_cpu = (float(v) for v in np.median(pairs, axis=0))
    return {
        "batch": batch,
        "models": len(graphs),
        "served_ms": round(1e3 * ours, 3),
        "native_ms": round(1e3 * theirs, 3),
        "ratio": round(theirs / ours, 2),
        "served_cpu_ms": round(1e3 * ours_cpu, 3),
        "native_cpu_ms": round(1e3 * theirs_cpu, 3),
        "cpu_ratio": round(theirs_cpu / ours_cpu, 2),
        "difference": worst,
    }


def windows(graphs: list[ServedGraph]) -> dict[str, float]:
    """Milliseconds of the node's step for 40 devices with the ensembles of the paper."""
    wanted = {(level, d) for level, name in PAPER.items() for d in TABLE_2[level][name]}
    served = [g for g in graphs if (g.level, g.detector) in wanted]
    names = {level: tuple(map(str, range(n))) for level, n in CLASSES.items()}
    scaler = Scaler(np.zeros(FEATURES), np.ones(FEATURES))
    core = Ensemble("bench", names, scaler, served, clock=time.perf_counter, length=SEQUENCE, budget_s=10.0)
    devices = tuple(f"device-{i}" for i in range(40))
    s, _ = rows(WINDOWS * 40, 3)
    raw = np.expm1(np.abs(s[:, -1])) * np.sign(s[:, -1])
    none = np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)
    took = []
    for i in range(WINDOWS):
        w = FeatureWindow(i, 0, 1, 1, "bench", devices, raw[i * 40 : i * 40 + 40], (), *none)
        took.append(timed(lambda w=w: core.judge(w)))
    (p50, cpu50), (p99, cpu99) = 1e3 * np.percentile(took[10:], [50, 99], axis=0)
    return {
        "models": len(served),
        "p50_ms": round(p50, 3),
        "p99_ms": round(p99, 3),
        "cpu_p50_ms": round(cpu50, 3),
        "cpu_p99_ms": round(cpu99, 3),
    }


def memory(graphs: list[ServedGraph]) -> dict[str, float]:
    """MiB that a session of each detector adds, mean over the levels, after one run of 40 rows."""
    s, _ = rows(CLASSES[3], 2)
    kept, out = [], {}
    for g in graphs:
        before = resident()
        kept.append(session(g.content))
        kept[-1].run(None, {"x": s[:40] if g.kind == "sequence" else s[:40, -1]})
        out.setdefault(g.detector, []).append((resident() - before) / 2**20)
    return {name: round(float(np.mean(v)), 2) for name, v in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="all")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    names = list(DETECTORS) if args.models == "all" else args.models.split(",")
    unknown = [n for n in names if n not in DETECTORS]
    if unknown:
        parser.error(f"no detector {unknown[0]}; there are: {', '.join(DETECTORS)}")
    console = Console(stderr=True)
    models = fit(names, args.rows, console)
    graphs = [
        ServedGraph(level, name, DETECTORS[name].KIND, model.to_onnx())
        for (level, name), model in models.items()
    ]
    networks = [g for g in graphs if isinstance(models[g.level, g.detector], Network)]
    others = [g for g in graphs if g not in networks]
    result: dict[str, object] = {
        "provider": session(graphs[0].content).get_providers()[0],
        "kB": {n: round(max(len(g.content) for g in graphs if g.detector == n) / 1e3, 1) for n in names},
        "MiB": memory(graphs),
    }
    for label, part in (("all", graphs), ("networks", networks), ("others", others)):
        if part:
            result[label] = [compare(part, models, b, args.repeat) for b in BATCHES]
    result["cell"] = windows(graphs)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    show(result, console=Console())


def show(result: dict, console: Console) -> None:
    """The same as tables."""
    columns = (
        "batch",
        "models",
        "served_ms",
        "native_ms",
        "ratio",
        "served_cpu_ms",
        "native_cpu_ms",
        "cpu_ratio",
    )
    table = Table("what", *(c.replace("_", " ") for c in columns), "largest difference", box=None)
    for label in ("all", "networks", "others"):
        for row in result.get(label, []):
            table.add_row(label, *(str(row[c]) for c in columns), f"{row['difference']:.1e}")
    console.print(result["provider"])
    console.print(table)
    console.print("40 devices, the paper's ensembles:", result["cell"])
    table = Table("model", "graph kB (largest level)", "MiB in memory", box=None)
    for name, size in result["kB"].items():
        table.add_row(name, str(size), str(result["MiB"][name]))
    console.print(table)


if __name__ == "__main__":
    main()
