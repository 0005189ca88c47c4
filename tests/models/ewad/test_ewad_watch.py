"""EWAD in the cell: recent windows, verdicts and their reasons, with an EWAD that is a plain sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.ewad.calibration import Calibration
from cellwatch.models.ewad.devices import Devices
from cellwatch.models.ewad.judgement import Judgement
from cellwatch.models.ewad.watch import RECENT, Watch, attack_probability, recent_mean
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.types import FeatureWindow, Level, Screening

FEATURES = ("network_packets_all_count", "log_messages_count", "sensor_zscore_max")
NAMES = ("PLC1", "HMI1")


class Sum:
    """Score: mean of the absolute centred columns, each standardised already."""

    def judge(self, x):
        size = np.abs(np.nan_to_num(x))
        score = size.mean(axis=1).astype(np.float64)
        return Judgement(score, np.exp(-4 * score), size, np.nan_to_num(x))


@pytest.fixture
def quiet_rows() -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.abs(rng.normal([100, 20, 1], [10, 2, 0.3], (800, 3))).astype(np.float32)


@pytest.fixture
def make(quiet_rows):
    devices = Devices.fit(quiet_rows, [NAMES[i % 2] for i in range(len(quiet_rows))])
    place = np.arange(len(quiet_rows)) % 2
    mean = recent_mean(
        Sum().judge(devices.centred(quiet_rows, place)).score, place, np.arange(len(quiet_rows)) // 2
    )
    quiet = Calibration.fit(mean)

    def build(per_hour: float = 1.0, served=None) -> Watch:
        return Watch("s1", FEATURES, 1.0, devices, served or Sum(), quiet, per_hour)

    return build


def window(i: int, values: np.ndarray, devices=NAMES) -> FeatureWindow:
    tags = np.full((3, len(TAG_COLUMNS)), np.nan, np.float32)
    tags[:, TAG_COLUMNS.index("zscore")] = [0.4, -7.0, 0.2]
    return FeatureWindow(
        i, i * 10**9, (i + 1) * 10**9, (i + 1) * 10**9, "s1", tuple(devices),
        np.asarray(values, np.float32), ("LIT101", "PIT101", "FIT101"), np.zeros(3, np.uint32), tags,
    )  # fmt: skip


def test_quiet_windows_are_allowed_and_a_wild_device_is_not(make, quiet_rows):
    watch = make()
    for i in range(20):
        found = watch.judge(window(i, quiet_rows[2 * i : 2 * i + 2]))
        assert found.screening.tolist() == [Screening.ALLOW] * 2
        assert (found.confidence < 0.5).all()
        assert not found.violations
    wild = quiet_rows[40:42].copy()
    wild[0] = [5000, 20, 40]
    found = watch.judge(window(20, wild))
    assert found.screening.tolist() == [Screening.SUSPICIOUS, Screening.ALLOW]
    assert found.confidence[0] > 0.5 > found.confidence[1]
    (scores,) = found.levels
    assert (scores.level, scores.detectors, scores.classes) == (Level.L1, ("ewad",), ("benign", "attack"))
    np.testing.assert_allclose(scores.probabilities.sum(axis=2), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scores.probabilities[:, 0, 1], found.confidence)


def test_its_reasons_name_feature_range_and_sensor(make, quiet_rows):
    wild = quiet_rows[:2].copy()
    wild[0] = [5000, 20, 40]
    found = make().judge(window(0, wild))
    by_feature = {v.feature: v for v in found.violations}
    assert set(by_feature) == {"network_packets_all_count", "sensor_zscore_max"}
    packets = by_feature["network_packets_all_count"]
    assert (packets.device, packets.rule, packets.category) == ("PLC1", "ewad", "")
    seen = quiet_rows[::2, 0]
    assert (packets.observed, packets.low, packets.high) == (5000.0, seen.min(), seen.max())
    assert f"is 5000, normally {seen.min():.4g} to {seen.max():.4g}" in packets.message
    assert "mostly PIT101" in by_feature["sensor_zscore_max"].message
    assert "mostly" not in packets.message


def test_online_means_are_those_of_a_recording(make):
    rng = np.random.default_rng(7)
    numbers = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]  # 4 is missing
    score = rng.normal(size=(len(numbers), 2))
    there = np.ones_like(score, bool)
    there[5, 1] = False  # the second device is absent in window 6
    row, place = np.nonzero(there)
    expected = recent_mean(score[there], place, np.array(numbers)[row])
    watch = make()
    online = [
        watch._mean(n, np.flatnonzero(on), s[on]) for n, s, on in zip(numbers, score, there, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(online), expected)
    assert (
        expected[there[row, 0].nonzero()[0][0]] == score[0, 0] / RECENT
    )  # what came before counts as normal


def test_weak_but_lasting_deviations_add_up(make, quiet_rows):
    watch = make()
    middle = np.median(quiet_rows, axis=0)
    odd = np.stack([middle * [1.7, 1.7, 2.6], middle]).astype(np.float32)
    said = [watch.judge(window(i, odd)).screening.tolist()[0] for i in range(RECENT)]
    assert said[0] == Screening.ALLOW
    assert said[-1] == Screening.SUSPICIOUS
    # over at once when the device is as it was, although four of its last windows were not
    assert watch.judge(window(RECENT, np.stack([middle, middle]))).screening.tolist()[0] == Screening.ALLOW


def test_a_stranger_has_no_score_and_hinders_nobody(make, quiet_rows):
    wild = np.stack([quiet_rows[0] * 50, quiet_rows[1]])
    found = make().judge(window(0, wild, ("rogue", "HMI1")))
    assert found.screening.tolist() == [Screening.UNKNOWN, Screening.ALLOW]
    assert np.isnan(found.levels[0].probabilities[0]).all()
    assert np.isnan(found.confidence[0])


def test_a_replica_speaks_of_its_share_and_remembers_all(make, quiet_rows):
    watch, whole = make(), make()
    odd = (quiet_rows[:2] * 1.3).astype(np.float32)
    for i in range(3):
        part, full = watch.judge(window(i, odd), [1]), whole.judge(window(i, odd))
        assert (part.devices, part.partial) == (("HMI1",), True)
    both = watch.judge(window(3, odd))
    np.testing.assert_array_equal(both.confidence, whole.judge(window(3, odd)).confidence)
    assert not full.partial


def test_a_recording_at_once_is_judged_as_window_by_window(make, quiet_rows):
    values = quiet_rows[:60].reshape(20, 3, 3).copy()  # two devices that are known, and a stranger
    values[8:12, 0] *= 30
    names = (*NAMES, "rogue")
    p, odd = make().replay(values, names)
    watch = make()
    found = [watch.judge(window(i, rows, names)) for i, rows in enumerate(values)]
    assert odd.tolist() == [(v.screening == Screening.SUSPICIOUS).tolist() for v in found]
    assert odd[8:12, 0].all()
    assert np.isnan(p[:, 2]).all()
    np.testing.assert_allclose(
        attack_probability(p, watch.alpha), [v.confidence for v in found], rtol=1e-5, atol=1e-7
    )


def test_the_budget_of_false_alarms_sets_the_threshold(make):
    strict, loose = make(0.5), make(50.0)
    assert loose.alpha == pytest.approx(100 * strict.alpha)
    assert strict.alpha == pytest.approx(0.5 / 3600 / 2)
    never = make(0.0)
    found = never.judge(window(0, np.full((2, 3), 1e6)))
    assert found.screening.tolist() == [Screening.ALLOW] * 2


def test_windows_of_another_schema_are_refused(make, quiet_rows):
    with pytest.raises(ValueError, match="schema s1"):
        make().judge(replace(window(0, quiet_rows[:2]), schema_id="s2"))


def test_a_score_that_is_no_number_abstains(make, quiet_rows):
    class Broken(Sum):
        def judge(self, x):
            said = super().judge(x)
            return said._replace(score=np.array([np.nan, said.score[1]]))

    watch = make(served=Broken())
    found = watch.judge(window(0, quiet_rows[:2]))
    assert found.screening.tolist() == [Screening.UNKNOWN, Screening.ALLOW]


def test_probability_is_a_half_at_the_threshold_and_falls_with_the_p_value():
    p = np.array([1.0, 0.3, 1e-2, 1e-4, 1e-5, 1e-9])
    found = attack_probability(p, 1e-4)
    assert found[3] == pytest.approx(0.5)
    assert (np.diff(found[1:]) > 0).all()
    assert found[0] < 0.01
    # -e p ln p at p = 0.05 is 0.407: the bound that Sellke, Bayarri and Berger print in their table 1
    assert attack_probability(np.array([1.0]), 0.05)[0] == pytest.approx(0.407 / 1.407, abs=1e-3)


def test_a_device_without_a_single_number_has_no_score(make, quiet_rows):
    rows = quiet_rows[:2].copy()
    rows[1] = np.nan
    watch = make()
    assert watch.judge(window(0, rows)).screening.tolist() == [Screening.ALLOW, Screening.UNKNOWN]
    p, odd = watch.replay(rows[None], NAMES)
    assert np.isnan(p).tolist() == [[False, True]]
    assert not odd.any()


def test_a_window_told_twice_costs_no_history(make, quiet_rows):
    once, twice = make(), make()
    for i in range(6):
        wild = quiet_rows[2 * i : 2 * i + 2] * (3 if i > 2 else 1)
        told = once.judge(window(i, wild)).confidence
        twice.judge(window(i, wild))
        np.testing.assert_array_equal(twice.judge(window(i, wild)).confidence, told)


def test_a_budget_of_nothing_never_objects(make, quiet_rows):
    watch = make(0.0)
    for i in range(6):
        assert watch.judge(window(i, quiet_rows[:2] * 1e6)).screening.tolist() == [Screening.ALLOW] * 2
