"""Figures of a detector of anomalies: how it ranks rows, and what it calls at its threshold.

EWAD-IIoT (JCDE 2025), equations 14-22. Each is written once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from cellwatch.models.evaluation.metrics import confusion
from cellwatch.models.types import F64, I64, Bool

CURVE_POINTS = 200  # points of a drawn curve


@dataclass(frozen=True, slots=True)
class Ranking:
    """Figures without a threshold, 0..1; NaN where the rows are all normal or all anomalous."""

    auc: float  # area under the ROC curve (eq 22)
    average_precision: float  # mean precision over the recalls, that of chance = share of anomalies


@dataclass(frozen=True, slots=True)
class Called:
    """Figures at a threshold, 0..1; 0 where nothing was right, as in DeepSense (F1 = 0 if TP = 0)."""

    f1: float
    g_mean: float  # root of recall x specificity (eq 17)
    precision: float
    recall: float
    specificity: float
    accuracy: float
    false_alarm_rate: float  # 1 - specificity
    missed_rate: float  # 1 - recall

    def to_dict(self) -> dict[str, float]:
        """Names and figures."""
        return asdict(self)


def ranking(y: Bool, score: F64) -> Ranking:
    """How well scores (n,), high = anomalous, put the anomalies first.

    >>> ranking(np.array([False, False, True]), np.array([0.1, 0.3, 0.2])).auc
    0.5
    """
    if y.all() or not y.any():
        return Ranking(float("nan"), float("nan"))
    return Ranking(float(roc_auc_score(y, score)), float(average_precision_score(y, score)))


def called(y: Bool, alarm: Bool) -> Called:
    """Figures of alarms (n,) against the truth (n,), from one confusion matrix. ValueError without rows.

    >>> called(np.array([True, True, False, False]), np.array([True, False, True, False])).g_mean
    0.5
    """
    if not len(y):
        raise ValueError("no rows to judge")
    return from_counts(confusion(y.astype(np.int64), alarm.astype(np.int64), 2))


def from_counts(m: I64) -> Called:
    """Figures of a confusion matrix [[TN, FP], [FN, TP]]."""
    (tn, fp), (fn, tp) = m.astype(np.float64).tolist()
    recall, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    return Called(
        f1=_ratio(2 * tp, 2 * tp + fp + fn),
        g_mean=float(np.sqrt(recall * specificity)),
        precision=_ratio(tp, tp + fp),
        recall=recall,
        specificity=specificity,
        accuracy=(tp + tn) / (tp + tn + fp + fn),
        false_alarm_rate=_ratio(fp, tn + fp),
        missed_rate=_ratio(fn, tp + fn),
    )


def best_f1_threshold(y: Bool, score: F64) -> float:
    """The threshold (alarm: score > threshold) with the highest F1 on labelled rows; the higher of two equal.

    It lies halfway between two scores. Without anomalies, or without normal rows: the highest score.

    >>> best_f1_threshold(np.array([False, True, True]), np.array([0.0, 2.0, 3.0]))
    1.0
    """
    if not y.any() or y.all():
        return float(score.max())
    order = np.argsort(-score, kind="stable")
    ranked, hit = score[order], np.cumsum(y[order])
    f1 = 2 * hit / (np.arange(1, len(y) + 1) + y.sum())  # the first k rows called
    cut = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # equal scores go together
    best = int(cut[f1[cut].argmax()])
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1.0
    return float((ranked[best] + below) / 2)


def roc(y: Bool, score: F64) -> tuple[F64, F64]:
    """False and true positive rates of the ROC curve, at most `CURVE_POINTS` of them."""
    false, true, _ = roc_curve(y, score, drop_intermediate=True)
    return _thin(false), _thin(true)


def precision_recall(y: Bool, score: F64) -> tuple[F64, F64]:
    """Recall and precision, recall rising, at most `CURVE_POINTS` of them."""
    precision, recall, _ = precision_recall_curve(y, score)
    return _thin(recall[::-1]), _thin(precision[::-1])


def _thin(values: F64) -> F64:
    keep = np.linspace(0, len(values) - 1, min(len(values), CURVE_POINTS)).round().astype(np.int64)
    return np.asarray(values[keep], dtype=np.float64)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
