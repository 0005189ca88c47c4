"""Weights of the members of an ensemble, from validation data."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F64

# The ensembles that the selection of DeepSense found (Sensors 2026, Table 2), by level.
TABLE_2: dict[int, dict[str, tuple[str, ...]]] = {
    1: {
        "L1_Ens1": ("rulesense", "XGB", "RandomForest", "DecisionTree", "CNN"),
        "L1_Ens2": ("rulesense", "XGB", "SVM", "AutoEncoder", "hybridML_V2"),
        "L1_Ens3": ("rulesense", "RandomForest", "SVM", "CNN", "LogReg"),
    },
    2: {
        "L2_Ens1": ("RandomForest", "XGB", "hybridML_V1", "CNN"),
        "L2_Ens2": ("XGB", "RandomForest", "DecisionTree", "hybridML_V2"),
        "L2_Ens3": ("RandomForest", "RNN", "LSTM", "DecisionTree"),
    },
    3: {
        "L3_Ens1": ("XGB", "RandomForest", "CNN", "DecisionTree"),
        "L3_Ens2": ("RandomForest", "XGB", "hybridML_V1", "DecisionTree", "LogReg"),
        "L3_Ens3": ("XGB", "DecisionTree", "KNN", "hybridML_V2", "LogReg"),
    },
}
_FLOOR = 1e-6  # no model is ever certain that something cannot be


def pool_weights(truth: F64, rounds: int = 200) -> F64:
    """Weights (m,), sum 1, of m models that make what happened most probable: a linear opinion pool.

    `truth` (n, m) is the probability that each model gave to the true class of each row. The likelihood of a
    mixture has one maximum over its weights; expectation-maximisation climbs it (Dempster, Laird and Rubin
    1977): each weight becomes the mean share of its model in the mixture.

    >>> pool_weights(np.array([[0.9, 0.2], [0.8, 0.1]])).round(2).tolist()
    [1.0, 0.0]
    """
    p = np.clip(np.nan_to_num(truth), _FLOOR, 1.0)
    w = np.full(p.shape[1], 1.0 / p.shape[1])
    for _ in range(rounds):
        share = p * w
        w = (share / share.sum(axis=1, keepdims=True)).mean(axis=0)
    return w
