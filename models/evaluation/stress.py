"""A replay at rising rates (DeepSense, section 5.5.6): what one rate gave, and which rate comes next.

A sample is a window of one device. A window is whole when every source of verdicts spoke of it in time; that
is what the paper calls fully processed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellwatch.models.types import F64, U8, Bool, Screening

LEAST_SHARE = 0.95  # of what was offered: less is saturation
MOST_P99_S = 1.0  # so is more
DOUBLINGS = 8  # of the highest rate that was asked for
HALVINGS = 2  # of the stretch between the last rate that held and the first that did not
NEAR = 1.25  # which is left as it is when it is no longer than that


@dataclass(frozen=True, slots=True)
class Play:
    """n windows of d devices that were played at one rate."""

    interval_s: float  # from one window to the next, as asked for
    published_s: F64  # (n,) ascending, on any clock
    latency_s: F64  # (n,) from publishing to the fused verdict, NaN where none came
    whole: Bool  # (n,)
    decision: U8  # (n, d) `Screening`; UNKNOWN where no verdict came


@dataclass(frozen=True, slots=True)
class Flow:
    """How much came through, and how fast."""

    windows: int  # that were played
    offered: float  # windows a second
    throughput: float  # whole windows a second
    share: float  # of what was offered, 0..1
    late: int  # windows that were fused without a source
    lost: int  # windows without a fused verdict
    median_s: float  # of the latency; NaN if nothing was fused
    p99_s: float

    @property
    def holds(self) -> bool:
        """Whether this rate is below saturation."""
        return self.share >= LEAST_SHARE and self.p99_s <= MOST_P99_S


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions against truth, and against those that were made in peace; shares 0..1, NaN without samples.

    A sample without a verdict is no alarm, and is never the same.
    """

    samples: int  # whose truth is clear
    attacked: int  # of them
    false_alarms: float  # share of the benign samples
    misses: float  # share of the attacked ones
    wrong: float  # share of all: false alarms and misses
    same: float  # share of all samples, also the unclear ones


def flow(play: Play) -> Flow:
    """Throughput and latency of one rate. ValueError without windows.

    The time is that from the first window to the last verdict or window, but at least what the windows should
    have taken: neither a backlog nor a player that falls behind makes the cell look faster.
    """
    n = len(play.published_s)
    if not n:
        raise ValueError("no window was played")
    fused = np.isfinite(play.latency_s)
    ends = play.published_s + np.where(fused, play.latency_s, 0.0)
    span_s = max(n * play.interval_s, float(ends.max() - play.published_s[0]))
    offered, throughput = 1 / play.interval_s, int(play.whole.sum()) / span_s
    times = play.latency_s[fused]
    median, p99 = np.percentile(times, (50, 99)) if len(times) else (np.nan, np.nan)
    return Flow(
        n,
        offered,
        throughput,
        throughput / offered,
        int((fused & ~play.whole).sum()),
        int((~fused).sum()),
        float(median),
        float(p99),
    )


def decisions(decision: U8, calm: U8, attack: Bool, clear: Bool) -> Decisions:
    """Decisions (n, d) under load against those made in peace, and against the truth where it is `clear`."""
    raised = decision > Screening.ALLOW
    benign, attacked = clear & ~attack, clear & attack
    false, missed = int((raised & benign).sum()), int((~raised & attacked).sum())
    same = (decision == calm) & (decision != Screening.UNKNOWN)
    return Decisions(
        int(clear.sum()),
        int(attacked.sum()),
        _share(false, int(benign.sum())),
        _share(missed, int(attacked.sum())),
        _share(false + missed, int(clear.sum())),
        _share(int(same.sum()), same.size),
    )


def next_rate(asked: Sequence[float], held: Mapping[float, bool]) -> float | None:
    """The rate to try next, None when all is known; `held` says of each tried rate whether it held.

    First those that were asked for, then twice the highest until one does not hold, then what lies in the
    middle, as a ratio, between the last that held and the first that did not.
    """
    for rate in asked:
        if rate not in held:
            return rate
    top = max(asked)
    good, failed = highest(held), [rate for rate, well in held.items() if not well]
    if not failed:
        most = 2 * max(held)
        return most if most <= top * 2**DOUBLINGS else None
    tried = [rate for rate in held if rate not in asked and not _doubled(rate / top)]
    if good is None or min(failed) / good <= NEAR or len(tried) == HALVINGS:
        return None
    return float(f"{math.sqrt(good * min(failed)):.2g}")


def _doubled(ratio: float) -> bool:
    return ratio > 1 and math.log2(ratio).is_integer()


def highest(held: Mapping[float, bool]) -> float | None:
    """The highest rate below all that did not hold; None if there is none.

    >>> highest({1: True, 2: True, 4: False, 3: True})
    3
    """
    failed = min((rate for rate, well in held.items() if not well), default=np.inf)
    return max((rate for rate, well in held.items() if well and rate < failed), default=None)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
