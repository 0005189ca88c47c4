"""Weights of the detectors from validation data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cellwatch.models.types import F64, I64

MAX_WEIGHT = 8.0  # log-odds of 99.97 %: validation data never prove more


def validation_weights(truth: I64, said: I64, classes: int) -> F64:
    """Weight of each detector, (m,) >= 0: the log-odds of its balanced accuracy against chance.

    `truth` (n,) and `said` (n, m) are class indices, -1 where a detector abstained. Log-odds weights are the
    best for independent voters (Nitzan and Paroush 1982); balanced accuracy, because the benign class would
    drown the others. With c classes chance is 1/c and gets weight 0, worse than chance too.
    """
    out = np.zeros(said.shape[1])
    for j in range(said.shape[1]):
        spoke = said[:, j] >= 0
        counts = np.bincount(truth[spoke], minlength=classes)
        right = np.bincount(truth[spoke], weights=said[spoke, j] == truth[spoke], minlength=classes)
        present = counts > 0
        if not present.any():
            continue
        # one miss and one hit more than seen (Laplace): no detector is perfect
        accuracy = float(np.mean((right[present] + 1) / (counts[present] + 2)))
        odds = np.log(accuracy / (1 - accuracy)) + np.log(max(present.sum() - 1, 1))
        out[j] = np.clip(odds, 0.0, MAX_WEIGHT)
    return out
