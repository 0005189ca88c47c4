"""Gradient-boosted trees (DeepSense, Table 1: XGB)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cellwatch.models.detectors.bins import Bins
from cellwatch.models.detectors.detector import Labelled, Progress, WindowDetector
from cellwatch.models.detectors.forest import Forest, Tree
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.labels import ABSENT, present, softmax
from cellwatch.models.detectors.weights import class_weights
from cellwatch.models.types import F32, I64

LOOK = 5  # rounds between counts of the leaves


@dataclass(eq=False, kw_only=True)
class XGB(WindowDetector):
    """Softmax boosting, one small tree per class and round, trained by xgboost on binned columns.

    Chen and Guestrin, XGBoost: A Scalable Tree Boosting System, KDD 2016. Classes are weighed by the fourth
    root of their rarity. What is kept is a `Forest`, leaf values in 16 bits.

    leaves: of all trees together, at most; they are the size of the graph (6 bytes each).
    depth: of a tree. rate: of learning. rounds: at most. sample: part of the rows each round sees.
    columns: part of the columns each tree sees. bins: per column, at most 256.
    """

    NAME: ClassVar[str] = "XGB"

    leaves: int = 36_000
    rounds: int = 60
    depth: int = 4
    rate: float = 0.2
    sample: float = 0.6
    columns: float = 0.5
    bins: int = 64

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """`validation` is not needed: the number of leaves bounds the model."""
        import xgboost

        known, target = present(y)
        bins = Bins.fit(x, self.bins)
        codes = bins.codes(x).astype(np.float32)
        rows = xgboost.QuantileDMatrix(
            codes, target, weight=class_weights(target)[target], max_bin=256, nthread=1
        )
        parameters = {
            "objective": "multi:softprob",
            "num_class": len(known),
            "base_score": 0.0,
            "max_depth": self.depth,
            "eta": self.rate,
            "subsample": self.sample,
            "colsample_bytree": self.columns,
            "max_bin": 256,
            "tree_method": "hist",
            "nthread": 1,
            "seed": self.seed,
        }
        booster = xgboost.Booster(parameters, [rows])
        trees: list[Tree] = []
        leaves = 0
        for k in range(self.rounds):
            booster.update(rows, k)
            if progress:
                progress((k + 1) / self.rounds)
            if (k + 1) % LOOK == 0 and _leaves(booster) > self.leaves:
                break
        for n, raw in enumerate(_raw_trees(booster)):
            tree = _tree(raw, int(known[n % len(known)]))
            leaves += int((tree.left < 0).sum())
            if leaves > self.leaves and n >= len(known):  # one round at least
                break
            trees.append(tree)
        trees = trees[: len(trees) // len(known) * len(known)]
        self._width = x.shape[1]
        self._base = np.full(len(self.classes), ABSENT, dtype=np.float32)
        self._base[known] = 0.0
        self._forest = Forest.pack(trees, bins, len(self.classes))

    def predict_proba(self, x: F32) -> F32:
        return softmax(self._forest.scores(x) + self._base)

    def to_onnx(self) -> bytes:
        g = Graph((self._width,), len(self.classes))
        return g.finish(self.onnx(g))

    def onnx(self, g: Graph) -> str:
        """The probabilities as a node of a graph."""
        return g.node("Softmax", g.node("Add", self._forest.onnx(g), g.constant(self._base)), axis=1)


def _raw_trees(booster: Any) -> list[dict[str, Any]]:
    model = json.loads(booster.save_raw("json"))
    trees: list[dict[str, Any]] = model["learner"]["gradient_booster"]["model"]["trees"]
    return trees


def _leaves(booster: Any) -> int:
    return sum(int(tree["tree_param"]["num_nodes"]) // 2 + 1 for tree in _raw_trees(booster))


def _tree(raw: dict[str, Any], label: int) -> Tree:
    """xgboost sends code < condition to the left; codes are whole, so cut = ceil(condition) - 1."""
    left = np.array(raw["left_children"])
    condition = np.array(raw["split_conditions"])
    return Tree(
        left,
        np.array(raw["right_children"]),
        np.array(raw["split_indices"]),
        np.ceil(condition).astype(np.int64) - 1,
        condition[:, None],
        np.full((len(left), 1), label),
    )
