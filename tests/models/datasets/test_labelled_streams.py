"""Streams of tables, and the published ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.streams import WORDS_OF, from_table, load


def table(labels, **columns):
    return pa.table({"x": list(range(len(labels))), **columns, "y": labels})


def test_a_table_as_it_is():
    found = from_table(
        "t", table(["dos", "normal", "web", "dos"], z=[1.5, None, 2.0, 3.0]), "y", drifts=[3, 1]
    )
    assert found.classes == ("normal", "dos", "web")
    assert found.y.tolist() == [1, 0, 2, 1]
    assert found.columns == ("x", "z")
    assert found.x[1].tolist() == pytest.approx([1, np.nan], nan_ok=True)
    assert found.drifts == (1, 3)


@pytest.mark.parametrize(
    ("labels", "benign", "first"),
    [
        ([1, 0, 1], "", "0"),
        (["UP", "DOWN", "UP"], "", "UP"),  # the most frequent
        (["UP", "DOWN", "UP"], "DOWN", "DOWN"),
        (["0", "normal", "normal", "web"], "0", "0"),
    ],
)
def test_what_counts_as_benign(labels, benign, first):
    assert from_table("t", table(labels), "y", benign=benign).classes[0] == first


def test_all_benign_words_are_one_class():
    found = from_table("t", table(["0", "normal", "BENIGN", "normal", "web", "dos"]), "y")
    assert found.classes == ("normal, 0, BENIGN", "dos", "web")
    assert found.y.tolist() == [0, 0, 0, 0, 2, 1]


def test_words_that_come_later_are_not_known():
    n = WORDS_OF + 10
    words = ["a"] * (WORDS_OF - 1) + ["b"] + ["c"] * 10
    found = from_table("t", table([i % 2 for i in range(n)], word=words), "y")
    assert found.columns == ("x", "word=a", "word=b")
    assert not found.x[-1, 1:].any()


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a", "", "b"], {}, "1 empty cells"),
        (["a", "a"], {}, "1 different labels"),
        (["0", "normal"], {}, "every row is called benign, normal, 0"),
        ([str(i) for i in range(300)], {}, "300 different labels"),
        (["a", "b"], {"benign": "c"}, "no row has the label 'c'"),
        (["a", "b"], {"drifts": [2]}, "within its 2 rows"),
        (["a", "b"], {"drifts": [0]}, "within its 2 rows"),
    ],
)
def test_mistakes(labels, options, message):
    with pytest.raises(DataError, match=message):
        from_table("t", table(labels), "y", **options)


def test_no_such_column():
    with pytest.raises(DataError, match="no column 'label'"):
        from_table("t", table(["a", "b"]), "label")


@pytest.mark.parametrize(
    ("name", "rows", "columns", "drifts"),
    [("sea", 50_000, 3, (12_500, 25_000, 37_500)), ("sea_stream", 40_000, 3, ()), ("elec2", 45_312, 6, None)],
)
def test_the_published_ones(data_dir, name, rows, columns, drifts):
    try:
        found = load(name, data_dir / "drift")
    except DataError as error:
        pytest.skip(str(error))
    assert found.x.shape == (rows, columns)
    assert np.isfinite(found.x).all()
    assert found.classes == ("0", "1")
    assert found.drifts == drifts


def test_absent(tmp_path):
    with pytest.raises(DataError, match="data absent"):
        load("sea_stream", tmp_path)
