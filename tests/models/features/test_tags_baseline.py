"""Tag statistics against a plain reference, and what the baseline promises."""

from __future__ import annotations

import json
from statistics import fmean, pstdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.models.features.baseline import Z_LIMIT, TagBaseline
from cellwatch.models.features.schema import Schema, SchemaMismatchError, default_schema
from cellwatch.models.features.tags import (
    AVG,
    GOOD_RATIO,
    MAX,
    MIN,
    SAMPLES,
    SLOPE,
    STALENESS,
    STD,
    TagState,
    tag_windows,
)

S = 1_000_000_000
GOOD, UNCERTAIN, BAD = 0, 0x40000000, 0x80000000


def run(samples: list[tuple[int, float, float, int]], *, first: int, windows: int, tags: int = 2):
    """samples: (tag, seconds, value, status)."""
    tag = np.array([s[0] for s in samples], dtype=np.int64)
    at = np.array([round(s[1] * S) for s in samples], dtype=np.int64)
    value = np.array([s[2] for s in samples], dtype=np.float64)
    status = np.array([s[3] for s in samples], dtype=np.uint32)
    out, _ = tag_windows(
        tag, value, status, at, first_id=first, windows=windows, window_ns=S, state=TagState.empty(tags)
    )
    return out


def test_statistics_slope_and_quality() -> None:
    ramp = [(0, 10 + i / 10, 1e6 + 3 * i / 10, GOOD) for i in range(10)]
    odd = [
        (1, 10.1, 5.0, GOOD),
        (1, 10.5, 900.0, BAD),
        (1, 10.6, float("nan"), GOOD),
        (1, 10.9, 7.0, UNCERTAIN),
    ]
    out = run(ramp + odd, first=11, windows=1)[0]
    assert out[0, SLOPE] == pytest.approx(3.0, rel=1e-9)
    assert out[0, STD] == pytest.approx(pstdev([0.3 * i for i in range(10)]), rel=1e-9)
    assert out[0, STALENESS] == pytest.approx(0.1)
    assert out[1, [AVG, MIN, MAX]].tolist() == [6.0, 5.0, 7.0]  # bad and NaN are out, uncertain is in
    assert out[1, SAMPLES] == 4
    assert out[1, GOOD_RATIO] == 0.5


def test_a_silent_tag_holds_its_last_value_and_grows_stale() -> None:
    out = run([(0, 10.2, 4.0, GOOD), (0, 10.4, 6.0, GOOD), (0, 12.5, 1.0, BAD)], first=11, windows=4)
    assert out[1, 0, [AVG, MIN, MAX, STD, SLOPE, SAMPLES, GOOD_RATIO]].tolist() == [6, 6, 6, 0, 0, 0, 1]
    assert out[:, 0, STALENESS] == pytest.approx([0.6, 1.6, 2.6, 3.6])
    assert out[2:, 0, GOOD_RATIO].tolist() == [0, 0]  # bad, and still bad
    assert out[2, 0, AVG] == 6
    assert np.isnan(out[:, 1, AVG]).all()  # never seen
    assert (out[:, 1, SAMPLES] == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 3999), st.floats(-1e3, 1e3), st.sampled_from([GOOD, BAD])
        ),
        max_size=60,
    ),
    st.integers(1, 3),
)
def test_any_samples_in_any_cut_agree_with_the_reference(
    raw: list[tuple[int, int, float, int]], cut: int
) -> None:
    samples = [(tag, 10 + at / 1000, value, status) for tag, at, value, status in raw]
    out = run(samples, first=11, windows=4, tags=3)
    # The same windows, closed in two goes.
    tag, at, value, status = (
        np.array([s[i] for s in samples], dtype=t)
        for i, t in ((0, np.int64), (1, float), (2, float), (3, np.uint32))
    )
    at = np.rint(at * S).astype(np.int64)
    a, state = tag_windows(
        tag, value, status, at, first_id=11, windows=cut, window_ns=S, state=TagState.empty(3)
    )
    b, _ = tag_windows(tag, value, status, at, first_id=11 + cut, windows=4 - cut, window_ns=S, state=state)
    np.testing.assert_array_equal(np.concatenate([a, b]), out)
    for w in range(4):
        for t in range(3):
            mine = [
                v
                for k, s, v, q in samples
                if k == t and 10 + w <= round(s * 1000) / 1000 < 11 + w and q == GOOD
            ]
            if mine:
                assert out[w, t, AVG] == pytest.approx(fmean(mine), abs=1e-9)
                assert out[w, t, STD] == pytest.approx(pstdev(mine), abs=1e-9)
                assert out[w, t, MIN] <= out[w, t, AVG] <= out[w, t, MAX]


