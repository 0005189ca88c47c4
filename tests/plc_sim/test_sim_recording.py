"""Offline runs: determinism, labels against data, faults that show and go."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from cellwatch.plc_sim.cell import SCAN_NS, Cell
from cellwatch.plc_sim.faults import FAULTS
from cellwatch.plc_sim.incidents import OPEN_END_NS
from cellwatch.plc_sim.recording import simulate
from cellwatch.plc_sim.scenario import Scenario, Slot, load
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import index_of, tags_of
from cellwatch.plc_sim.units import heated_tank

TAGS, INDEX = tags_of(SITES["bench"]), index_of(SITES["bench"])
ANALOG = [
    INDEX[t]
    for t in ("LIT101", "TIT101", "FIT101", "FIT102", "PIT101", "IIT101", "EIT101", "LIC101_CV", "TIC101_CV")
]


def test_same_seed_same_bytes():
    a, b, c = (simulate("demo", seed, 25.0) for seed in (5, 5, 6))
    assert a.values.tobytes() == b.values.tobytes()
    assert a.frames.data.tobytes() == b.frames.data.tobytes()
    assert a.frames.time_ns.tobytes() == b.frames.time_ns.tobytes()
    assert a.incidents == b.incidents
    assert a.values.tobytes() != c.values.tobytes()
    assert a.frames.data.tobytes() != c.frames.data.tobytes()


def test_shapes_and_clock():
    start = 1_800_000_000_000_000_000
    r = simulate("quiet", 1, 5.0, start)
    assert r.values.shape == r.status.shape == (50, len(TAGS))
    assert np.all(np.diff(r.time_ns) == 100_000_000)
    assert r.time_ns[-1] == start + 5_000_000_000
    assert np.all(np.diff(r.frames.time_ns) >= 0)
    assert start <= r.frames.time_ns[0] < r.frames.time_ns[-1] <= r.time_ns[-1]
    assert len(r.frames.offset) == len(r.frames) + 1
    assert r.incidents == ()


@pytest.fixture(scope="module")
def quiet():
    return [simulate("quiet", seed, 90.0, network=False).values for seed in range(10)]


def test_benign_run_moves_but_is_stationary(quiet):
    values = np.array(quiet)[:, :, ANALOG]
    assert np.all(np.diff(values, axis=1) != 0.0, axis=1).mean() > 0.99  # noise changes every scan
    first, last = values[:, :300].mean((0, 1)), values[:, -300:].mean((0, 1))
    assert np.all(np.abs(first - last) < 0.5 * values.std((0, 1)))
    flow = values[:, :, 3].reshape(10, 18, 50).mean(2)  # 5 s means of the demand
    assert flow.std() > 2 * heated_tank.NOISE.outflow


def fault_run(name, size, seed, onset=15.0, duration=9.0, total=60.0):
    plan = Scenario(
        "one", onset_s=(onset, onset), incidents=(Slot("fault", (name,), (duration,) * 2, (size,) * 2),)
    )
    return simulate(plan, seed, total, network=False)


SIGMA = {
    "FIT101": heated_tank.NOISE.inflow,
    "LIT101": heated_tank.NOISE.level,
    "EIT101": heated_tank.NOISE.power,
}


@pytest.mark.parametrize("size", [0.0, 1.0])
@pytest.mark.parametrize("name", ["heater_element_open", "level_sensor_drift", "pump_wear"])
def test_fault_shows_within_4_s_and_is_over_when_its_label_ends(quiet, name, size):
    low, high = np.array(quiet).min((0, 1)), np.array(quiet).max((0, 1))
    spread = np.array(quiet).std((0, 1))
    tag = INDEX[FAULTS[name].tag]
    for seed in range(5):
        r = fault_run(name, size, seed)
        (label,) = r.incidents
        onset = np.searchsorted(r.time_ns, label.onset_ns)
        moved = np.abs(r.values[onset : onset + 40, tag] - r.values[onset - 50 : onset, tag].mean())
        smooth = np.convolve(moved, np.ones(5) / 5, "valid").max()
        assert smooth > 8.0 * SIGMA[FAULTS[name].tag]
        assert label.end_ns - label.onset_ns == pytest.approx((9.0 + FAULTS[name].recovery_s) * 1e9, abs=2)
        after = r.values[r.time_ns > label.end_ns][:, ANALOG]
        assert len(after) > 200
        assert np.all(after > (low - spread)[ANALOG])
        assert np.all(after < (high + spread)[ANALOG])


def test_fault_leaves_the_time_before_it_untouched():
    faulty = fault_run("pump_wear", 1.0, 3)
    clean = simulate(Scenario("none"), 3, 60.0, network=False)
    onset = int(np.searchsorted(faulty.time_ns, faulty.incidents[0].onset_ns))
    # the plan draws from a stream of its own, so only the fault tells the runs apart
    assert np.array_equal(faulty.values[:onset], clean.values[:onset])
    assert not np.array_equal(faulty.values[onset + 1], clean.values[onset + 1])


def test_attack_frames_lie_within_their_label():
    for seed in range(4):
        r = simulate("demo", seed, 60.0)
        (attack,) = [label for label in r.incidents if label.kind == "attack"]
        mac = np.frombuffer(bytes.fromhex(attack.devices[2].replace(":", "")), np.uint8)
        head = r.frames.data[r.frames.offset[:-1, None] + np.arange(14)]
        sent = (head[:, 6:12] == mac).all(1)
        assert np.all(np.diff(r.frames.time_ns) >= 0)
        times = r.frames.time_ns[sent]
        assert times.min() >= attack.onset_ns
        assert times.max() < attack.end_ns + 5_000_000  # the last answers
        assert len(times) > 100 * (attack.end_ns - attack.onset_ns) * 1e-9


def test_safe_state_keeps_a_fault_open_to_the_end():
    plan = Scenario("one", onset_s=(2.0, 2.0), incidents=(Slot("fault", ("pump_wear",), (5.0, 5.0)),))
    cell = Cell(plan, 1, 0, network=False)
    cell.start(0)
    entered = []
    for k in range(1, 100):
        if k == 40:
            cell.write("PLC1", "XS101_SAFE", 1.0)
        step = cell.scan(k * 100_000_000)
        if step.entered_safe:
            entered.append(k)
            assert step.relabelled == (0,)
    assert entered == [40]
    assert cell.labels[0].end_ns == OPEN_END_NS
    assert step.values[INDEX["XS101_MODE"]] == 2.0
    assert step.values[INDEX["FIT101"]] < 0.5
    cell.close_labels(9_900_000_000)
    assert cell.labels[0].end_ns == 9_900_000_000


@pytest.mark.parametrize("reset_s", [None, 4.0])
def test_a_reset_by_a_client_or_the_operator_ends_the_label(reset_s):
    plan = Scenario(
        "one", onset_s=(2.0, 2.0), incidents=(Slot("fault", ("pump_wear",), (5.0, 5.0)),), reset_s=reset_s
    )
    cell = Cell(plan, 1, 0, network=False)
    cell.start(0)
    (drawn,) = cell.labels
    told = {}
    for k in range(1, 200):
        if k == 60:
            cell.write("PLC1", "XS101_SAFE", 1.0)
        if k == 90:
            cell.write("PLC1", "XS101_SAFE", 0.0)
        if step := cell.scan(k * SCAN_NS).relabelled:
            told[k] = step
    assert told == {60: (0,), 90: (0,)}  # the operator would have come 4 s after scan 60
    recovery_ns = drawn.end_ns - 7_000_000_000
    assert cell.labels[0].end_ns == 90 * SCAN_NS + recovery_ns
    cell.close_labels(50_000_000_000)
    assert cell.labels[0].end_ns == 90 * SCAN_NS + recovery_ns


def test_a_reset_before_the_fault_is_over_leaves_the_label_as_drawn():
    plan = Scenario("one", onset_s=(2.0, 2.0), incidents=(Slot("fault", ("pump_wear",), (15.0, 15.0)),))
    cell = Cell(plan, 1, 0, network=False)
    cell.start(0)
    (drawn,) = cell.labels
    for k in range(1, 60):
        if k == 30:
            cell.write("PLC1", "XS101_SAFE", 1.0)
        if k == 50:
            cell.process.call("PLC1", "Reset")
        cell.scan(k * SCAN_NS)
    assert cell.labels == [drawn]


def test_safe_state_outside_a_fault_changes_no_label():
    cell = Cell(load("demo"), 1, 0, network=False)
    cell.start(0)
    labels = list(cell.labels)
    cell.write("PLC1", "XS101_SAFE", 1.0)
    step = cell.scan(1_000_000_000)
    assert step.entered_safe == ("PLC1",)
    assert step.relabelled == ()
    assert cell.labels == labels


def test_bad_duration():
    with pytest.raises(ValueError, match="duration_s"):
        simulate("quiet", 1, 0.0)


def test_faster_than_real_time():
    begin = time.process_time()
    simulate("demo", 2, 30.0)
    assert 30.0 / (time.process_time() - begin) > 50  # aim 100; half of it on a busy machine


RELAYED = """
import hashlib
from cellwatch.plc_sim import scenario
from cellwatch.plc_sim.recording import simulate
plan = scenario.parse(
    "name: relayed\\nsite: bench\\nduration_s: 11\\nincidents:\\n"
    "  - {attack: mitm/arp-spoofing, target: water-sensor, at_s: 1, duration_s: 9, size: 1}\\n"
    "  - {attack: malware/mirai-syn-flood, target: water-sensor, at_s: 2, duration_s: 7, size: 1}\\n",
    "relayed",
)
frames = simulate(plan, 3, 11.0).frames
print(len(frames), hashlib.sha256(frames.data.tobytes() + frames.time_ns.tobytes()).hexdigest())
"""


def test_the_same_bytes_in_every_process():
    """Strings hash differently in each process: the order of a set of names must not show."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RELAYED],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1")
    ]
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs)
    assert len(set(said)) == 1
