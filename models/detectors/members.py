"""What the hybrid detectors are made of."""

from __future__ import annotations

from cellwatch.models.detectors.log_reg import LogReg
from cellwatch.models.detectors.random_forest import RandomForest
from cellwatch.models.detectors.xgb import XGB

Member = XGB | RandomForest | LogReg


def members(classes: tuple[str, ...], seed: int, size: float) -> tuple[Member, ...]:
    """XGB and RandomForest with `size` times their usual trees, and LogReg; unfitted."""
    boosted, forest = XGB(classes, seed), RandomForest(classes, seed)
    boosted.leaves = round(size * boosted.leaves)
    forest.trees = max(1, round(size * forest.trees))
    return boosted, forest, LogReg(classes, seed)
