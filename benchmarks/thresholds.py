"""How easy the simulated attacks are: the best single feature with one threshold, for each type.

python benchmarks/thresholds.py [--attacks 'dos/*'] [--runs 2] [--json | --markdown]

Windows of the attacked device against windows of all devices that the type can hit, in runs without an
attack. Feature, threshold and sense are chosen on some seeds and judged on others. The figure is balanced
accuracy: the mean of the share of attacked windows found and of benign windows passed. `medium` is size 0.5
against a quiet factory. Where that exceeds 99 % in 10 s windows, `low` is size 0 against benign life that
looks like attacks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.features.window import FeatureAssembler, windows_from_recording
from cellwatch.models.types import FeatureWindow
from cellwatch.nodes.simulated import packets, tag_batches
from cellwatch.plc_sim import scenario
from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.recording import Recording, simulate

WINDOWS_S = (1.0, 10.0)
ONSETS_S, LASTS_S, RUN_S = (20, 75, 130), 30, 170.0
LIFE = ("firmware_update", "technician_scan", "shift_change", "backup")
LIFE_S = 300.0
MEDIUM, LOW, EASY = 0.5, 0.0, 0.99
JUDGED = 2_000_000  # seeds of the runs that are judged begin here
COMMISSION_S = 600.0

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Job:
    """One run: an attack of one size three times, or nothing (`attack` is empty), or benign life ("life")."""

    attack: str
    size: float
    seed: int

    def scenario(self) -> scenario.Scenario:
        """What happens in it."""
        seconds = LIFE_S if self.attack == "life" else max(RUN_S, COMMISSION_S)
        text = f"name: thresholds\nsite: factory\nduration_s: {seconds}\n"
        if self.attack == "life":
            text += "activities:\n"
            for i, name in enumerate(LIFE):
                text += f"  - {{activity: {name}, at_s: {5 + 70 * i}}}\n"
        elif self.attack:
            text += "incidents:\n"
            for at in ONSETS_S:
                text += (
                    f"  - {{attack: {self.attack}, at_s: {at}, duration_s: {LASTS_S}, size: {self.size}}}\n"
                )
        return scenario.parse(text, "thresholds")


def windows(recording: Recording, window_s: float, assembler: FeatureAssembler) -> list[FeatureWindow]:
    """Feature windows as the running cell has them."""
    catalogs, batches = tag_batches(recording.tags, recording.time_ns, recording.values, recording.status)
    traffic = TrafficWindows(window_s, recording.devices)
    traffic.add(packets(recording.frames))
    return windows_from_recording(assembler, catalogs, batches, traffic.close(None))


def _assembler(recording: Recording, window_s: float, baseline: TagBaseline | None) -> FeatureAssembler:
    devices = tuple(dict.fromkeys(recording.devices.values()))
    learn_s = 0.0 if baseline else 0.95 * COMMISSION_S
    return FeatureAssembler(default_schema(), window_s, 0.5, devices, baseline, learn_s)


@cache
def _commissioning() -> Recording:
    return simulate(Job("", 0.0, 0).scenario(), 0, COMMISSION_S)


@cache
def baseline(window_s: float) -> TagBaseline:
    """Tag baseline of a quiet factory."""
    recording = _commissioning()
    assembler = _assembler(recording, window_s, None)
    windows(recording, window_s, assembler)
    if assembler.baseline is None:
        raise RuntimeError(f"no tag baseline: {assembler.status}")
    return assembler.baseline


def work(job: Job) -> tuple[Job, dict[float, dict[str, Rows]]]:
    """Rows by window length and device: of the targets while they are attacked, or of everybody."""
    seconds = LIFE_S if job.attack == "life" else RUN_S
    recording = simulate(job.scenario(), job.seed, seconds)
    found: dict[float, dict[str, Rows]] = {}
    for window_s in WINDOWS_S:
        rows: dict[str, list[Rows]] = {}
        for window in windows(recording, window_s, _assembler(recording, window_s, baseline(window_s))):
            for device, row in zip(window.devices, window.values, strict=True):
                if job.attack in {"", "life"} or _is_attacked(window, device, recording):
                    rows.setdefault(device, []).append(row)
        found[window_s] = {device: np.array(some) for device, some in rows.items()}
    return job, found


def _is_attacked(window: FeatureWindow, device: str, recording: Recording) -> bool:
    """Whether an attack aims at the device for at least half of the window."""
    half = (window.end_ns - window.start_ns) / 2
    return any(
        device == each.device
        and min(window.end_ns, each.end_ns) - max(window.start_ns, each.onset_ns) >= half
        for each in recording.incidents
    )


@dataclass(frozen=True, slots=True)
class Stump:
    """One feature with one threshold."""

    feature: int
    threshold: float
    above: bool  # attacked windows lie above
    score: float

    def judge(self, attacked: Rows, benign: Rows) -> float:
        """Balanced accuracy on other windows."""
        hit, false = (
            ((_filled(x)[:, self.feature] > self.threshold) == self.above).mean() for x in (attacked, benign)
        )
        return float((hit + 1.0 - false) / 2.0)


def _filled(x: Rows) -> Rows:
    """What is undefined lies below everything."""
    return np.where(np.isfinite(x), x, np.float32(-1e30))


def best_stump(attacked: Rows, benign: Rows) -> Stump:
    """Try every feature at every threshold, both ways."""
    x = _filled(np.concatenate([attacked, benign]))
    weight = np.concatenate(
        [np.full(len(attacked), 0.5 / len(attacked)), np.full(len(benign), -0.5 / len(benign))]
    )
    best = Stump(0, 0.0, True, 0.0)
    for k in range(x.shape[1]):
        order = np.argsort(x[:, k], kind="stable")
        values = x[order, k]
        gain = np.cumsum(weight[order])[:-1]  # attacked minus benign below each cut
        gain[values[1:] == values[:-1]] = 0.0
        if not len(gain):
            continue
        cut = int(np.argmax(np.abs(gain)))
        score = 0.5 + abs(float(gain[cut]))
        if score > best.score:
            middle = (float(values[cut]) + float(values[cut + 1])) / 2.0
            best = Stump(k, middle, bool(gain[cut] < 0), score)
    return best


def compare(
    attack: str, attacked: dict[bool, dict[str, Rows]], benign: dict[bool, dict[str, Rows]]
) -> dict[str, object]:
    """Choose on the training runs (False), judge on the others (True)."""
    can = ATTACKS[attack].targets["factory"]
    hit = {side: np.concatenate(list(rows.values())) for side, rows in attacked.items()}
    free = {
        side: np.concatenate([some for device, some in rows.items() if device in can])
        for side, rows in benign.items()
    }
    stump = best_stump(hit[False], free[False])
    return {
        "feature": default_schema().names[stump.feature],
        "threshold": stump.threshold,
        "above": stump.above,
        "balanced_accuracy": round(stump.judge(hit[True], free[True]), 4),
        "windows": [len(hit[True]), len(free[True])],
    }


def gather(pool: ProcessPoolExecutor, jobs: list[Job], console: Console, what: str) -> dict:  # type: ignore[type-arg]
    """Rows by (attack, size), window length, judged or not, device."""
    found: dict = {}  # type: ignore[type-arg]
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=len(jobs))
        for job, by_window in pool.map(work, jobs):
            bar.advance(task)
            for window_s, rows in by_window.items():
                side = found.setdefault((job.attack, job.size), {}).setdefault(window_s, {})
                into = side.setdefault(job.seed >= JUDGED, {})
                for device, some in rows.items():
                    into[device] = np.concatenate([into[device], some]) if device in into else some
    return found


def measure(names: list[str], runs: int, workers: int, console: Console) -> list[dict[str, object]]:
    """One result a type."""

    def jobs(attack: str, size: float, first: int) -> list[Job]:
        return [Job(attack, size, base + first + i) for base in (0, JUDGED) for i in range(runs)]

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        benign = gather(pool, jobs("", 0.0, 10) + jobs("life", 0.0, 30), console, "benign")
        quiet, life = benign["", 0.0], benign["life", 0.0]
        medium = gather(pool, [j for n in names for j in jobs(n, MEDIUM, 100)], console, "medium")
        results: list[dict[str, object]] = []
        for name in names:
            scores = {f"{w:g} s": compare(name, medium[name, MEDIUM][w], quiet[w]) for w in WINDOWS_S}
            results.append({"attack": name, "medium": scores})
        easy = [r["attack"] for r in results if r["medium"]["10 s"]["balanced_accuracy"] > EASY]  # type: ignore[index]
        low = gather(pool, [j for n in easy for j in jobs(str(n), LOW, 200)], console, "low")
        for result in results:
            name = str(result["attack"])
            if name in easy:
                result["low"] = {f"{w:g} s": compare(name, low[name, LOW][w], life[w]) for w in WINDOWS_S}
    return results


HEADS = ("attack", "medium 1 s", "medium 10 s", "low 1 s", "low 10 s")


def cells(result: dict, between: str) -> list[str]:  # type: ignore[type-arg]
    """One row of the table: figures with their features."""
    row = [result["attack"]]
    for size in ("medium", "low"):
        for window_s in WINDOWS_S:
            one = result.get(size, {}).get(f"{window_s:g} s")
            row.append(f"{100 * one['balanced_accuracy']:.1f} %{between}{one['feature']}" if one else "")
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attacks", default="*", help="types, as a pattern: 'recon/*' (default: all)")
    parser.add_argument("--runs", type=int, default=2, help="runs to choose on, and as many to judge on")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    names = [name for name in ATTACKS if fnmatchcase(name, options.attacks)]
    if not names:
        sys.exit(f"no attack is called {options.attacks!r}; there are {', '.join(ATTACKS)}")
    if options.runs < 1:
        sys.exit("--runs must be at least 1")
    results = measure(names, options.runs, options.workers, Console(stderr=True))
    if options.json:
        print(json.dumps(results, indent=1))
    elif options.markdown:
        print("| " + " | ".join(HEADS) + " |\n|" + "---|" * len(HEADS))
        for result in results:
            print("| " + " | ".join(cells(result, " ")) + " |")
    else:
        table = Table(*HEADS, title="Balanced accuracy of the best single feature with one threshold")
        for result in results:
            table.add_row(*cells(result, "\n"))
        Console().print(table)


if __name__ == "__main__":
    main()
