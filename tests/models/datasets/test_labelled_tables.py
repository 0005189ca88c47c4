import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cellwatch.models.datasets import nsl_kdd
from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.published import PUBLISHED
from cellwatch.models.datasets.tables import SHARES, data_set, encode, given_parts, in_order, read_table


def test_each_class_is_split_in_its_own_order():
    y = np.array([0] * 20 + [1] * 8)
    split = in_order(y)
    for label in (0, 1):
        mine = split[y == label]
        assert (np.diff(mine) >= 0).all()
        assert set(mine) == {0, 1, 2}
    assert (split == 2).sum() == pytest.approx(SHARES[2] * len(y), abs=2)


def test_time_goes_before_the_order_of_rows():
    time = np.arange(10)[::-1]
    split = in_order(np.zeros(10, dtype=int), None, time)
    assert time[split == 0].max() < time[split == 2].min()


def test_groups_are_never_cut():
    group = np.repeat(list("abcdefgh"), 5)
    split = in_order(np.zeros(40, dtype=int), group)
    for name in set(group):
        assert len(set(split[group == name])) == 1
    assert set(split) == {0, 1, 2}


def table(n=40):
    kinds = ["Normal", "DoS", "scan", "normal"]
    return pa.table(
        {
            "bytes": [float(i) for i in range(n)],
            "proto": ["tcp" if i < n - 2 else "only-late" for i in range(n)],
            "host": [f"10.0.0.{i}" for i in range(n)],
            "flag": [i % 2 == 0 for i in range(n)],
            "kind": [kinds[i % 4] for i in range(n)],
        }
    )


def test_words_become_columns_and_only_training_decides_which():
    columns, (x,) = encode([table()], np.arange(40) < 30, ["kind", "host"])
    assert columns == ("bytes", "proto=tcp", "flag")
    assert x.shape == (40, 3)
    assert x[-1, 1] == 0.0


def test_a_column_with_many_words_is_left_out():
    columns, _ = encode([table(150)], None, ["kind"])
    assert "bytes" in columns
    assert not any(name.startswith("host") for name in columns)


def test_any_table_becomes_a_data_set(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(table(), path)
    found = data_set("t", "", read_table(path), "kind", drop=["host"])
    assert found.classes == {1: ("benign", "attack"), 2: ("benign", "dos", "scan")}
    assert len(found.train) + len(found.validation) + len(found.tests["test"]) == 40
    np.testing.assert_array_equal(found.train.y[1], found.train.y[2] > 0)


def test_a_table_without_benign_rows_or_without_the_column_is_refused():
    with pytest.raises(DataError, match="benign"):
        data_set("t", "", table().filter(pa.compute.equal(table()["kind"], "DoS")), "kind")
    with pytest.raises(DataError, match="no column 'label'"):
        data_set("t", "", table(), "label")


def test_missing_and_infinite_cells_are_missing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,kind\n1,,normal\nInfinity,2,dos\n")
    _, (x,) = encode([read_table(path)], None, ["kind"])
    np.testing.assert_array_equal(x, [[1, np.nan], [np.nan, 2]])


def test_a_file_that_is_no_table_is_named(tmp_path):
    with pytest.raises(DataError, match="data absent"):
        read_table(tmp_path / "nothing.csv")
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"bad\.parquet"):
        read_table(bad)


def test_a_published_split_is_kept_and_validation_comes_out_of_training():
    train, test = table(), table(12)
    names = {"normal": "benign", "dos": "dos", "scan": "probe"}
    found = given_parts("t", "", train, {"Test": test}, "kind", names, drop=["host"])
    assert len(found.train) + len(found.validation) == 40
    assert len(found.tests["Test"]) == 12
    assert found.classes[2] == ("benign", "dos", "probe")
    with pytest.raises(DataError, match="unknown label 'scan'"):
        given_parts("t", "", train, {"Test": test}, "kind", {"normal": "benign", "dos": "dos"})


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_absent_table_says_so(name, tmp_path):
    with pytest.raises(DataError, match="data absent"):
        PUBLISHED[name].load(name, tmp_path)


@pytest.mark.parametrize("name", [n for n in PUBLISHED if n.startswith("ton_iot_") and "network" not in n])
def test_ton_iot_learns_nothing_from_time_or_date(name, data_dir):
    if not (data_dir / "ton_iot_telemetry").is_dir():
        pytest.skip("the TON_IoT tables are absent; set CELLWATCH_DATA")
    found = PUBLISHED[name].load(name, data_dir)
    assert not {"ts", "date", "time", "label", "type"} & {c.split("=")[0] for c in found.columns}
    assert found.classes[2][0] == "benign"
    for label in range(len(found.classes[2])):  # in the order of time within each class
        train, test = found.train, found.tests["test"]
        last = train.time_ns[train.y[2] == label].max()
        assert test.time_ns[test.y[2] == label].min() >= last


def test_nsl_kdd_has_its_published_parts(data_dir):
    folder = data_dir / "nsl_kdd"
    if not folder.is_dir():
        pytest.skip("NSL-KDD is absent; set CELLWATCH_DATA")
    found = nsl_kdd.load(folder)
    assert found.classes[2] == ("benign", "dos", "probe", "r2l", "u2r")
    assert len(found.train) + len(found.validation) == 25_192
    assert {name: len(part) for name, part in found.tests.items()} == {"Test+": 22_544, "Test-21": 11_850}
    assert not any(c.startswith(("attack", "difficulty")) for c in found.columns)
