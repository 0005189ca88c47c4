"""Labelled rows of the running cell: joined, with their history, parted by time."""

import numpy as np
import pytest

from cellwatch.models.drift.live_rows import live_rows, parted
from cellwatch.models.types import SEQUENCE, FeatureWindow, SettledLabels

S = 1_000_000_000
CLASSES = {
    1: ("benign", "attack"),
    2: ("benign", "dos", "recon"),
    3: ("benign", "dos/syn-flood", "recon/os-scan"),
}
NOBODY = np.zeros(0, np.uint32), np.zeros((0, 0), np.float32)


def window(number, devices=("a", "b"), value=None, **more):
    values = np.array([[10.0 * number + i if value is None else value] for i in range(len(devices))])
    return FeatureWindow(
        number, (number - 1) * S, number * S, number * S, "s", devices, values.astype(np.float32), (),
        *NOBODY, **more,
    )  # fmt: skip


def labels(said, devices=("a", "b"), at_ns=0):
    """`said`: (window, device, class)."""
    classes = tuple(dict.fromkeys(name for _, _, name in said))
    return SettledLabels(
        at_ns, devices, classes,
        np.array([w for w, _, _ in said], np.int64),
        np.array([devices.index(d) for _, d, _ in said], np.int64),
        np.array([classes.index(c) for _, _, c in said], np.int64),
    )  # fmt: skip


def test_a_row_is_a_labelled_window_of_a_device_with_its_last_windows():
    rows = live_rows(
        [window(k) for k in range(1, 11)], [labels([(10, "b", "benign"), (3, "a", "dos")])], CLASSES
    )
    assert rows.part.device.tolist() == ["a", "b"]
    assert rows.window_id.tolist() == [3, 10]
    assert rows.time_ns.tolist() == [3 * S, 10 * S]
    past = rows.part.pool[rows.part.before][..., 0]
    assert past[0].tolist() == [10.0] * (SEQUENCE - 2) + [20.0, 30.0]  # the first is repeated to the left
    assert past[1].tolist() == [10.0 * k + 1 for k in range(3, 11)]


@pytest.mark.parametrize("missing", ["the window", "the device"])
def test_what_is_missing_ends_the_history(missing):
    lost = [] if missing == "the window" else [window(3, ("b",))]
    seen = [window(1), window(2), *lost, window(4), window(5)]
    rows = live_rows(seen, [labels([(5, "a", "benign")])], CLASSES)
    assert rows.part.pool[rows.part.before][0, :, 0].tolist() == [40.0] * (SEQUENCE - 1) + [50.0]


def test_a_class_is_known_as_far_as_its_label_says():
    said = ["benign", "attack", "dos", "dos/syn-flood", "dos/new", "odd/new"]
    rows = live_rows(
        [window(k + 1) for k in range(6)], [labels([(k + 1, "a", c) for k, c in enumerate(said)])], CLASSES
    )
    assert rows.part.y[1].tolist() == [0, 1, 1, 1, 1, 1]
    assert rows.part.y[2].tolist() == [0, -1, 1, 1, 1, -1]
    assert rows.part.y[3].tolist() == [0, -1, -1, 1, -1, -1]
    assert [rows.names[k] for k in rows.label] == said


def test_the_later_label_and_the_later_window_count_and_strange_labels_do_not():
    rows = live_rows(
        [window(1), window(2), window(2, value=7.0)],
        [
            labels([(2, "a", "dos"), (9, "a", "dos")]),
            labels([(2, "a", "benign")]),
            labels([(1, "z", "dos")], devices=("z",)),
        ],
        CLASSES,
    )
    assert (rows.window_id.tolist(), rows.attack.tolist(), rows.part.x.tolist()) == ([2], [False], [[7.0]])


def test_windows_of_the_commissioning_give_no_row():
    rows = live_rows([window(1, commissioning=True), window(2)],
                     [labels([(1, "a", "benign"), (2, "a", "benign")])], CLASSES)  # fmt: skip
    assert rows.window_id.tolist() == [2]
    assert rows.part.pool[rows.part.before][0, -2:, 0].tolist() == [10.0, 20.0]


def test_without_windows_or_labels_there_is_no_row():
    assert len(live_rows([], [labels([(1, "a", "dos")])], CLASSES)) == 0
    assert len(live_rows([window(1)], [], CLASSES)) == 0


def test_windows_of_two_schemas_are_refused():
    other = FeatureWindow(2, S, 2 * S, 2 * S, "t", ("a",), np.zeros((1, 1), np.float32), (), *NOBODY)
    with pytest.raises(ValueError, match="several schemas"):
        live_rows([window(1), other], [], CLASSES)


def test_the_adaptation_set_holds_each_sample_once_by_its_true_label():
    rows = live_rows([window(1), window(2)], [labels([(1, "a", "benign"), (2, "b", "dos")])], CLASSES)
    both = rows.adaptation()
    assert both.benign.ids.tolist() == ["1/a"]
    assert both.attack.ids.tolist() == ["2/b"]
    assert both.attack.x.tolist() == [[21.0]]
    assert rows.names[both.attack.y[0]] == "dos"


def stretch(attacked, n=20):
    """Windows 1..n of one device, attacked in some."""
    said = [(k, "a", "dos" if k in attacked else "benign") for k in range(1, n + 1)]
    return live_rows([window(k) for k in range(1, n + 1)], [labels(said)], CLASSES)


def test_the_first_share_is_learnt_from_the_last_is_held_out():
    learn, held = parted(stretch(()), 0.7, attacks=False)
    assert (learn.window_id.tolist(), held.window_id.tolist()) == (list(range(1, 15)), list(range(15, 21)))


def test_an_attack_is_not_cut():
    learn, held = parted(
        stretch({1, 2, 14, 15, 16}), 0.7, attacks=True
    )  # the third of five: in the second attack
    assert held.window_id.tolist() == list(range(14, 21))
    assert learn.attack.sum() == 2


def test_a_single_attack_is_cut():
    learn, held = parted(stretch(set(range(6, 16))), 0.7, attacks=True)
    assert (learn.attack.sum(), held.attack.sum()) == (7, 3)


def test_nothing_is_held_out_of_what_is_not_there():
    learn, held = parted(stretch(()), 0.7, attacks=True)
    assert (len(learn), len(held)) == (20, 0)
