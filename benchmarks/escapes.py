"""Which attacks and faults of the simulated factory escape RuleSense: recall by type and by size.

python benchmarks/escapes.py [--sessions N] [--split test] [--workers 2] [--json | --markdown]

The profile is learned from the benign training sessions of the data set's recipe, with the settings as
shipped; judged are the sessions of the split "test", whose seeds nothing was learned or tuned on, in windows
of 10 s, with learned limits, protocol rules, cross-checks and the shipped rule file of the factory. A device
window is

  attacked   the target of an incident, acting for at least half of the window
  other      another device that the incident touches
  aftermath  the process recovers from what is over
  bystander  any other device, while an incident runs somewhere (a scan of the subnet meets many)
  quiet      no incident runs

"Binary" holds attacked against quiet windows, "strict" all of them: attacked, other and aftermath against
quiet and bystander. An alarm is any verdict but ALLOW.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cellwatch.models.datasets.sessions import label_windows
from cellwatch.models.evaluation.metrics import confusion, mcc
from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.window import FeatureAssembler
from cellwatch.models.rules.crosscheck import CrossChecks
from cellwatch.models.rules.physics import Physics
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.protocol import ProtocolRules
from cellwatch.models.rules.rule_file import RuleFile
from cellwatch.models.rules.rulesense import RuleSense
from cellwatch.models.rules.user_rules import UserRules
from cellwatch.models.types import Screening, TagBatch, TagCatalog
from cellwatch.nodes import simulated
from cellwatch.plc_sim.network.hosts import ROLES, devices_of
from cellwatch.plc_sim.recording import Playback
from cellwatch.plc_sim.sites import SITES

SITE = "factory"
RULES = Path(__file__).resolve().parents[1] / "config" / "rules" / f"{SITE}.yaml"
KINDS = ("quiet", "bystander", "attacked", "other", "aftermath")
QUIET, BYSTANDER, ATTACKED, OTHER, AFTERMATH = range(len(KINDS))
SETTLE_NS = round(simulated.SETTLE_S * 1e9)
SIZES = ("mild", "medium", "severe")  # thirds of 0..1


class Listening(FeatureAssembler):
    """Keeps the tag batches that it is given: the cross-checks want the samples too."""

    def __init__(self, like: FeatureAssembler, window_s: float, baseline: TagBaseline) -> None:
        """`like` gives schema and devices."""
        super().__init__(like.schema, window_s, 0.5, like.devices, baseline)
        self.catalogs: list[TagCatalog] = []
        self.batches: list[TagBatch] = []

    def catalog(self, catalog: TagCatalog) -> None:
        """Take it and keep it."""
        self.catalogs.append(catalog)
        super().catalog(catalog)

    def tags(self, batch: TagBatch) -> None:
        """Take it and keep it."""
        self.batches.append(batch)
        super().tags(batch)


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows of one session; n device windows."""

    kind: NDArray[np.int8]  # (n,) index into KINDS
    type: NDArray[np.int16]  # (n,) index into the classes, 0 = benign
    incident: NDArray[np.int32]  # (n,) number within the session, -1 = none
    size: NDArray[np.float32]  # (n,)
    screening: NDArray[np.uint8]  # (n,)


def judge(plan: simulated.Plan, profile: Profile, baseline: TagBaseline) -> Judged:
    """Play a session and judge its windows in the order of time."""
    recipe = simulated.RECIPES[SITE]
    ears = Listening(simulated.assembler(recipe, baseline, 0.0), recipe.window_s, baseline)
    windows, run, safe = simulated.feature_windows(ears, recipe, plan)
    checks = CrossChecks(profile.habits)
    for catalog in ears.catalogs:
        checks.catalog(catalog)
    file = RuleFile.parse(RULES.read_text(encoding="utf-8"), str(RULES))
    declared = (Physics(file.physics), UserRules(file.rules))
    rules = RuleSense(profile, rules=(ProtocolRules(profile.habits), checks, *declared))
    devices = tuple(
        name for name in devices_of(SITES[SITE]).values() if ROLES[name] not in {"cloud", "attacker"}
    )
    rows = [windows[0].devices.index(name) for name in devices]
    batches = iter(ears.batches)
    batch = next(batches, None)
    screening = []
    for window in windows:
        while batch is not None and batch.received_ns <= window.end_ns:
            checks.tags(batch)
            batch = next(batches, None)
        screening.append(rules.judge(window).screening[rows])
    return _sorted_out(windows[0].start_ns, np.stack(screening), devices, run, safe)


