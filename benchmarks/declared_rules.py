"""What declared rules cost, and what those that ship with Cellwatch find in the simulated factory.

    python benchmarks/declared_rules.py [--seeds 3] [--json]

Cost: `limits` is the time from a message of tags (70 tags, one sample each) at the node to the verdict's
message, with a limit broken or mended in every batch; `window` that of all physics and rules of
config/rules/factory.yaml over one window of 4 PLCs. Both by the clock and by processor time.

Finds: scenario `all-faults` (2,700 s) and an hour of `busy-shift` per seed, seeds that nothing was chosen on,
process only, 10-s windows. A fault is found when any rule fires between its onset and the end of its label.
False alarms are windows with anything fired, at least 30 s (the longest span of a balance) after any label.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from importlib import resources
from pathlib import Path

import numpy as np

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.window import FeatureAssembler, windows_from_recording
from cellwatch.models.rules.physics import Physics
from cellwatch.models.rules.rule_file import RuleFile
from cellwatch.models.rules.tag_limits import LimitRules
from cellwatch.models.rules.user_rules import UserRules
from cellwatch.models.types import TagBatch, TagCatalog, TagInfo
from cellwatch.nodes.simulated import tag_batches
from cellwatch.plc_sim.recording import simulate
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import tags_of

WINDOW_S = 10.0
AFTER_S = 30.0


def rules() -> RuleFile:
    path = Path(str(resources.files("cellwatch"))) / "config" / "rules" / "factory.yaml"
    return RuleFile.parse(path.read_text(), str(path))


def quantiles(work, times: int) -> dict[str, float]:
    """Median and p99 by the clock and by processor time, us."""
    clock, cpu = [], []
    for i in range(times):
        begun, thread = time.perf_counter(), time.thread_time()
        work(i)
        clock.append(time.perf_counter() - begun)
        cpu.append(time.thread_time() - thread)
    return {
        f"{name}{kind}_us": round(1e6 * float(np.quantile(values, q)), 1)
        for kind, values in (("", clock), ("_cpu", cpu))
        for name, q in (("median", 0.5), ("p99", 0.99))
    }


def limits_cost(file: RuleFile) -> dict[str, float]:
    from cellwatch.nodes.ros import convert

    tags = tags_of(SITES["factory"])
    catalog = TagCatalog("PLC1", tuple(TagInfo(t.name, t.name, t.device) for t in tags))
    judge = LimitRules(catalog, file.limits)
    n = len(tags)
    level = [t.name for t in tags].index("LIT101")
    messages = []
    for i in range(3000):
        value = np.full(n, 50.0)
        value[level] = 88.0 if i % 2 else 60.0
        stamps = np.full(n, 1_700_000_000_000_000_000 + i * 100_000_000)
        batch = TagBatch(
            "PLC1",
            i + 1,
            np.arange(n, dtype=np.uint32),
            value,
            np.zeros(n, np.uint32),
            stamps,
            stamps,
            int(stamps[0]),
        )
        messages.append(convert.tags_msg(batch))

    def work(i: int) -> None:
        verdicts = judge.judge(convert.tags(messages[i]))
        if verdicts is not None:
            convert.verdicts_msg(verdicts)

    work(0)
    return quantiles(work, len(messages))


def play(scenario: str, seed: int, seconds: float):
    """Windows of the process, limits' batches, labels."""
    run = simulate(scenario, seed, seconds, network=False)
    catalogs, batches = tag_batches(run.tags, run.time_ns, run.values, run.status)
    assembler = FeatureAssembler(default_schema(), WINDOW_S, 0.5, tuple(c.plc for c in catalogs))
    return run, catalogs, batches, windows_from_recording(assembler, catalogs, batches, [])


def fired(file: RuleFile, catalogs, batches, windows) -> dict[int, set[str]]:
    """Rules that fired, by window number."""
    out: dict[int, set[str]] = defaultdict(set)
    physics, user = Physics(file.physics), UserRules(file.rules)
    for window in windows:
        out[window.window_id] |= {f.violation.rule for f in (*physics.judge(window), *user.judge(window))}
    judges = {c.plc: LimitRules(c, file.limits) for c in catalogs}
    for batch in batches:
        verdicts = judges[batch.plc].judge(batch)
        if verdicts is not None:
            out[int(verdicts.end_ns // (WINDOW_S * 1e9)) + 1] |= {v.rule for v in verdicts.violations}
    return out


def finds(file: RuleFile, seeds: int) -> dict:
    found: dict[str, list[set[str]]] = defaultdict(list)
    false = quiet = 0
    for seed in range(1, seeds + 1):
        for scenario, seconds in (("all-faults", 2700.0), ("busy-shift", 3600.0)):
            run, catalogs, batches, windows = play(scenario, seed, seconds)
            hits = fired(file, catalogs, batches, windows)
            busy = set()
            for incident in run.incidents:
                first = int(incident.onset_ns // (WINDOW_S * 1e9)) + 1
                last = int(incident.end_ns // (WINDOW_S * 1e9)) + 1
                found[incident.type].append(set().union(*(hits[w] for w in range(first, last + 1))))
                busy |= set(range(first, last + 1 + round(AFTER_S / WINDOW_S)))
            for window in windows:
                if window.window_id not in busy:
                    quiet += 1
                    false += bool(hits[window.window_id])
    return {
        "benign_windows": quiet,
        "false_alarms": false,
        "faults": {
            name: {"found": sum(map(bool, sets)), "of": len(sets), "by": sorted(set().union(*sets))}
            for name, sets in sorted(found.items())
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    file = rules()
    _, _, _, windows = play("quiet-shift", 1, 600.0)
    physics, user = Physics(file.physics), UserRules(file.rules)

    def window(i: int) -> None:
        physics.judge(windows[i % len(windows)])
        user.judge(windows[i % len(windows)])

    result = {
        "limits": limits_cost(file),
        "window": quantiles(window, 2000),
        **finds(file, options.seeds),
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    for name in ("limits", "window"):
        print(f"{name:8s}", "  ".join(f"{k} {v:,}" for k, v in result[name].items()))
    print(f"false alarms: {result['false_alarms']} of {result['benign_windows']:,} benign windows")
    for name, row in result["faults"].items():
        print(f"{name:26s} {row['found']} of {row['of']}  {', '.join(row['by'])}")


if __name__ == "__main__":
    main()
