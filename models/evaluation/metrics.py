"""Quality of a classifier: the metrics of DeepSense (Sensors 2026), each written once.

Every figure follows from the confusion matrix `m`: m[i, j] rows of class i that were called j.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from cellwatch.models.types import F64, I64


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures in 0..1 (MCC -1..1). Macro: mean over the classes that occur; weighted: by their rows."""

    rows: int
    accuracy: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    precision_weighted: float
    recall_weighted: float
    f1_weighted: float
    mcc: float

    def to_dict(self) -> dict[str, float]:
        """Names and figures."""
        return asdict(self)


def confusion(y: I64, called: I64, classes: int) -> I64:
    """Confusion matrix (classes, classes), truth in rows.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    return np.bincount(y * classes + called, minlength=classes * classes).reshape(classes, classes)


def quality(m: I64) -> Quality:
    """All figures of a confusion matrix of at least one row.

    Precision, recall and F1 are 0 where nothing was right (DeepSense: F1 = 0 if TP = 0); a class that neither
    occurs nor was called does not count.
    """
    total = int(m.sum())
    if not total:
        raise ValueError("no rows to judge")
    right = np.diag(m).astype(np.float64)
    truth, called = m.sum(axis=1).astype(np.float64), m.sum(axis=0).astype(np.float64)
    precision, recall = _ratio(right, called), _ratio(right, truth)
    f1 = _ratio(2 * right, truth + called)
    there = (truth + called) > 0
    share = truth / total
    return Quality(
        rows=total,
        accuracy=float(right.sum() / total),
        precision_macro=float(precision[there].mean()),
        recall_macro=float(recall[there].mean()),
        f1_macro=float(f1[there].mean()),
        precision_weighted=float(precision @ share),
        recall_weighted=float(recall @ share),
        f1_weighted=float(f1 @ share),
        mcc=mcc(m),
    )


def mcc(m: I64) -> float:
    """Matthews' correlation for any number of classes (Gorodkin 2004, R_K); 0 where it is not defined.

    >>> mcc(np.array([[5, 0], [0, 3]])), mcc(np.array([[5, 0], [3, 0]]))
    (1.0, 0.0)
    """
    return float(mcc_of_many(m[None])[0])


def mcc_of_many(m: I64) -> F64:
    """`mcc` of each of d matrices (d, c, c)."""
    total = m.sum(axis=(1, 2)).astype(np.float64)
    truth, called = m.sum(axis=2).astype(np.float64), m.sum(axis=1).astype(np.float64)
    both = (total**2 - (called**2).sum(axis=1)) * (total**2 - (truth**2).sum(axis=1))
    above = np.trace(m, axis1=1, axis2=2) * total - (truth * called).sum(axis=1)
    return _ratio(np.where(both > 0, above, 0.0), np.sqrt(np.maximum(both, 0)))


def recall_by_class(m: I64) -> F64:
    """Share of each class that was called so, NaN for a class that does not occur."""
    truth = m.sum(axis=1).astype(np.float64)
    return np.where(truth > 0, _ratio(np.diag(m).astype(np.float64), truth), np.nan)


def _ratio(part: F64, whole: F64) -> F64:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
