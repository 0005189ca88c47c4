"""Attacks: what each one does to the process and to those who look at it."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.plc_sim import scenario
from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.recording import Playback, simulate
from cellwatch.plc_sim.tags import TAG

ONSET, LASTS, SECONDS = 5.0, 25.0, 40.0
BEGIN, END = int(ONSET * 10), int((ONSET + LASTS) * 10)  # scans


def run(attack, size=1.0, site="bench", target="PLC1", seed=3, seconds=SECONDS):
    text = f"""
name: one
site: {site}
incidents:
  - {{attack: {attack}, at_s: {ONSET}, duration_s: {LASTS}, size: {size}, target: {target}}}
"""
    return simulate(scenario.parse(text, "one"), seed, seconds)


@pytest.fixture(scope="module")
def quiet():
    return simulate(scenario.parse("name: quiet", "quiet"), 3, SECONDS)


def column(recording, tag):
    return recording.values[:, [t.name for t in recording.tags].index(tag)]


def names(recording, ending):
    return [t.name for t in recording.tags if t.name.endswith(ending)]


def test_false_data_moves_the_controller(quiet):
    small, large = (run("ics/false-data-injection", size) for size in (0.0, 1.0))
    moved = {}
    for key, r in (("small", small), ("large", large)):
        assert np.array_equal(r.values[: BEGIN + 1], quiet.values[: BEGIN + 1])
        change = [np.abs(column(r, cv) - column(quiet, cv))[BEGIN:END].max() for cv in names(r, "_CV")]
        moved[key] = max(change)
    assert moved["large"] > 20.0 > 5.0 > moved["small"] > 0.0  # % of the output


def test_a_set_point_creeps_and_comes_back(quiet):
    r = run("ics/set-point-change")
    moved = [sp for sp in names(r, "_SP") if np.ptp(column(r, sp)) > 0]
    assert len(moved) == 1
    spec, values = TAG[moved[0]], column(r, moved[0])
    span = spec.high - spec.low
    far = np.abs(values - values[0]) / span
    assert far[:BEGIN].max() == 0
    assert 0.25 < far[BEGIN:END].max() <= 0.3 + 1e-9
    assert np.abs(np.diff(values[BEGIN : END - 1])).max() < 0.15 * span  # little by little
    assert values[-1] == values[0]
    mild = run("ics/set-point-change", 0.0)
    assert max(np.ptp(column(mild, sp)) / span for sp in names(mild, "_SP")) < 0.02


def test_a_stopped_plc_lets_the_flow_stop():
    r = run("ics/plc-stop")
    flow = column(r, "FIT101")
    assert flow[:BEGIN].min() > 5.0
    assert flow[BEGIN + 50 : END].max() < 0.2 * flow[:BEGIN].min()
    assert flow[-20:].max() > 5.0
    short = column(run("ics/plc-stop", 0.0), "FIT101")
    still = 0.5 * flow[:BEGIN].min()
    assert (short < still).sum() < 0.2 * (flow < still).sum()


def test_replay_shows_the_past_while_the_process_moves_on(quiet):
    r = run("ics/replay")
    assert np.array_equal(r.values[: BEGIN + 80], quiet.values[: BEGIN + 80])  # it only listens
    shown = r.values[BEGIN + 80 : BEGIN + 240]
    assert np.array_equal(shown[:80], shown[80:])
    assert np.array_equal(shown[:80], r.values[BEGIN - 1 : BEGIN + 79])
    jump = np.abs(r.values[END + 1] - r.values[END - 1])
    usual = np.abs(np.diff(quiet.values, axis=0)).max(axis=0)
    assert (jump > 3.0 * usual).any()  # the truth, when the curtain falls
    some = run("ics/replay", 0.0)
    fixed = (some.values[BEGIN + 100 : BEGIN + 160] == some.values[BEGIN + 180 : BEGIN + 240]).all(axis=0)
    noisy = np.ptp(quiet.values, axis=0) > 0
    assert (fixed & noisy).sum() == 2


def test_a_rogue_client_moves_a_set_point():
    r = run("ics/rogue-client")
    moved = [sp for sp in names(r, "_SP") if np.ptp(column(r, sp)) > 0]
    assert len(moved) == 1
    assert len(np.unique(column(r, moved[0]))) == 3  # up, down, as it was
    assert column(r, moved[0])[-1] == column(r, moved[0])[0]


def test_modbus_writes_reach_the_compressor():
    r = run("ics/modbus-write-flood", site="factory", target="MB401", seconds=33.0)
    wanted, output = column(r, "PIC401_SP"), column(r, "PIC401_CV")
    assert len(np.unique(wanted[BEGIN:END])) > 100
    assert wanted[-1] == wanted[0]
    switched = np.diff(output) != 0
    assert switched[:BEGIN].sum() <= 2
    assert switched[BEGIN:END].sum() > 10  # loaded, idle, loaded, ...


def test_a_flooded_plc_misses_scans_and_answers_late():
    r = run("dos/udp-flood", site="bench")
    level = column(r, "LIT101")  # noisy: every scan brings a new value
    still = np.diff(level) == 0
    assert still[: BEGIN - 1].sum() == 0
    assert 0.3 < still[BEGIN:END].mean() < 0.8
    assert polls(r)[1] < 0.8 * polls(r)[0]
    mild = run("dos/udp-flood", 0.0)
    assert (np.diff(column(mild, "LIT101"))[BEGIN:END] == 0).sum() == 0


def polls(recording):
    """Read responses of the PLC to HMI1 per second, before and in the attack."""
    data, frames = recording.frames.data, recording.frames
    plc, hmi = b"\x02\0\0\0\x01\x01", b"\x02\0\0\0\x01\x02"
    head = data[frames.offset[:-1, None] + np.arange(12)]
    size = np.diff(frames.offset)
    mine = (head == np.frombuffer(hmi + plc, np.uint8)).all(axis=1) & (size > 150)
    seconds = (frames.time_ns - recording.time_ns[0]) * 1e-9
    before, during = seconds < ONSET, (seconds >= ONSET) & (seconds < ONSET + LASTS)
    return (mine & before).sum() / ONSET, (mine & during).sum() / LASTS


def test_a_man_in_the_middle_freezes_a_value(quiet):
    r = run("mitm/arp-spoofing")
    frozen = (np.diff(r.values[BEGIN + 1 : END], axis=0) == 0).all(axis=0)
    noisy = np.ptp(quiet.values, axis=0) > 0
    assert (frozen & noisy).sum() == 1
    assert np.array_equal(run("mitm/arp-spoofing", 0.4).values, quiet.values)


def test_labels_go_on_while_the_process_suffers():
    for name in ("ics/plc-stop", "dos/syn-flood"):
        label = run(name, seconds=SECONDS + 20.0).incidents[0]
        assert (label.kind, f"{label.category}/{label.type}", label.device) == ("attack", name, "PLC1")
        assert label.attack_id == ATTACKS[name].attack_id
        assert label.devices[0] == "PLC1"
        span = (label.end_ns - label.onset_ns) * 1e-9
        assert span == pytest.approx(LASTS + ATTACKS[name].recovers_in("PLC1", LASTS, 1.0))


def of_its_plc(recording, plc):
    """Means over 5 s of the tags of a PLC."""
    values = recording.values[:, [t.device == plc for t in recording.tags]]
    return values[: len(values) // 50 * 50].reshape(-1, 50, values.shape[1]).mean(1)


@pytest.fixture(scope="module")
def normal():
    plan = scenario.parse("name: quiet\nsite: factory", "quiet")
    return [simulate(plan, seed, 260.0, network=False) for seed in (100, 101, 102, 103)]


@pytest.mark.parametrize(
    ("name", "plc"),
    [
        ("plc-stop", "PLC2"),
        ("plc-stop", "PLC3"),
        ("plc-stop", "PLC4"),
        ("set-point-change", "PLC2"),
        ("rogue-client", "PLC1"),
        ("false-data-injection", "PLC2"),
    ],
)
def test_process_has_recovered_when_the_label_ends(normal, name, plc):
    """In the half minute after the label of a severe attack; and at its removal it had not."""
    assert ATTACKS[f"ics/{name}"].recovers_in(plc, 60.0, 1.0) > 0.0
    text = f"""
