"""Recorded tables: reading, refusing, serving."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest
from asyncua import ua

from cellwatch.plc_sim.replay import Replay
from cellwatch.plc_sim.table import TableError, read_table

SMALL = """datetime;Flow rate;Pressure;Comment;anomaly;changepoint
2020-03-09 10:14:33;1.0;5,5;start;0.0;0.0
2020-03-09 10:14:35;2.0;;ok;0.0;0.0
2020-03-09 10:14:37;3.0;7.5;ok;1.0;1.0
2020-03-09 10:14:39;4.0;8.5;ok;1.0;0.0
2020-03-09 10:14:41;5.0;nan;ok;0.0;0.0
2020-03-09 10:14:43;6.0;10.5;end;1.0;0.0
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.csv"
    path.write_text(SMALL)
    return path


def test_table(small):
    table = read_table(small)
    assert table.names == ("Flow_rate", "Pressure")
    assert table.step_s == 2.0
    assert table.anomalies == ((2, 4), (5, 6))
    assert table.values[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isnan(table.values[:, 1]).tolist() == [False, True, False, False, True, False]
    assert table.values[0, 1] == 5.5
    assert [w.split(": ", 1)[1] for w in table.warnings] == ["column 'Comment' is not numeric and is skipped"]


def test_labels_follow_the_speed(small):
    replay = Replay(read_table(small), speed=4.0, commission_rows=3)
    assert (replay.step_s, replay.commission_s, replay.duration_s) == (0.5, 1.5, 3.0)
    one, two = replay.labels(10**9)
    assert (one.onset_ns, one.end_ns) == (2 * 10**9, 3 * 10**9)
    assert (two.onset_ns, two.end_ns) == (3_500_000_000, 4 * 10**9)
    assert (one.kind, one.category, one.type, one.device) == ("fault", "fault", "anomaly", "PLC1")
    values, status = replay.row(1)
    assert values == [2.0, 0.0]
    assert status == [0, 0x809B0000]


@pytest.mark.parametrize("mark", [",", "\t", ";"])
def test_separators_and_epoch_times(tmp_path, mark):
    path = tmp_path / "t.csv"
    rows = [["timestamp", "a", "b"], ["1700000000000", "1", "2"], ["1700000000250", "3", "4"]]
    path.write_text("\n".join(mark.join(row) for row in rows))
    table = read_table(path)
    assert table.names == ("a", "b")
    assert table.step_s == 0.25
    assert table.values.tolist() == [[1, 2], [3, 4]]


def test_no_header_no_time(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("1,2\n3,4\n5,6\n")
    table = read_table(path)
    assert table.names == ("C1", "C2")
    assert (len(table), table.step_s) == (3, 1.0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"a,b\n", "0 rows below the header"),
        (b"time,text\n2020-01-01,x\n2020-01-02,y\n", "no numeric column"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\xff\xfe", "not a table"),
        (b"a,b\0\n1,2\n3,4\n", "binary data"),
        (b"once upon a time, there was\na king\nand, so, it, went\non\n", "not a table"),
        (b"a,b,c\n1,2,3\n1\n2\n3,4,5\n", "not a table"),
    ],
)
def test_what_is_not_a_table(tmp_path, content, expected):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(TableError) as error:
        read_table(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_skab(data_dir):
    table = read_table(data_dir / "skab" / "data" / "valve1" / "0.csv")
    assert table.names == (
        "Accelerometer1RMS", "Accelerometer2RMS", "Current", "Pressure",
        "Temperature", "Thermocouple", "Voltage", "Volume_Flow_RateRMS",
    )  # fmt: skip
    assert table.step_s == 1.0
    assert len(table) == 1147
    assert sum(end - first for first, end in table.anomalies) == 401
    assert table.anomalies[0][0] > 400
    assert not table.warnings


def test_served_row_by_row(live_plant, small, tmp_path):
    labels = tmp_path / "labels.json"
    with live_plant("--replay", small, "--speed", 5, "--labels", labels, "--commission-rows", 2) as plant:
        ready = plant.ready
        assert ready["rows"] == 6
        assert [ready[k] for k in ("step_s", "commission_s", "duration_s")] == pytest.approx([0.4, 0.8, 2.4])
        assert ready["tags"] == ["Flow_rate", "Pressure"]

        async def talk():
            async with live_plant.connected(plant) as (client, tag):
                got = {"Flow_rate": [], "Pressure": []}

                class Handler:
                    def datachange_notification(self, node, _val, data):
                        value = data.monitored_item.Value
                        got[node.nodeid.Identifier.split(".")[1]].append((value, time.time()))

                subscription = await client.create_subscription(50, Handler())
                for name in got:
                    await subscription.subscribe_data_change(await tag(name))
                await asyncio.sleep(1.0)
                assert [len(values) for values in got.values()] == [1, 1]  # the first row is held
                with pytest.raises(ua.uaerrors.BadNotWritable):
                    await (await tag("Pressure")).write_value(1.0)
                started = plant.start()["at_ns"]
                await asyncio.to_thread(plant.wait, "end")
                await asyncio.sleep(0.3)
                return got, started

        got, started = asyncio.run(talk())
        flow = [v.Value.Value for v, _ in got["Flow_rate"]]
        assert flow[-6:] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        bad = [v.StatusCode.value for v, _ in got["Pressure"] if v.Value.Value is None]
        assert bad == [0x809B0000, 0x809B0000]
        row_3 = next(v for v, _ in got["Flow_rate"] if v.Value.Value == 3.0)
        assert row_3.SourceTimestamp.timestamp() == pytest.approx(started * 1e-9 + 0.8, abs=0.15)
        incidents = json.loads(labels.read_text())["incidents"]
        assert incidents[0]["onset_ns"] == started + 800_000_000
        end = next(event for event in plant.seen if event["event"] == "end")
        assert end["reason"] == "end of file"
        code, err = plant.stop()
        assert code == 0
        assert err.count("\n") == 1
        assert "'Comment'" in err
