"""Scenarios: drawing, validation, seeds."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.plc_sim import scenario
from cellwatch.plc_sim.recording import simulate
from cellwatch.plc_sim.scenario import Scenario, ScenarioError, Slot, draw, load, parse


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
ATTACK = "name: x\nsite: factory\nincidents:\n  - attack: ics/plc-stop\n    duration_s: 5\n"
LONG = GOOD.replace("onset_s: [1, 60]", "duration_s: 700\nonset_s: [1, 600]")


def test_single_values_stand_for_ranges():
    slot = parse(GOOD, "x.yaml").incidents[0]
    assert slot.choices == ("pump_wear",)
    assert slot.duration_s == (5.0, 5.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nme: x\n", "x.yaml, line 1: unknown key 'nme'; allowed: name, about, site, duration_s"),
        ("name: x\nname: y\n", "line 2: key 'name' stands twice"),
        ("about: x\n", "`name` is missing"),
        ("", "empty"),
        ("[1, 2", "line 1: not YAML"),
        ("- a\n", "expected keys and values"),
        (GOOD.replace("pump_wear", "pump_war"), "line 4: unknown fault 'pump_war'; allowed: pump_wear,"),
        (
            GOOD.replace("fault: pump_wear", "attack: [dos/x]"),
            "line 4: unknown attack 'dos/x'; allowed: dos/",
        ),
        (GOOD.replace("duration_s: 5", "duration_s: long"), "line 5: expected a number"),
        (GOOD.replace("duration_s: 5", 'duration_s: "[1"'), "line 5: expected a number in 0.1..86400"),
        (GOOD.replace("duration_s: 5", 'duration_s: "@"'), "line 5: expected a number in 0.1..86400"),
        (GOOD.replace("duration_s: 5", "duration_s: 2001-99-01"), "line 5: expected a number in 0.1..86400"),
        (GOOD.replace("duration_s: 5", "duration_s: [9, 5]"), "line 5: [9, 5] is upside down"),
        (GOOD + "    size: 2\n", "line 6: expected a number in 0..1"),
        (
            GOOD + "    speed: 2\n",
            "line 6: unknown key 'speed'; allowed: fault, attack, duration_s, size, at_s",
        ),
        (GOOD + "    attack: dos/syn-flood\n", "exactly one of"),
        (GOOD + "order: random\n", "order is 'random'; allowed: shuffled, as_written"),
        (GOOD.replace("    duration_s: 5\n", ""), "duration_s: [least, most]` is missing"),
        (
            GOOD.replace("[1, 60]", "[10, 20]") + "  - attack: dos/syn-flood\n    duration_s: 8\n",
            "line 2: impossible schedule",
        ),
        (GOOD + "site: bank\n", "line 6: site is 'bank'; allowed: bench, factory"),
        (GOOD + "seed: -1\n", "line 6: expected a whole number in 0..2147483647"),
        (GOOD + "seed: 2147483648\n", "line 6: expected a whole number in 0..2147483647"),
        (GOOD + "intensity: [0, 2]\n", "line 6: expected a number in 0..1"),
        (GOOD + "    repeat: 0\n", "line 6: expected a whole number in 1..10000 or `each`"),
        (GOOD + "    repeat: often\n", "line 6: expected a whole number in 1..10000 or `each`"),
        (GOOD + "    at_s: 3\n    repeat: 2\n", "line 7: impossible schedule: all of them at one time"),
        (GOOD + "    target: PLC1\n", "line 6: a fault has no `target`"),
        (
            GOOD.replace("pump_wear", "bearing_damage"),
            "line 4: unknown fault 'bearing_damage'; allowed: pump_wear,",
        ),
        (
            GOOD + "attackers: [attacker9]\n",
            "line 6: unknown attacker 'attacker9'; allowed: attacker0, attacker1",
        ),
        (GOOD + "targets: PLC7\n", "line 6: unknown target 'PLC7'; allowed: PLC1, HMI1"),
        (GOOD + "activities:\n  - {activity: nap, at_s: 3}\n", "line 7: activity is 'nap'; allowed: "),
        (GOOD + "activities:\n  - {activity: backup}\n", "line 7: `at_s` is missing"),
        (
            GOOD + "chaos:\n  - {step: strike, at_s: 3, duration_s: 1}\n",
            "line 7: step is 'strike'; allowed: server_restart,",
        ),
        (
            GOOD + "chaos:\n  - {step: clock_jump, plc: PLC2, at_s: 3, duration_s: 1}\n",
            "line 7: plc is 'PLC2'; allowed: PLC1",
        ),
        (GOOD + "chaos:\n  - {step: clock_jump, at_s: 3}\n", "line 7: `duration_s` is missing"),
        (GOOD + "duration_s: 62\n", "line 4: impossible schedule: it may last until 65 s, duration_s is 62"),
        (
            GOOD.replace("duration_s: 5", "duration_s: 31"),
            "line 4: impossible schedule: it may last until 91 s, duration_s is 90 by default",
        ),
        (
            GOOD + "chaos:\n  - {step: clock_jump, at_s: [80, 95], duration_s: 1}\n",
            "line 7: impossible schedule: clock_jump may begin at 95 s, duration_s is 90 by default",
        ),
        (
            GOOD
            + "chaos:\n  - {step: node_ids_changed, at_s: 20, duration_s: 5}\n"
            + "  - {step: server_restart, at_s: [10, 15], duration_s: 5}\n",
            "line 8: impossible schedule: server_restart may overlap node_ids_changed on PLC1",
        ),
        (
            GOOD + "duration_s: 65\nactivities:\n  - {activity: backup, at_s: 66}\n",
            "impossible schedule: backup may begin at 66 s, duration_s is 65",
        ),
        (
            ATTACK + "    target: yi-camera\n",
            "line 6: unknown target 'yi-camera'; allowed: ",
        ),
        (ATTACK + "targets: [ap]\n", "line 4: ics/plc-stop cannot hit ap; allowed: PLC"),
        (ATTACK.replace("ics/plc-stop", "ics/*") + "    size: [1, 0]\n", "line 6: [1, 0] is upside down"),
    ],
)
def test_mistakes_are_named(text, expected):
    with pytest.raises(ScenarioError) as error:
        parse(text, "x.yaml")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_chaos_may_overlap_on_two_plcs_and_follow_on_one():
    steps = "  - {step: clock_jump, plc: %s, at_s: %s, duration_s: 5}\n"
    text = ATTACK + "chaos:\n" + steps % ("PLC1", 20) + steps % ("PLC2", 20) + steps % ("PLC1", "[26, 30]")
    assert [each.plc for each in parse(text, "x.yaml").chaos] == ["PLC1", "PLC2", "PLC1"]


def test_a_window_may_be_full_to_the_last_digit():
    """0.3 s and twice 0.1 s: what is left over comes out below zero."""
    slots = tuple(Slot("attack", ("dos/syn-flood",), (t, t)) for t in (0.1, 0.2, 5.0))
    plan = Scenario("x", onset_s=(0.0, 0.3), gap_s=0.0, order="as_written", incidents=slots)
    assert 0.3 - (0.1 + 0.2) < 0.0
    first, second, third = draw(plan, np.random.default_rng(1))
    assert (first.onset_s, second.onset_s, third.onset_s) == pytest.approx((0.0, 0.1, 0.3))


def test_each_and_repeat_make_incidents():
    text = LONG.replace("pump_wear", '"level_*"')
    known = parse(text, "x.yaml").incidents
    assert len(known) == 1
    assert set(known[0].choices) == {"level_sensor_drift", "level_sensor_stuck"}
    each = parse(text + "    repeat: each\n", "x.yaml").incidents
    assert [slot.choices for slot in each] == [(name,) for name in known[0].choices]
    assert len(parse(text + "    repeat: 7\n", "x.yaml").incidents) == 7


def test_time_target_attacker_size_as_written():
    plan = parse(
        """
