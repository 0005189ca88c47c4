"""Naive Bayes (DeepSense, Table 1: NaiveBayes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.bins import Bins
from cellwatch.models.detectors.detector import Labelled, Progress, WindowDetector
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.labels import present
from cellwatch.models.detectors.linear import Linear
from cellwatch.models.detectors.weights import class_weights
from cellwatch.models.types import F32, I64


@dataclass(eq=False, kw_only=True)
class NaiveBayes(WindowDetector):
    """Categorical naive Bayes on binned columns, counted by scikit-learn.

    Yang and Webb, Discretization for Naive-Bayes Learning, Machine Learning 74, 2009. Classes are weighed by
    the fourth root of their rarity. The log-likelihood is a sum over the cuts a value lies above, so the
    whole model is one comparison and one matrix product.

    bins: per column, at most 256. smoothing: counts added to each bin (Laplace).
    temper: the log-likelihood is multiplied by it, because columns that say the same count more than once.
    """

    NAME: ClassVar[str] = "NaiveBayes"

    bins: int = 12
    smoothing: float = 0.5
    temper: float = 0.25

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """`validation` is not needed: nothing is searched for."""
        from sklearn.naive_bayes import CategoricalNB

        known, target = present(y)
        bins = Bins.fit(x, self.bins)
        sizes = [len(cuts) + 1 for cuts in bins.cuts]
        model = CategoricalNB(alpha=self.smoothing, min_categories=sizes)
        model.fit(bins.codes(x), target, sample_weight=class_weights(target)[target])
        steps = [np.diff(table, axis=1).T for table in model.feature_log_prob_]
        lowest = sum(table[:, 0] for table in model.feature_log_prob_)
        self._width = x.shape[1]
        self._columns = np.repeat(np.arange(x.shape[1]), [size - 1 for size in sizes]).astype(np.uint16)
        self._cuts = np.concatenate(bins.cuts)
        weights, bias = np.concatenate(steps) * self.temper, lowest * self.temper + model.class_log_prior_
        self._linear = Linear.of(weights, bias - bias.max(), known, len(self.classes))
        if progress:
            progress(1.0)

    def predict_proba(self, x: F32) -> F32:
        return self._linear.predict((x[:, self._columns] > self._cuts).astype(np.float32))

    def to_onnx(self) -> bytes:
        g = Graph((self._width,), len(self.classes))
        seen = g.node("Gather", "x", g.cast(g.constant(self._columns), np.int32), axis=1)
        above = g.cast(g.node("Greater", seen, g.constant(self._cuts)), np.float32)
        return g.finish(self._linear.onnx(g, above))
