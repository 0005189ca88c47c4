"""The process of a site: seeds, writes, overloaded and stopped PLCs, errors of readings."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.plc_sim.faults import Disturbance, ReadingError
from cellwatch.plc_sim.plcs import METHODS, Mode, Refusal
from cellwatch.plc_sim.process import Process
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import STATUS_BAD_NO_DATA, TAG, index_of, tags_of
from cellwatch.plc_sim.units import heated_tank

FACTORY = SITES["factory"]
INDEX = index_of(FACTORY)


def process(seed=1, site="factory"):
    return Process(SITES[site], np.random.default_rng(seed), np.random.default_rng(seed + 1000))


def values(p, scans, *disturbances, **options):
    return np.array([p.scan(disturbances, **options).values for _ in range(scans)])


@pytest.mark.parametrize("site", sorted(SITES))
def test_same_seed_same_values(site):
    a, b, c = (values(process(seed, site), 300) for seed in (4, 4, 5))
    assert a.shape == (300, len(tags_of(SITES[site])))
    assert a.tobytes() == b.tobytes()
    assert a.tobytes() != c.tobytes()


def test_noise_has_its_stated_size():
    p = process(site="bench")
    start = p.state
    seen = []
    for _ in range(3000):
        p.state = start
        for plc in p._plcs:
            plc.memory, plc.action = plc.program.memory, plc.program.first
        p._action = p._action._replace(heated_tank=heated_tank.Action(0.64, 0.69, True))
        seen.append(p.scan().values[:7])
    assert np.allclose(np.std(seen, axis=0), heated_tank.NOISE, rtol=0.06)


def test_factory_is_steady_and_in_range():
    v = values(process(3), 4500)
    for i, tag in enumerate(tags_of(FACTORY)):
        span = tag.high - tag.low
        assert v[:, i].min() >= tag.low - 0.02 * span and v[:, i].max() <= tag.high, tag.name
    slow = [
        INDEX[n] for n in ("LIT201", "TIT201", "LIT202", "TIT202", "TIT203", "SIT301", "TIT301", "TIT401")
    ]
    first, last = v[:1500, slow].mean(0), v[-1500:, slow].mean(0)
    assert np.all(np.abs(first - last) < 1.5 * v[:, slow].std(0))


@pytest.mark.parametrize("seed", range(2))
def test_random_writes_and_calls_never_break_it(seed):
    """13 minutes of writes, methods, stops and lost scans: every value stays finite and in its range."""
    p, rng = process(seed), np.random.default_rng(seed)
    writable = [tag for tag in tags_of(FACTORY) if tag.writable]
    taken = 0
    rows = []
    for k in range(8_000):
        if k % 40 == 0:
            tag = writable[rng.integers(len(writable))]
            value = rng.uniform(tag.low, tag.high) if tag.kind == "float" else float(rng.integers(2))
            taken += p.write(tag.device, tag.name, value) == Refusal.NONE
            plc = FACTORY.plcs[rng.integers(4)]
            method = list(METHODS)[rng.integers(len(METHODS))]
            arguments = {
                "SetMode": (float(rng.integers(4)),),
                "SetOutput": (1.0 + rng.integers(2), 100 * rng.random()),
            }
            p.call(plc, method, arguments.get(method, ()))
            (p.stop_plc if rng.random() < 0.1 else p.start_plc)(plc)
        skipped = FACTORY.plcs[k % 4 :][: rng.integers(2)]
        rows.append(p.scan(skipped=skipped).values)
    v = np.array(rows)
    assert np.isfinite(v).all()
    low = np.array([tag.low for tag in p.tags])
    span = np.array([tag.high for tag in p.tags]) - low
    assert np.all(v >= low - 0.05 * span) and np.all(v <= low + 1.2 * span)
    assert taken > 40
    assert v[:, INDEX["LIT101"]].std() > 5.0  # it was shaken


def test_skipped_scans_hold_outputs_and_values():
    p = process()
    p.scan()
    before = p.scan()
    p.write("PLC2", "LIC201_SP", 80.0)
    after = p.scan(skipped=("PLC2",))
    names = [tag.name for tag in p.tags if tag.device == "PLC2"]
    assert all(after.values[INDEX[n]] == before.values[INDEX[n]] for n in names)
    assert after.values[INDEX["LIT101"]] != before.values[INDEX["LIT101"]]
    assert p.scan().values[INDEX["LIC201_SP"]] == 80.0


def test_stopped_plc_drops_its_outputs_refuses_writes_and_starts_again():
    p = process()
    values(p, 50)
    p.write("PLC2", "LIC201_SP", 70.0)
    p.scan()
    p.stop_plc("PLC2")
    v = values(p, 200)
    assert p.write("PLC2", "LIC201_SP", 60.0) == Refusal.INVALID_STATE
    assert p.call("PLC2", "Reset") == Refusal.INVALID_STATE
    assert v[-1, INDEX["PIT202"]] < 10.0 and v[-1, INDEX["PIC202_CV"]] == 0.0
    assert v[-1, INDEX["FIT201"]] < 1.0
    assert v[-1, INDEX["LIT201"]] != v[-2, INDEX["LIT201"]]  # inputs are still read
    p.start_plc("PLC2")
    v = values(p, 200)
    assert v[-1, INDEX["PIT202"]] == pytest.approx(120.0, abs=15.0)
    assert v[-1, INDEX["LIC201_SP"]] == 70.0


def test_safe_state_is_told_once():
    p = process()
    p.scan()
    assert p.call("PLC3", "SafeState") == Refusal.NONE
    assert [p.scan().entered_safe for _ in range(3)] == [("PLC3",), (), ()]
    p.call("PLC3", "Reset")
    p.scan()
    p.write("PLC3", "XS301_SAFE", 1.0)
    scan = p.scan()
    assert scan.entered_safe == ("PLC3",)
    assert scan.values[INDEX["XS301_MODE"]] == Mode.SAFE


def test_unknown_names_are_told():
    p = process(site="bench")
    with pytest.raises(KeyError, match="PLC2 is no PLC of bench: PLC1"):
        p.write("PLC2", "LIC201_SP", 50.0)
    with pytest.raises(KeyError, match=r"tank_farm\.fouling is no parameter of bench"):
        p.scan([Disturbance(params={"tank_farm.fouling": 0.5})])
    with pytest.raises(KeyError, match=r"heated_tank\.nope"):
        p.scan([Disturbance(params={"heated_tank.nope": 0.5})])
    with pytest.raises(KeyError, match="LIT201"):
        p.scan([Disturbance(readings={"LIT201": ReadingError("bias", 1.0)})])
    with pytest.raises(ValueError, match="wobble"):
        p.scan([Disturbance(readings={"LIT101": ReadingError("wobble", 1.0)})])


# ---------------------------------------------------------------- errors of readings


def twins(error, scans=50, tag="FIT102"):
    """The same run without and with an error of a reading that no controller uses."""
    good, wrong = process(7, "bench"), process(7, "bench")
    values(good, 20), values(wrong, 20)
    a = values(good, scans)[:, INDEX[tag]]
    rows = [wrong.scan([Disturbance(readings={tag: error})]) for _ in range(scans)]
    b, status = (np.array([getattr(row, f)[INDEX[tag]] for row in rows]) for f in ("values", "status"))
    return a, b, status, good, wrong


def test_bias_drift_and_replace():
    a, b, status, *_ = twins(ReadingError("bias", 2.5))
    assert np.allclose(b - a, 2.5) and not status.any()
    a, b, *_ = twins(ReadingError("drift", 0.5))
    assert np.allclose(b - a, 0.5 * 0.1 * np.arange(50))
    _, b, *_ = twins(ReadingError("replace", 12.0))
    assert np.all(b == 12.0)


def test_stuck_and_noise():
    a, b, *_ = twins(ReadingError("stuck"))
    assert np.all(b == b[0]) and a.std() > 0.05
    a, b, *_ = twins(ReadingError("noise", 1.5), scans=2000)
    assert np.std(b - a) == pytest.approx(1.5, rel=0.1)


def test_dropout_holds_the_last_good_value_with_a_bad_status():
    a, b, status, *_ = twins(ReadingError("dropout", 0.4), scans=2000)
    bad = status == STATUS_BAD_NO_DATA
    assert bad.mean() == pytest.approx(0.4, abs=0.05)
    assert np.all(b[~bad] == a[~bad])
    assert np.all(b[1:][bad[1:]] == b[:-1][bad[1:]])


def test_readings_saturate_and_recover():
    for amount, limit in ((1e6, 42.0), (-1e6, 0.0)):  # 105 % of 0..40 L/min (NAMUR NE 43)
        _, b, _, good, wrong = twins(ReadingError("bias", amount))
        assert np.all(b == limit)
        assert np.array_equal(good.scan().values, wrong.scan().values)  # an error leaves nothing behind


def test_a_false_reading_moves_the_process_that_is_controlled_by_it():
    p = process(2)
    values(p, 100)
    before = values(p, 100)[:, INDEX["TIT202"]].mean()
    values(p, 1200, Disturbance(readings={"TIT203": ReadingError("bias", 3.0)}))
    assert values(p, 100)[:, INDEX["TIT202"]].mean() < before - 1.0


def test_every_tag_of_every_site_is_read_or_shown():
    for site in SITES.values():
        v = Process(site, np.random.default_rng(0), np.random.default_rng(1)).scan().values
        assert len(v) == len(tags_of(site)) and np.isfinite(v).all()
        for tag in tags_of(site):
            if tag.name.endswith("_SP"):
                assert TAG[tag.name].low <= v[index_of(site)[tag.name]] <= TAG[tag.name].high
