"""A bad day, unattended: drift, retraining, shadow, canary, service; and a quiet day with nothing of it.

    python benchmarks/bad_day.py [--part A|B|quiet] [--rate R] [--cache DIR] [--keep DIR]
                                 [--write docs/drift.md] [--json]

Test sessions of the simulated bench, window after window through the real nodes of a cell, over DDS and R
windows a second (one a second while a candidate is made, as in life), with labels of the truth,
`drift: {retrain: true, promote: true}` and nobody at the desk. After CALM sessions the world is another: A,
summer comes to the simulated process, which is benign; B, attacks hide among what is benign; quiet, nothing
changes. What the cell said of every window is set against the truth: before, during (from the change until
the candidate decides for all), after.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.drift.finds import found_of
from cellwatch.models.evaluation.metrics import confusion, mcc
from cellwatch.models.registry.bundle import BundleError
from cellwatch.models.registry.candidate_file import CandidateFile
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.model_set import ModelSet
from cellwatch.models.registry.registry import Registry
from cellwatch.models.types import Screening, Stage
from cellwatch.nodes.cell import Artifacts
from cellwatch.nodes.data_sources import read_sessions, simulated_folder
from cellwatch.nodes.drift_changes import changed, fresh
from cellwatch.nodes.runner import RunOptions, home
from cellwatch.nodes.simulated import generate
from cellwatch.nodes.stress import SOURCES, StressCell, cell_for
from cellwatch.nodes.stress_player import Player
from cellwatch.nodes.stress_recording import Recording, joined
from cellwatch.nodes.text_file import fill_or_print

DATA = "sim:bench"
CALM, SUMMER = 6, 16  # sessions
EVASIVE = 1 / 3
ASKED = "drift_node asks"  # each candidate that it asked for has a line of its own
SHOWN = ("false alarms", "misses", "not found", "MCC")


class BadDay(StressCell):
    """The cell of the stress test with the node that retrains."""

    LEFT_OUT = SOURCES
    cache = ""

    def artifacts(self, models: ModelSet | None) -> Artifacts:
        return replace(super().artifacts(models), cache=self.cache)


def recording_of(part: str, cache: Path) -> tuple[Recording, int]:
    """Test sessions, CALM of them as the models know them, then others; and the window of the change."""
    folder = generate("bench", simulated_folder("bench", cache))
    about, sessions = read_sessions(folder)
    tests = [s for s in sessions if s.split == "test"]
    before, after = tests[:CALM], tests[CALM:]
    if part == "A":
        after = changed("summer", [min(1.0, (k + 1) / 3) for k in range(SUMMER)], *fresh(folder))
    elif part == "B":
        after = [evasive(s, before) for s in tests]
    every = [*before, *after]
    begins = [0] * len(every)
    window_ns = round(about["window_s"] * 1e9)
    whole = sum(len(s.y) for s in every)
    found = joined(every, begins, tuple(about["classes"]), window_ns, windows=whole)
    return found, sum(len(s.y) for s in before)


def evasive(session: SessionWindows, known: list[SessionWindows]) -> SessionWindows:
    """Attacks that hide: what sets them off from the benign median of their device shrinks to a third."""
    values = np.concatenate([s.values for s in known])
    quiet = np.concatenate([s.y == 0 for s in known])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # columns that a device never has
        usual = np.nanmedian(np.where(quiet[:, :, None], values, np.nan), axis=0)
    hidden = usual + EVASIVE * (session.values - usual)
    known_column = np.isfinite(usual)
    mine = (session.y > 0)[:, :, None] & known_column
    return replace(session, values=np.where(mine, hidden, session.values).astype(np.float32))


def run(part: str, rate: float, cache: Path, console: Console) -> dict[str, Any]:
    """Play one day. What was decided, and when which stage began (in windows)."""
    recording, at = recording_of(part, cache)
    windows = len(recording.y)
    cell, models = cell_for(DATA, recording, console)
    cell = replace(cell, cell="bad-day", drift=replace(cell.drift, retrain=True, promote=True))
    day = BadDay(cell, RunOptions(), lambda text: console.print(text, style="yellow", highlight=False))
    day.cache = str(cache)
    registry = Registry(home() / "models" / "bench", Keys(home() / "keys"))
    seen: list[tuple[int, str]] = []
    training = np.zeros(windows, bool)  # a candidate was being made
    with contextlib.ExitStack() as stack:
        stack.callback(day.shutdown)
        day.prepare()
        day.launch(day.artifacts(models))
        player = Player(recording, day.namespace)
        stack.callback(player.close)
        player.await_ready(day.look)

        def meanwhile() -> None:
            day.look()
            now = player.place
            making = day.manager.nodes["retrain_node"].message.startswith("making")
            player.pace(day.cell.window_s if making else 1 / rate)
            if making:
                training[now] = True
            news = state_of(day, registry)
            if not seen or seen[-1][1] != news:
                seen.append((now, news))
                console.print(f"window {now:6d} of {windows}: {news}", highlight=False)

        play, place = player.play(windows, 1 / rate, meanwhile)
        day.rest()
        meanwhile()
        alarms = day.counters()["alarms"]
        said = (day.run_folder / "retrain_node.log").read_text().splitlines()
    np.savez_compressed(home() / "day.npz", decision=play.decision, place=place, latency_s=play.latency_s)
    return {
        "part": part,
        "windows": windows,
        "rate": rate,
        "change": at,
        "alarms": alarms,
        "stages": seen,
        "said": [line.partition("]: ")[2] for line in said if "retrain_node]" in line],
        "lost": int(np.isnan(play.latency_s).sum()),
        "latency_p99_s": p99(play.latency_s, training),
        "versions": [v.version for v in registry.versions()]
        if (home() / "models" / "bench").exists()
        else [],
        "phases": phases(recording, play.decision, place, seen, at),
    }


def p99(latency_s: np.ndarray, training: np.ndarray) -> dict[str, float]:
    """Of windows before a candidate was made for the first time, and from its first to its last moment."""
    made = np.flatnonzero(training)
    if not len(made):
        return {"without": float(np.nanquantile(latency_s, 0.99))}
    parts = {"without": latency_s[: made[0]], "training": latency_s[made[0] : made[-1] + 1]}
    return {name: float(np.nanquantile(part, 0.99)) for name, part in parts.items() if len(part)}


def state_of(day: BadDay, registry: Registry) -> str:
    """Drift and candidate, in words."""
    event = day.ledger.drift
    drift = "calm" if event is None else f"{event.state.name.lower()} {event.scenario}".rstrip()
    try:
        candidate = CandidateFile(registry).read(0)
    except (BundleError, OSError):
        candidate = None
    return f"{drift}; {'no candidate' if candidate is None else candidate.stage.name}"


def phases(
    recording: Recording, decision: np.ndarray, place: np.ndarray, seen: list[tuple[int, str]], at: int
) -> dict[str, dict[str, float]]:
    """Before the change, until the candidate serves, and after: shares of false alarms and misses, and MCC.

    "misses" are attacks that were ALLOW; for "not found" and MCC an alarm that stood before has missed too.
    """
    n = len(place)
    touched = (recording.y[place] > 0) | ~recording.clear[place]
    inner = touched.copy()
    inner[1:] &= touched[:-1]
    inner[:-1] &= touched[1:]
    attack = (recording.y[place] > 0) | inner  # in a season the incidents of PLC1 have no class
    known = (recording.clear[place] | attack) & (decision != Screening.UNKNOWN)
    objected = decision > Screening.ALLOW
    found = found_of(attack, known, objected)
    active = next((k for k, news in seen if news.endswith((Stage.ACTIVE.name, Stage.ACCEPTED.name))), n)
    out = {}
    for name, part in (("before", slice(0, at)), ("during", slice(at, active)), ("after", slice(active, n))):
        if not known[part].any():
            continue
        said, told = (what[part][known[part]] for what in (np.where(attack, found, objected), attack))
        silent = ~objected[part][known[part]]
        m = confusion(told.astype(np.int64), said.astype(np.int64), 2)
        (tn, fp), (fn, tp) = m.tolist()
        out[name] = {
            "windows": len(place[part]),
            "false alarms": fp / max(tn + fp, 1),
            "misses": int((silent & told).sum()) / max(fn + tp, 1),
            "not found": fn / max(fn + tp, 1),
            "MCC": mcc(m),
        }
    return out


def table(found: list[dict[str, Any]]) -> str:
    """For the docs."""
    lines = [
        f"| day | phase | windows | {' | '.join(SHOWN)} |",
        "| --- | --- | --- | " + " | ".join("---" for _ in SHOWN) + " |",
    ]
    for day in found:
        for name, row in day["phases"].items():
            figures = " | ".join(f"{row[key]:.4f}" for key in SHOWN)
            lines.append(f"| {day['part']} | {name} | {row['windows']:,} | {figures} |")
    lines += ["", "| day | window | |", "|---|---|---|"]
    for day in found:
        lines += [f"| {day['part']} | {k:,} | {news} |" for k, news in day["stages"]]
        lines += [f"| {day['part']} | | {line} |" for line in day["said"] if not line.startswith(ASKED)]
    lines += ["", "| day | p99 of window to verdict, ms | |", "|---|---|---|"]
    for day in found:
        lines += [f"| {day['part']} | {name} | {1e3 * v:.0f} |" for name, v in day["latency_p99_s"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("A", "B", "quiet"), action="append")
    parser.add_argument("--rate", type=float, default=15.0)
    parser.add_argument("--cache", type=Path, default=home() / "datasets")
    parser.add_argument("--keep", type=Path, help="folder for what the cells write: PART/cells, PART/models")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    console = Console(stderr=True)
    found = []
    for part in given.part or ["A", "B", "quiet"]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = given.keep.resolve() / part if given.keep else Path(temporary)
            os.environ["CELLWATCH_HOME"] = str(folder)  # the models of the site stay as they are
            found.append(run(part, given.rate, given.cache.resolve(), console))
    if given.json:
        json.dump(found, sys.stdout, indent=1)
    else:
        fill_or_print(given.write, {"bad day": table(found)})


if __name__ == "__main__":
    main()
