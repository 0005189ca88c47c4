"""Decision trees as a few small arrays, the same for one tree, a forest and boosted trees.

Nodes are kept breadth first over the whole forest, the roots first: the i-th inner node has its children at
n_trees + 2 i and the place after, so no pointers are stored (level-order unary degree sequence; Jacobson,
Space-efficient static trees and graphs, FOCS 1989). The trees of a window are walked all at once, one level
a step, with gathers only (Nakandala et al., A Tensor Compiler for Unified Machine Learning Prediction
Serving, OSDI 2020): numpy, ONNX Runtime on a CPU and on a GPU do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.detectors.bins import Bins
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.types import F32, I64

CHUNK = 1 << 21  # tree positions walked at once


@dataclass(frozen=True, slots=True)
class Tree:
    """One binary tree as a library gives it; an inner node sends codes > cut to the right."""

    left: I64  # (nodes,), -1 at a leaf
    right: I64
    column: I64
    cut: I64  # index of the cut among those of its column
    value: F32  # (nodes, k) what a leaf adds
    label: I64  # (nodes, k) to which class


@dataclass(frozen=True, slots=True)
class Forest:
    """Sums leaf values per class."""

    columns: NDArray[np.uint16]  # (tests,) a test is x[column] > threshold; the last is never true
    thresholds: F32  # (tests,)
    test: NDArray[np.uint16]  # (nodes,) roots first; a leaf has the last test
    value: NDArray[np.float16]  # (leaves, k)
    label: NDArray[np.uint8]  # (leaves, k)
    trees: int
    depth: int
    classes: int

    @classmethod
    def pack(cls, trees: Sequence[Tree], bins: Bins, classes: int) -> Forest:
        """ValueError above 65,535 distinct tests."""
        offset = np.cumsum([0, *[len(t.left) for t in trees]])
        left = np.concatenate(
            [np.where(t.left < 0, -1, t.left + o) for t, o in zip(trees, offset, strict=False)]
        )
        right = np.concatenate([t.right + o for t, o in zip(trees, offset, strict=False)])
        order, level, depth = [], offset[:-1], 0
        while len(level):
            order.append(level)
            inner = level[left[level] >= 0]
            level = np.stack([left[inner], right[inner]], axis=1).ravel()
            depth += len(level) > 0
        nodes = np.concatenate(order)
        inner = left[nodes] >= 0
        column = np.concatenate([t.column for t in trees])[nodes[inner]]
        cut = np.concatenate([t.cut for t in trees])[nodes[inner]]
        keys, which = np.unique(column * 256 + cut, return_inverse=True)
        if len(keys) >= 1 << 16:
            raise ValueError(f"{len(keys)} distinct tests are too many; use fewer bins")
        test = np.full(len(nodes), len(keys), dtype=np.uint16)
        test[inner] = which
        thresholds = [bins.cuts[key // 256][key % 256] for key in keys]
        leaves = nodes[~inner]
        return cls(
            np.array([*(keys // 256), 0], dtype=np.uint16),
            np.array([*thresholds, np.inf], dtype=np.float32),
            test,
            np.concatenate([t.value for t in trees])[leaves].astype(np.float16),
            np.concatenate([t.label for t in trees])[leaves].astype(np.uint8),
            len(trees),
            depth,
            classes,
        )

    def scores(self, x: F32) -> F32:
        """(n, classes) sums over the trees."""
        test = self.test.astype(np.int64)
        inner = test < len(self.columns) - 1
        left = np.where(inner, self.trees + 2 * (np.cumsum(inner) - 1), np.arange(len(test)))
        leaf = np.cumsum(~inner) - 1
        value, label = self.value.astype(np.float32), self.label.astype(np.int64)
        out = np.empty((len(x), self.classes), dtype=np.float32)
        rows = max(1, CHUNK // max(self.trees, len(self.columns)))
        for first in range(0, len(x), rows):
            bits = x[first : first + rows].T[self.columns] > self.thresholds[:, None]
            node = left[: self.trees, None] + bits[test[: self.trees]]
            for _ in range(self.depth - 1):
                node = left[node] + np.take_along_axis(bits, test[node], axis=0)
            found = leaf[node]
            slot = label[found] + self.classes * np.arange(bits.shape[1])[:, None]
            sums = np.bincount(slot.ravel(), value[found].ravel(), bits.shape[1] * self.classes)
            out[first : first + rows] = sums.reshape(-1, self.classes)
        return out

    def onnx(self, g: Graph) -> str:
        """`scores` of input "x"."""
        leaves, kept = self.value.shape
        number = np.int32
        test = g.cast(g.constant(self.test), number)
        last = g.constant(number(len(self.columns) - 1))
        inner, outer = g.node("Less", test, last), g.node("Equal", test, last)
        axis = g.constant(np.int64(0))
        child = g.node(
            "Add",
            g.node("Mul", g.node("CumSum", g.cast(inner, number), axis), g.constant(number(2))),
            g.constant(number(self.trees - 2)),
        )
        here = g.node("Range", *(g.constant(number(v)) for v in (0, len(self.test), 1)))
        left = g.node("Where", inner, child, here)
        leaf = g.node("Sub", g.node("CumSum", g.cast(outer, number), axis), g.constant(number(1)))

        # Everything lies (trees, n): GatherElements over flat tables is what ONNX Runtime does fastest.
        flat, square = g.ints(-1), g.ints(self.trees, -1)
        seen = g.node("Gather", g.node("Transpose", "x"), g.cast(g.constant(self.columns), number))
        bits = g.cast(g.node("Greater", seen, g.constant(self.thresholds[:, None])), number)
        roots = g.node("Slice", test, g.ints(0), g.ints(self.trees))
        below = g.node("Unsqueeze", g.node("Slice", left, g.ints(0), g.ints(self.trees)), g.ints(1))
        node = g.node("Add", g.node("Gather", bits, roots), below)
        for _ in range(self.depth - 1):
            place = g.node("Reshape", node, flat)
            asked = g.node("Reshape", g.node("GatherElements", test, place), square)
            below = g.node("Reshape", g.node("GatherElements", left, place), square)
            node = g.node("Add", below, g.node("GatherElements", bits, asked))
        found = g.node("GatherElements", leaf, g.node("Reshape", node, flat))
        slots = g.constant(number(leaves) * np.arange(kept, dtype=number)[:, None])
        place = g.node("Reshape", g.node("Add", g.node("Unsqueeze", found, g.ints(0)), slots), flat)
        rows = g.ints(kept * self.trees, -1)
        value, label = (
            g.node(
                "Reshape", g.node("GatherElements", g.cast(g.constant(table.T.ravel()), kind), place), rows
            )
            for table, kind in ((self.value, np.float32), (self.label, number))
        )
        size = g.node("Concat", g.ints(self.classes), g.node("Shape", "x", end=1), axis=0)
        sums = g.node(
            "ScatterElements", g.node("ConstantOfShape", size), label, value, axis=0, reduction="add"
        )
        return g.node("Transpose", sums)
