"""What every detector in the comparison offers."""

from __future__ import annotations

from typing import ClassVar, Protocol

from cellwatch.models.ewad.report import Report
from cellwatch.models.types import F32, F64, Bool


class Method(Protocol):
    """A seeded detector of anomalous rows. It gets raw rows and does its own preprocessing."""

    NEEDS_LABELS: ClassVar[bool]  # it cannot learn without known anomalies
    report: Report | None  # how the training of an EWAD went, None before it and for others
    threshold: float  # alarm: score > threshold; chosen on training rows alone

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """Learn from rows (n, f), NaN = missing, in their order. `y` (n,) anomalous; None: not known.

        ValueError if they are too few.
        """

    def score(self, x: F32) -> F64:
        """float64 (n,), high = anomalous."""
