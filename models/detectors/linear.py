"""softmax(x W + b), W kept in 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.labels import ABSENT, softmax
from cellwatch.models.types import F32, F64, I64


@dataclass(frozen=True, slots=True)
class Linear:
    """The last step of the linear and kernel detectors."""

    weights: NDArray[np.float16]  # (features, classes)
    bias: F32  # (classes,)

    @classmethod
    def of(cls, weights: F64, bias: F64, known: I64, classes: int) -> Linear:
        """From columns of the `known` classes only; the others become unlikely."""
        w = np.zeros((len(weights), classes), dtype=np.float16)
        b = np.full(classes, ABSENT, dtype=np.float32)
        w[:, known] = weights
        b[known] = bias
        return cls(w, b)

    def predict(self, features: F32) -> F32:
        """Probabilities (n, classes)."""
        return softmax(features @ self.weights.astype(np.float32) + self.bias)

    def onnx(self, g: Graph, features: str = "x") -> str:
        """The same as a graph node."""
        weights = g.cast(g.constant(self.weights), np.float32)
        return g.node(
            "Softmax", g.node("Add", g.node("MatMul", features, weights), g.constant(self.bias)), axis=1
        )