def benign(windows: int, seed: int = 0) -> np.ndarray:
    """Three tags: a level, its twin (2 x level + noise), and a set-point that never moves."""
    rng = np.random.default_rng(seed)
    level = 50 + 5 * np.sin(np.arange(windows) / 9) + rng.normal(0, 0.3, windows)
    values = np.zeros((windows, 3, 8))
    values[:, 0, AVG], values[:, 1, AVG], values[:, 2, AVG] = (
        level,
        2 * level + rng.normal(0, 0.3, windows),
        60.0,
    )
    values[:, :2, STD] = 0.3 + rng.normal(0, 0.03, (windows, 2))
    values[..., GOOD_RATIO] = 1
    return values


NAMES, OWNER, DEVICES = ("LIT101", "LIT102", "SP101"), ("tank", "tank", "tank"), ("tank", "pump")


def fitted(windows: int = 200) -> TagBaseline:
    values = benign(windows)
    return TagBaseline.fit(
        values,
        np.zeros((windows, 2), dtype=np.int64),
        np.ones((windows, 2), dtype=bool),
        tags=NAMES,
        tag_device=OWNER,
        devices=DEVICES,
        span=np.array([100.0, 200.0, 100.0]),
    )


def score(base: TagBaseline, values: np.ndarray, mode: int = 0) -> np.ndarray:
    modes = np.full((len(values), 2), mode, dtype=np.int64)
    return base.score(values, modes, np.ones_like(modes, dtype=bool), devices=DEVICES)


def test_benign_windows_stay_low_and_faults_stand_out() -> None:
    base = fitted()
    fresh = score(base, benign(300, seed=1))
    assert np.abs(fresh).max() < 8
    drift = benign(50, seed=2)
    drift[:, 1, AVG] += 6.0  # inside the tag's normal range: only the other tag betrays it
    z = score(base, drift)
    assert np.abs(z[:, 1, 0]).max() < 5
    assert np.median(np.abs(z[:, 1, 1])) > 5
    frozen = benign(10, seed=3)
    frozen[:, 0, STD] = 0
    assert (score(base, frozen)[:, 0, 2] < -3).all()


def test_a_constant_set_point_gives_finite_scores() -> None:
    values = benign(20, seed=4)
    base = fitted()
    assert np.abs(score(base, values)[:, 2]).max() == 0
    values[:, 2, AVG] = 60.05
    assert 0 < score(base, values)[0, 2, 0] < 2  # half a thousandth of the range
    values[:, 2, AVG] = 99
    assert score(base, values)[0, 2, 0] == Z_LIMIT


def test_an_unknown_mode_is_nan() -> None:
    base = fitted()
    assert np.isnan(score(base, benign(5), mode=3)).all()
    known = base.known(DEVICES, np.array([[0, 0], [3, 0]]))
    assert known.tolist() == [[True, False], [False, False]]  # the pump has no tags, so no baseline


def test_too_few_windows_give_no_baseline() -> None:
    assert fitted(5).modes == {}


def test_json_round_trip_and_alignment() -> None:
    base = fitted()
    again = TagBaseline.from_dict(json.loads(json.dumps(base.to_dict(), allow_nan=False)))
    values = benign(20, seed=5)
    np.testing.assert_array_equal(score(again, values), score(base, values))
    moved = base.aligned(("SP101", "NEW", "LIT101", "LIT102"), ("tank",) * 4)
    wider = np.full((20, 4, 8), 1.0)
    wider[:, [0, 2, 3]] = values[:, [2, 0, 1]]
    z = score(moved, wider)
    assert np.isnan(z[:, 1]).all()
    np.testing.assert_allclose(z[:, [2, 3, 0]], score(base, values), rtol=1e-12)
    with pytest.raises(ValueError, match="not a tag baseline"):
        TagBaseline.from_dict({"tags": []})
    broken = base.to_dict()
    broken["modes"][0]["scale"] = [[1.0]]
    with pytest.raises(ValueError, match="does not fit"):
        TagBaseline.from_dict(broken)


def test_schema_id_follows_names_and_units_and_mismatch_names_both() -> None:
    schema = default_schema()
    assert schema == default_schema()
    assert len(schema.schema_id) == 16
    other = Schema(schema.names, ("1",) * len(schema.names))
    assert other.schema_id != schema.schema_id
    with pytest.raises(SchemaMismatchError, match=f"{other.schema_id}.*{schema.schema_id}"):
        schema.require(other.schema_id, "model m1")
    assert schema.select(("network_ttl_avg",)).names == ("network_ttl_avg",)
    with pytest.raises(ValueError, match="no column 'x'"):
        schema.select(("x",))
    with pytest.raises(ValueError, match="twice"):
        Schema(("a", "a"), ("1", "1"))
