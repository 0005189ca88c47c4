"""Which limits are alarmed at once, and in which words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cellwatch.models.fusion.limit_alarms import limit_alarms
from cellwatch.models.types import Screening, Verdicts, Violation

LIMITS = Verdicts(
    "limits", 0, 0, 0, ("TANK", "PUMP", "VALVE"),
    np.array([Screening.BLOCK, Screening.SUSPICIOUS, Screening.ALLOW], np.uint8),
    np.array([1.0, 0.5, 0.0], np.float32),
    violations=(
        Violation("TANK", "LIT101/value", 95.0, 0.0, 90.0, "limit-high-high", "ics"),
        Violation("PUMP", "FIT101/value", 9.0, 0.0, 8.0, "limit-high", "fault"),
    ),
)  # fmt: skip


def test_what_blocks_is_alarmed_with_its_reason():
    (verdict,) = limit_alarms(LIMITS)
    assert (verdict.device, verdict.decision, verdict.category) == ("TANK", Screening.BLOCK, "ics")
    assert "LIT101/value is 95, above its normal limit 90" in verdict.explanation
    assert verdict.agreeing == ("limits",)


def test_other_sources_wait_for_their_window():
    assert limit_alarms(replace(LIMITS, source="rules")) == []
