"""Labels that come late, partly, or contradict others."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.drift.labels import Labels, Receipt

S = 1_000_000_000
NONE = np.zeros(2, np.bool_)


def kept(windows=10, settle_s=2, seen=5) -> Labels:
    """Windows 1..seen of 1 s of two devices; P(attack) of device 0 is 0.1, of device 1 0.2."""
    labels = Labels(windows, settle_s * S)
    labels.begin(2)
    see(labels, *range(1, seen + 1))
    return labels


def see(labels, *ids, p=(0.1, 0.2)):
    for i in ids:
        labels.see(i, (i - 1) * S, i * S, np.array(p, np.float32), NONE)


def join(labels, windows, devices, attack):
    k = len(windows)
    return labels.join(np.array(windows, np.int64), np.array(devices, np.int64), np.full(k, int(attack)))


def test_a_label_finds_its_window_and_waits_before_it_counts():
    labels = kept()
    assert join(labels, [3, 2], [1, 0], True) == Receipt(joined=2)
    assert not labels.due
    assert len(labels.settled(9).end_ns) == 0
    see(labels, 6, 7)
    assert labels.due
    found = labels.settled(9)
    assert found.end_ns.tolist() == [3 * S, 2 * S]
    assert found.probability.tolist() == pytest.approx([0.2, 0.1])
    assert found.attack.tolist() == [True, True]
    assert len(labels.settled(9).end_ns) == 0  # once


def test_what_is_unknown_expired_or_not_judged_is_counted():
    labels = kept(windows=3)  # 3, 4, 5
    see(labels, 6, p=(np.nan, 0.2))  # 4, 5, 6
    assert join(labels, [3, 4, 6, 6, 99, 5], [0, 0, 0, 1, 0, -1], False) == Receipt(joined=2, expired=4)
    assert (labels.joined, labels.expired) == (2, 4)


def test_a_label_said_twice_counts_once():
    labels = kept(settle_s=0)
    join(labels, [1, 2], [0, 0], True)
    assert join(labels, [2, 3], [0, 0], True) == Receipt(joined=1, known=1)
    assert labels.settled(9).end_ns.tolist() == [S, 2 * S, 3 * S]
    assert join(labels, [3], [0], True) == Receipt(known=1)
    assert not labels.due


def test_contradictory_labels_are_held_back_with_all_that_came_with_them():
    labels = kept(settle_s=0)
    join(labels, [1, 2], [0, 0], False)
    burst = join(labels, [2, 3, 4], [0, 0, 0], True)
    assert burst == Receipt(held_back=3)
    assert labels.held_back == 4  # and the one that it contradicted
    assert labels.settled(9).end_ns.tolist() == [S]
    assert join(labels, [2, 3, 4], [0, 0, 0], True) == Receipt(held_back=3)  # the burst again
    assert join(labels, [1, 2, 3], [0, 0, 0], False) == Receipt(joined=1, known=1, held_back=1)
    assert labels.settled(9).end_ns.tolist() == [3 * S]  # what was contradicted stays so


def test_what_was_learnt_is_not_taken_back():
    labels = kept(settle_s=0)
    join(labels, [1], [0], False)
    labels.settled(9)
    assert join(labels, [1], [0], True) == Receipt(held_back=1)
    assert labels.held_back == 1
    assert join(labels, [1], [0], False) == Receipt(known=1)


def test_at_most_so_many_at_once():
    labels = kept(settle_s=0)
    join(labels, [1, 2, 3], [0, 0, 0], True)
    join(labels, [4], [0], False)
    assert labels.settled(2).end_ns.tolist() == [S, 2 * S]
    rest = labels.settled(9)
    assert rest.end_ns.tolist() == [3 * S, 4 * S]
    assert rest.attack.tolist() == [True, False]


def test_a_window_that_is_gone_when_its_label_counts_has_expired():
    labels = kept(windows=3)
    join(labels, [3, 5], [0, 0], True)
    see(labels, 6, 7)
    assert labels.settled(9).end_ns.tolist() == [5 * S]
    assert (labels.joined, labels.expired) == (2, 1)


def test_windows_within_a_stretch():
    labels = kept(windows=3)  # 3, 4, 5
    for start, end, found, asked in (
        (1.5, 4.0, [3, 4], 2),  # 2 to 4 s: the window of 1.5 s lies in it in part
        (-1e9, 9.0, [3, 4, 5], 5),  # no more than there were: 1 to 5
        (2.5, 2.9, [], 0),
    ):
        ids, whole = labels.within(round(start * S), round(end * S))
        assert (ids.tolist(), whole) == (found, asked)
    assert labels.first_ns == 0
    assert Labels(3, 0).within(0, S)[1] == 0  # no window yet


def test_a_clock_that_goes_back_forgets():
    labels = kept()
    join(labels, [5], [0], True)
    see(labels, 2)
    assert join(labels, [5, 2], [0, 0], True) == Receipt(joined=1, expired=1)


def test_no_labels():
    labels = kept()
    assert join(labels, [], [], True) == Receipt()


@pytest.mark.parametrize("wrong", [(0, 1), (1, -1)])
def test_impossible_settings(wrong):
    with pytest.raises(ValueError, match="window"):
        Labels(*wrong)
