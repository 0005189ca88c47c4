"""How much a ranking of models hangs on weights and method (DeepSense, section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau

from cellwatch.models.evaluation.aggregation import METHODS, min_max
from cellwatch.models.selection.scores import Scores
from cellwatch.models.types import F64

# Section 5.3, order as DIMENSIONS: baseline, equal, quality first, efficiency first.
SETTINGS = {
    "W1": (0.40, 0.20, 0.20, 0.20),
    "W2": (0.25, 0.25, 0.25, 0.25),
    "W3": (0.55, 0.15, 0.15, 0.15),
    "W4": (0.20, 0.30, 0.30, 0.20),
}


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Rankings of the models of one level.

    `ranked[weights][method]` holds all models, best first. `between_weights[method][pair]` and
    `between_methods[weights][pair]` are Kendall's tau-b of the scores, -1..1; NaN where all are equal.
    """

    ranked: dict[str, dict[str, list[str]]]
    between_weights: dict[str, dict[str, float]]
    between_methods: dict[str, dict[str, float]]


def sensitivity(scores: Scores) -> Sensitivity:
    """All settings of the weights with all methods, on the scores normalised over the models."""
    x = min_max(scores.values, np.zeros(scores.values.shape[1], dtype=np.bool_))
    said = {
        name: {method: score(x, np.array(weights)).round(12) for method, score in METHODS.items()}
        for name, weights in SETTINGS.items()
    }
    ranked = {
        name: {
            method: [scores.models[i] for i in np.argsort(-value, kind="stable")]
            for method, value in by_method.items()
        }
        for name, by_method in said.items()
    }
    by_method = {method: {name: said[name][method] for name in SETTINGS} for method in METHODS}
    return Sensitivity(
        ranked,
        {method: _taus(values) for method, values in by_method.items()},
        {name: _taus(values) for name, values in said.items()},
    )


def _taus(scores: Mapping[str, F64]) -> dict[str, float]:
    """Kendall's tau-b of each pair of scores."""
    with np.errstate(invalid="ignore"):
        return {
            f"{a}-{b}": float(kendalltau(scores[a], scores[b]).statistic) for a, b in combinations(scores, 2)
        }
