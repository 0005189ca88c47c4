"""The ensembles of a front in order (DeepSense, section 4.8.3)."""

from __future__ import annotations

import numpy as np

from cellwatch.models.evaluation.aggregation import closeness, min_max
from cellwatch.models.types import F64

# Weights by level, order as DIMENSIONS. The paper gives an order only (section 5.2): at level 1 quality, then
# coverage, speed, resources; at level 2 resources count less; at level 3 speed and resources count least.
WEIGHTS = {
    1: (0.40, 0.10, 0.20, 0.30),
    2: (0.40, 0.10, 0.15, 0.35),
    3: (0.45, 0.05, 0.10, 0.40),
}


def topsis_of_front(objectives: F64, weights: F64) -> F64:
    """TOPSIS scores (n,) of the ensembles (n, d) of one front, normalised within it.

    The ideal is (1, ..., 1), the anti-ideal (0, ..., 0); equal `weights` (d,) give the formula of the paper.
    """
    x = min_max(objectives, np.zeros(objectives.shape[1], dtype=np.bool_))
    return closeness(np.linalg.norm((1.0 - x) * weights, axis=1), np.linalg.norm(x * weights, axis=1))


def order(objectives: F64, weights: F64) -> tuple[F64, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Scores (n,) and the places of the ensembles, best first; equal ones keep the order of the front."""
    score = topsis_of_front(objectives, weights)
    return score, np.argsort(-score.round(12), kind="stable")
