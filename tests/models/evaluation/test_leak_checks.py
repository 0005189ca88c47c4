import numpy as np

from cellwatch.models.evaluation.leaks import Rows, check, duplicates, unknown


def rows(x, y=None, group=None, time_ns=None):
    x = np.asarray(x, dtype=np.float32)
    return Rows(
        x,
        np.zeros(len(x), dtype=np.int64) if y is None else np.asarray(y),
        np.full(len(x), "a") if group is None else np.asarray(group),
        None if time_ns is None else np.asarray(time_ns, dtype=np.int64),
    )


def by_name(checks):
    return {one.name: one for one in checks}


def test_duplicate_rows_and_those_with_another_label_are_found():
    train = rows([[1, 2], [3, 4], [np.nan, 5]], [0, 1, 0])
    test = rows([[1, 2], [3, 4], [np.nan, 5], [7, 8]], [0, 0, 0, 1])
    found, other = duplicates(train, test)
    assert found.tolist() == [0, 1, 2]
    assert other.tolist() == [1]
    assert not by_name(check(train, test, in_time=False))["duplicate rows"].ok


def test_negative_zero_is_zero_and_an_all_missing_row_says_nothing():
    train = rows([[0.0, 1.0], [np.nan, np.nan]])
    test = rows([[-0.0, 1.0], [np.nan, np.nan]])
    assert duplicates(train, test)[0].tolist() == [0]


def test_a_session_on_both_sides_is_named():
    one = by_name(check(rows([[1.0]], group=["run-7"]), rows([[2.0]], group=["run-7"]), in_time=False))
    assert not one["session overlap"].ok
    assert "run-7" in one["session overlap"].detail
    other = by_name(check(rows([[1.0]], group=["run-7"]), rows([[2.0]], group=["run-8"]), in_time=False))
    assert other["session overlap"].ok


def test_a_test_row_before_the_end_of_training_breaks_a_promise_of_time():
    train, test = rows([[1.0], [2.0]], time_ns=[0, 100]), rows([[3.0], [4.0]], time_ns=[50, 200])
    checks = by_name(check(train, test, in_time=True))
    assert not checks["time order"].ok
    assert checks["time order"].found == 0.5
    assert by_name(check(train, test, in_time=False))["time order"].ok is None
    later = rows([[3.0]], time_ns=[101])
    assert by_name(check(train, later, in_time=True))["time order"].ok


def test_each_class_has_a_time_of_its_own():
    train = rows([[1.0], [2.0]], y=[0, 1], time_ns=[0, 100])
    test = rows([[3.0], [4.0], [5.0]], y=[0, 1, -1], time_ns=[50, 99, 1])
    assert by_name(check(train, test, in_time=True))["time order"].found == 1 / 3


def test_what_is_not_known_is_never_fine():
    bare = check(rows([[1.0]], group=[""]), rows([[2.0]], group=["a"]), in_time=True)
    assert {one.name: one.ok for one in bare} == {
        "duplicate rows": True,
        "session overlap": None,
        "time order": None,
    }
    assert {one.ok for one in unknown("trained elsewhere")} == {None}
