"""Rows kept as 8-bit points, to measure distances to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.grid import to_grid
from cellwatch.models.types import F32


@dataclass(frozen=True, slots=True)
class Points:
    """Points (n_points, columns) on a grid per column."""

    integers: NDArray[np.int8]
    scale: F32  # (1, columns)

    @classmethod
    def of(cls, rows: F32) -> Points:
        return cls(*to_grid(rows, (0,)))

    @property
    def columns(self) -> int:
        return int(self.integers.shape[1])

    def squared_distances(self, x: F32) -> F32:
        """(n, n_points), never negative."""
        points = self.integers * self.scale
        cross = x @ points.T
        far = (x * x).sum(axis=1, keepdims=True) - 2 * cross + (points * points).sum(axis=1)
        out: F32 = np.maximum(far, 0)
        return out

    def onnx(self, g: Graph, x: str) -> str:
        """`squared_distances` of x."""
        points = g.weights(self.integers, self.scale)
        cross = g.node("MatMul", x, g.node("Transpose", points))
        own = g.node("ReduceSum", g.node("Mul", x, x), g.ints(1))
        theirs = g.node("ReduceSum", g.node("Mul", points, points), g.ints(1), keepdims=0)
        far = g.node("Add", g.node("Sub", own, g.node("Mul", cross, g.constant(np.float32(2)))), theirs)
        return g.node("Max", far, g.constant(np.float32(0)))
