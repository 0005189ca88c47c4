"""Every fault leaves its mark where it says, mild and severe, and is gone when its label ends."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.plc_sim import scenario
from cellwatch.plc_sim.faults import FAULTS
from cellwatch.plc_sim.process import Process
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import PLC_TAGS, TAG, index_of

FACTORY = SITES["factory"]
INDEX = index_of(FACTORY)
ONSET, LENGTH = 600, 600  # scans


def run(site, seed, scans, fault="", size=0.0, length=LENGTH):
    p = Process(SITES[site], np.random.default_rng(seed), np.random.default_rng(seed + 1000))
    rows, status = [], []
    for k in range(scans):
        on = fault and ONSET <= k < ONSET + length
        scan = p.scan([FAULTS[fault].disturbance(size, 0.1 * (k - ONSET))] if on else ())
        rows.append(scan.values)
        status.append(scan.status)
    return np.array(rows), np.array(status)


@pytest.fixture(scope="module")
def quiet():
    return [run("factory", seed, 2000)[0] for seed in (100, 101, 102, 103)]


def level(tag):
    return lambda v, s: v[:, INDEX[tag]].mean()


def spread(tag):
    return lambda v, s: v[:, INDEX[tag]].std()


def between(a, b):
    return lambda v, s: (v[:, INDEX[a]] - v[:, INDEX[b]]).mean()


def apart(a, b):
    return lambda v, s: np.abs(v[:, INDEX[a]] - v[:, INDEX[b]]).mean()


MARKS = {  # what to look at for a minute, and which way it must move
    "pump_wear": (level("LIC101_CV"), +1),
    "level_sensor_drift": (lambda v, s: (v[:30, INDEX["FIT101"]] - v[:30, INDEX["FIT102"]]).mean(), -1),
    "heater_element_open": (level("TIC101_CV"), +1),
    "tank_leak": (between("FIT101", "FIT102"), +1),
    "level_sensor_stuck": (spread("LIT101"), -1),
    "flow_sensor_noise": (lambda v, s: np.diff(v[:, INDEX["FIT102"]]).std(), +1),
    "valve_stiction": (apart("ZIT201", "LIC201_CV"), +1),
    "cooler_fouling": (level("FIT203"), +1),
    "header_leak": (level("IIT202"), +1),
    "temperature_sensor_bias": (lambda v, s: v[100:, INDEX["FIT203"]].mean(), +1),
    "flow_sensor_dropout": (lambda v, s: (s[:, INDEX["FIT201"]] != 0).mean(), +1),
    "pressure_sensor_noise": (lambda v, s: np.diff(v[:, INDEX["PIT202"]] - v[:, INDEX["PIT302"]]).std(), +1),
    "bearing_damage": (level("VIT301"), +1),
    "fill_meter_bias": (level("WIT301"), -1),
    "gripper_leak": (lambda v, s: np.percentile(v[:, INDEX["PIT301"]] - v[:, INDEX["PIT303"]], 99), -1),
    "air_leak": (level("FIT401"), +1),
    "filter_clogging": (between("PIT401", "PIT402"), +1),
    "compressor_wear": (level("PIC401_CV"), +1),
    "pressure_sensor_drift": (between("PIT401", "PIT402"), +1),
}


@pytest.mark.parametrize("size", [0.0, 1.0])
@pytest.mark.parametrize("name", sorted(FAULTS))
def test_fault_leaves_its_mark(quiet, name, size):
    """In a minute of fault its figure lies further out than in any benign minute of four other seeds."""
    figure, sign = MARKS[name]
    good = np.zeros((LENGTH, len(INDEX)))
    benign = [sign * figure(v[a : a + LENGTH], good) for v in quiet for a in (600, 1000, 1400)]
    v, s = run("factory", 7, ONSET + LENGTH, name, size)
    found = sign * figure(v[ONSET:], s[ONSET:])
    assert found > max(benign) + 1.0 * np.std(benign)
    if size == 0.0:
        before = sign * figure(v[ONSET - LENGTH : ONSET], good)
        assert before <= max(benign) + 3.0 * np.std(benign)


LONGEST_DRIFT = (
    "level_sensor_drift",
    max(
        round(slot.duration_s[1])
        for each in scenario.names()
        for slot in scenario.load(each).incidents
        if "level_sensor_drift" in slot.choices
    ),
)


@pytest.mark.parametrize(("name", "lasts"), [*((name, 20) for name in sorted(FAULTS)), LONGEST_DRIFT])
def test_unit_has_recovered_when_the_label_ends(quiet, name, lasts):
    """Means over 5 s of all tags of its PLC, one label's recovery after a severe fault."""
    fault = FAULTS[name]
    mine = [INDEX[tag.name] for tag in PLC_TAGS[fault.device]]

    def smooth(v):
        return v[: len(v) // 50 * 50].reshape(-1, 50, v.shape[1]).mean(1)[:, mine]

    normal = np.concatenate([smooth(v[600:]) for v in quiet])
    end = ONSET + 10 * lasts + round(10 * fault.recovers_in(lasts))
    after = smooth(run("factory", 8, end + 300, name, 1.0, 10 * lasts)[0][end:])
    span = np.array([TAG[tag.name].high - TAG[tag.name].low for tag in PLC_TAGS[fault.device]])
    margin = 1.5 * normal.std(0) + 0.005 * span
    inside = (after > normal.min(0) - margin) & (after < normal.max(0) + margin)
    assert inside.mean() > 0.98, [PLC_TAGS[fault.device][i].name for i in np.flatnonzero(~inside.all(0))]


def test_catalogue_is_consistent():
    assert set(MARKS) == set(FAULTS)
    kinds = set()
    for name, fault in FAULTS.items():
        assert TAG[fault.tag].device == fault.device, name
        for site in fault.sites:
            assert fault.device in SITES[site].plcs
        for size, elapsed in ((0.0, 0.0), (0.5, 10.0), (1.0, 1000.0)):
            d = fault.disturbance(size, elapsed)
            assert d.params or d.readings
            kinds |= {error.kind for error in d.readings.values()}
            p = Process(SITES[fault.sites[0]], np.random.default_rng(0), np.random.default_rng(1))
            p.scan([d])  # every name is known there
    assert kinds == {"bias", "drift", "stuck", "noise", "dropout"}
    assert {name for name, fault in FAULTS.items() if "bench" in fault.sites} >= {
        "pump_wear",
        "level_sensor_drift",
        "heater_element_open",
    }


def test_a_fault_leaves_the_time_before_it_untouched():
    a, _ = run("factory", 3, ONSET + 50)
    b, _ = run("factory", 3, ONSET + 50, "header_leak", 1.0)
    assert np.array_equal(a[:ONSET], b[:ONSET])
    assert not np.array_equal(a[ONSET], b[ONSET])


def test_damage_of_the_bearing_grows():
    d = [
        FAULTS["bearing_damage"].disturbance(1.0, t).params["conveyor.bearing_damage"]
        for t in (0, 30, 60, 600)
    ]
    assert d[0] == pytest.approx(0.25) and d[0] < d[1] < d[2] == d[3] == pytest.approx(0.5)


def test_severe_bearing_damage_trips_the_line():
    p = Process(FACTORY, np.random.default_rng(0), np.random.default_rng(1))
    entered = [p.scan([FAULTS["bearing_damage"].disturbance(1.0, 0.1 * k)]).entered_safe for k in range(1500)]
    assert ("PLC3",) in entered


def test_dropped_containers_under_a_leaking_gripper():
    v, _ = run("factory", 4, ONSET + LENGTH, "gripper_leak", 1.0)
    assert v[:ONSET, INDEX["QIT302"]].max() == 0.0
    assert v[-1, INDEX["QIT302"]] > 5.0 * v[-1, INDEX["QIT301"]]
