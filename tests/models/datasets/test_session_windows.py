import numpy as np
import pytest

from cellwatch.models.datasets.dataset import DataError, drawn_tests, from_sessions, levels_of
from cellwatch.models.datasets.sessions import SessionWindows, label_windows
from cellwatch.models.types import SEQUENCE

CLASSES = ("benign", "dos/syn-flood", "fault/pump_wear")


def label(incidents, windows=4, devices=("a", "b")):
    return label_windows(10 * np.arange(windows), 10, devices, incidents)


def test_half_a_window_is_enough_and_less_is_not_clear_cut():
    y, clear, which = label([(1, 15, 24, {"a"})])
    assert y[:, 0].tolist() == [0, 1, 0, 0]
    assert clear[:, 0].tolist() == [True, True, False, True]
    assert which[:, 0].tolist() == [-1, 0, -1, -1]
    assert not y[:, 1].any()
    assert clear[:, 1].all()


def test_two_classes_in_one_window_are_not_clear_cut_but_the_longer_one_names_it():
    y, clear, which = label([(1, 0, 12, {"a"}), (2, 12, 30, {"a"})])
    assert y[:, 0].tolist() == [1, 2, 2, 0]
    assert clear[:, 0].tolist() == [True, False, True, True]
    assert which[:, 0].tolist() == [0, 1, 1, -1]


def test_two_incidents_of_one_class_go_together():
    assert label([(1, 0, 10, {"a"}), (1, 5, 20, {"a"})])[1].all()


def session(name, split, seed=0, windows=12, devices=2, attacked=(5, 6)):
    rng = np.random.default_rng(seed)
    y = np.zeros((windows, devices), dtype=np.int16)
    y[list(attacked), 0] = 1
    clear = np.ones(y.shape, dtype=bool)
    clear[7, 0] = False
    values = rng.normal(size=(windows, devices, 3)).astype(np.float32)
    which = np.where(y > 0, 0, -1).astype(np.int16)
    start = 10 * np.arange(windows, dtype=np.int64)
    return SessionWindows(
        name, split, seed, tuple("abc"[:devices]), start, values, y, clear, which,
        np.array([0.25], dtype=np.float32),
    )  # fmt: skip


def data(**more):
    sessions = [session("t", "train"), session("v", "validation", 1), session("x", "test", 2)]
    return sessions, from_sessions(
        sessions, CLASSES, ("p", "q", "r"), name="n", about="", fingerprint="", **more
    )


def test_sequences_are_the_windows_before_of_the_same_device():
    sessions, found = data()
    part = found.train
    whole = sessions[0].values
    for before, time, device in zip(part.before, part.time_ns, part.device, strict=True):
        at = int(time) // 10
        past = np.maximum(np.arange(at - SEQUENCE + 1, at + 1), 0)
        np.testing.assert_array_equal(part.pool[before], whole[past, "ab".index(device)])


def test_rows_that_are_not_clear_cut_are_left_out_and_sizes_follow():
    _, found = data()
    part = found.train
    assert not ((part.time_ns == 70) & (part.device == "a")).any()
    assert np.isnan(part.size[part.y[3] == 0]).all()
    assert (part.size[part.y[3] > 0] == np.float32(0.25)).all()


def test_levels_follow_from_level_3():
    levels = levels_of(CLASSES)
    assert levels[2] == ("benign", "fault", "dos")
    _, found = data()
    attacked = found.tests["test"].y[3] == 1
    assert (found.tests["test"].y[1][attacked] == 1).all()
    assert (found.tests["test"].y[2][attacked] == 2).all()


def test_thinning_keeps_every_attacked_row_and_is_seeded():
    _, few = data(benign=3)
    assert (few.train.y[1] == 0).sum() == 3
    assert (few.train.y[1] > 0).sum() == 2
    _, again = data(benign=3)
    np.testing.assert_array_equal(few.train.x, again.train.x)
    _, other = data(benign=3, seed=1)
    assert not np.array_equal(few.train.x, other.train.x)


def test_what_the_threshold_is_fitted_on_holds_every_clear_row_and_its_hours():
    _, found = data(benign=3)
    assert (found.validation.y[1] == 0).sum() == 1
    assert len(found.running) == 12 * 2 - 1
    share = (12 * 2 - 1 - 2) / (12 * 2)  # one row is not clear-cut, two are attacked
    assert found.facts["benign_hours"] == pytest.approx(120 / 3.6e12 * share)


def test_drawn_tests_are_made_like_those_of_the_set():
    sessions, found = data()
    tests = drawn_tests(sessions[2:], CLASSES)
    assert {name: len(part) for name, part in tests.items()} == {n: len(p) for n, p in found.tests.items()}


def test_no_session_is_in_two_splits():
    _, found = data()
    groups = [set(p.group.tolist()) for p in (found.train, found.validation, found.tests["test"])]
    assert groups == [{"t"}, {"v"}, {"x"}]


def test_a_missing_split_is_said():
    with pytest.raises(DataError, match="no sessions"):
        from_sessions([session("t", "train")], CLASSES, ("p",), name="n", about="", fingerprint="")


def test_a_session_survives_its_file(tmp_path):
    one = session("t", "train")
    one.save(tmp_path / "t.npz")
    back = SessionWindows.load(tmp_path / "t.npz")
    assert (back.name, back.split, back.seed, back.devices) == (one.name, one.split, one.seed, one.devices)
    for name in ("start_ns", "values", "y", "clear", "incident", "sizes"):
        np.testing.assert_array_equal(getattr(back, name), getattr(one, name))
