"""The JSON of Appendix B with exactly its keys, and the sentence."""

from __future__ import annotations

import doctest
import json

import pytest

from cellwatch.models.fusion import explanation as module
from cellwatch.models.fusion.explanation import appendix_b, reason, sentence, threshold
from cellwatch.models.types import Contribution, Screening, Violation

NAN, INF = float("nan"), float("inf")


def violation(feature, observed, low, high, **rest):
    return Violation("weather-sensor_A12", feature, observed, low, high, "limit", "dos", **rest)


def test_doctests():
    assert doctest.testmod(module).failed == 0


def test_the_example_of_the_paper():
    """DeepSense, Appendix B, word for word; only the sample's id is ours."""
    told = appendix_b(
        "weather-sensor_A12",
        "SE01Gh87ADE",
        "Attack",
        0.96,
        [
            violation("network_packet-size_avg", 71.38, 0.0, 62.00),
            violation("network_ports_all_count", 2501, 0.0, 180),
            violation("network_time-delta_avg", 3.07e-05, 1.20e-03, INF),
            violation("network_tcp-flags-psh_count", 2500, 0.0, 320),
        ],
        [
            Contribution("rulesense", 0.96, 1.0),
            Contribution("RandomForest", 0.97, 1.0),
            Contribution("XGBoost", 0.95, 1.0),
            Contribution("CNN", 0.93, 1.0),
        ],
        0.96,
        {"rulesense"},
    )
    assert json.loads(told) == {
        "device_id": "weather-sensor_A12",
        "sample_id": "SE01Gh87ADE",
        "predicted_label": "Attack",
        "rulesense_confidence": 0.96,
        "triggered_features": {
            "network_packet-size_avg": {"observed": 71.38, "normal_threshold": 62.00},
            "network_ports_all_count": {"observed": 2501, "normal_threshold": 180},
            "network_time-delta_avg": {"observed": 3.07e-05, "normal_threshold": 1.20e-03},
            "network_tcp-flags-psh_count": {"observed": 2500, "normal_threshold": 320},
        },
        "model_confidence": {"RandomForest": 0.97, "XGBoost": 0.95, "CNN": 0.93},
        "ensemble_confidence": 0.96,
    }
    assert list(json.loads(told)) == [
        "device_id",
        "sample_id",
        "predicted_label",
        "rulesense_confidence",
        "triggered_features",
        "model_confidence",
        "ensemble_confidence",
    ]


def test_what_has_no_number_is_null_and_not_nan():
    told = appendix_b(
        "PLC1", "1/PLC1", "ics", NAN, [violation("peer 10.0.0.66", NAN, NAN, NAN)],
        [Contribution("XGB", NAN, 1.0), Contribution("SVM", 0.5, 1.0)], 0.5,
    )  # fmt: skip
    strict = json.loads(told, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert strict["rulesense_confidence"] is None
    assert strict["triggered_features"] == {"peer 10.0.0.66": {"observed": None, "normal_threshold": None}}
    assert strict["model_confidence"] == {"SVM": 0.5}


def test_of_one_feature_the_gravest_violation_counts():
    told = appendix_b("a", "s", "dos", 0.5, [violation("f", 9, 0, 5), violation("f", 9, 0, 8)], [], 0.5)
    assert json.loads(told)["triggered_features"]["f"]["normal_threshold"] == 5


@pytest.mark.parametrize(
    ("observed", "low", "high", "bound"),
    [
        (9, 1, 5, 5), (0, 1, 5, 1), (9, -INF, 5, 5), (0, 1, INF, 1),
        (3, 1, 5, None), (NAN, 1, 5, None), (9, NAN, NAN, None),
    ],
)  # fmt: skip
def test_the_threshold_is_the_end_that_was_passed(observed, low, high, bound):
    assert threshold(violation("f", observed, low, high)) == bound


def test_reasons_in_words():
    assert reason(violation("f", 0.5, 1.0, 5.0, attack_id="T0814")) == (
        "f is 0.5, below its normal limit 1 (ATT&CK T0814)"
    )
    assert reason(violation("f", 9.0, 1.0, 5.0, message="the pump runs dry")) == "the pump runs dry"
    new = Violation("a", "peer 10.0.0.66", NAN, NAN, NAN, "new-peer", "recon", "T0846")
    assert reason(new) == "new-peer: peer 10.0.0.66 (ATT&CK T0846)"
    assert "not in the profile" in reason(Violation("a", "device", NAN, NAN, NAN, "unknown-device", ""))


def test_the_sentence():
    assert sentence("a", Screening.ALLOW, 0.1, "benign", []) == ""
    broken = [violation("f", 9, 1, 5), violation("g", 9, 1, 5)]
    text = sentence("a", Screening.BLOCK, 0.913, "dos/syn", broken, ("rules", "ensemble"), ["limits: late"])
    assert text == (
        "a: BLOCK, dos/syn, p=0.91: f is 9, above its normal limit 5 (and 1 more); "
        "says rules and ensemble; without limits: late"
    )
    assert "no single limit is broken" in sentence("a", Screening.SUSPICIOUS, 0.9, "dos", [])


def test_models_without_a_score_are_named_up_to_three():
    heard = [Contribution("A", 0.1, 1.0)]
    silent = [Contribution(n, NAN, 1.0) for n in "BCDEF"]
    assert module.abstentions(heard) == ""
    assert module.abstentions(silent) == ""  # the source as a whole is named instead
    assert module.abstentions(heard + silent[:2]) == "B, C: no score"
    assert module.abstentions(heard + silent) == "B, C, D and 2 more: no score"
