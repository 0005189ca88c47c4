"""The gate of a stage, against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cellwatch.models.drift.anytime import above_rate, more_often
from cellwatch.models.drift.promotion_gate import GateSettings, PromotionGate
from cellwatch.models.types import FusedVerdict, FusedWindow, Screening, SettledLabels, Stage

A, S, B = Screening.ALLOW, Screening.SUSPICIOUS, Screening.BLOCK
DEVICES = ("HMI", "PLC1")
SMALL = GateSettings(windows=20, labelled=10, unlabelled_windows=40, probation_windows=30, late=5, behind=2)


def window(i: int, *decisions: Screening, devices=DEVICES) -> FusedWindow:
    pairs = zip(devices, decisions, strict=True)
    return FusedWindow(i, i, i, tuple(FusedVerdict(d, s, 0.5, 0.5) for d, s in pairs))


def labels(samples: dict[tuple[int, str], str]) -> SettledLabels:
    devices, classes = ("nobody", *DEVICES), ("benign", "dos/syn-flood")
    ids, names = zip(*samples, strict=True)
    at, what = [devices.index(n) for n in names], [classes.index(c) for c in samples.values()]
    return SettledLabels(0, devices, classes, np.array(ids), np.array(at), np.array(what))


def gate(stage: Stage = Stage.SHADOW, settings: GateSettings = SMALL) -> PromotionGate:
    return PromotionGate(stage, settings, window_s=1.0)


def both(made: PromotionGate, i: int, candidate=(A, A), parent=(A, A), latency=(0.1, 0.1)) -> None:
    made.beside(window(i, *candidate), latency[0])
    made.served(window(i, *parent), latency[1])


def test_errors_and_false_alarms_are_counted_against_late_labels():
    made = gate()
    made.served(window(0, B, B), 0.1)  # before the candidate judges: not counted
    both(made, 1, (S, A), (A, A))  # PLC1: an attack that both miss; HMI: a false alarm of the candidate
    both(made, 2, (A, B), (A, A))  # PLC1: an attack that the candidate alone finds
    both(made, 3, (A, A), (A, S), latency=(0.3, 0.1))  # PLC1: a false alarm of the parent
    both(made, 4, (B, B), (A, A))  # never labelled
    made.labels(labels({(1, "HMI"): "benign", (1, "PLC1"): "dos/syn-flood", (2, "PLC1"): "dos/syn-flood"}))
    made.labels(labels({(3, "PLC1"): "benign", (77, "PLC1"): "benign", (2, "nobody"): "benign"}))
    found = made.figures()
    assert (found.windows, found.labelled) == (4, 4)
    assert (found.errors, found.parent_errors) == (2, 3)
    assert (found.false_alarms, found.parent_false_alarms) == (1, 1)
    assert (found.latency_s, found.parent_latency_s) == (pytest.approx(0.15), pytest.approx(0.1))


def test_windows_and_labels_are_waited_for():
    made = gate()
    assert made.judge().outcome == "wait"
    assert math.isnan(made.figures().latency_s)
    for i in range(20):
        assert made.judge() == ("wait", f"{i} of 20 windows")
        both(made, i)
    assert made.judge() == ("wait", "0 of 10 labelled samples")
    made.labels(labels({(i, d): "benign" for i in range(5) for d in DEVICES}))
    assert made.judge() == ("pass", "20 windows, 10 labelled samples: 0 errors, 0 of its parent")


def test_where_no_labels_come_more_windows_do():
    made = gate()
    for i in range(39):
        both(made, i)
    assert made.judge().outcome == "wait"
    both(made, 39)
    assert made.judge().outcome == "pass"


@pytest.mark.parametrize(
    ("label", "candidate", "parent", "words"),
    [
        ("benign", (A, S), (A, A), "more false alarms than its parent: worse in 9 stretches"),
        ("dos/syn-flood", (A, A), (A, S), "more misses than its parent: worse in 9 stretches"),
    ],
)
def test_one_that_is_worse_fails_before_the_stage_is_over(label, candidate, parent, words):
    made = gate()
    for k in range(9):
        assert made.judge().outcome == "wait"  # also when the windows are enough: it is in doubt
        for i in (3 * k, 3 * k + 1):  # two windows in a row are one stretch
            both(made, i, candidate, parent)
        both(made, 3 * k + 2)
        made.labels(labels({(3 * k + i, "PLC1"): label for i in range(3)}))
    assert made.judge().outcome == "fail"
    assert made.judge().why.startswith(words)


def run(made: PromotionGate, windows: int, candidate=(A, A), parent=(A, A), label="", first=0) -> None:
    """The same in so many windows, with one label for all samples."""
    for i in range(first, first + windows):
        both(made, i, candidate, parent)
    if label:
        made.labels(labels({(i, d): label for i in range(first, first + windows) for d in DEVICES}))


def test_a_stretch_counts_again_while_it_lasts():
    made = gate(settings=GateSettings(windows=5_000))
    run(made, 480, (A, S), label="benign")  # 480 / 60 = 8 stretches: 2 ** 9 / 9 = 57
    assert made.judge().outcome == "wait"
    run(made, 1, (A, S), label="benign", first=480)
    assert made.judge() == (
        "fail",
        "more false alarms than its parent: worse in 9 stretches of windows, better in 0",
    )


def test_one_that_stays_wrong_does_not_pass_for_short_errors_of_its_parent():
    made = gate(Stage.ACTIVE, GateSettings(probation_windows=300))
    for i in range(300):
        made.beside(window(i, S if i in (0, 2, 4, 6, 8) else A, A), 0.1)
        made.served(window(i, A, S), 0.1)
    made.labels(labels({(i, d): "benign" for i in range(300) for d in DEVICES}))
    # 5 stretches against 5; as samples of 305 / 10 windows: rise(0, 19, 9, 19) = 0.43 - 1.645 * 0.12
    assert made.judge() == ("fail", "300 false alarms on 600 samples, 5 of its parent")


@pytest.mark.parametrize(
    ("wrong", "outcome"),
    [
        (2, "pass"),  # of 1,000 samples
        (3, "wait"),  # rise(0, 1000, 3, 1000) = 0.0030 - 1.645 * 0.0022 < 0
        (7, "wait"),  # 0.0070 - 1.645 * 0.0030 > 0, but as one stretch: rise(0, 142, 1, 142) < 0
    ],
)
def test_a_few_errors_more_are_tolerated_and_some_more_waited_on(wrong, outcome):
    made = gate(settings=GateSettings())
    run(made, wrong, (A, S), label="benign")
    run(made, 500 - wrong, label="benign", first=wrong)
    assert made.judge().outcome == outcome


def test_misses_weigh_against_the_attacks_alone():
    made = gate(Stage.CANARY, GateSettings())
    for i in range(2_300):
        both(made, i, (A, A), (A, S) if i < 8 else (A, A))
        made.displaced(window(i, S if i < 8 else A, devices=("PLC1",)))
    made.labels(labels({(i, d): "benign" for i in range(8, 2_300) for d in DEVICES}))
    made.labels(labels({(i, "PLC1"): "dos/syn-flood" for i in range(8)}))
    # 8 of 4,592 labelled samples are less than 0.002; rise(0, 8, 8, 8) = 0.8 - 1.645 * 0.13
    assert made.judge() == ("wait", "in doubt: 8 misses on 8 samples, 0 of its parent")


def test_a_device_on_which_it_is_always_wrong_fails_it():
    names = tuple(f"D{i:02}" for i in range(45))
    settings = GateSettings(tolerance=0.05, probation_windows=200)
    made = gate(Stage.ACTIVE, settings)
    for i in range(200):
        short = S if i in (0, 2, 4, 6) else A  # as many stretches as of the other
        made.beside(window(i, short, *[A] * 44, devices=names), 0.1)
        made.served(window(i, *[A] * 44, S, devices=names), 0.1)
    each, ids = np.tile(np.arange(45), 200), np.repeat(np.arange(200), 45)
    made.labels(SettledLabels(0, names, ("benign",), ids, each, np.zeros_like(each)))
    # 200 of 9,000 are 2.2 % of all samples, 100 % of its own: 4 stretches of 50, rise(0, 4, 4, 4) = 0.31
    assert made.judge() == ("fail", "200 errors on D44 on 200 samples, 0 of its parent")


@pytest.mark.parametrize(
    ("label", "candidate", "parent", "what"),
    [("benign", B, S, "false blocks"), ("dos/syn-flood", S, B, "attacks not blocked")],
)
def test_a_block_is_more_than_a_suspicion(label, candidate, parent, what):
    made = gate()
    for k in range(9):
        run(made, 1, (A, candidate), (A, parent), label, first=2 * k)
        run(made, 1, (A, A), (A, A), label, first=2 * k + 1)
    words = f"more {what} than its parent: worse in 9 stretches of windows, better in 0"
    assert made.judge() == ("fail", words)
    assert made.figures().errors == made.figures().parent_errors  # both raise the alarm


@pytest.mark.parametrize("level", [S, B])
def test_an_alarm_that_stood_before_has_not_found_the_attack(level):
    """The parent calls PLC1 an attacker all day; the candidate misses two of ten windows of each attack."""
    made = gate()
    for k in range(9):
        first = 20 * k
        run(made, 10, (A, A), (A, level), "benign", first)
        run(made, 10, (A, level), (A, level), first=first + 10)
        for i in (first + 10, first + 19):
            made.beside(window(i, A, A), 0.1)
        made.labels(labels({(i, "PLC1"): "dos/syn-flood" for i in range(first + 10, first + 20)}))
    assert made.judge().outcome == "pass"
    found = made.figures()
    assert (found.labelled, found.errors, found.parent_errors) == (270, 18, 180)


def test_an_attack_is_found_until_the_alarm_has_stood_in_a_benign_window():
    made = gate()
    run(made, 8, (A, S))  # the candidate's alarm begins unlabelled, and ends
    run(made, 1, first=8)
    run(made, 4, (A, S), first=9)
    truth = {3: "dos/syn-flood", 5: "benign", 6: "dos/syn-flood", 9: "benign", 11: "dos/syn-flood"}
    made.labels(labels({(i, "PLC1"): name for i, name in truth.items()}))
    assert made.figures().errors == 4  # windows 5 and 9, false alarms, 6 and 11: missed


def test_a_block_in_an_alarm_that_stood_has_blocked_no_attack():
    made = gate()
    for k in range(9):
        run(made, 4, (A, A), (A, S), "benign", first=8 * k)
        run(made, 4, (A, S), (A, B), "dos/syn-flood", first=8 * k + 4)
    assert made.judge().outcome != "fail"


@pytest.mark.parametrize(("windows", "alarms"), [(60, 0), (61, 1)])
def test_an_alarm_that_was_labelled_in_part_is_not_one_that_nobody_labelled(windows, alarms):
    made = gate(settings=GateSettings(windows=20, labelled=4, late=0, doubt=1.5))
    run(made, 2, (A, S), (A, S), label="dos/syn-flood")
    run(made, windows, (A, S), first=2)
    run(made, 50, first=2 + windows)
    assert made.judge().outcome == ("wait" if alarms else "pass")
    assert made.judge().why.startswith("in doubt: 1 alarms of its own" if alarms else "112 windows")


def test_blocks_of_its_own_that_nobody_labelled_must_keep_the_budget():
    made = gate(settings=GateSettings(late=0))
    for k in range(6):
        run(made, 1, (A, B), (A, S), first=2 * k)
        run(made, 1, (A, S), (A, S), first=2 * k + 1)
    assert made.judge() == ("fail", "6 blocks of its own in 0.0033 h that nobody labelled")


@pytest.mark.parametrize(("candidate", "what"), [(A, "alarms"), (S, "blocks")])
def test_alarms_that_vanish_unlabelled_are_for_an_operator_to_decide(candidate, what):
    made = gate()
    for k in range(4):
        run(made, 3, (A, candidate), (A, B), first=10 * k)
        run(made, 7, first=10 * k + 3)
    run(made, 1, first=40)
    # 2 ** 5 / 5 * (1 - 1 / 32) = 6.2, above 3
    words = f"4 {what} of its parent are gone and 0 are new, with too few labels to tell who is right"
    assert made.judge() == ("wait", f"{words}: an operator must decide")
    run(made, 10, label="benign", first=41)  # labels are enough: it is for them to say
    assert made.judge().outcome == "pass"


def test_a_latency_that_is_no_number_is_passed_over():
    made = gate()
    for i, strange in enumerate((math.nan, math.inf)):
        both(made, i + 1, latency=(0.1, strange))
    for i in range(3, 23):
        both(made, i, latency=(math.nan if i == 5 else 0.3, 0.1))
    assert made.figures().parent_latency_s == pytest.approx(0.1)
    assert made.judge().why == "0.281 s to the verdict, 0.100 s of its parent"  # (2 * 0.1 + 19 * 0.3) / 21


def test_a_canary_must_be_in_time_not_as_fast_as_the_verdicts_that_wait_for_it():
    made = gate(Stage.CANARY)
    for i in range(33):
        both(made, i, latency=(0.3, 0.1))  # 3 times the parent's, and three windows before the first in time
        if i > 2:
            made.displaced(window(i, A, devices=("PLC1",)))
    assert made.judge() == ("wait", "0 of 10 labelled samples")
    for i in range(33, 37):
        both(made, i, latency=(0.3, 0.1))
    assert made.judge() == ("fail", "4 of 70 samples were not judged in time")  # two may be on their way
    never = gate(Stage.CANARY)
    for i in range(35):
        both(never, i)
    assert never.judge() == ("fail", "6 of 66 samples were not judged in time")  # 30 may be before it begins


def test_windows_without_a_word_of_the_one_beside_are_counted():
    made = gate(Stage.ACTIVE)
    for i in range(7):
        made.served(window(i, A, A), 0.1)
    assert made.served_since_beside == 7  # it never said anything
    made.beside(window(7, A, A), 5.0)  # late, but alive
    assert made.served_since_beside == 0
    made.served(window(8, A, A), 0.1)
    assert made.served_since_beside == 1


def test_alarms_of_its_own_that_nobody_labelled_must_keep_the_budget():
    made = gate(settings=GateSettings(late=5))
    for k in range(6):  # far more than one an hour
        both(made, 2 * k, (A, B), (A, A))
        both(made, 2 * k + 1)
    assert made.judge().outcome == "wait"  # their labels may yet come
    for i in range(12, 20):
        both(made, i)
    assert made.judge() == ("fail", "6 alarms of its own in 0.0042 h that nobody labelled")
    made.labels(labels({(2 * k, "PLC1"): "dos/syn-flood" for k in range(6)}))
    assert made.judge().outcome == "wait"  # it was right


def test_one_that_is_slow_or_loses_windows_fails():
    slow = gate()
    for i in range(20):
        both(slow, i, latency=(0.2, 0.1))
    assert slow.judge() == ("fail", "0.200 s to the verdict, 0.100 s of its parent")
    quick = gate()
    for i in range(20):
        both(quick, i, latency=(0.04, 0.01))  # nobody notices
    assert quick.judge().outcome == "wait"
    late = gate()
    for i in range(50):
        both(late, i, latency=(1.2, 1.1))
    assert late.judge() == ("fail", "1.200 s to the verdict: longer than a window")
    assert late.figures().windows == 20  # it may have been catching up
    gone = gate()
    both(gone, 0)
    for i in range(1, 6):
        gone.served(window(i, A, A), 0.1)
    assert gone.judge() == ("fail", "6 of 8 samples were not judged")  # two windows may be on their way


def test_the_stage_begins_once_the_one_beside_has_caught_up():
    made = gate()
    for i, latency_s in enumerate((4.0, 2.5, 1.1, 0.4, 0.1)):
        both(made, i, latency=(latency_s, 0.1))
    assert made.figures().windows == 2
    assert made.figures().latency_s == pytest.approx(0.25)


def test_in_service_the_parent_is_the_one_beside():
    made = gate(Stage.ACTIVE)
    for i in range(30):
        made.beside(window(i, A, A), 0.2)
        made.served(window(i, A, S), 0.1)
    made.labels(labels({(i, "PLC1"): "benign" for i in range(30)}))
    found = made.figures()
    assert (found.false_alarms, found.parent_false_alarms) == (30, 0)
    assert (found.latency_s, found.parent_latency_s) == (pytest.approx(0.1), pytest.approx(0.2))


@pytest.mark.parametrize("first", ["displaced", "served"])
def test_what_the_canary_displaced_is_the_parents_word(first):
    made = gate(Stage.CANARY)
    made.beside(window(1, A, S), 0.1)
    said = {
        "displaced": lambda: made.displaced(window(1, A, devices=("PLC1",))),
        "served": lambda: made.served(window(1, S, A), 0.1),  # PLC1, HMI: the gravest first
    }
    served = FusedWindow(1, 1, 1, (FusedVerdict("PLC1", S, 0.5, 0.5), FusedVerdict("HMI", A, 0.5, 0.5)))
    said["served"] = lambda: made.served(served, 0.1)
    for name in sorted(said, key=lambda n: n != first):
        said[name]()
    made.labels(labels({(1, "PLC1"): "benign"}))
    assert (made.figures().false_alarms, made.figures().parent_false_alarms) == (1, 0)


def test_only_the_last_windows_are_kept_and_a_clock_set_back_begins_anew():
    made = gate(settings=GateSettings(kept=8))
    for i in range(100, 112):
        both(made, i, (A, S), (A, A))
    made.labels(labels({(i, "PLC1"): "benign" for i in range(100, 112)}))
    assert (made.figures().windows, made.figures().false_alarms) == (8, 8)
    both(made, 3)
    assert made.figures().windows == 1
    assert made.figures().labelled == 0


def test_evidence_by_hand():
    assert more_often(8, 0) == pytest.approx(2**9 * (1 - 2**-9) / 9)
    assert more_often(0, 0) == pytest.approx(1.0)
    assert above_rate(1, 0.5) == pytest.approx(2.5 / 1.5**2)  # (x + 1) / x^2 at x = 1.5
    assert more_often(50_000, 49_000) < 100 < more_often(52_000, 48_000)


def test_looking_at_each_pair_does_not_raise_false_rejections():
    rng = np.random.default_rng(7)
    coins = rng.integers(0, 2, (300, 150)).cumsum(axis=1)
    counts = rng.poisson(0.1, (300, 150)).cumsum(axis=1)
    ever = sum(any(more_often(int(b), n - int(b)) >= 20 for n, b in enumerate(run, 1)) for run in coins)
    over = sum(any(above_rate(int(k), 0.1 * n) >= 20 for n, k in enumerate(run, 1)) for run in counts)
    most = 15 + 10  # 5 % of 300, and 2.6 standard deviations
    assert ever <= most
    assert over <= most
