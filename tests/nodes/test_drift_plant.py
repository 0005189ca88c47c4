"""Drift in the simulated plant: what a part has seen, what a changed session is, figures by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("river")

from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.drift.adaptive import Adapted, CellStream, Raised
from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.schema import default_schema
from cellwatch.nodes import drift_plant, drift_plant_picture
from cellwatch.nodes.drift_changes import CHANGES, attacked, changed, fresh
from cellwatch.nodes.drift_plant import (
    Learning,
    Part,
    Rows,
    Voting,
    alarms,
    figures,
    joined,
    rows_of,
    stream_of,
)
from cellwatch.nodes.simulated import RECIPES, classes_of, commission, fresh_plans
from cellwatch.plc_sim.faults import FAULTS

DEVICES = tuple("abcdefgh")


def session(seed=0, w=40):
    """Attacks of classes 1 to 3 at random; the only feature is the class, and a little noise."""
    random = np.random.default_rng(seed)
    y = np.where(random.random((w, 8)) < 0.3, random.integers(1, 4, (w, 8)), 0).astype(np.int16)
    values = (y + 0.1 * random.normal(size=y.shape))[..., None].astype(np.float32)
    clear = random.random(y.shape) < 0.9
    start = np.arange(w) * 10**9
    return SessionWindows("s", "test", seed, DEVICES, start, values, y, clear, y - 1, np.zeros(3, np.float32))


def test_a_larger_share_holds_a_smaller_one():
    parts = [Part.drawn(share, DEVICES, 41, seed=3) for share in (0.01, 0.1, 0.5, 1.0)]
    assert [(len(p.devices), len(p.classes)) for p in parts] == [(1, 2), (1, 5), (4, 21), (8, 41)]
    for small, large in pairwise(parts):
        assert small.devices <= large.devices
        assert small.classes <= large.classes
    assert all(0 in p.classes for p in parts)
    assert Part.drawn(0.5, DEVICES, 41, seed=4) != parts[2]


def test_what_a_part_has_not_seen_is_not_there():
    one, part = session(), Part(frozenset("ab"), frozenset([0, 2]))
    stream = stream_of([one, one], part)
    assert stream.x.shape == (80, 8, 1)
    seen = np.isin(one.y, (0, 2)) & np.isin(np.arange(8), (0, 1))
    np.testing.assert_array_equal(np.isfinite(stream.x[:40, :, 0]), seen)
    np.testing.assert_array_equal(stream.labelled[40:], seen & one.clear)
    rows = rows_of([one], part)
    assert len(rows.x) == (seen & one.clear).sum()
    assert rows.attack.sum() == (seen & one.clear & (one.y == 2)).sum()
    assert len(joined(stream, stream_of([one])).x) == 120
    assert stream_of([one]).labelled.sum() == one.clear.sum()


def test_rows_are_drawn_as_they_are(monkeypatch):
    monkeypatch.setattr(drift_plant, "ROWS", 100)
    rows = rows_of([session()])
    drawn = rows.drawn(0)
    assert (len(drawn.x), len(drawn.attack)) == (100, 100)
    assert drawn.attack.mean() == pytest.approx(rows.attack.mean(), abs=0.15)
    np.testing.assert_array_equal(drawn.x, rows.drawn(0).x)
    few = Rows(rows.x[:100], rows.attack[:100])
    assert few.drawn(0) is few


def test_three_voters_and_nobody_for_a_device_that_is_not_there():
    one = session(w=100)
    votes = Voting(rows_of([one])).votes(np.where(np.arange(8)[:, None] == 3, np.nan, one.values))
    assert votes.shape == (100, 8, 3)
    assert np.isnan(votes[:, 3]).all()
    seen = np.arange(8) != 3
    assert ((votes[:, seen].mean(axis=2) > 0.5) == (one.y[:, seen] > 0)).mean() > 0.95


def test_what_was_learnt_stays_learnt():
    """The first model knows class 1 only; two stretches bring class 2, then class 3."""
    one = session(w=200)
    known = rows_of([one], Part(frozenset(DEVICES), frozenset([0, 1])))
    low = replace(one, y=np.where(one.y == 3, 0, one.y), clear=one.clear & (one.y != 3))
    high = replace(one, clear=one.clear & (one.y != 2))
    stream = joined(stream_of([low]), stream_of([high]))
    learn = Learning(known, stream)
    learn(0, 200)
    model = learn(200, 400)
    p = model.votes(one.values).mean(axis=2)
    for kind in (1, 2, 3):
        assert (p[one.y == kind] > 0.5).mean() > 0.95, kind
    alone = Learning(known, stream)(200, 400)
    assert (alone.votes(one.values).mean(axis=2)[one.y == 0] < 0.5).mean() > 0.95


def test_a_stretch_that_grows_takes_the_place_of_the_shorter_one():
    one = session(w=30)
    stream = stream_of([one])
    learn, at_once = Learning(rows_of([one]), stream), Learning(rows_of([one]), stream)
    for last in (10, 20, 30):
        grown = learn(5, last)
    np.testing.assert_array_equal(grown.votes(one.values), at_once(5, 30).votes(one.values))


def test_figures_by_hand():
    attack = np.array([[True, True, False], [False, False, True]])
    labelled = np.array([[True, True, True], [True, False, True]])
    stream = CellStream(np.zeros((2, 3, 1), np.float32), attack, labelled)
    p = np.array([[0.9, 0.1, 0.7], [0.2, 0.9, 0.5]], np.float32)  # tp fn fp, tn - tp
    found = figures(stream, p, 0, 2)
    assert found["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["mcc"] == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))
    assert (found["false_alarms"], found["misses"]) == (pytest.approx(1 / 2), pytest.approx(1 / 3))
    assert figures(stream, p, 1, 2)["f1"] == 1.0


def test_alarms_are_counted_from_the_beginning_of_what_is_new():
    raised = [Raised(10, 5, "A", ("loss",), 20), Raised(50, 44, None, ())]
    told = alarms(Adapted(np.zeros((90, 1), np.float32), raised), 45)
    assert [(a["window"], a["since"], a["served"]) for a in told] == [(-35, -40, -25), (5, -1, None)]


@pytest.fixture(scope="module")
def world():
    """Two sessions of a minute and a half, and a baseline."""
    recipe = replace(RECIPES["bench"], session_s=90.0, commission_s=300.0)
    plans = [
        replace(
            plan, seconds=90.0, scenario=replace(plan.scenario, duration_s=90.0, incidents=(), activities=())
        )
        for plan in fresh_plans(RECIPES["bench"], 9)[:2]
    ]
    return plans, TagBaseline.from_dict(commission(recipe))


def test_a_summer_is_benign_and_shows(world):
    before = classes_of("bench")
    cool, hot = changed("summer", (0.0, 1.0), *world)
    assert classes_of("bench") == before  # the plant has forgotten it
    assert set(FAULTS).isdisjoint(CHANGES)
    column = default_schema().names.index("sensor_zscore_avg")
    assert not cool.y.any()
    assert not hot.y.any()
    assert hot.clear.all()
    assert (hot.incident == -1).all()
    plc = cool.devices.index("PLC1")
    assert np.nanmedian(hot.values[:, plc, column]) > 2 * np.nanmedian(cool.values[:, plc, column])


def test_an_old_meter_reads_too_low_and_attacks_keep_their_label(world):
    plans, baseline = world
    (scanned,) = attacked(["recon/port-scan", "recon/os-scan"], 20.0, plans[:1], baseline)
    names = classes_of("bench")
    assert {names[i] for i in np.unique(scanned.y)} == {"benign", "recon/port-scan", "recon/os-scan"}
    (old,) = changed("old_meter", (1.0,), plans[:1], baseline)
    (new,) = changed("old_meter", (0.0,), plans[:1], baseline)
    column = default_schema().names.index("sensor_residual_max")
    plc = old.devices.index("PLC1")
    assert np.nanmedian(old.values[:, plc, column]) > 2 * np.nanmedian(new.values[:, plc, column])


def test_fresh_sessions_are_of_no_seed_that_was_trained_on(tmp_path, world):
    (tmp_path / "baseline.json").write_text(json.dumps(world[1].to_dict()))
    plans, baseline = fresh(tmp_path)
    assert {plan.training for plan in plans} == {False}
    assert baseline.tags == world[1].tags


def test_the_picture(tmp_path):
    one = {"f1": 0.5, "mcc": 0.4}
    both = {"whole": one, "late": one}
    shares = {"full": both, "shares": [{"share": s, "static": both, "adaptive": both} for s in (0.1, 1.0)]}
    alarm = {"window": 60, "scenario": "A"}
    case = {
        "onset": 600,
        "alarms": [alarm],
        "errors": {"static": [0.1] * 4, "adaptive": [0.1, 0.1, 0.3, 0.1]},
    }
    path = tmp_path / "p.svg"
    drift_plant_picture.draw(shares, {"window_s": 1.0, "cases": {"season": case, "ageing": case}}, path)
    for words in ("trained on everything", "adaptive", "season"):
        assert f"<!-- {words} -->" in path.read_text()
