"""The tests in a rule file: given series run through the real limits, physics and rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS, TAG_STATISTICS, TagState, tag_windows
from cellwatch.models.rules.physics import Balance, Physics
from cellwatch.models.rules.rule import add_up
from cellwatch.models.rules.rulesense import RuleSettings
from cellwatch.models.rules.tag_limits import KINDS, LimitRules
from cellwatch.models.rules.user_rules import UserRules
from cellwatch.models.types import FeatureWindow, Screening, TagBatch, TagCatalog, TagInfo

if TYPE_CHECKING:
    from cellwatch.models.rules.rule_file import RuleFile, RuleTest
    from cellwatch.models.types import F64

BAD = 0x8000_0000
FIRST = 1_000_000  # window in which a test begins: windows lie on the grid since the epoch
PLC = "PLC"


@dataclass(frozen=True, slots=True)
class TestResult:
    """What came of one test."""

    __test__ = False  # not for pytest

    name: str
    line: int
    expected: tuple[Screening, ...]
    got: tuple[Screening, ...]
    fired: tuple[str, ...]  # rules that fired, in order
    reached: frozenset[str]  # entries of the file that fired, as `untested` names them
    trouble: str = ""  # "" if it passed, else the first thing that is not as expected


def run_test(file: RuleFile, test: RuleTest) -> TestResult:
    """Run one test. What is found in a window adds up as in RuleSense, at the default points."""
    count = len(test.expect)
    catalog = TagCatalog(PLC, tuple(TagInfo(name, name, test.device) for name in test.tags))
    batches = _batches(test)
    # One judge for each entry, so that it is known which entry fired.
    limits = [LimitRules(catalog, [limit]) for limit in file.limits]
    physics, rules = [Physics([law]) for law in file.physics], UserRules(file.rules)
    settings = RuleSettings()
    verdicts = [Screening.ALLOW] * count
    fired: dict[str, None] = {}
    reached: set[tuple[str, int, str]] = set()

    per_window = round(test.window_s / test.step_s)
    for i, batch in enumerate(batches):
        at = i // per_window
        for n, limit in enumerate(limits):
            for said in (limit.judge(batch), limit.state()):
                if said is not None and len(said.devices):
                    verdicts[at] = max(verdicts[at], Screening(int(said.screening.max())))
                    fired |= dict.fromkeys(v.rule for v in said.violations)
                    reached |= {("limits", n, v.rule) for v in said.violations}
    for i, window in enumerate(_windows(test, batches)):
        laws = [(n, finding) for n, law in enumerate(physics) for finding in law.judge(window)]
        reached |= {("physics", n, finding.violation.rule) for n, finding in laws}
        found = [*(finding for _, finding in laws), *rules.judge(window)]
        screening, _ = settings.screen(add_up(found, len(window.devices), settings.block_points))
        verdicts[i] = max(verdicts[i], Screening(int(screening.max())))
        fired |= {f.violation.rule.removeprefix("user:"): None for f in found}
    unknown = [*rules.unknown, *(why for law in physics for why in law.unknown)]
    names = _entries(file)
    return TestResult(
        test.name,
        test.line,
        test.expect,
        tuple(verdicts),
        tuple(fired),
        frozenset(names[entry] for entry in reached),
        _trouble(test, verdicts, fired, unknown),
    )


def untested(file: RuleFile, results: list[TestResult]) -> tuple[str, ...]:
    """Limits, physics and rules that no test ever made fire; rules by name, the others by place and tags."""
    fired = {name for result in results for name in (*result.fired, *result.reached)}
    names = (*_entries(file).values(), *(rule.name for rule in file.rules))
    return tuple(name for name in names if name not in fired)


def _entries(file: RuleFile) -> dict[tuple[str, int, str], str]:
    """Names of limits and physics, by section, place and the rule of their violations."""
    found = {}
    for n, limit in enumerate(file.limits):
        for kind in KINDS:
            if limit.has(kind):
                key = "limits", n, f"limit-{kind.replace('_', '-')}"
                found[key] = f"limits[{n}].{kind} ({' '.join(limit.tags)})"
    for n, law in enumerate(file.physics):
        kind = type(law).__name__.lower()
        tags = (law.volume,) if isinstance(law, Balance) else law.tags
        found["physics", n, f"physics-{kind}"] = f"physics[{n}].{kind} ({' '.join(tags)})"
    return found


def _trouble(test: RuleTest, verdicts: list[Screening], fired: dict[str, None], unknown: list[str]) -> str:
    for i, (expected, got) in enumerate(zip(test.expect, verdicts, strict=True)):
        if expected != got:
            start = i * test.window_s
            when = f"{start:g} to {start + test.window_s:g} s"
            wanted = [u for u in unknown if u.partition(":")[0] in (test.fires or ())]
            why = f"; {'; '.join(wanted)}" if wanted else ""
            return f"window {i + 1} ({when}): expected {expected.name}, got {got.name}{why}"
    if test.fires is not None and set(test.fires) != set(fired):
        return f"fired: {', '.join(fired) or 'nothing'}; expected: {', '.join(test.fires) or 'nothing'}"
    return ""


def _batches(test: RuleTest) -> list[TagBatch]:
    """One batch a step, stamped in its middle."""
    if not test.tags:
        return []
    values = np.stack([s.value for s in test.tags.values()], axis=1)  # (steps, tags)
    bad = np.stack([s.bad for s in test.tags.values()], axis=1)
    zero = (FIRST - 1) * test.window_s
    out = []
    for i, (row, wrong) in enumerate(zip(values, bad, strict=True)):
        at = round((zero + (i + 0.5) * test.step_s) * 1e9)
        tag = np.flatnonzero(np.isfinite(row) | wrong)
        stamps = np.full(len(tag), at, dtype=np.int64)
        status = np.where(wrong[tag], BAD, 0).astype(np.uint32)
        out.append(TagBatch(PLC, i + 1, tag.astype(np.uint32), row[tag], status, stamps, stamps, at))
    return out


def _windows(test: RuleTest, batches: list[TagBatch]) -> list[FeatureWindow]:
    window_ns, count, m = round(test.window_s * 1e9), len(test.expect), len(test.tags)
    statistics: F64 = np.full((count, m, len(TAG_STATISTICS)), np.nan)
    if batches:
        statistics, _ = tag_windows(
            np.concatenate([b.tag for b in batches]).astype(np.int64),
            np.concatenate([b.value for b in batches]),
            np.concatenate([b.status for b in batches]),
            np.concatenate([b.source_ns for b in batches]),
            first_id=FIRST,
            windows=count,
            window_ns=window_ns,
            state=TagState.empty(m),
        )
    scores = np.full((count, m, len(TAG_COLUMNS) - len(TAG_STATISTICS)), np.nan)
    tag_values = np.concatenate([statistics, scores], axis=2).astype(np.float32)
    devices = tuple(dict.fromkeys([test.device, *(device for device, _ in test.features)]))
    schema = default_schema()
    values = np.full((count, len(devices), len(schema.names)), np.nan, dtype=np.float32)
    for (device, feature), series in test.features.items():
        values[:, devices.index(device), schema.names.index(feature)] = series.value
    return [
        FeatureWindow(
            FIRST + i,
            (FIRST + i - 1) * window_ns,
            (FIRST + i) * window_ns,
            (FIRST + i) * window_ns,
            schema.schema_id,
            devices,
            values[i],
            tuple(test.tags),
            np.zeros(m, dtype=np.uint32),
            tag_values[i],
        )
        for i in range(count)
    ]