name: x
site: factory
intensity: 0.25
attackers: attacker2
incidents:
  - {attack: dos/syn-flood, target: [PLC2, PLC3], duration_s: 5, at_s: [30, 31]}
  - {attack: dos/syn-flood, target: PLC4, attackers: [attacker1], duration_s: 5, at_s: 30, size: 1}
""",
        "x.yaml",
    )
    for seed in range(20):
        first, second = sorted(draw(plan, np.random.default_rng(seed)), key=lambda p: p.target)
        assert 30.0 <= first.onset_s <= 31.0
        assert second.onset_s == 30.0
        assert first.target in {"PLC2", "PLC3"}
        assert (first.attackers, first.size) == (("attacker2",), 0.25)
        assert (second.target, second.attackers, second.size) == ("PLC4", ("attacker1",), 1.0)


def test_a_botnet_is_not_one_attacker():
    plan = parse(ATTACK.replace("ics/plc-stop", "ddos/udp-flood") + "attackers: attacker0\n", "x.yaml")
    (herd,) = draw(plan, np.random.default_rng(1))
    assert len(herd.attackers) > 1


def test_twins_have_names_of_their_own():
    plan = parse(LONG + "    repeat: 3\n", "x.yaml")
    named = [p.name for p in draw(plan, np.random.default_rng(1))]
    assert named == ["pump_wear of PLC1", "pump_wear of PLC1 (2)", "pump_wear of PLC1 (3)"]


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
