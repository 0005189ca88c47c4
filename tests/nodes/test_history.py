from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwatch.nodes.drivers.line_protocol import line, parse_line
from cellwatch.nodes.drivers.store import Recorder, RecorderSettings
from cellwatch.nodes.history import History

NOW = 1_700_000_000_000_000_000
SECOND = 10**9
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    # Look-alikes cannot be told from what they stand for.
    lambda s: not any(c in "\uff3c\uff02" or 0x2400 <= ord(c) < 0x2420 for c in s)
)
FIELD = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), TEXT
)


def history(folder, *lines, **settings):
    recorder = Recorder(folder, RecorderSettings(**settings))
    for one in lines:
        recorder.append(one.encode(), one.count("\n"))
        if settings:
            recorder.flush()
    recorder.close()
    return History(folder)


def tag(name, value, at, **more):
    fields = {"value": float(value), "status": 0, "quality": 0} | more
    return line("tags", {"tag": name, "plc": "p", "device": "d"}, fields, NOW + at * SECOND)


@pytest.fixture
def ramp(tmp_path):
    """Tag `a` counts up once a second, 100 of them over many segments; `b` is its tenfold."""
    lines = [tag("a", i, i) + tag("b", 10 * i, i) for i in range(100)]
    return history(tmp_path, *lines, segment_bytes=2000, sync_s=0.001)


def test_a_series_of_a_range_as_recorded(ramp):
    found = ramp.series("tags", "value", {"tag": "a"}, NOW + 10 * SECOND, NOW + 13 * SECOND)
    assert found.time_ns.tolist() == [NOW + i * SECOND for i in (10, 11, 12)]
    assert found.low.tolist() == found.high.tolist() == [10, 11, 12]
    assert ramp.span() == (NOW, NOW + 99 * SECOND)
    assert ramp.measurements(NOW + 98 * SECOND) == {"tags": 4}
    assert ramp.tags("tags") == {"device": ("d",), "plc": ("p",), "tag": ("a", "b")}


