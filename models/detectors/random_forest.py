"""Random forest (DeepSense, Table 1: RandomForest)."""

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


@dataclass(eq=False, kw_only=True)
class RandomForest(WindowDetector):
    """Bagged trees on binned columns, trained by scikit-learn; the mean of the leaves' class shares.

    Breiman, Random Forests, Machine Learning 45, 2001. Classes are weighed by the fourth root of their
    rarity. What is kept is a `Forest`.

    trees: number of them. leaves: of one tree, at most (grown best first). depth: of one tree, at most.
    leaf: rows in a leaf, at least. columns: part of the columns tried at a split. kept: most likely
    classes that a leaf remembers. bins: per column, at most 256.
    """

    NAME: ClassVar[str] = "RandomForest"

    trees: int = 24
    leaves: int = 640
    depth: int = 20
    leaf: int = 2
    columns: float = 0.15
    kept: int = 3
    bins: int = 64

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """`validation` is not needed: a forest does not overfit by growing."""
        from sklearn.ensemble import RandomForestClassifier

        known, target = present(y)
        bins = Bins.fit(x, self.bins)
        model = RandomForestClassifier(
            n_estimators=self.trees,
            max_leaf_nodes=self.leaves,
            max_depth=self.depth,
            min_samples_leaf=self.leaf,
            max_features=self.columns,
            random_state=self.seed,
        )
        model.fit(bins.codes(x).astype(np.float32), target, sample_weight=class_weights(target)[target])
        trees = [from_sklearn(e.tree_, known, self.kept) for e in model.estimators_]
        self._width = x.shape[1]
        self._forest = Forest.pack(trees, bins, len(self.classes))
        if progress:
            progress(1.0)

    def predict_proba(self, x: F32) -> F32:
        return normalised(self._forest.scores(x))

    def to_onnx(self) -> bytes:
        g = Graph((self._width,), len(self.classes))
        return g.finish(self.onnx(g))

    def onnx(self, g: Graph) -> str:
        """The probabilities as a node of a graph."""
        scores = self._forest.onnx(g)
        return g.node("Div", scores, g.node("ReduceSum", scores, g.ints(1)))
