"""Monitors without labels: each sees what it is for, on the device where it is."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.drift.distribution import Distribution
from cellwatch.models.drift.label_free import MONITORS, LabelFree

DEVICES, COLUMNS, MODELS = 3, 4, 5
PROFILE, BLOCK, REFERENCE = 200, 50, 10
CALM = PROFILE + 30 * BLOCK
N = CALM + 10 * BLOCK


def monitors():
    return LabelFree(DEVICES, profile=PROFILE, block=BLOCK, reference=REFERENCE, alpha=0.001)


def rows(seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(size=(N, DEVICES, COLUMNS)).astype(np.float32)
    scores = random.beta(2, 20, size=(N, DEVICES, MODELS)).astype(np.float32)
    return random, values, scores


def shifted(what):
    random, values, scores = rows()
    late = slice(CALM, None)
    if what == "features":
        values[late, 1, 2] += 2
    elif what == "missing":
        values[late, 1, 2] = np.nan
    elif what == "scores":
        scores[late, 1, 3] = random.beta(4, 20, size=N - CALM)
    elif what == "disagreement":
        scores[late, 1] = (random.random((N - CALM, MODELS)) < 0.1) * 0.9
    elif what == "calibration":
        scores[late, 1] = 0.45
    return values, scores


def test_calm_rows_are_calm():
    blocks = monitors().step(*shifted(""))
    assert len(blocks) == 40
    assert sum(len(block.over) for block in blocks) <= 2
    assert [shift.monitor for shift in blocks[0].shifts] == list(MONITORS)


@pytest.mark.parametrize(
    ("what", "monitor", "column"),
    [
        ("features", "features", 2),
        ("missing", "features", 2),
        ("scores", "scores", 3),
        ("disagreement", "disagreement", -1),
        ("calibration", "calibration", -1),
    ],
)
def test_each_sees_its_own_on_the_right_device(what, monitor, column):
    blocks = monitors().step(*shifted(what))[-10:]
    for block in blocks:
        shift = block.shifts[MONITORS.index(monitor)]
        assert shift.over
        assert (shift.device, shift.column) == (1, column)
        assert shift.value != pytest.approx(shift.limit)
        assert monitor in block.over
        assert block.device == 1


def test_features_alone_leave_the_others_calm():
    blocks = monitors().step(*shifted("features"))[-10:]
    assert {name for block in blocks for name in block.over} <= {"features"}


def test_one_by_one_is_the_same_as_all_at_once():
    values, scores = shifted("scores")
    watch = monitors()
    single = [b for i in range(N) for b in watch.step(values[i : i + 1], scores[i : i + 1])]
    assert single == monitors().step(values, scores)


def test_the_rows_are_kept_as_they_were():
    values, scores = shifted("features")
    before = monitors().step(values, scores)
    watch, after = monitors(), []
    for i in range(0, N, 7):
        part = values[i : i + 7].copy(), scores[i : i + 7].copy()
        after += watch.step(*part)
        part[0][:] = part[1][:] = 99  # the caller's own buffer
    assert after == before


def test_a_device_that_is_gone_says_nothing():
    values, scores = shifted("")
    values[CALM:, 1] = scores[CALM:, 1] = np.nan
    blocks = monitors().step(values, scores)[-10:]
    assert all(not block.over for block in blocks)
    assert all(shift.device != 1 for block in blocks for shift in block.shifts)


def test_nobody_there_at_all():
    nothing = np.full((N, DEVICES, COLUMNS), np.nan, np.float32)
    blocks = monitors().step(nothing, nothing)
    assert all(not block.over and np.isnan(block.shifts[0].value) for block in blocks)


def test_hellinger_by_hand():
    profile = np.arange(100, dtype=np.float32).reshape(100, 1, 1)
    low = np.zeros((40, 1, 1), np.float32)
    # all in the lowest of six bins, which holds a tenth of the profile but for the edge itself
    share = np.mean(profile <= np.nextafter(np.float32(9), np.float32(0)))
    assert Distribution(profile).distance(low)[0, 0] == pytest.approx(np.sqrt(1 - np.sqrt(share)))
    assert Distribution(profile).distance(profile)[0, 0] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("value", [4.0, 6.0, np.nan])
def test_a_column_that_never_moved_moves(value):
    profile = np.full((60, 1, 2), 5, np.float32)
    now = profile.copy()
    now[:, 0, 0] = value
    assert Distribution(profile).distance(now).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("wrong", [{"profile": 10}, {"block": 10}])
def test_too_short(wrong):
    with pytest.raises(ValueError, match="30 windows"):
        LabelFree(1, **({"profile": 100, "block": 50, "reference": 10, "alpha": 0.01} | wrong))
