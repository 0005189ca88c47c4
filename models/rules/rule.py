"""What a rule is: it judges a window and says which devices break it, and how grave that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellwatch.models.types import FeatureWindow, Violation


class Finding(NamedTuple):
    """One broken rule."""

    row: int  # of the device in the window
    points: float  # > 0: RuleSense calls 1 SUSPICIOUS and 6 BLOCK
    violation: Violation


class Rule(Protocol):
    """Judges windows in the order of time."""

    def judge(self, window: FeatureWindow) -> Sequence[tuple[int, float, Violation]]:
        """Findings of the window; empty when all is well."""
