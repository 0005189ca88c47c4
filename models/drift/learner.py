"""The small ensemble that stands in for a cell's models where a table is judged."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from cellwatch.models.types import F32, F64, I64


class Learner:
    """Logistic regression, extremely randomised trees and boosted trees, voting softly."""

    def __init__(self, x: F32, y: I64, classes: int, seed: int = 0) -> None:
        """Learn from rows (n, f), NaN = missing, with classes (n,) in 0..classes - 1."""
        self._classes = classes
        self._known = np.unique(y)
        with np.errstate(all="ignore"):
            seen = np.isfinite(x)
            n = np.maximum(seen.sum(axis=0), 1)
            self._mean = np.where(seen, x, 0).sum(axis=0) / n
            spread = np.sqrt(np.where(seen, (x - self._mean) ** 2, 0).sum(axis=0) / n)
        self._scale = np.where(spread > 0, spread, 1.0)
        self._members: list[Any] = []
        if len(self._known) > 1:
            self._members = [
                LogisticRegression(max_iter=200),
                ExtraTreesClassifier(20, min_samples_leaf=5, max_features=None, random_state=seed),
                HistGradientBoostingClassifier(
                    max_iter=40, max_leaf_nodes=8, early_stopping=False, random_state=seed
                ),
            ]
            scaled = self._scaled(x)
            for member in self._members:
                member.fit(scaled, y)

    def members(self, x: F32) -> F64:
        """Probabilities (m, n, classes) by each member; one class learnt: one member that is sure of it."""
        out = np.zeros((max(len(self._members), 1), len(x), self._classes))
        if not self._members:
            out[:, :, self._known] = 1.0
            return out
        scaled = self._scaled(x)
        for row, member in zip(out, self._members, strict=True):
            row[:, self._known] = member.predict_proba(scaled)
        return out

    def _scaled(self, x: F32) -> F64:
        """Standardised; a missing number is the mean."""
        return np.where(np.isfinite(x), (x - self._mean) / self._scale, 0.0)
