"""How fast RuleSense judges: many windows at once, one by one with the explanation, tags without a window.

    python benchmarks/rules.py [--seconds 300] [--json]

The profile and the windows are of the simulated factory (a benign run of `--seconds`, windows of 10 s). One
core. A device window is one row of a window; the attacked one has every rate a hundredfold, so that it is
BLOCKed and explained.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.rules.profile_builder import ProfileBuilder
from cellwatch.models.rules.protocol import ProtocolRules
from cellwatch.models.rules.rulesense import RuleSense
from cellwatch.models.rules.tag_limits import Limit, LimitRules
from cellwatch.models.types import F32, I64, FeatureWindow, TagBatch, TagCatalog, TagInfo
from cellwatch.nodes import simulated
from cellwatch.plc_sim.schedule import Scenario

MANY = 200_000  # device windows judged at once
REPEATS = 2_000


def factory(seconds: float) -> list[FeatureWindow]:
    """Windows of a benign run of the factory."""
    recipe = simulated.RECIPES["factory"]
    plan = simulated.Plan(
        "benign", "test", 1, seconds, Scenario("benign", site=recipe.site, duration_s=seconds)
    )
    learner = simulated.assembler(recipe, None, 0.9 * seconds)
    return simulated.feature_windows(learner, recipe, plan)[0]


def measure(call: Callable[[], object], repeats: int = REPEATS) -> dict[str, float]:
    """Median and 99 % quantile of a call, us."""
    for _ in range(20):
        call()
    spent = np.empty(repeats)
    for i in range(repeats):
        begun = time.perf_counter_ns()
        call()
        spent[i] = time.perf_counter_ns() - begun
    return {
        "median_us": round(float(np.median(spent)) / 1e3, 1),
        "p99_us": round(float(np.quantile(spent, 0.99)) / 1e3, 1),
    }


def _rate(rules: RuleSense, values: F32, rows: I64) -> float:
    """Device windows judged in a second."""
    begun = time.perf_counter()
    rules.judge_many(values, rows)
    return len(rows) / (time.perf_counter() - begun)


def limits() -> dict[str, float]:
    """A batch of 100 samples of 100 tags, every one with limits: sample to verdict."""
    tags = tuple(TagInfo(f"T{i}", f"T{i}", "PLC1") for i in range(100))
    rules = LimitRules(TagCatalog("PLC1", tags), [Limit(("*",), low=0.0, high=100.0, high_high=120.0)])
    rng = np.random.default_rng(0)
    tag, status = np.arange(100, dtype=np.uint32), np.zeros(100, np.uint32)
    count = iter(range(1, 1 << 40))

    def call() -> object:
        at = next(count) * 100_000_000
        values = rng.normal(90.0, 5.0, 100)  # now and then one breaks its limit
        return rules.judge(TagBatch("PLC1", 1, tag, values, status, np.full(100, at), np.full(100, at), at))

    return measure(call)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    windows = factory(options.seconds)
    builder = ProfileBuilder(default_schema().names, TAG_COLUMNS)
    for window in windows:
        builder.add(window)
    profile = builder.build()
    rules = RuleSense(profile)
    last = windows[-2]
    values = np.concatenate([w.values for w in windows])
    rows = np.concatenate([rules.rows(w.devices, w.modes) for w in windows])
    pick = np.random.default_rng(0).integers(len(rows), size=MANY)
    many, many_rows = values[pick], rows[pick]
    batched = _rate(rules, many, many_rows)
    batched_attacked = _rate(rules, np.where(many > 0, many * 100, many), many_rows)

    plc = last.devices.index("PLC1")
    alone = replace(
        last, devices=("PLC1",), values=last.values[plc : plc + 1], modes=last.modes[plc : plc + 1], held=(),
        tags=(), tag_device=last.tag_device[:0], tag_values=last.tag_values[:0], conversations=None,
    )  # fmt: skip
    attacked = replace(alone, values=np.where(alone.values > 0, alone.values * 100, alone.values))
    found: dict[str, Any] = {
        "devices": len(last.devices),
        "features": last.values.shape[1],
        "batched_benign_per_s": round(batched),
        "batched_attacked_per_s": round(batched_attacked),
        "one_benign": measure(lambda: rules.judge(alone)),
        "one_blocked_with_explanation": measure(lambda: rules.judge(attacked)),
        "whole_cell": measure(lambda: rules.judge(last), 300),
    }
    full = RuleSense(profile, rules=(ProtocolRules(profile.habits),))
    found["whole_cell_with_protocol_rules"] = measure(lambda: full.judge(last), 300)
    found["limits_100_samples"] = limits()
    if options.json:
        json.dump(found, sys.stdout, indent=1)
        print()
        return
    table = Table("", "median", "p99", box=None, padding=(0, 2, 0, 0))
    table.add_row("benign at once", f"{found['batched_benign_per_s']:,}/s", "")
    table.add_row("attacked at once", f"{found['batched_attacked_per_s']:,}/s", "")
    for name, one in found.items():
        if isinstance(one, dict):
            table.add_row(name.replace("_", " "), f"{one['median_us']:g} us", f"{one['p99_us']:g} us")
    Console().print(table)


if __name__ == "__main__":
    main()
