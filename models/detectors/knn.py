"""Nearest neighbours (DeepSense, Table 1: KNN)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.detector import Kind, Labelled, Progress
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.labels import normalised, present
from cellwatch.models.detectors.points import Points
from cellwatch.models.detectors.subsample import subsample
from cellwatch.models.types import F32, I64

TINY = np.float32(1e-3)
FAR = np.float32(8)  # coordinates end here, so that float32 distances stay exact
SOFT = np.float32(0.25)  # added to squared distances: closer than its root is the same place
FLOOR = np.float32(1e-3)  # a class without a neighbour is unlikely, not impossible


class KNN:
    """Weighted vote of the nearest of a fixed number of kept rows, along discriminant and principal axes.

    Cover and Hart, Nearest Neighbor Pattern Classification, 1967; a neighbour counts (d_k - d) / (d_k - d_1)
    (Dudani, The Distance-Weighted k-Nearest-Neighbor Rule, 1976), so a vote changes without a jump. The axes
    are scikit-learn's linear discriminants, the rest principal components.

    points: rows kept, as many of each class as there are, drawn with the seed. neighbours: k.
    axes: of the space of distances, at most.
    """

    NAME: ClassVar[str] = "KNN"
    KIND: ClassVar[Kind] = "window"

    def __init__(
        self,
        classes: tuple[str, ...],
        seed: int = 0,
        *,
        points: int = 4500,
        neighbours: int = 9,
        axes: int = 40,
    ) -> None:
        self.classes = classes
        self.seed = seed
        self.points = points
        self.neighbours = neighbours
        self.axes = axes

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
        self._k = min(self.neighbours + 1, len(kept))
        if progress:
            progress(1.0)

    def _placed(self, x: F32) -> F32:
        out: F32 = np.clip(x @ self._axes.astype(np.float32) - self._centre, -FAR, FAR)
        return out

    def predict_proba(self, x: F32) -> F32:
        far = np.sqrt(self._points.squared_distances(self._placed(x)) + SOFT)
        near = np.argsort(far, axis=1, kind="stable")[:, : self._k]
        d = np.take_along_axis(far, near, axis=1)
        vote = (d[:, -1:] - d + TINY) / (d[:, -1:] - d[:, :1] + TINY)
        slot = self._label[near].astype(np.int64) + len(self.classes) * np.arange(len(x))[:, None]
        sums = np.bincount(slot.ravel(), vote.ravel(), len(x) * len(self.classes))
        return normalised(sums.reshape(-1, len(self.classes)) + FLOOR)

    def to_onnx(self) -> bytes:
        classes = len(self.classes)
        g = Graph((len(self._axes),), classes)
        placed = g.node("MatMul", "x", g.cast(g.constant(self._axes), np.float32))
        placed = g.node("Sub", placed, g.constant(self._centre))
        placed = g.node("Clip", placed, g.constant(-FAR), g.constant(FAR))
        far = g.node("Add", self._points.onnx(g, placed), g.constant(SOFT))
        nearest = g.node("Neg", g.node("Sqrt", far))
        d, near = g.two("TopK", nearest, g.ints(self._k))
        last, first = (g.node("Slice", d, g.ints(at), g.ints(at + 1), g.ints(1)) for at in (self._k - 1, 0))
        tiny = g.constant(TINY)
        vote = g.node(
            "Div",
            g.node("Add", g.node("Sub", d, last), tiny),
            g.node("Add", g.node("Sub", first, last), tiny),
        )
        label = g.node("Gather", g.cast(g.constant(self._label), np.int64), near)
        size = g.node("Concat", g.node("Shape", "x", end=1), g.ints(classes), axis=0)
        sums = g.node(
            "ScatterElements", g.node("ConstantOfShape", size), label, vote, axis=1, reduction="add"
        )
        sums = g.node("Add", sums, g.constant(FLOOR))
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
