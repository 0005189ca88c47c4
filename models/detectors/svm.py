"""Support vector machine (DeepSense, Table 1: SVM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.detector import Labelled, Progress, WindowDetector
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.labels import present, softmax
from cellwatch.models.detectors.linear import Linear
from cellwatch.models.detectors.points import Points
from cellwatch.models.detectors.subsample import subsample, worth
from cellwatch.models.types import F32, F64, I64

RIDGE = 1e-3  # added to the spread of the kernels, so that 16 bits hold the weights
STEPS = 80  # of the search for the margins
HELD_BACK = 10  # one row in so many sets the temperature if no validation rows are given


@dataclass(eq=False, kw_only=True)
class SVM(WindowDetector):
    """Reduced support vector machine: one class against the rest, on Gaussian kernels to a few of the rows.

    Lee and Mangasarian, RSVM: Reduced Support Vector Machines, SIAM Data Mining 2001; squared
    hinge loss. Probabilities: a softmax of the margins, its temperature fitted on held-back rows
    (after Platt, 1999). Classes are weighed by the fourth root of their rarity.

    vectors: rows the kernels stand on. width: of a kernel, in units of the root of the number of columns.
    strength: of the penalty on errors (C). rows: learnt from at most, drawn with the seed.
    """

    NAME: ClassVar[str] = "SVM"

    vectors: int = 700
    width: float = 0.5
    strength: float = 10.0
    rows: int = 12_000

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """`validation`, else the last tenth of the rows, sets how sure the probabilities are."""
        present(y)
        if validation is None:
            cut = len(x) - len(x) // HELD_BACK
            x, y, validation = x[:cut], y[:cut], (x[cut:], y[cut:])
        chosen = subsample(y, self.rows, self.seed)
        self._points = Points.of(x[subsample(y, self.vectors, self.seed)])
        self._gamma = np.float32(1 / (2 * self.width**2 * x.shape[1]))
        known, target = present(y[chosen])
        cost = self.strength * worth(y, chosen, len(self.classes))[y[chosen]]
        white = self._whitening()
        weights, bias = _largest_margins(self._kernels(x[chosen]) @ white, target, cost)
        weights = white @ weights
        margins = self._kernels(validation[0]) @ weights + bias
        if progress:
            progress(1.0)
        sharp = temperature(margins, known, validation[1])
        self._linear = Linear.of(sharp * weights, sharp * bias, known, len(self.classes))

    def _kernels(self, x: F32) -> F32:
        out: F32 = np.exp(-self._gamma * self._points.squared_distances(x))
        return out

    def _whitening(self) -> F64:
        """From kernels to coordinates in which the penalty is the norm of the function (Nystroem)."""
        points = self._points.integers * self._points.scale
        among = self._kernels(points).astype(np.float64)
        spread, directions = np.linalg.eigh((among + among.T) / 2)
        out: F64 = directions / np.sqrt(np.maximum(spread, 0) + RIDGE)
        return out

    def predict_proba(self, x: F32) -> F32:
        return self._linear.predict(self._kernels(x))

    def to_onnx(self) -> bytes:
        g = Graph((self._points.columns,), len(self.classes))
        far = self._points.onnx(g, "x")
        return g.finish(self._linear.onnx(g, g.node("Exp", g.node("Mul", far, g.constant(-self._gamma)))))


def _largest_margins(features: F64, target: I64, costs: F64) -> tuple[F64, F64]:
    """Weights (features, classes) and bias (classes,), each class against the rest, by L-BFGS."""
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    rows, width = features.shape
    side = -np.ones((rows, int(target.max()) + 1), dtype=np.float32)
    side[np.arange(rows), target] = 1
    cost = costs[:, None].astype(np.float32)
    features = features.astype(np.float32)

    def loss(flat: F64) -> tuple[float, F64]:
        w = flat.reshape(width + 1, -1).astype(np.float32)
        short = np.maximum(1 - side * (features @ w[:-1] + w[-1]), 0)
        slope = -2 * cost * side * short
        value = float((cost * short * short).sum()) + 0.5 * float((w[:-1] ** 2).sum())
        down = np.concatenate([features.T @ slope + w[:-1], slope.sum(axis=0, keepdims=True)])
        return value / rows, down.ravel().astype(np.float64) / rows

    start = np.zeros((width + 1) * side.shape[1])
    with threadpool_limits(1):  # cores shared with other fits cost more than they give
        best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
    return best.reshape(width + 1, -1)[:-1], best.reshape(width + 1, -1)[-1]


def temperature(margins: F64, known: I64, y: I64) -> float:
    """The factor on the margins under which the labels are likeliest, as far as they are `known`."""
    from scipy.optimize import minimize_scalar

    rows = np.isin(y, known)
    if not rows.any():
        return 1.0
    target = np.searchsorted(known, y[rows])

    def loss(log_factor: float) -> float:
        p = softmax(np.exp(log_factor) * margins[rows])[np.arange(len(target)), target]
        return -float(np.log(np.maximum(p, 1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 4.0), method="bounded").x))