name: one
site: factory
incidents:
  - {{attack: ics/{name}, at_s: 5, duration_s: 60, size: 1, target: {plc}}}
"""
    run = Playback(scenario.parse(text, "one"), 4, 400.0)
    (label,) = (planned.label(run.start_ns) for planned in run.cell.planned)
    rows = []
    for step in run:
        rows.append(step.values)
        if run.cell.time_ns >= run.start_ns + 67_000_000_000:
            run.cell.network = None  # what follows is the process alone
        if run.cell.time_ns >= label.end_ns + 30_000_000_000:
            break
    ends = [round((t - run.start_ns) / 1e8) for t in (run.start_ns + 65_000_000_000, label.end_ns)]
    mine = [t.device == plc for t in run.cell.tags]
    span = np.array([t.high - t.low for t in run.cell.tags])[mine]
    usual = np.concatenate([of_its_plc(each, plc)[12:] for each in normal])
    margin = 1.5 * usual.std(0) + 0.005 * span
    inside = []
    for end in ends:
        after = np.array(rows)[end : end + 300 if end == ends[1] else end + 50, mine]
        means = after.reshape(-1, 50, after.shape[1]).mean(1)
        inside.append(((means > usual.min(0) - margin) & (means < usual.max(0) + margin)).mean())
    assert inside[0] < 1.0
    assert inside[1] > 0.98


@pytest.mark.parametrize("name", ["recon/ping-sweep", "bruteforce/dictionary-ssh", "malware/mirai-udp-flood"])
def test_others_leave_the_process_alone(name, quiet):
    target = "PLC1" if "PLC1" in ATTACKS[name].targets["bench"] else "router"
    assert np.array_equal(run(name, target=target).values, quiet.values)
