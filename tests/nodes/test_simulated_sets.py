"""The labelled windows of the simulated sites: what is drawn, and one short session played."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.features.baseline import TagBaseline
from cellwatch.nodes import data_sources, simulated
from cellwatch.nodes.simulated import LEAD_S, RECIPES, SPLITS, Plan, classes_of, fresh_plans, generate, plans
from cellwatch.nodes.trainer import data_digest
from cellwatch.plc_sim.schedule import Scenario, Slot
from cellwatch.plc_sim.seeds import TRAINING_FIRST

SMALL = replace(
    RECIPES["bench"], session_s=90.0, incidents=(0, 0, 0), quiet=(1, 1, 1), commission_s=300.0, gap_s=4.0
)


@pytest.fixture(scope="module", params=sorted(RECIPES))
def recipe(request):
    return RECIPES[request.param]


@pytest.fixture(scope="module")
def drawn(recipe):
    return plans(recipe)


def test_every_type_has_its_incidents_in_every_split(recipe, drawn):
    for k, split in enumerate(SPLITS):
        kinds = Counter(
            f"fault/{slot.choices[0]}" if slot.kind == "fault" else slot.choices[0]
            for plan in drawn
            if plan.split == split
            for slot in plan.scenario.incidents
        )
        assert kinds == dict.fromkeys(classes_of(recipe.site)[1:], recipe.incidents[k])


def test_sizes_run_from_mild_to_severe(drawn):
    sizes = [
        slot.size[0] for plan in drawn for slot in plan.scenario.incidents if "dos/syn-flood" in slot.choices
    ]
    assert min(sizes) < 0.1
    assert max(sizes) > 0.9


def test_no_two_incidents_touch_a_device_at_one_time(recipe, drawn):
    for plan in drawn:
        until = {}
        for slot in sorted(plan.scenario.incidents, key=lambda s: s.at_s[0]):
            for device in simulated._touched(slot, recipe.site):
                assert slot.at_s[0] >= until.get(device, 0.0) + (recipe.gap_s if device in until else 0.0)
                until[device] = simulated._ends(slot)
        assert all(end <= plan.seconds for end in until.values())


def test_test_seeds_are_those_of_runs_and_no_seed_comes_twice(drawn):
    for plan in drawn:
        assert (plan.seed >= TRAINING_FIRST) == (plan.split != "test")
    assert len({plan.seed for plan in drawn}) == len(drawn)


def test_the_plan_is_the_same_every_time(recipe, drawn):
    assert plans(recipe) == drawn


@pytest.fixture(scope="module")
def baseline():
    return TagBaseline.from_dict(simulated.commission(SMALL))


def flood(at_s, duration_s):
    slot = Slot("attack", ("dos/syn-flood",), (duration_s,) * 2, (0.8, 0.8), (at_s, at_s), ("PLC1",))
    return Plan("s", "train", TRAINING_FIRST + 5, 30.0, Scenario("s", duration_s=30.0, incidents=(slot,)))


def test_a_played_session_is_labelled_where_the_attack_is(baseline):
    found = simulated.play(SMALL, flood(10.0, 8.0), baseline)
    assert found.values.shape == (len(found.start_ns), len(found.devices), 97)
    plc, other = found.devices.index("PLC1"), found.devices.index("HMI1")
    seconds = (found.start_ns - simulated.EPOCH_NS) / 1e9
    inside = (seconds > 11) & (seconds < 16)
    assert (found.y[inside, plc] == classes_of("bench").index("dos/syn-flood")).all()
    assert not found.y[(seconds < 9) | (seconds > 20), plc].any()
    assert not found.y[:, other].any()
    assert found.sizes[found.incident[inside, plc]].tolist() == pytest.approx([0.8] * inside.sum())
    packets = simulated.default_schema().names.index("network_packets_all_count")
    assert found.values[inside, plc, packets].mean() > 3 * found.values[seconds < 9, plc, packets].mean()


def test_the_same_plan_gives_the_same_windows(baseline):
    one, two = (simulated.play(SMALL, flood(10.0, 8.0), baseline) for _ in range(2))
    np.testing.assert_array_equal(one.values, two.values)


def test_a_set_is_made_once_and_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "bench", SMALL)
    monkeypatch.setattr(simulated, "ProcessPoolExecutor", Serial)
    folder = generate("bench", tmp_path / "set")
    about = json.loads((folder / "dataset.json").read_text())
    assert [s["split"] for s in about["sessions"]].count("train") == 1
    lost = folder / f"{about['sessions'][0]['name']}.npz"
    lost.unlink()
    (folder / "dataset.json").unlink()
    news = []
    generate("bench", folder, seen=lambda done, of: news.append((done, of)))
    assert news == [(2, 3), (3, 3)]
    assert json.loads((folder / "dataset.json").read_text())["sha256"] == about["sha256"]


def test_fresh_test_sessions_have_seeds_that_nothing_else_has(recipe, drawn):
    used = {plan.seed for plan in drawn}
    for n in (1, 2, simulated.MOST_TEST_SEEDS):
        fresh = fresh_plans(recipe, n)
        seeds = {plan.seed for plan in fresh}
        assert len(seeds) == len(fresh)
        assert not seeds & used
        assert max(seeds) < recipe.first_seed + 1_000_000 < TRAINING_FIRST
        assert {plan.split for plan in fresh} == {"test"}
        used |= seeds
    assert fresh_plans(recipe, 1)[0].scenario.incidents != fresh_plans(recipe, 2)[0].scenario.incidents
    with pytest.raises(ValueError, match="allowed: 1 to"):
        fresh_plans(recipe, simulated.MOST_TEST_SEEDS + 1)


def test_the_fingerprint_knows_the_code_that_makes_windows(monkeypatch):
    asked = []
    monkeypatch.setattr(simulated, "code_digest", lambda *places: asked.extend(places) or "x")
    simulated.fingerprint("bench")
    assert {"plc_sim", "models/features", "models/datasets/sessions.py", "nodes/simulated.py"} == set(asked)


def test_a_test_seed_changes_the_tests_and_nothing_that_is_learnt_from(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "bench", replace(SMALL, session_s=60.0))
    monkeypatch.setattr(simulated, "ProcessPoolExecutor", Serial)
    monkeypatch.setattr(simulated, "plans", short)
    monkeypatch.setattr(
        simulated,
        "fresh_plans",
        lambda recipe, n: [
            replace(p, name=f"f{p.name}", seed=p.seed + n) for p in short(recipe) if p.split == "test"
        ],
    )
    plain = data_sources.simulated("bench", tmp_path, lambda *_: None)
    fresh = data_sources.simulated("bench", tmp_path, lambda *_: None, 3)
    assert data_digest(plain) == data_digest(fresh)
    assert not {*plain.tests["test"].group} & {*fresh.tests["test"].group}
    assert "seed 3" in fresh.about
    assert (plain.running.y[1] == 0).sum() >= (plain.validation.y[1] == 0).sum()


def short(recipe):
    slot = Slot("attack", ("dos/syn-flood",), (8.0, 8.0), (0.8, 0.8), (10.0, 10.0), ("PLC1",))
    return [
        Plan(
            split,
            split,
            7 + k + (0 if split == "test" else TRAINING_FIRST),
            30.0,
            Scenario("s", duration_s=30.0, incidents=(slot,)),
        )
        for k, split in enumerate(SPLITS)
    ]


class Serial:
    """A pool of this process: what is monkeypatched does not reach others."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, do, *args):
        do(*args)
        return self

    def result(self):
        return None


def test_lead_is_quiet(drawn):
    assert all(slot.at_s[0] >= LEAD_S for plan in drawn for slot in plan.scenario.incidents)
