"""Logistic regression (DeepSense, Table 1: LogReg)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.detector import Labelled, Progress, WindowDetector
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.labels import present
from cellwatch.models.detectors.linear import Linear
from cellwatch.models.detectors.subsample import subsample, worth
from cellwatch.models.types import F32, I64


@dataclass(eq=False, kw_only=True)
class LogReg(WindowDetector):
    """Multinomial logistic regression by scikit-learn's L-BFGS.

    Hosmer, Lemeshow and Sturdivant, Applied Logistic Regression, 2013. Classes are weighed by the fourth root
    of their rarity.

    strength: inverse of the L2 penalty (scikit-learn's C). rows: learnt from at most, drawn with the seed.
    iterations: at most.
    """

    NAME: ClassVar[str] = "LogReg"

    strength: float = 1.0
    rows: int = 40_000
    iterations: int = 120

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """`validation` is not needed: the penalty is fixed."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        present(y)
        chosen = subsample(y, self.rows, self.seed)
        known, target = present(y[chosen])
        model = LogisticRegression(C=self.strength, max_iter=self.iterations)
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a bounded fit is what `iterations` asks for
            model.fit(x[chosen], target, sample_weight=worth(y, chosen, len(self.classes))[y[chosen]])
        weights, bias = model.coef_, model.intercept_
        if len(known) == 2:  # scikit-learn gives one row of log-odds
            weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
        self._linear = Linear.of(weights.T, bias, known, len(self.classes))
        if progress:
            progress(1.0)

    def predict_proba(self, x: F32) -> F32:
        return self._linear.predict(x)

    def to_onnx(self) -> bytes:
        g = Graph((len(self._linear.weights),), len(self.classes))
        return g.finish(self.onnx(g))

    def onnx(self, g: Graph) -> str:
        """The probabilities as a node of a graph."""
        return self._linear.onnx(g)
