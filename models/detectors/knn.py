"""Nearest neighbours (DeepSense, Table 1: KNN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.detector import Labelled, Progress, WindowDetector
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.labels import normalised, present
from cellwatch.models.detectors.points import Points
from cellwatch.models.detectors.subsample import subsample, worth
from cellwatch.models.types import F32, I64

FAR = np.float32(6)  # coordinates end here, so that float32 distances stay exact
NEAR = np.float32(1)  # added to the squared reach: what lies this close is the same place
FLOOR = np.float32(1e-3)  # a class without a neighbour is unlikely, not impossible


@dataclass(eq=False, kw_only=True)
class KNN(WindowDetector):
    """Weighted vote of the nearest of a fixed number of kept rows, along discriminant and principal axes.

    Cover and Hart, Nearest Neighbor Pattern Classification, 1967; a row at distance d counts
    1 - (d / reach)^2, the reach being the distance of neighbour k + 1 (Hechenbichler and Schliep, Weighted
    k-Nearest-Neighbor Techniques, 2004, with the Epanechnikov kernel), so a vote changes without a jump. The
    axes are scikit-learn's linear discriminants, the rest principal components.

    points: rows kept, drawn with the seed: half at random, half as many of each class as there are. A kept
    row counts for all rows of its class, which are weighed by the fourth root of their rarity. neighbours: k.
    axes: of the space of distances, at most.
    """

    NAME: ClassVar[str] = "KNN"

    points: int = 4500
    neighbours: int = 9
    axes: int = 40

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """`validation` is not needed: nothing is searched for."""
        from threadpoolctl import threadpool_limits

        present(y)
        with threadpool_limits(1):
            self._axes = _axes(x, y, min(self.axes, x.shape[1])).astype(np.float16)
        self._centre = np.median(x @ self._axes.astype(np.float32), axis=0).astype(np.float32)
        kept = subsample(y, self.points, self.seed)
        self._points = Points.of(self._placed(x[kept]))
        self._label = y[kept].astype(np.uint8)
        self._worth = worth(y, kept, len(self.classes)).astype(np.float32)
        self._k = min(self.neighbours + 1, len(kept))
        if progress:
            progress(1.0)

    def _placed(self, x: F32) -> F32:
        out: F32 = np.clip(x @ self._axes.astype(np.float32) - self._centre, -FAR, FAR)
        return out

    def predict_proba(self, x: F32) -> F32:
        far = self._points.squared_distances(self._placed(x))
        reach = np.partition(far, self._k - 1, axis=1)[:, self._k - 1 : self._k] + NEAR
        member = (self._label[:, None] == np.arange(len(self.classes))) * self._worth
        return normalised(np.maximum(1 - far / reach, 0) @ member + FLOOR)

    def to_onnx(self) -> bytes:
        classes = len(self.classes)
        g = Graph((len(self._axes),), classes)
        placed = g.node("MatMul", "x", g.cast(g.constant(self._axes), np.float32))
        placed = g.node("Sub", placed, g.constant(self._centre))
        placed = g.node("Clip", placed, g.constant(-FAR), g.constant(FAR))
        far = self._points.onnx(g, placed)
        nearest, _ = g.two("TopK", far, g.ints(self._k), largest=0)
        last = g.node("Slice", nearest, g.ints(self._k - 1), g.ints(self._k), g.ints(1))
        reach = g.node("Add", last, g.constant(NEAR))
        vote = g.node("Relu", g.node("Sub", g.constant(np.float32(1)), g.node("Div", far, reach)))
        label = g.cast(g.constant(self._label[:, None]), np.int32)
        member = g.cast(g.node("Equal", label, g.constant(np.arange(classes, dtype=np.int32))), np.float32)
        member = g.node("Mul", member, g.constant(self._worth))
        sums = g.node("Add", g.node("MatMul", vote, member), g.constant(FLOOR))
        return g.finish(g.node("Div", sums, g.node("ReduceSum", sums, g.ints(1))))


def _axes(x: F32, y: I64, count: int) -> F32:
    """(columns, count): discriminants first, then what varies most across them, each of unit spread."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.01).fit(x, y)
    found = model.scalings_[:, : min(count, len(model.classes_) - 1)]
    base, _ = np.linalg.qr(found)
    rest = x - x.mean(axis=0)
    rest = rest - rest @ base @ base.T
    _, spread, directions = np.linalg.svd(rest.T @ rest / len(x))
    extra = directions[: count - found.shape[1]] / np.sqrt(spread[: count - found.shape[1], None] + 1e-3)
    out: F32 = np.concatenate([found, extra.T], axis=1).astype(np.float32)
    return out
