"""The 16 metrics of DeepSense in their four dimensions, and one score a dimension (sections 4.2 and 4.7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cellwatch.models.evaluation.aggregation import METHODS, min_max, weights_of
from cellwatch.models.evaluation.metrics import mcc, quality
from cellwatch.models.types import F64, I64


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric; `cost`: low is good."""

    name: str
    dimension: str
    cost: bool = False


METRICS = (
    Metric("accuracy", "detection_quality"),
    Metric("f1", "detection_quality"),
    Metric("mcc", "detection_quality"),
    Metric("ram_train_mb", "resource_usage", cost=True),
    Metric("cpu_train", "resource_usage", cost=True),
    Metric("ram_infer_mb", "resource_usage", cost=True),
    Metric("cpu_infer", "resource_usage", cost=True),
    Metric("size_mb", "resource_usage", cost=True),
    Metric("training_time_s", "speed_latency", cost=True),
    Metric("inference_time_s", "speed_latency", cost=True),
    Metric("detection_latency_s", "speed_latency", cost=True),
    Metric("processing_rate", "speed_latency"),
    Metric("class_coverage", "coverage"),
    Metric("device_coverage", "coverage"),
    Metric("detection_diversity", "coverage"),
    Metric("error_diversity", "coverage"),
)
DIMENSIONS = tuple(dict.fromkeys(metric.dimension for metric in METRICS))


def detection_quality(m: I64) -> dict[str, float]:
    """Accuracy, F1 and MCC of a confusion matrix (c, c), truth in rows.

    F1 is that of class 1 where there are two (attack; 0 if TP = 0), else the mean over the classes that
    occur: the paper does not say which.

    >>> detection_quality(np.array([[8, 1], [1, 0]]))["f1"]
    0.0
    """
    said = quality(m)
    if len(m) == 2:
        counted = 2 * m[1, 1] + m[0, 1] + m[1, 0]
        f1 = float(2 * m[1, 1] / counted) if m[1, 1] else 0.0
    else:
        f1 = said.f1_macro
    return {"accuracy": said.accuracy, "f1": f1, "mcc": mcc(m)}


def dimension_scores(
    values: F64,
    method: Callable[[F64, F64], F64] = METHODS["VIKOR"],
    weights: Mapping[str, float] | None = None,
) -> F64:
    """Scores (N, 4) of N models, columns as DIMENSIONS, from their metrics (N, 16), columns as METRICS.

    NaN is a metric that is not defined for a model, and counts as the worst (a latency without a detection).
    A metric that is NaN for all is left out of its dimension; a dimension without any metric is NaN.
    `weights` by name of the metric, 1 where it has none, are scaled to sum 1 in each dimension. The paper's
    Table 1 comes from VIKOR.
    """
    given = np.array([(weights or {}).get(metric.name, 1.0) for metric in METRICS])
    cost = np.array([metric.cost for metric in METRICS])
    measured = np.isfinite(values).any(axis=0)
    x = np.nan_to_num(min_max(values[:, measured], cost[measured]), nan=0.0)
    of = np.array([metric.dimension for metric in METRICS])[measured]
    scores = np.full((len(values), len(DIMENSIONS)), np.nan)
    for d, dimension in enumerate(DIMENSIONS):
        mine = of == dimension
        if mine.any():
            scores[:, d] = method(x[:, mine], weights_of(given[measured][mine]))
    return scores
