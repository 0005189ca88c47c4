"""What it is: L2 and L3 of the devices that L1 or the rules object to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.fusion import formulas
from cellwatch.models.types import Level

if TYPE_CHECKING:
    from cellwatch.models.fusion.evidence import Evidence
    from cellwatch.models.fusion.settings import FusionSettings
    from cellwatch.models.types import F32, F64, I64, Violation

BENIGN = "benign"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Name:
    """Category and attack type of one device with their shares S; "" where nothing was said."""

    category: str = ""
    category_confidence: float = 0.0
    attack_type: str = ""
    type_confidence: float = 0.0


def names(evidence: Evidence, rows: I64, settings: FusionSettings) -> dict[int, Name]:
    """The name of each of the `rows` that the models can name.

    L2 is voted over all classes. L3 is voted among the types of the category that won, so that the two never
    contradict each other; where no model speaks at L2 it is voted among all types.
    """
    if not len(rows):
        return {}
    detectors, classes, p = evidence.stack(Level.L2, rows)
    best, share = _vote(Level.L2, detectors, p, settings)
    category = [classes[k] if k >= 0 else "" for k in best.tolist()]

    detectors, types, p = evidence.stack(Level.L3, rows)
    masks = _masks(types)
    allowed = np.stack([masks.get(c, masks[BENIGN]) for c in category])
    kind, part = _vote(Level.L3, detectors, p * allowed[:, None, :], settings)
    out = {}
    for row, c, s, k, t in zip(
        rows.tolist(), category, share.tolist(), kind.tolist(), part.tolist(), strict=True
    ):
        attack_type = types[k] if k >= 0 else ""
        if c and c != BENIGN:
            out[row] = Name(c, s, attack_type, t)
        elif attack_type and not c:
            out[row] = Name(attack_type.partition("/")[0], 0.0, attack_type, t)
    return out


def hint(violations: tuple[Violation, ...]) -> str:
    """The category that most violations hint at."""
    hints = [v.category for v in violations if v.category]
    return max(hints, key=hints.count) if hints else UNKNOWN


@lru_cache(maxsize=16)
def _masks(types: tuple[str, ...]) -> dict[str, F32]:
    """By category: 1 for its types, else 0, shape (c,). "" has all types, "benign" none."""
    of = [t.partition("/")[0] for t in types]
    masks = {c: np.array([f == c for f in of], np.float32) for c in set(of)}
    masks[""] = np.array([f != BENIGN for f in of], np.float32)
    masks[BENIGN] = np.zeros(len(of), np.float32)
    return masks


def _vote(level: Level, detectors: tuple[str, ...], p: F32, settings: FusionSettings) -> tuple[I64, F64]:
    """Index of the winning class (g,), -1 where nobody speaks, and its calibrated share (g,)."""
    if not p.size:
        return np.full(len(p), -1), np.zeros(len(p))
    weights = settings.weight(level, detectors)
    if settings.vote == "posterior":
        shares = mass = formulas.posterior(p, weights)
    else:
        shares = formulas.weighted_vote(p, weights)
        mass = formulas.posterior(p, weights) if formulas.tied(shares) else shares
    best, share = formulas.winner(shares, mass)
    return best, np.where(best >= 0, settings.calibration.apply(f"L{level}/fused", share), 0.0)