def test_a_series_in_few_stretches_keeps_its_extremes(ramp):
    found = ramp.series("tags", "value", {"tag": "a"}, NOW, NOW + 100 * SECOND, points=4)
    assert ((found.time_ns - NOW) // SECOND).tolist() == [0, 25, 50, 75]
    assert found.low.tolist() == [0, 25, 50, 75]
    assert found.high.tolist() == [24, 49, 74, 99]
    both = ramp.series("tags", "value", {"tag": ("a", "b")}, NOW, NOW + 100 * SECOND, points=1)
    assert (both.low.tolist(), both.high.tolist()) == ([0], [990])


def test_curves_are_one_for_each_series(ramp):
    found = ramp.curves("tags", "value", {"plc": "p"}, NOW + 97 * SECOND)
    assert [dict(tags)["tag"] for tags in found] == ["a", "b"]
    assert [curve.low.tolist() for curve in found.values()] == [[97, 98, 99], [970, 980, 990]]
    assert ramp.curves("tags", "value", {"tag": "nobody"}) == {}


@pytest.mark.parametrize("column", ["nothing", "text"])
def test_a_column_without_numbers_is_an_empty_series(tmp_path, column):
    found = history(tmp_path, line("m", {}, {"text": "value=3", "value": 4.0}, 5)).series("m", column)
    assert (len(found.time_ns), len(found.low), len(found.high)) == (0, 0, 0)


def test_numbers_are_found_behind_text_that_looks_like_them(tmp_path):
    text = line("m", {}, {"a": 'x ,value=9 "q",', "b,value": 7, "value": -2.5e-3, "on": True}, 5)
    found = history(tmp_path, text)
    assert found.series("m", "value").low.tolist() == [-2.5e-3]
    assert found.series("m", "b,value").low.tolist() == [7]
    assert found.series("m", "on").low.tolist() == [1]


def test_what_was_recorded_again_counts_once_and_the_later_wins_field_by_field(tmp_path):
    lines = [tag("a", 1, 0), tag("a", 5, 1), tag("a", 2, 0, status=7)]
    lines.append(line("tags", {"tag": "a", "plc": "p", "device": "d"}, {"quality": 2}, NOW))
    found = history(tmp_path, *lines)
    assert found.series("tags", "value").low.tolist() == [2, 5]
    rows = found.table("tags", ["value", "status", "quality"]).to_pylist()
    assert [(r["value"], r["status"], r["quality"]) for r in rows] == [(2, 7, 2), (5, 0, 0)]


@pytest.mark.parametrize("name", ["LIC1", "LIC10", "LIC1 x", "a,tag=LIC1", "b\\"])
def test_one_series_of_many_with_names_alike(tmp_path, name):
    names = ("LIC1", "LIC10", "LIC1 x", "a,tag=LIC1", "b\\", *map(str, range(30)))
    lines = [tag(each, k, k, note="x ,tag=LIC1 value=3") for k in range(3) for each in names]
    found = history(tmp_path, *lines)
    for where in ({"tag": name}, {"tag": (name,)}, {"plc": "p", "tag": name}):
        assert found.series("tags", "value", where).low.tolist() == [0, 1, 2]
        assert set(found.table("tags", where=where)["tag"].to_pylist()) == {name}


def test_a_table_has_times_tags_and_fields_with_their_types(tmp_path):
    lines = [
        line("m", {"device": "Füll, 1"}, {"n": 2**62, "x": 0.1, "ok": False, "text": 'a "b" \\ c,d=e\n'}, 9),
        line("m", {"plc": "p"}, {"x": 2.0}, 8),
        line("other", {}, {"x": 3.0}, 8),
    ]
    table = history(tmp_path, *lines).table("m")
    assert {each.name: str(each.type) for each in table.schema} == {
        "time": "timestamp[ns, tz=UTC]", "device": "string", "plc": "string",
        "n": "int64", "x": "double", "ok": "bool", "text": "string",
    }  # fmt: skip
    assert table["time"].cast(pa.int64()).to_pylist() == [8, 9]
    late = table.slice(1).drop_columns("time").to_pylist()[0]
    assert late == {
        "device": "Füll, 1", "plc": None, "n": 2**62, "x": 0.1, "ok": False, "text": 'a "b" \\ c,d=e\n',
    }  # fmt: skip


@given(st.dictionaries(TEXT, FIELD, min_size=1, max_size=4), st.dictionaries(TEXT, TEXT, max_size=3))
def test_any_point_comes_back_as_it_was(tmp_path_factory, fields, tags):
    text = line("m x", tags, fields, NOW)
    found = history(tmp_path_factory.mktemp("any"), text).table("m x").to_pylist()[0]
    expected = parse_line(text.encode())
    assert [found.get(key) for key in expected.tags if key != "time"] == [
        v for k, v in expected.tags.items() if k != "time"
    ]
    for name, value in expected.fields.items():
        if name != "time" and name not in expected.tags:
            assert found[name] == value


def test_a_field_that_changed_its_type_becomes_a_float_or_text(tmp_path):
    lines = [line("m", {}, {"a": 1, "b": 1}, 1), line("m", {}, {"a": 0.5, "b": "x"}, 2)]
    for one in (history(tmp_path / "one", *lines), history(tmp_path / "two", *lines)):
        table = one.table("m")
        assert table["a"].to_pylist() == [1.0, 0.5]
        assert table["b"].to_pylist() == ["1", "x"]


def test_every_is_the_mean_with_extremes_and_the_worst_quality(tmp_path):
    lines = [tag("a", v, i, quality=q) for i, (v, q) in enumerate([(1, 0), (2, 2), (6, 0), (5, 1)])]
    table = history(tmp_path, *lines).table("tags", every_ns=3 * SECOND)  # NOW is no multiple of 3 s
    start = NOW // (3 * SECOND) * 3 * SECOND
    assert table["time"].cast(pa.int64()).to_pylist() == [start, start + 3 * SECOND]
    assert table["value"].to_pylist() == [1.0, pytest.approx(13 / 3)]
    assert table["value_min"].to_pylist() == [1, 2]
    assert table["value_max"].to_pylist() == [1, 6]
    assert table["quality"].to_pylist() == [0, 2]


def test_an_unknown_column_names_those_there_are(ramp):
    with pytest.raises(ValueError, match="tags has no field speed; it has value, status, quality"):
        ramp.table("tags", ["speed"])
    assert ramp.table("nothing", ["speed"]).num_rows == 0


def test_a_damaged_block_costs_its_points_alone(ramp):
    path = sorted(ramp.store.folder.glob("*.lp"))[2]
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    assert ramp.table("tags").num_rows == 198
    assert not np.isnan(ramp.series("tags", "value").low).any()


def test_it_reads_while_the_log_is_written_and_old_segments_go(tmp_path):
    recorder = Recorder(tmp_path, RecorderSettings(segment_bytes=5000, max_bytes=20_000, sync_s=0.001))
    found, done = History(tmp_path), threading.Event()

    def write():
        for i in range(300):
            recorder.append(tag("a", i, i).encode(), 1)
            recorder.flush()
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        series = found.series("tags", "value")
        assert series.low.tolist() == sorted(series.low)
    thread.join()
    recorder.close()
    assert found.series("tags", "value").low[-1] == 299


def test_no_record(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no recording in .*nowhere"):
        History(tmp_path / "nowhere")
    empty = History(tmp_path)
    assert (empty.span(), empty.measurements(), empty.tags("tags")) == ((0, 0), {}, {})
    assert empty.table("tags").num_rows == 0
