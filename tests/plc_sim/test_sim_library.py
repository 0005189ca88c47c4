"""The scenarios that come with the project: each runs, labels are right, same seed, same bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cellwatch.plc_sim import scenario
from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.faults import FAULTS
from cellwatch.plc_sim.network.hosts import ATTACKERS
from cellwatch.plc_sim.recording import Playback, simulate
from cellwatch.plc_sim.schedule import draw
from cellwatch.plc_sim.sites import SITES

FACTORY = [name for name in scenario.names() if scenario.load(name).site == "factory"]


def test_there_are_ten_and_more():
    assert len(FACTORY) >= 10
    assert {"quiet-shift", "bad-day", "all-attacks", "all-faults"} <= set(FACTORY)


@pytest.mark.parametrize("name", FACTORY)
def test_plan_keeps_to_its_length_and_names_real_things(name):
    plan = scenario.load(name)
    hosts = {*SITES[plan.site].hosts, *ATTACKERS.values()}
    for seed in range(20):
        planned = draw(plan, np.random.default_rng(seed))
        assert [p.onset_s for p in planned] == sorted(p.onset_s for p in planned)
        assert len({p.name for p in planned}) == len(planned)
        for each in planned:
            assert 0.0 < each.onset_s < each.removal_s <= plan.duration_s
            assert each.end_s >= each.removal_s
            assert each.target in hosts
            assert set(each.attackers) <= hosts
            if each.kind == "attack":
                assert each.target in ATTACKS[each.type].targets["factory"]


def test_all_means_all():
    attacks = {p.type for p in draw(scenario.load("all-attacks"), np.random.default_rng(1))}
    faults = {p.type for p in draw(scenario.load("all-faults"), np.random.default_rng(1))}
    assert attacks == set(ATTACKS)
    assert faults == {name for name, fault in FAULTS.items() if "factory" in fault.sites}


@pytest.mark.parametrize("name", FACTORY)
def test_short_stretch_of_each(name):
    """Six seconds around the first thing that happens; the whole plan is moved there."""
    plan = scenario.load(name)
    run = Playback(plan, 3, 6.0)
    start = min((p.onset_s for p in run.cell.planned), default=1.0) - 1.0
    run.start_ns -= round(start * 1e9)
    run.cell.start(run.start_ns)
    zero = run.cell.time_ns
    packets = 0
    for k in range(1, 61):
        step = run.cell.scan(zero + k * 100_000_000)
        packets += len(step.frames)
        assert len(step.values) == len(step.status) == len(run.cell.tags)
        assert np.all(np.isfinite(step.values))
        assert np.all(np.diff(step.frames.time_ns) >= 0)
    assert packets > 6 * 20
    if run.cell.planned:
        first = run.cell.labels[0]
        assert zero < first.onset_ns <= zero + 1_100_000_000


def test_labels_lie_within_the_run():
    r = simulate("bad-day", 2, 100.0)
    assert r.incidents
    assert set(r.devices.values()) >= {"PLC1", "PLC4", "MB401", "mqtt-broker", "yi-camera"}
    end = r.time_ns[-1] + 1
    for label in r.incidents:
        assert r.time_ns[0] - 100_000_000 <= label.onset_ns < label.end_ns <= end
        assert label.device in label.devices
        if label.kind == "attack":
            assert f"{label.category}/{label.type}" in ATTACKS
            assert any(":" in name for name in label.devices)


def test_same_seed_same_bytes_in_the_factory():
    def digest(seed):
        r = simulate("bad-day", seed, 60.0)
        found = hashlib.sha256()
        for part in (r.frames.data, r.frames.time_ns, r.values, r.status):
            found.update(part.tobytes())
        return found.hexdigest(), r.incidents

    assert digest(5) == digest(5)
    assert digest(5) != digest(6)


def test_operator_resets_a_plc_and_its_label_ends():
    text = """
name: trip
site: factory
duration_s: 60
reset_s: 5
incidents:
  - {fault: pump_wear, duration_s: 20, at_s: 1}
"""
    run = Playback(scenario.parse(text, "trip.yaml"), 1, 40.0, network=False)
    mode = [tag.name for tag in run.cell.tags].index("XS101_MODE")
    modes = []
    for i, step in enumerate(run):
        if i == 30:
            run.cell.write("PLC1", "XS101_SAFE", 1.0)
        modes.append(step.values[mode])
    assert modes[40] == 2.0
    assert modes[-1] == 0.0
    (label,) = run.incidents()
    assert label.end_ns == run.start_ns + round((21.0 + FAULTS["pump_wear"].recovery_s) * 1e9)
