"""A fused window as a message and back."""

from __future__ import annotations

import math

import pytest

from cellwatch.models.types import Contribution, FusedVerdict, FusedWindow, Screening, Violation

pytest.importorskip("cellwatch_msgs")
from cellwatch.nodes.ros import convert


def test_nothing_is_lost():
    verdict = FusedVerdict(
        "PLC1",
        Screening.BLOCK,
        0.75,
        0.5,
        "dos",
        "dos/syn-flood",
        (Contribution("XGB", 0.75, 2.0),),
        (Violation("PLC1", "f", 9.0, 1.0, 5.0, "limit", "dos", "T0814", "too much"),),
        "PLC1: BLOCK",
        0.625,
        0.5,
        0.875,
        ("rules", "ensemble"),
        True,
        '{"device_id": "PLC1"}',
    )
    calm = FusedVerdict("HMI", Screening.ALLOW, 0.0, 0.5)
    window = FusedWindow(7, 2_000_000_000, 2_100_000_000, (verdict, calm), ("rules",), ("ensemble: late",))
    back = convert.fused(convert.fused_msg(window, 2_200_000_000))
    assert back.verdicts[0] == verdict
    assert math.isnan(back.verdicts[1].rules_confidence)
    assert (back.window_id, back.sources, back.missing) == (7, ("rules",), ("ensemble: late",))
