"""EWAD where some anomalies are known: trees on the rows beside the ensemble of GANs.

The GANs know normal rows only, so a rare fault inside the usual range escapes them. Two forests learn it
from labels: randomised trees (Geurts et al., Machine Learning 2006, 63, 3) and a random forest (Breiman
2001), on the filled rows and on what was missing. How far to trust EWAD and how far the forests is a logistic
regression on rows that neither has learnt from: all anomalies and a random share of the normal rows for
EWAD, and out of the fold for the forests.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from cellwatch.models.evaluation.anomalies import best_f1_threshold
from cellwatch.models.ewad.ewad import HELD_BACK, Ewad
from cellwatch.models.ewad.report import Report
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.types import F32, F64, Bool

LEAST_KNOWN = 10  # anomalies; with fewer EWAD goes without labels
LEAST_MARKED = 5  # rows in which a number must be missing, and not missing, for it to tell anything
TREES = 500  # of each forest
LEAF = 4  # rows a leaf holds at least
COLUMNS = 0.2  # of all columns, tried at each split of the randomised trees
INNER_FOLDS = 3  # of the training rows, for scores of rows that the forests have not learnt from


class LabelAware:
    """EWAD and, as soon as anomalies are known, what the forests say beside it. A `Method`."""

    NEEDS_LABELS: ClassVar[bool] = False

    def __init__(self, settings: EwadSettings, seed: int = 0) -> None:
        self.ewad = Ewad(settings, seed)
        self.report: Report | None = None
        self.threshold = 0.0
        self._seed = seed
        self._forests: Forests | None = None

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """Learn from rows (n, f), NaN = missing; `y` (n,) anomalous, None: not known. Errors as `Ewad`."""
        self._forests = None
        if y is None or y.sum() < LEAST_KNOWN:
            self.ewad.fit(x, columns, labels=None if y is None else y.astype(np.int64))
            self.threshold, self.report = self.ewad.threshold, self.ewad.report
            return
        held = np.zeros(len(x), dtype=np.bool_)
        normal = np.flatnonzero(~y)
        held[np.random.default_rng(self._seed).choice(normal, len(normal) // HELD_BACK, replace=False)] = True
        self.ewad.fit(x[~y & ~held], columns, validation=x[held])
        self.report = self.ewad.report
        self._forests = Forests(x, y, self._seed)
        apart = out_of_fold(x, y, self._seed)
        unseen = held | y
        said = np.stack([apart[unseen], self.ewad.score(x[unseen])], axis=1)
        self._usual = said.mean(axis=0), said.std(axis=0)
        self._trust = LogisticRegression(class_weight="balanced").fit(self._standard(said), y[unseen])
        times = np.where(y[unseen], 1, HELD_BACK)  # the normal rows that were held back stand for all
        self.threshold = best_f1_threshold(np.repeat(y[unseen], times), np.repeat(self._join(said), times))

    def score(self, x: F32) -> F64:
        """float64 (n,), high = anomalous: the log odds, or without labels the score of EWAD."""
        alone = self.ewad.score(x)
        return alone if self._forests is None else self._join(np.stack([self._forests(x), alone], axis=1))

    def _join(self, said: F64) -> F64:
        return np.asarray(self._trust.decision_function(self._standard(said)), dtype=np.float64)

    def _standard(self, said: F64) -> F64:
        mean, deviation = self._usual
        return np.asarray((said - mean) / np.where(deviation > 0, deviation, 1.0))


class Forests:
    """Two forests whose log odds are averaged."""

    def __init__(self, x: F32, y: Bool, seed: int) -> None:
        """Learn from training rows (n, f) and labels (n,)."""
        missing = np.isnan(x)
        known = np.where(missing.all(axis=0), 0.0, x)
        self._kept = np.flatnonzero(np.nanmax(known, axis=0) > np.nanmin(known, axis=0))
        self._middle = np.nanmedian(x[:, self._kept], axis=0)
        count = missing.sum(axis=0)
        marked = np.flatnonzero((count >= LEAST_MARKED) & (count <= len(x) - LEAST_MARKED))
        if len(marked):  # columns with the same gaps are told once
            marked = marked[np.sort(np.unique(missing[:, marked], axis=1, return_index=True)[1])]
        self._marked = marked
        how = {"n_estimators": TREES, "min_samples_leaf": LEAF, "random_state": seed, "n_jobs": -1}
        self._trees = (
            ExtraTreesClassifier(max_features=COLUMNS, class_weight="balanced", **how),
            RandomForestClassifier(**how),
        )
        rows = self._rows(x)
        for trees in self._trees:
            trees.fit(rows, y).set_params(n_jobs=1)  # threads would add up votes in any order

    def __call__(self, x: F32) -> F64:
        """float64 (n,) of raw rows (n, f), high = anomalous."""
        rows = self._rows(x)
        said = [_odds(trees.predict_proba(rows)[:, 1]) for trees in self._trees]
        return np.asarray(np.mean(said, axis=0))

    def _rows(self, x: F32) -> F32:
        missing = np.isnan(x)
        filled = np.where(missing[:, self._kept], self._middle, x[:, self._kept])
        gaps = missing[:, self._marked], missing.mean(axis=1, keepdims=True)
        return np.concatenate([filled, *gaps], axis=1, dtype=np.float32)


def out_of_fold(x: F32, y: Bool, seed: int) -> F64:
    """Scores (n,) of `Forests` for its own training rows, each from forests that have not learnt from it."""
    found = np.zeros(len(x))
    for learn, rest in StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=seed).split(x, y):
        found[rest] = Forests(x[learn], y[learn], seed)(x[rest])
    return found


def _odds(share: F64) -> F64:
    """Log odds, finite also where all trees agree."""
    share = np.clip(share, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(share / (1 - share)), dtype=np.float64)
