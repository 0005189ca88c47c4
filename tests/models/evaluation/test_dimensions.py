"""The 16 metrics, each by hand, and the score of a dimension."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.coverage import (
    coverage,
    detection_diversity,
    error_diversity,
    exclusive_detections,
)
from cellwatch.models.evaluation.dimensions import DIMENSIONS, METRICS, detection_quality, dimension_scores
from cellwatch.models.evaluation.resources import mean_cpu, peak_ram_mb, size_mb
from cellwatch.models.evaluation.speed import (
    detection_latency,
    first_alarms,
    inference_time,
    processing_rate,
)

PLACE = {metric.name: i for i, metric in enumerate(METRICS)}
NOBODY = np.zeros((2, 3), bool)


def test_sixteen_metrics_in_four_dimensions():
    assert len(METRICS) == len(PLACE) == 16
    assert [sum(m.dimension == d for m in METRICS) for d in DIMENSIONS] == [3, 5, 4, 4]


# ---------------------------------------------------------------------- quality
def test_quality_of_two_classes():
    # TN 50, FP 10, FN 5, TP 35
    found = detection_quality(np.array([[50, 10], [5, 35]]))
    assert found["accuracy"] == pytest.approx(0.85)
    assert found["f1"] == pytest.approx(70 / 85)
    assert found["mcc"] == pytest.approx((35 * 50 - 10 * 5) / np.sqrt(45 * 40 * 60 * 55))


@pytest.mark.parametrize(
    ("matrix", "f1", "mcc"),
    [([[9, 0], [1, 0]], 0.0, 0.0), ([[0, 0], [0, 4]], 1.0, 0.0), ([[7, 0], [0, 0]], 0.0, 0.0)],
)
def test_quality_where_it_is_not_defined(matrix, f1, mcc):
    found = detection_quality(np.array(matrix))
    assert (found["f1"], found["mcc"]) == (f1, mcc)


def test_f1_of_more_classes_is_the_mean():
    m = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 4]])
    assert detection_quality(m)["f1"] == pytest.approx((4 / 5 + 2 / 3 + 1) / 3)


# ---------------------------------------------------------------------- speed
def test_time_of_a_sample_and_rate():
    assert inference_time(0.25, 1000) == pytest.approx(2.5e-4)
    assert processing_rate(0.25, 1000) == 4000
    assert np.isnan([inference_time(1.0, 0), processing_rate(1.0, 0), processing_rate(0.0, 5)]).all()


def test_latency_from_the_first_alarm_in_each_event():
    onset, end = np.array([10.0, 20.0, 30.0]), np.array([15.0, 25.0, 35.0])
    found = first_alarms(np.array([9.0, 11.5, 12.0, 27.0, 30.0]), onset, end)
    assert found.tolist() == pytest.approx([11.5, np.nan, 30.0], nan_ok=True)
    assert detection_latency(onset, found) == pytest.approx(0.75)


def test_latency_without_alarm_or_event():
    onset = np.array([1.0])
    assert np.isnan(detection_latency(onset, first_alarms(np.array([]), onset, onset + 1)))
    assert np.isnan(detection_latency(np.array([]), np.array([])))


# ---------------------------------------------------------------------- coverage
def test_coverage_by_hand():
    right = np.array([1, 1, 0, 0, 1, 0], bool)
    group = np.array([0, 0, 0, 1, 1, -1])
    assert coverage(right, group) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert coverage(right, group, np.array([0.9, 0.3])) == pytest.approx(0.75 * 2 / 3 + 0.25 / 2)


def test_a_group_that_does_not_occur_has_no_weight():
    right, group = np.array([True, False]), np.array([0, 2])
    assert coverage(right, group, np.array([0.2, 0.6, 0.2])) == pytest.approx(0.5)
    assert np.isnan(coverage(right, np.array([-1, -1])))
    assert np.isnan(coverage(right, group, np.array([0.0, 1.0, 0.0])))


def test_diversity_by_hand():
    right = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]], bool)
    # {0,1,2} against {1,2}: 2 of 3 in common; {1,2} against {0,1,2}; {2} against {0,1,2}
    assert detection_diversity(right) == pytest.approx([1 - 2 / 3, 1 - 2 / 3, 1 - 1 / 3])
    assert exclusive_detections(right) == pytest.approx([1 / 3, 0, 0])


def test_error_diversity_by_hand():
    right = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [1, 1, 1, 1]], bool)
    # errors {1,2}, {2,3}, {}: half of each is shared; without errors nothing is
    assert error_diversity(right) == pytest.approx([0.5, 0.5, 1.0])


def test_diversity_where_it_is_not_defined():
    always_wrong = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=bool)
    assert detection_diversity(always_wrong)[2] == 0
    assert detection_diversity(NOBODY).tolist() == [0, 0]
    assert exclusive_detections(NOBODY).tolist() == [0, 0]
    assert error_diversity(NOBODY).tolist() == [0, 0]
    assert detection_diversity(np.ones((1, 3), bool)).tolist() == [1]  # alone: all of it is its own


# ---------------------------------------------------------------------- resources
def test_resources_by_hand():
    assert peak_ram_mb(np.array([100e6, 350e6, 200e6])) == 350
    assert mean_cpu(np.array([0.2, 0.6, 1.0])) == pytest.approx(0.6)
    assert size_mb(2_500_000) == 2.5
    assert np.isnan([peak_ram_mb(np.array([])), mean_cpu(np.array([]))]).all()


# ---------------------------------------------------------------------- dimensions
def test_dimension_scores_by_hand():
    values = np.zeros((2, 16))
    values[0, [PLACE["accuracy"], PLACE["f1"], PLACE["mcc"]]] = 1.0
    values[1, PLACE["size_mb"]] = 9.0
    scores = dimension_scores(values)
    assert scores[:, 0].tolist() == [1, 0]
    assert scores[:, 1].tolist() == [1, 0]
    assert scores[:, 2:].tolist() == [[1, 1], [1, 1]]


def test_an_undefined_metric_is_the_worst_and_an_unmeasured_one_is_left_out():
    values = np.full((3, 16), np.nan)
    values[:, PLACE["detection_latency_s"]] = [1.0, 3.0, np.nan]
    scores = dimension_scores(values)
    assert scores[:, DIMENSIONS.index("speed_latency")].tolist() == [1, 0, 0]
    assert np.isnan(scores[:, DIMENSIONS.index("coverage")]).all()


def test_weights_of_metrics():
    values = np.ones((2, 16))
    values[0, PLACE["accuracy"]], values[1, PLACE["mcc"]] = 0.5, 0.2
    only = dimension_scores(values, weights={"accuracy": 1.0, "f1": 0.0, "mcc": 0.0})
    assert only[:, 0].tolist() == [0, 1]
