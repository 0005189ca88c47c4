"""Scenarios: drawing, validation, seeds."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.plc_sim import scenario
from cellwatch.plc_sim.recording import simulate
from cellwatch.plc_sim.scenario import ScenarioError, draw, load, parse


def test_demo_keeps_its_promises_for_many_seeds():
    demo = load("demo")
    orders, types = set(), set()
    for seed in range(400):
        one, two = draw(demo, np.random.default_rng(seed))
        orders.add(one.kind)
        types |= {one.type, two.type}
        assert {one.kind, two.kind} == {"fault", "attack"}
        assert 12.0 <= one.onset_s < two.onset_s <= 40.0
        assert two.onset_s - one.end_s >= 5.0 - 1e-9
        for planned in (one, two):
            if planned.kind == "attack":
                assert 8.0 <= planned.end_s - planned.onset_s <= 15.0
                assert planned.end_s == planned.removal_s
            else:
                assert planned.end_s > planned.removal_s
    assert orders == {"fault", "attack"}
    assert types == {
        "pump_wear", "level_sensor_drift", "heater_element_open", "dos/syn-flood", "recon/port-scan"
    }  # fmt: skip


def test_label_speaks_datasense():
    for seed in range(20):
        for planned in draw(load("demo"), np.random.default_rng(seed)):
            label = planned.label(1_000)
            assert label.device == "PLC1"
            assert label.end_ns > label.onset_ns > 1_000
            if label.kind == "attack":
                pairs = {("dos", "syn-flood"): "T0814", ("recon", "port-scan"): "T0846"}
                assert pairs[label.category, label.type] == label.attack_id
                assert "PLC1" in label.devices
                assert any(":" in name for name in label.devices)
            else:
                assert label.category == "fault"
                assert label.attack_id is None


GOOD = "name: x\nonset_s: [1, 60]\nincidents:\n  - fault: pump_wear\n    duration_s: 5\n"


def test_single_values_stand_for_ranges():
    slot = parse(GOOD, "x.yaml").incidents[0]
    assert slot.choices == ("pump_wear",)
    assert slot.duration_s == (5.0, 5.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nme: x\n", "x.yaml, line 1: unknown key 'nme'; allowed: name, about"),
        ("name: x\nname: y\n", "line 2: key 'name' stands twice"),
        ("about: x\n", "`name` is missing"),
        ("", "empty"),
        ("[1, 2", "line 1: not YAML"),
        ("- a\n", "expected keys and values"),
        (GOOD.replace("pump_wear", "pump_war"), "line 4: unknown fault 'pump_war'; allowed: pump_wear,"),
        (
            GOOD.replace("fault: pump_wear", "attack: [dos/x]"),
            "line 4: unknown attack 'dos/x'; allowed: dos/syn-flood",
        ),
        (GOOD.replace("duration_s: 5", "duration_s: long"), "line 5: expected a number"),
        (GOOD.replace("duration_s: 5", "duration_s: [9, 5]"), "line 5: [9, 5] is upside down"),
        (GOOD + "    size: 2\n", "line 6: expected a number in 0..1"),
        (GOOD + "    speed: 2\n", "line 6: unknown key 'speed'; allowed: fault, attack, duration_s, size"),
        (GOOD + "    attack: dos/syn-flood\n", "exactly one of"),
        (GOOD + "order: random\n", "order is 'random'; allowed: shuffled, as_written"),
        (GOOD.replace("    duration_s: 5\n", ""), "duration_s: [least, most]` is missing"),
        (
            GOOD.replace("[1, 60]", "[10, 20]") + "  - attack: dos/syn-flood\n    duration_s: 8\n",
            "line 2: impossible schedule",
        ),
    ],
)
def test_mistakes_are_named(text, expected):
    with pytest.raises(ScenarioError) as error:
        parse(text, "x.yaml")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(ScenarioError, match=r"no scenario 'x'; known: .*demo.*quiet"):
        load("x")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / "missing.yaml")


@pytest.mark.parametrize("path", sorted(scenario.scenario_dir().glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_scenarios_load(path):
    assert load(path).name == path.stem
    assert load(path.stem) == load(path)


def test_run_and_training_seeds_never_meet():
    kwargs = {"duration_s": 0.2, "network": False}
    assert simulate("quiet", 2**31, training=True, **kwargs).seed == 2**31
    for bad in (2**31, -1, 2**40):
        with pytest.raises(ValueError, match="cannot be run"):
            simulate("quiet", bad, **kwargs)
    for bad in (0, 2**31 - 1, 2**32):
        with pytest.raises(ValueError, match="not a training seed"):
            simulate("quiet", bad, training=True, **kwargs)
    with pytest.raises(ValueError, match="not an integer"):
        simulate("quiet", 1.5, **kwargs)
