"""Stage 2: a drift of false alarms, or one of misses (DeepSense, 3.3.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cellwatch.models.types import Bool

Scenario = Literal["A", "B"]
SURE = 1.645  # standard errors: a rise counts as far as it is 95 % sure


@dataclass(frozen=True, slots=True)
class Rates:
    """What became of benign and of attack samples in a window."""

    benign: int
    false_alarms: int  # of the benign
    attacks: int
    misses: int  # of the attacks: called benign, or given another class

    @classmethod
    def of(cls, attack: Bool, wrong: Bool) -> Rates:
        """Of samples (n,) that are attacks or not, judged wrongly or not."""
        return cls(
            int(np.sum(~attack)),
            int(np.sum(wrong & ~attack)),
            int(np.sum(attack)),
            int(np.sum(wrong & attack)),
        )

    def __add__(self, other: Rates) -> Rates:
        """Of both windows together."""
        return Rates(
            self.benign + other.benign,
            self.false_alarms + other.false_alarms,
            self.attacks + other.attacks,
            self.misses + other.misses,
        )

    @property
    def fpr(self) -> float:
        """FP / (FP + TN), NaN without benign samples."""
        return self.false_alarms / self.benign if self.benign else math.nan

    @property
    def fnr(self) -> float:
        """FN / (FN + TP), NaN without attacks."""
        return self.misses / self.attacks if self.attacks else math.nan


NONE = Rates(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Attribution:
    """A: false alarms rose most, benign behaviour changed. B: misses did, attacks changed.

    The rises are lower bounds of the change of FPR and FNR, -1 where nothing is known.
    """

    scenario: Scenario
    false_alarm_rise: float
    miss_rise: float


def attribute(before: Rates, after: Rates) -> Attribution:
    """The dominance rule: the rate whose rise from `before` to `after` is the larger one for sure.

    The paper leaves the rule open. Rises are compared by their lower confidence bounds: the raw difference
    would let a rate that few attacks give decide by chance, and a test's z value would let the rate with most
    samples decide however little it rose.
    """
    a = rise(before.false_alarms, before.benign, after.false_alarms, after.benign)
    b = rise(before.misses, before.attacks, after.misses, after.attacks)
    return Attribution("A" if a > b else "B", a, b)


def rise(k0: int, n0: int, k1: int, n1: int) -> float:
    """Lower bound of k1 / n1 - k0 / n0 by Agresti and Caffo (2000): one hit, one miss added to each.

    >>> rise(8, 100, 40, 100) > 0 > rise(8, 100, 12, 100)
    True

    A rate without samples before counts as 0: the first attacks of all can only be missed anew.
    """
    if not n1:
        return -1.0
    p1 = (k1 + 1) / (n1 + 2)
    p0 = (k0 + 1) / (n0 + 2) if n0 else 0.0
    return p1 - p0 - SURE * math.sqrt(p0 * (1 - p0) / (n0 + 2) + p1 * (1 - p1) / (n1 + 2))
