"""Limits that are alarmed as they are broken: no window need come, and none need confirm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellwatch.models.fusion.explanation import sentence
from cellwatch.models.fusion.limit_states import LIMITS
from cellwatch.models.fusion.naming import hint
from cellwatch.models.types import FusedVerdict, Screening

if TYPE_CHECKING:
    from cellwatch.models.types import Verdicts


def limit_alarms(verdicts: Verdicts) -> list[FusedVerdict]:
    """What the limits say BLOCK of (low-low, high-high), a verdict a device; empty for other sources."""
    if verdicts.source != LIMITS:
        return []
    out = []
    for device, screening, p in zip(
        verdicts.devices, verdicts.screening.tolist(), verdicts.confidence.tolist(), strict=True
    ):
        if screening < Screening.BLOCK:
            continue
        broken = tuple(v for v in verdicts.violations if v.device == device)
        category = hint(broken)
        text = sentence(device, Screening.BLOCK, p, category, broken, (LIMITS,))
        out.append(
            FusedVerdict(
                device,
                Screening.BLOCK,
                p,
                0.0,
                category,
                violations=broken,
                explanation=text,
                agreeing=(LIMITS,),
            )
        )
    return out
