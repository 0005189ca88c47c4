"""What a rule is: it judges a window and says which devices break it, and how grave that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cellwatch.models.types import F64, FeatureWindow, Violation

DECLARED = ("physics-", "user:")  # how the names of rules begin whose verdict the user declared


class Finding(NamedTuple):
    """One broken rule."""

    row: int  # of the device in the window
    points: float  # > 0: RuleSense calls 1 SUSPICIOUS and 6 BLOCK
    violation: Violation


class Rule(Protocol):
    """Judges windows in the order of time."""

    def judge(self, window: FeatureWindow) -> Sequence[Finding]:
        """Findings of the window; empty when all is well."""


def add_up(found: Iterable[tuple[int, float, Violation]], devices: int, block_points: float = 6.0) -> F64:
    """Points (devices,) of what rules found in one window.

    Findings that the user declared to be suspicious count once a device, by the gravest: however many there
    are, the verdict stays the one that was declared. All else adds up.
    """
    points, declared = np.zeros(devices), np.zeros(devices)
    for row, worth, violation in found:
        if worth < block_points and violation.rule.startswith(DECLARED):
            declared[row] = max(declared[row], worth)
        else:
            points[row] += worth
    return points + declared
