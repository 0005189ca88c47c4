"""Limits on tags that need no window: every sample is judged as it comes.

The limits are those of OPC UA Part 9, 5.8.19 and 5.8.23: low-low, low, high, high-high with a dead band, and
a rate of change; and bad quality (Part 4, 7.39). Low-low and high-high BLOCK, the others are SUSPICIOUS.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.rules.tag_names import NONE, forms, matches, missing
from cellwatch.models.types import Screening, Severity, Verdicts, Violation, severity

if TYPE_CHECKING:
    from cellwatch.models.types import F64, I64, U32, Bool, TagBatch, TagCatalog

NAN = math.nan
KINDS = ("low_low", "low", "high", "high_high", "rate", "quality")
GRAVE = frozenset({"low_low", "high_high"})
SOURCE = "limits"
LATE_NS = 10_000_000_000  # what is older than a tag's newest by more was not late: the clock was set back


@dataclass(frozen=True, slots=True)
class Limit:
    """Limits of the tags that match; NaN = none. ValueError if they contradict one another."""

    tags: tuple[str, ...]  # one or more names, with * and ? for many
    low_low: float = NAN
    low: float = NAN
    high: float = NAN
    high_high: float = NAN
    deadband: float = 0.0  # how far a value must come back before the alarm ends, >= 0
    rate: float = NAN  # largest change from sample to sample, unit/s, > 0
    quality: bool = False  # a sample of Bad quality is a violation
    category: str = "fault"
    attack_id: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        if not self.tags:
            raise ValueError("names no tag")
        bounds = [
            (k, getattr(self, k))
            for k in ("low_low", "low", "high", "high_high")
            if getattr(self, k) == getattr(self, k)
        ]
        for (a, x), (b, y) in pairwise(bounds):
            if not x < y:
                raise ValueError(f"{a} {x:g} must lie below {b} {y:g}")
        if self.rate <= 0:
            raise ValueError(f"rate {self.rate:g} must be above 0")
        if not self.deadband >= 0:
            raise ValueError(f"deadband {self.deadband:g} must be 0 or more")
        if not any(self.has(kind) for kind in KINDS):
            raise ValueError(f"sets no limit: one of {', '.join(KINDS)}")

    def has(self, kind: str) -> bool:
        """Whether it sets a limit of this kind, one of KINDS."""
        return self.quality if kind == "quality" else not math.isnan(getattr(self, kind))


@dataclass(frozen=True, slots=True)
class _Rows:
    """One row for each limit of each tag, ordered by tag; r rows."""

    tag: I64
    kind: I64  # index into KINDS
    sign: F64  # -1: low sides
    bound: F64
    deadband: F64
    limit: tuple[Limit, ...]


class LimitRules:
    """Judges the batches of one PLC. What it says is a state: it holds until it says otherwise.

    Replayed samples say nothing of the present and are not judged, nor are samples older than the newest of
    their tag (by up to `LATE_NS`). `unmatched` are the names that no tag of this PLC has.
    """

    def __init__(self, catalog: TagCatalog, limits: Sequence[Limit]) -> None:
        self.catalog = catalog
        names_of = [forms(tag.name, catalog.plc, tag.device) for tag in catalog.tags]
        self._rows = _lay_out(names_of, limits)
        patterns = dict.fromkeys(pattern for limit in limits for pattern in limit.tags)
        self.unmatched = tuple(p for p in patterns if not any(matches(names, p) for names in names_of))
        m, r = len(catalog.tags), len(self._rows.tag)
        self._first = np.searchsorted(
            self._rows.tag, np.arange(m + 1)
        )  # rows of tag i: first[i]:first[i + 1]
        names = [catalog.tags[i].device for i in self._rows.tag]
        self.devices = tuple(dict.fromkeys(names))
        self._device = np.array([self.devices.index(n) for n in names], dtype=np.int64)
        self._grave = np.isin(self._rows.kind, [KINDS.index(k) for k in GRAVE])
        self._momentary = self._rows.kind == KINDS.index("rate")
        self._broken: Bool = np.zeros(r, dtype=bool)  # now
        self._said: Bool = np.zeros(r, dtype=bool)
        self._observed = np.full(r, np.nan)
        self._value = np.full(m, np.nan)  # last usable sample of each tag, and its time
        self._time = np.zeros(m, dtype=np.int64)
        self._seen: Bool = np.zeros(m, dtype=bool)
        self._newest = np.zeros(m, dtype=np.int64)  # time of the last sample of any quality
        self._end_ns = self._received_ns = 0

    @property
    def active(self) -> bool:
        """Whether what was said last is more than ALLOW."""
        return bool(self._said.any())

    def judge(self, batch: TagBatch) -> Verdicts | None:
        """Verdicts of all devices that have limits, if this batch changes any; else None.

        A limit that was broken only for some samples of the batch is told too; `state` then says that it is
        whole again. Samples may lie in any order; their source times decide.
        """
        n = len(batch.tag)
        if not n or batch.replayed or not len(self._rows.tag):
            return None
        order = np.lexsort((batch.source_ns, batch.tag))
        order = order[batch.tag[order] < len(self.catalog.tags)]
        order = order[~self._late(batch.tag[order], batch.source_ns[order])]
        tag, at = batch.tag[order].astype(np.int64), batch.source_ns[order]
        value, status = batch.value[order], batch.status[order]
        self._seen[tag] = True
        self._newest[tag] = at  # of repeated tags numpy keeps the last
        bad = severity(status) == Severity.BAD
        value = np.where(bad, np.nan, value)
        rate = self._rates(tag, value, at)

        # One pair for every sample and every row of its tag, in the order of rows, then time.
        count = self._first[tag + 1] - self._first[tag]
        sample = np.repeat(np.arange(len(tag)), count)
        row = np.arange(len(sample)) - np.repeat(np.cumsum(count) - count, count) + self._first[tag][sample]
        by_row = np.argsort(row, kind="stable")
        row, sample = row[by_row], sample[by_row]
        if not len(row):
            return None
        kind = self._rows.kind[row]
        observed = np.select(
            [kind == KINDS.index("rate"), kind == KINDS.index("quality")],
            [rate[sample], status[sample].astype(np.float64)],
            value[sample],
        )
        height = np.select(
            [kind == KINDS.index("rate"), kind == KINDS.index("quality")],
            [np.abs(rate[sample]), bad[sample].astype(np.float64)],
            value[sample] * self._rows.sign[row],
        )
        bound = self._rows.bound[row] * self._rows.sign[row]
        over, back = height > bound, height <= bound - self._rows.deadband[row]
        # A Schmitt trigger without a loop: the last sample that said anything decides.
        start = np.searchsorted(row, row)
        last = np.maximum.accumulate(np.where(over | back, np.arange(len(row)), -1))
        broken = np.where(last >= start, over[last], self._broken[row])
        at_once = self._broken.copy()
        ever = np.zeros(len(at_once), dtype=bool)
        np.logical_or.at(ever, row, broken)
        self._observed[row[over]] = observed[over]  # of repeated rows numpy keeps the last
        self._broken[row] = broken
        at_once[row] = ever[row]
        self._broken[self._momentary] = False
        # Of this batch only, and never later than it was heard: one sample of the future must not last.
        self._end_ns = min(int(at.max()), batch.received_ns)
        self._received_ns = batch.received_ns
        if np.array_equal(at_once, self._said):
            return None
        return self._verdicts(at_once)

    def hold(self, batch: TagBatch) -> Verdicts | None:
        """Take a snapshot of last values: only tags that never came are judged by it.

        Tags report on change, so who comes late would not know a tag that stands beyond its limit.
        """
        new = batch.tag < len(self._seen)
        new[new] = ~self._seen[batch.tag[new]]
        return self.judge(
            replace(
                batch,
                tag=batch.tag[new],
                value=batch.value[new],
                status=batch.status[new],
                source_ns=batch.source_ns[new],
                server_ns=batch.server_ns[new],
            )
        )

    def state(self) -> Verdicts:
        """Verdicts as they stand now, to be said again from time to time while `active`."""
        return self._verdicts(self._broken.copy())

    def _late(self, tag: U32, at: I64) -> Bool:
        newest = self._newest[tag]
        late: Bool = (at < newest) & (at >= newest - LATE_NS)
        return late

    def _rates(self, tag: I64, value: F64, at: I64) -> F64:
        """Change of each sample against the usable one before it, unit/s; samples by tag, then time."""
        out = np.full(len(tag), np.nan)
        usable = np.flatnonzero(np.isfinite(value))
        t, v, ns = tag[usable], value[usable], at[usable]
        first = np.ones(len(t), dtype=bool)
        first[1:] = t[1:] != t[:-1]
        before = np.where(first, self._value[t], np.roll(v, 1))
        since = (ns - np.where(first, self._time[t], np.roll(ns, 1))) / 1e9
        out[usable] = np.divide(v - before, since, out=np.full(len(t), np.nan), where=since > 0)
        self._value[t], self._time[t] = v, ns
        return out

    def _verdicts(self, broken: Bool) -> Verdicts:
        self._said = broken
        screening = np.full(len(self.devices), Screening.ALLOW, np.uint8)
        worth = np.where(self._grave, Screening.BLOCK, Screening.SUSPICIOUS).astype(np.uint8)
        np.maximum.at(screening, self._device[broken], worth[broken])
        return Verdicts(
            SOURCE,
            0,
            self._end_ns,
            self._received_ns,
            self.devices,
            screening,
            np.select(
                [screening == Screening.BLOCK, screening == Screening.SUSPICIOUS], [1.0, 0.5], 0.0
            ).astype(np.float32),
            violations=tuple(self._violation(int(r)) for r in np.flatnonzero(broken)),
        )

    def _violation(self, r: int) -> Violation:
        rows, kind = self._rows, KINDS[self._rows.kind[r]]
        tag, limit, bound = self.catalog.tags[rows.tag[r]], rows.limit[r], float(rows.bound[r])
        column = {"rate": "rate", "quality": "quality"}.get(kind, "value")
        low, high = (bound, math.inf) if rows.sign[r] < 0 else (-math.inf, bound)
        if kind == "rate":
            low = -bound
        elif kind == "quality":
            low, high = 0.0, float(0x7FFF_FFFF)  # Good and Uncertain
        return Violation(
            tag.device,
            f"{tag.name}/{column}",
            float(self._observed[r]),
            low,
            high,
            f"limit-{kind.replace('_', '-')}",
            limit.category,
            limit.attack_id,
            limit.message,
        )


def unknown_limits(judges: Iterable[LimitRules]) -> tuple[str, ...]:
    """What no PLC of a cell has; () for no PLC."""
    lacking = [judge.unmatched for judge in judges]
    everywhere = [p for p in lacking[0] if all(p in names for names in lacking)] if lacking else []
    return tuple(f"limit: {missing(pattern, NONE)}" for pattern in everywhere)


def _lay_out(names_of: Sequence[frozenset[str]], limits: Sequence[Limit]) -> _Rows:
    """Rows of the limits, of tags by all their names."""
    found: list[tuple[int, int, Limit]] = []
    for i, names in enumerate(names_of):
        for limit in limits:
            if any(matches(names, pattern) for pattern in limit.tags):
                found += [(i, k, limit) for k, kind in enumerate(KINDS) if limit.has(kind)]
    return _Rows(
        np.array([i for i, _, _ in found], dtype=np.int64),
        np.array([k for _, k, _ in found], dtype=np.int64),
        np.array([-1.0 if KINDS[k].startswith("low") else 1.0 for _, k, _ in found]),
        np.array([0.5 if KINDS[k] == "quality" else getattr(x, KINDS[k]) for _, k, x in found]),
        np.array([x.deadband if k < KINDS.index("rate") else 0.0 for _, k, x in found]),
        tuple(x for _, _, x in found),
    )
