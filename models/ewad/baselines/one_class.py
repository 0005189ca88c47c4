"""Detectors that learn from normal rows: isolation forest, one-class SVM, K-means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.svm import OneClassSVM

from cellwatch.models.ewad.baselines.inputs import Inputs
from cellwatch.models.ewad.report import Report
from cellwatch.models.types import F32, F64, Bool

FALSE_ALARMS = 0.05  # of the normal rows that were held back
HELD_BACK = 0.2  # the last part of the normal training rows: for the threshold alone
LEAST_ROWS = 20


def normal_rows(x: F32, y: Bool | None) -> tuple[F32, F32]:
    """The normal rows to learn from, and the last of them, for the threshold. ValueError for too few."""
    normal = x if y is None else x[~y]
    if len(normal) < LEAST_ROWS:
        raise ValueError(f"{len(normal)} normal rows; at least {LEAST_ROWS} are needed")
    cut = len(normal) - int(HELD_BACK * len(normal))
    return normal[:cut], normal[cut:]


def threshold_of(score: F64) -> float:
    """The score that `FALSE_ALARMS` of held-back normal rows exceed."""
    return float(np.quantile(score, 1 - FALSE_ALARMS))


class OneClass:
    """An estimator of scikit-learn, trained on normal rows; its threshold costs 5 % false alarms."""

    NEEDS_LABELS: ClassVar[bool] = False
    report: Report | None = None

    def __init__(self, make: Callable[[int], Any], score: Callable[[Any, F32], F64], seed: int = 0) -> None:
        self._model = make(seed)
        self._score = score
        self.threshold = 0.0

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """Learn from normal rows (n, f)."""
        learn, held = normal_rows(x, y)
        self._inputs = Inputs.fit(learn, columns)
        self._model.fit(self._inputs(learn))
        self.threshold = threshold_of(self.score(held))

    def score(self, x: F32) -> F64:
        """float64 (n,), high = anomalous."""
        return np.asarray(self._score(self._model, self._inputs(x)), dtype=np.float64)


def isolation_forest(seed: int) -> OneClass:
    """300 trees on 256 rows each (Liu, Ting and Zhou 2008)."""
    return OneClass(
        lambda s: IsolationForest(n_estimators=300, random_state=s), lambda m, x: -m.score_samples(x), seed
    )


def one_class_svm(seed: int) -> OneClass:
    """Gaussian kernel, nu .05 (Scholkopf et al. 2001)."""
    return OneClass(lambda _: OneClassSVM(nu=FALSE_ALARMS), lambda m, x: -m.score_samples(x), seed)


def k_means(seed: int) -> OneClass:
    """Distance to the nearest of ten centres of normal rows (Ali et al. 2018)."""
    return OneClass(
        lambda s: KMeans(10, n_init=4, random_state=s), lambda m, x: m.transform(x).min(axis=1), seed
    )
