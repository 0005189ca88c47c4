"""Classifiers that need known anomalies: forest, logistic regression, boosting, tree."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from cellwatch.models.evaluation.anomalies import best_f1_threshold
from cellwatch.models.ewad.baselines.inputs import Inputs
from cellwatch.models.ewad.report import Report
from cellwatch.models.types import F32, F64, Bool

TREES = 1000  # of the forest
ROUNDS = 300  # of boosting
INNER_FOLDS = 3  # of the training rows: scores of rows that were not learnt from, for the threshold


class Supervised:
    """A classifier of scikit-learn; its threshold has the best F1 on out-of-fold scores of training rows."""

    NEEDS_LABELS: ClassVar[bool] = True
    report: Report | None = None

    def __init__(self, make: Callable[[int], Any], seed: int = 0) -> None:
        self._make = make
        self._seed = seed
        self.threshold = 0.5

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """Learn from rows (n, f) and their labels. ValueError without them, or with too few anomalies."""
        if y is None or min(int(y.sum()), int((~y).sum())) < INNER_FOLDS:
            raise ValueError(f"needs {INNER_FOLDS} known anomalies and normal rows at least")
        unseen = np.zeros(len(x))
        cuts = StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=self._seed)
        for learn, rest in cuts.split(x, y):
            self._learn(x[learn], y[learn], columns)
            unseen[rest] = self.score(x[rest])
        self.threshold = best_f1_threshold(y, unseen)
        self._learn(x, y, columns)

    def score(self, x: F32) -> F64:
        """float64 (n,), probability of an anomaly."""
        said = self._model.predict_proba(self._inputs(x))
        return np.asarray(said[:, 1], dtype=np.float64)

    def _learn(self, x: F32, y: Bool, columns: tuple[str, ...]) -> None:
        self._inputs = Inputs.fit(x, columns)
        self._model = self._make(self._seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(self._inputs(x), y.astype(np.int64))


def random_forest(seed: int) -> Supervised:
    """1000 trees with at least 4 rows a leaf (Breiman 2001)."""
    return Supervised(
        lambda s: RandomForestClassifier(TREES, min_samples_leaf=4, n_jobs=-1, random_state=s), seed
    )


def logistic_regression(seed: int) -> Supervised:
    """L2 penalty by an inner cross-validation of the AUC, classes weighed by their rarity."""
    return Supervised(
        lambda s: LogisticRegressionCV(
            Cs=np.logspace(-4, 1, 6), cv=3, scoring="roc_auc", class_weight="balanced", random_state=s,
            use_legacy_attributes=False, l1_ratios=(0,),
        ),
        seed,
    )  # fmt: skip


def xgboost(seed: int) -> Supervised:
    """300 rounds of depth 4, rate .05, half of the columns a tree (Chen and Guestrin 2016)."""
    from xgboost import XGBClassifier

    return Supervised(
        lambda s: XGBClassifier(
            n_estimators=ROUNDS, max_depth=4, learning_rate=0.05, subsample=0.8, colsample_bytree=0.5,
            random_state=s,
        ),
        seed,
    )  # fmt: skip


def decision_tree(seed: int) -> Supervised:
    """One tree with at least 10 rows a leaf (Breiman et al. 1984)."""
    return Supervised(lambda s: DecisionTreeClassifier(min_samples_leaf=10, random_state=s), seed)
