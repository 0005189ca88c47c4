"""The watch of a running cell: windows, verdicts and labels in, one event out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.drift.attribution import Rates
from cellwatch.models.drift.cell_watch import WAITING, CellWatch
from cellwatch.models.drift.reference import Reference
from cellwatch.models.drift.truth import Truth
from cellwatch.models.drift.watch import DriftSettings
from cellwatch.models.types import (
    DriftState,
    FeatureWindow,
    FusedVerdict,
    FusedWindow,
    Incident,
    Level,
    LevelScores,
    Screening,
    Verdicts,
)

S = 1_000_000_000
DEVICES = ("A", "B")
SETTINGS = DriftSettings(window=20, consecutive=3, reference=10, profile=60, block=30)


class Cell:
    """Says windows of two devices with two features and two models."""

    def __init__(self, **more):
        self.watch = CellWatch(("f", "g"), SETTINGS, **more)
        self.watch.model("v1", ("XGB", "MLP"))
        self.random = np.random.default_rng(0)
        self.next = 1

    def window(self, n=1, *, p=0.1, decision=Screening.ALLOW, move=0.0, devices=DEVICES, commissioning=False):
        for _ in range(n):
            i, d = self.next, len(devices)
            self.next += 1
            x = self.random.normal(size=(d, 2)).astype(np.float32) + np.float32(move)
            none = np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)
            self.watch.features(
                FeatureWindow(i, (i - 1) * S, i * S, i * S, "s", devices, x, (), *none, commissioning)
            )
            p_each = np.clip(self.random.normal(p, 0.03, (d, 2)), 0, 1)
            self.scores(i, devices, ("MLP", "XGB"), p_each)
            verdicts = [FusedVerdict(name, decision, p, 0.5) for name in devices]
            self.watch.fused(FusedWindow(i, i * S, i * S, tuple(reversed(verdicts))))

    def scores(self, i, devices, detectors, p):
        both = np.stack([1 - p, p], axis=2).astype(np.float32)
        level = LevelScores(Level.L1, detectors, ("benign", "attack"), both)
        n = len(devices)
        self.watch.scores(
            Verdicts("ensemble", i, i * S, i * S, devices, np.zeros(n, np.uint8), np.zeros(n), (level,))
        )

    def label(self, *windows, attack=False, devices=DEVICES):
        return self.watch.label(np.array(windows, np.int64), devices, "attack" if attack else "benign")


def figures(event):
    return {f.monitor: f for f in event.figures}


def test_what_the_models_say_is_paired_by_name():
    cell = Cell()
    cell.window()
    cell.watch.features(
        FeatureWindow(2, S, 2 * S, 2 * S, "s", DEVICES, np.zeros((2, 2), np.float32), (), *none())
    )
    cell.scores(2, ("B",), ("MLP", "XGB", "other"), np.array([[0.25, 0.5, 0.9]]))
    parts = cell.watch._waiting[2].scores
    assert str(cell.watch._scores(parts)[0].tolist()) == "[[nan, nan], [0.5, 0.25]]"


def none():
    return np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)


def test_late_labels_raise_one_alarm_with_its_scenario_and_its_beginning():
    cell = Cell()
    cell.window(400)
    for i in range(1, 401):
        cell.label(i)
    cell.window()
    event = cell.watch.news(7)
    assert (event.state, event.labelled, event.windows, event.at_ns) == (DriftState.CALM, 800, 401, 7)
    assert figures(event)["loss"].value == pytest.approx(-np.log(0.9), abs=1e-6)
    cell.window(100, p=0.9, decision=Screening.SUSPICIOUS)
    for i in range(501, 401, -1):  # in any order
        cell.label(i)
    cell.window(2)
    event = cell.watch.news(8)
    assert event.state == DriftState.DRIFT
    assert (event.scenario, event.since_ns, event.level) == ("A", 402 * S, Level.L1)
    assert "loss" in event.reasons
    assert cell.watch.alarms == 1
    assert figures(event)["errors"].value == 1.0


def test_nothing_new_is_nothing_to_say():
    cell = Cell()
    assert cell.watch.news(1).version == "v1"
    cell.window(5)
    assert cell.watch.news(2) is None


def test_without_labels_the_monitors_name_device_and_column():
    cell = Cell()
    cell.window(60 + 12 * 30)
    assert cell.watch.state == DriftState.CALM
    begun = cell.next
    cell.window(3 * 30, p=0.3, move=3.0)
    event = cell.watch.news(1)
    assert (event.state, event.scenario) == (DriftState.DRIFT, "")
    assert event.since_ns == (begun - 1) * S
    assert {"features", "scores"} <= set(event.reasons)
    assert figures(event)["features"].place.split()[0] in DEVICES
    assert figures(event)["scores"].place.split()[1] in {"XGB", "MLP"}
    assert cell.watch.alarms == 1


def test_a_blocked_device_is_attacked_not_changed():
    cell = Cell()
    cell.window(60 + 12 * 30)
    cell.window(6 * 30, p=0.9, move=3.0, decision=Screening.BLOCK)
    assert cell.watch.state == DriftState.CALM


def test_other_models_begin_anew():
    cell = Cell()
    cell.window(10)
    cell.label(3)
    cell.watch.model("v1", ("XGB", "MLP"))  # said again
    assert cell.watch.event(0).windows == 10
    cell.watch.news(0)
    cell.watch.model("v2", ("XGB",))
    event = cell.watch.news(0)
    assert (event.version, event.windows, event.labelled) == ("v2", 0, 0)
    cell.window()
    assert cell.label(3).expired == 2  # it was judged by the others


@pytest.mark.parametrize(("p", "again"), [(0.1, 0), (0.9, 1)])
def test_models_that_come_in_a_drift_are_to_be_as_good_as_it_was_before(p, again):
    cell = Cell()
    cell.window(200)
    for i in range(1, 201):
        cell.label(i)
    cell.window(60, p=0.9, decision=Screening.SUSPICIOUS)
    for i in range(201, 261):
        cell.label(i)
    cell.window()
    assert cell.watch.event(0).since_ns == 201 * S
    limits = cell.watch._watch.limits
    cell.watch.model("v2", ("XGB", "MLP"))
    begun = cell.next
    cell.window(100, p=p, decision=Screening.SUSPICIOUS if p > 0.5 else Screening.ALLOW)
    for i in range(begun, begun + 100):
        cell.label(i)
    cell.window()
    event = cell.watch.event(0)
    assert cell.watch.alarms == 1 + again
    if again:
        assert (event.state, event.scenario) == (DriftState.DRIFT, "A")
        assert event.since_ns == begun * S  # the models of before are not to blame for what comes now
        assert (figures(event)["loss"].limit, figures(event)["errors"].limit) == limits
        cell.watch.model("v3", ("XGB", "MLP"))
        cell.window()
        assert cell.watch._watch.limits == limits


def test_attacks_that_are_called_otherwise_are_a_drift_of_no_scenario():
    cell = Cell()
    classes = ("benign", "dos", "recon")
    for i in range(1, 321):
        cell.window(p=0.9, decision=Screening.SUSPICIOUS)
        named = np.tile(np.array([0.1, 0.8, 0.1], np.float32), (2, 1, 1))
        level = LevelScores(Level.L2, ("XGB",), classes, named)
        verdicts = Verdicts("ensemble", i + 1, 0, 0, DEVICES, np.zeros(2, np.uint8), np.zeros(2), (level,))
        cell.watch.scores(verdicts)  # before the window is complete
        if i > 1:
            what = "dos/syn-flood" if i <= 220 else "recon/scan"
            cell.watch.label(np.array([i], np.int64), DEVICES, what)
    event = cell.watch.event(0)
    assert (event.state, event.scenario, event.reasons) == (DriftState.DRIFT, "", ("loss_category",))
    assert event.since_ns == 221 * S
    assert figures(event)["loss_category"].value == pytest.approx(-np.log(0.1), abs=1e-6)
    assert figures(event)["loss"].value == pytest.approx(-np.log(0.9), abs=1e-6)
    assert cell.watch.alarms == 1


def test_what_is_normal_outlives_the_watch():
    cell = Cell()
    cell.window(200)
    for i in range(1, 201):
        cell.label(i)
    cell.window()
    kept = Reference.from_json(cell.watch.reference.to_json())
    assert kept == cell.watch.reference
    assert (kept.version, kept.rates) == ("v1", Rates(400, 0, 0, 0))
    again = Cell(reference=kept)  # in the midst of a drift
    again.window(100, p=0.9, decision=Screening.SUSPICIOUS)
    for i in range(1, 101):
        again.label(i)
    again.window()
    event = again.watch.event(0)
    assert (event.state, event.scenario) == (DriftState.DRIFT, "A")
    assert again.watch.reference == kept
    other = Cell(reference=replace(kept, version="v0"))
    other.window(100, p=0.9, decision=Screening.SUSPICIOUS)
    for i in range(1, 101):
        other.label(i)
    other.window()
    assert other.watch.state == DriftState.CALM  # nobody knows what is normal for these


COUNTS = '"rates": {"benign": %d, "false_alarms": 0, "attacks": 0, "misses": 0}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting"),
        ("[]", "not a reference"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1, "version": "v", "limits": {}, "rates": {}}', "not a reference"),
        ('{"format": 1, "version": "v", "limits": {"1": [NaN, 1]}, ' + COUNTS % 0, "finite"),
        ('{"format": 1, "version": "v", "limits": {}, ' + COUNTS % -1, "counts"),
    ],
)
def test_a_damaged_reference_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        Reference.from_json(text)


def test_contradictory_labels_are_shown():
    cell = Cell(settle_ns=S)
    cell.window(5)
    cell.watch.news(0)
    assert cell.label(2, devices=("A", "A", "nobody")) == (1, 0, 1, 0)
    assert cell.watch.news(0) is None
    assert cell.label(1, 2, 3, attack=True, devices=("A",)).held_back == 3
    event = cell.watch.news(0)
    assert (event.held_back, event.reasons) == (4, ("4 labels held back: they contradict others",))
    cell.window(3)
    assert cell.watch.event(0).labelled == 0


def test_the_plant_tells_the_truth():
    cell = Cell(truth=Truth(2 * S))
    cell.watch.incident(Incident("x", "attack", "dos", "dos/x", "A", 0, 3 * S, ("A",)))
    cell.window(6)
    assert cell.watch.labels.joined == 8  # windows 1 to 4
    assert cell.watch.event(0).labelled == 8
    assert cell.watch._history._attack[:8].tolist() == [True, False] * 3 + [False, False]
    other = Cell()
    other.watch.incident(Incident("x", "attack", "dos", "dos/x", "A", 0, 3 * S, ("A",)))
    other.window(6)
    assert other.watch.labels.joined == 0


def test_windows_that_cannot_be_judged_are_counted():
    cell = Cell()
    cell.window(2, commissioning=True)
    assert (cell.watch.watched, cell.watch.devices) == (0, ())
    cell.watch.fused(FusedWindow(99, 0, 0, ()))  # its features never came
    for i in range(200, 200 + WAITING + 3):
        cell.scores(i, DEVICES, ("XGB",), np.zeros((2, 1)))
    assert cell.watch.unpaired == 4
    unserved = CellWatch(("f",))
    unserved.fused(FusedWindow(1, 0, 0, ()))
    assert unserved.unpaired == 1


def test_strangers_come_and_go_and_a_cell_may_have_no_models():
    cell = Cell()
    cell.watch.model("", ())
    cell.window(60 + 3 * 30)
    cell.window(devices=("stranger", "B"))
    cell.window(devices=("B", "A", "stranger"))
    assert cell.watch.devices == DEVICES
    assert cell.watch.watched == 152
    assert np.isnan(figures(cell.watch.event(0))["scores"].value)
    assert cell.label(151, devices=("A", "B")) == (1, 0, 1, 0)  # A was not there
