"""Every detector, one line each."""

from __future__ import annotations

from cellwatch.models.detectors.detector import Detector
from cellwatch.models.detectors.mlp import MLP
from cellwatch.models.detectors.random_forest import RandomForest
from cellwatch.models.detectors.xgb import XGB

DETECTORS: dict[str, type[Detector]] = {
    XGB.NAME: XGB,
    RandomForest.NAME: RandomForest,
    MLP.NAME: MLP,
}