def _sorted_out(
    first_ns: int, screening: Any, devices: tuple[str, ...], run: Playback, safe: list[tuple[str, int, int]]
) -> Judged:
    recipe = simulated.RECIPES[SITE]
    length = round(recipe.window_s * 1e9)
    start = first_ns + length * np.arange(len(screening), dtype=np.int64)
    classes, incidents, planned = simulated.classes_of(SITE), run.incidents(), run.cell.planned
    names = [
        f"fault/{each.type}" if each.kind == "fault" else f"{each.category}/{each.type}" for each in incidents
    ]
    y, clear, which = label_windows(
        start, length, devices,
        [
            (classes.index(name), each.onset_ns, each.end_ns, {each.device, *each.devices})
            for name, each in zip(names, incidents, strict=True)
        ],
    )  # fmt: skip
    running = np.zeros(len(start), dtype=bool)
    acting, target = np.zeros_like(clear), np.zeros_like(clear)
    for i, each in enumerate(incidents):
        over = np.minimum(start + length, each.end_ns) > np.maximum(start, each.onset_ns)
        running |= over
        removal = each.onset_ns + round((planned[i].removal_s - planned[i].onset_s) * 1e9)
        enough = 2 * (np.minimum(start + length, removal) - np.maximum(start, each.onset_ns)) >= length
        mine = which == i
        acting |= mine & enough[:, None]
        target |= mine & (np.array(devices) == each.device)
    for name, since, until in safe:  # what a plant does in its safe state is no attack, and not normal
        here = (start < until + SETTLE_NS) & (start + length > since)
        column = devices.index(name)
        clear[here & (y[:, column] == 0), column] = False
    kind = np.where(running[:, None], BYSTANDER, QUIET) + np.zeros_like(y)
    kind[y > 0] = AFTERMATH
    kind[(y > 0) & acting] = OTHER
    kind[(y > 0) & acting & target] = ATTACKED
    sizes = np.append([each.size for each in planned], np.nan)
    return Judged(
        kind[clear].astype(np.int8), y[clear], which[clear].astype(np.int32),
        sizes[which[clear]].astype(np.float32), screening[clear],
    )  # fmt: skip


def work(task: tuple[simulated.Plan, str, str]) -> Judged:
    """One session in a process of its own."""
    plan, profile, baseline = task
    return judge(plan, Profile.parse(profile), TagBaseline.from_dict(json.loads(baseline)))


def learn(folder: Path, console: Console) -> tuple[str, str]:
    """Profile and tag baseline of the factory, from training seeds; kept in `folder`."""
    baseline, profile = folder / "baseline.json", folder / "profile.json"
    with console.status("commissioning the factory"):
        if not baseline.is_file():
            baseline.write_text(json.dumps(simulated.commission(simulated.RECIPES[SITE])))
        if not profile.is_file():
            profile.write_text(simulated.profile(SITE, folder))
    return profile.read_text(), baseline.read_text()


