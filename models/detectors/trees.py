"""Trees of scikit-learn as our own."""

from __future__ import annotations

from typing import Any

import numpy as np

from cellwatch.models.detectors.forest import Tree
from cellwatch.models.types import I64


def from_sklearn(tree: Any, known: I64, kept: int) -> Tree:
    """A fitted `tree_` over codes; each leaf keeps its `kept` most likely classes, summing to 1.

    sklearn sends code <= threshold to the left; codes are whole, so cut = floor(threshold).
    """
    share = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
    best = np.argsort(-share, axis=1, kind="stable")[:, : min(kept, len(known))]
    value = np.take_along_axis(share, best, axis=1)
    return Tree(
        tree.children_left,
        tree.children_right,
        tree.feature,
        np.floor(tree.threshold).astype(np.int64),
        value / value.sum(axis=1, keepdims=True),
        known[best],
    )
