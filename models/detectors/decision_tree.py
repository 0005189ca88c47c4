"""One decision tree (DeepSense, Table 1: DecisionTree)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.bins import Bins
from cellwatch.models.detectors.detector import Labelled, Progress, WindowDetector
from cellwatch.models.detectors.forest import Forest
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.labels import normalised, present
from cellwatch.models.detectors.trees import from_sklearn
from cellwatch.models.detectors.weights import class_weights
from cellwatch.models.types import F32, I64

DEPTH = 24  # of the tree, at most: each level is a step of the served graph
KEPT = 5  # classes a leaf remembers


@dataclass(eq=False, kw_only=True)
class DecisionTree(WindowDetector):
    """A classification tree on binned columns, grown best first by scikit-learn.

    Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984. Classes are weighed by the
    fourth root of their rarity. Each leaf keeps its five most likely classes.

    leaves: at most. leaf: rows in a leaf, at least. bins: per column, at most 256.
    """

    NAME: ClassVar[str] = "DecisionTree"

    leaves: int = 3000
    leaf: int = 3
    bins: int = 128

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """`validation` is not needed: the number of leaves bounds the tree."""
        from sklearn.tree import DecisionTreeClassifier

        known, target = present(y)
        bins = Bins.fit(x, self.bins)
        model = DecisionTreeClassifier(
            max_leaf_nodes=self.leaves, min_samples_leaf=self.leaf, max_depth=DEPTH, random_state=self.seed
        )
        model.fit(bins.codes(x).astype(np.float32), target, sample_weight=class_weights(target)[target])
        self._width = x.shape[1]
        self._forest = Forest.pack([from_sklearn(model.tree_, known, KEPT)], bins, len(self.classes))
        if progress:
            progress(1.0)

    def predict_proba(self, x: F32) -> F32:
        return normalised(self._forest.scores(x))

    def to_onnx(self) -> bytes:
        g = Graph((self._width,), len(self.classes))
        scores = self._forest.onnx(g)
        return g.finish(g.node("Div", scores, g.node("ReduceSum", scores, g.ints(1))))