def figures(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> dict[str, float | int]:
    """Quality of a binary decision; n windows."""
    m = confusion(truth.astype(np.int64), said.astype(np.int64), 2)
    (passed, false), (missed, hit) = m.tolist()
    return {
        "attacked": missed + hit,
        "benign": passed + false,
        "accuracy": round((passed + hit) / max(1, int(m.sum())), 4),
        "precision": round(hit / max(1, hit + false), 4),
        "recall": round(hit / max(1, hit + missed), 4),
        "f1": round(2 * hit / max(1, 2 * hit + false + missed), 4),
        "mcc": round(mcc(m), 4),
    }


def summary(sessions: list[Judged]) -> dict[str, Any]:
    """Everything that the table says."""
    kind, types, size, screening = (
        np.concatenate([getattr(s, name) for s in sessions]) for name in ("kind", "type", "size", "screening")
    )
    which = np.concatenate(
        [np.where(s.incident < 0, -1, s.incident + 1000 * i) for i, s in enumerate(sessions)]
    )
    alarm, block = screening > Screening.ALLOW, screening == Screening.BLOCK
    pair = (kind == ATTACKED) | (kind == QUIET)
    rows = []
    for number, name in enumerate(simulated.classes_of(SITE)):
        mine = (types == number) & (kind == ATTACKED)
        if not number or not mine.any():
            continue
        third = np.minimum((3 * size).astype(np.int64), 2)
        found = set(which[mine & alarm].tolist())
        rows.append(
            {
                "type": name,
                "windows": int(mine.sum()),
                "recall": round(float(alarm[mine].mean()), 3),
                "block": round(float(block[mine].mean()), 3),
                "incidents": len(set(which[mine].tolist())),
                "incidents_found": len(found),
                **{s: _mean(alarm[mine & (third == k)]) for k, s in enumerate(SIZES)},
            }
        )
    return {
        "binary": figures(kind[pair] == ATTACKED, alarm[pair]),
        "strict": figures(kind >= ATTACKED, alarm),
        "alarms": {
            name: {
                "windows": int((kind == k).sum()),
                "alarm": _mean(alarm[kind == k]),
                "block": _mean(block[kind == k]),
            }
            for k, name in enumerate(KINDS)
        },
        "types": sorted(rows, key=lambda row: (row["recall"], row["type"])),
    }


def _mean(values: NDArray[np.bool_]) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


def markdown(found: dict[str, Any]) -> str:
    """Tables for the documentation."""
    lines = ["| | windows | accuracy | precision | recall | F1 | MCC |", "|---|---|---|---|---|---|---|"]
    for name in ("binary", "strict"):
        q = found[name]
        cells = (f"{q[k]:.3f}" for k in ("accuracy", "precision", "recall", "f1", "mcc"))
        lines.append(f"| {name} | {q['attacked'] + q['benign']:,} | " + " | ".join(cells) + " |")
    lines += ["", "| windows | number | not ALLOW | BLOCK |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {one['windows']:,} | {_percent(one['alarm'])} | {_percent(one['block'])} |"
        for name, one in found["alarms"].items()
    ]
    heads = ("type", "windows", "recall", *SIZES, "incidents found")
    lines += ["", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in found["types"]:
        cells = [
            row["type"],
            str(row["windows"]),
            _percent(row["recall"]),
            *(_percent(row[s]) for s in SIZES),
        ]
        lines.append("| " + " | ".join([*cells, f"{row['incidents_found']} of {row['incidents']}"]) + " |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.4g} %" if share < 0.01 else f"{100 * share:.1f} %"


def main() -> None:
    """Play, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=0, help="judge that many sessions (default: all)")
    parser.add_argument("--split", choices=simulated.SPLITS, default="test")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache", type=Path, help="folder that keeps profile and baseline")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    console = Console(stderr=True)
    plans = [p for p in simulated.plans(simulated.RECIPES[SITE]) if p.split == options.split]
    if options.sessions:
        plans = plans[:: max(1, len(plans) // options.sessions)][: options.sessions]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.cache or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        profile, baseline = learn(folder, console)
    judged = []
    with (
        ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool,
        Progress(console=console, transient=True) as bar,
    ):
        task = bar.add_task("judging", total=len(plans))
        for one in pool.map(work, [(plan, profile, baseline) for plan in plans]):
            judged.append(one)
            bar.advance(task)
    found = summary(judged)
    if options.json:
        json.dump(found, sys.stdout, indent=1)
        print()
    elif options.markdown:
        print(markdown(found))
    else:
        table = Table("type", "windows", "recall", *SIZES, "incidents", box=None)
        for row in found["types"]:
            cells = [str(row["windows"]), *(_percent(row[k]) for k in ("recall", *SIZES))]
            table.add_row(row["type"], *cells, f"{row['incidents_found']} of {row['incidents']}")
        Console().print(table)
        Console().print(found["binary"], found["strict"], found["alarms"])


if __name__ == "__main__":
    main()
