"""Hard cases: what is one, and which of them are kept."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.fusion.hard_cases import HardCases, hard_cases
from cellwatch.models.types import FeatureWindow, FusedVerdict, FusedWindow, Screening


def test_a_case_is_a_conflict_with_its_features():
    features = FeatureWindow(
        7, 0, 1, 1, "schema", ("a", "b"), np.array([[1, 2], [3, np.nan]], np.float32), (),
        np.zeros(0, np.uint32), np.zeros((0, 0), np.float32),
    )  # fmt: skip
    fused = FusedWindow(
        7, 1, 1,
        (
            FusedVerdict("b", Screening.SUSPICIOUS, 0.8, 0.5, "dos", rules_confidence=0.1, conflict=True),
            FusedVerdict("a", Screening.ALLOW, 0.1, 0.5),
            FusedVerdict("gone", Screening.SUSPICIOUS, 0.1, 0.5, conflict=True),
        ),
    )  # fmt: skip
    (case,) = hard_cases(fused, features)
    assert (case.window_id, case.device, case.schema_id, case.screening) == (
        7,
        "b",
        "schema",
        Screening.ALLOW,
    )
    assert (case.probability, case.rules_confidence, case.category) == (0.8, 0.1, "dos")
    assert case.values[0] == 3.0
    assert np.isnan(case.values[1])
    assert not np.shares_memory(case.values, features.values)


def simulate(capacity, n, seed=0):
    """Slots after `n` cases: the number of the case in each."""
    plan, slots = HardCases(capacity, seed), {}
    for number in range(n):
        slot, moved = plan.place()
        if moved is not None:
            slots[moved] = slots[slot]
        slots[slot] = number
    return slots


def test_nothing_is_lost_before_the_room_is_full():
    assert sorted(simulate(7, 7).values()) == list(range(7))


@pytest.mark.parametrize("n", [8, 50, 999])
def test_the_newest_half_is_there_and_no_slot_lies_outside(n):
    slots = simulate(8, n)
    assert set(slots) == set(range(8))
    assert set(range(n - 4, n)) <= set(slots.values())
    assert len(set(slots.values())) == 8


def test_older_cases_are_a_uniform_sample():
    kept = np.concatenate([[v for v in simulate(8, 104, seed).values() if v < 100] for seed in range(150)])
    quarter = np.bincount(kept // 25, minlength=4) / len(kept)
    assert quarter.tolist() == pytest.approx([0.25] * 4, abs=0.07)


def test_it_goes_on_after_a_restart_as_if_there_had_been_none():
    one, two = HardCases(8, 3), HardCases(8, 3)
    places = [one.place() for _ in range(200)]
    for want in places:
        assert two.place() == want
        two = HardCases(8, 3, seen=two.seen)


def test_room_for_one_is_too_little():
    with pytest.raises(ValueError, match="at least 2"):
        HardCases(1)
