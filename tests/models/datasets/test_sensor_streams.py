"""SKAB, TON_IoT and NAB as tag streams through the same assembler as a live PLC."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from cellwatch.models.datasets import nab, skab, ton_iot
from cellwatch.models.datasets.stream import NORMAL, DatasetError, TagStream, stream
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import AVG, MAX, MIN, SAMPLES
from cellwatch.models.features.window import FeatureAssembler, windows_from_recording
from cellwatch.models.types import FeatureWindow, TagInfo

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[4] / "shared" / "data"))
S = 1_000_000_000


def needed(*parts: str) -> Path:
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is absent; set CELLWATCH_DATA")
    return path


def windows_of(found: TagStream, window_s: float) -> list[FeatureWindow]:
    core = FeatureAssembler(default_schema(), window_s)
    windows = windows_from_recording(core, [found.catalog], found.batches)
    assert not any(core.counters.values()), core.counters
    return windows


def check_statistics(found: TagStream, windows: list[FeatureWindow]) -> int:
    """The tag matrix against plain numpy over the samples."""
    tag = np.concatenate([b.tag for b in found.batches])
    value = np.concatenate([b.value for b in found.batches])
    at = np.concatenate([b.source_ns for b in found.batches])
    compared = 0
    full = [w for w in windows if w.tag_values[:, SAMPLES].any()]
    for window in full[:: max(1, len(full) // 40)]:
        inside = (at >= window.start_ns) & (at < window.end_ns)
        for i in range(len(window.tags)):
            mine = value[inside & (tag == i)]
            assert window.tag_values[i, SAMPLES] == len(mine)
            if len(mine):
                want = [mine.mean(), mine.min(), mine.max()]
                np.testing.assert_allclose(window.tag_values[i, [AVG, MIN, MAX]], want, rtol=1e-5)
                compared += 1
    return compared


def test_skab() -> None:
    path = needed("skab", "data", "valve1", "0.csv")
    found = skab.read(path)
    assert [tag.device for tag in found.catalog.tags].count("motor") == 3
    windows = windows_of(found, 10.0)
    assert check_statistics(found, windows) > 100
    with path.open() as handle:
        rows = list(csv.DictReader(handle, delimiter=";"))
    assert (found.labels == "anomaly").sum() == sum(float(r["anomaly"]) for r in rows) > 0
    labels = found.window_labels(windows)
    assert {NORMAL, "anomaly"} == set(labels)
    for window, label in zip(windows, labels, strict=True):
        inside = (found.time_ns >= window.start_ns) & (found.time_ns < window.end_ns)
        assert (label == "anomaly") == (found.labels[inside] == "anomaly").any()


def test_the_run_without_anomalies_is_normal() -> None:
    found = skab.read(needed("skab", "data", "anomaly-free", "anomaly-free.csv"))
    assert set(found.labels) == {NORMAL}
    assert set(found.window_labels(windows_of(found, 60.0))) == {NORMAL}


@pytest.mark.parametrize("device", ["Fridge", "Modbus", "Thermostat"])
def test_ton_iot(device: str) -> None:
    path = needed("ton_iot_telemetry", f"Train_Test_IoT_{device}.csv")
    found = ton_iot.read(path)
    assert {tag.device for tag in found.catalog.tags} == {device.lower()}
    assert (np.diff(found.time_ns) >= 0).all()
    text = path.read_text(encoding="utf-8-sig").splitlines()
    assert len(found.labels) == len(text) - 1
    assert set(found.labels) == {line.rsplit(",", 1)[-1].strip() for line in text[1:]}
    windows = windows_of(found, 600.0)
    assert check_statistics(found, windows) > 10
    assert "injection" in found.window_labels(windows)


def test_nab() -> None:
    folder = needed("nab")
    found = nab.read(folder / "machine_temperature_system_failure.csv", folder / "combined_windows.json")
    windows = windows_of(found, 3600.0)
    assert check_statistics(found, windows) > 20
    wrong = found.time_ns[found.labels == "failure"]
    assert np.count_nonzero(np.diff(wrong) > 3600 * S) == 3  # four stretches
    assert 0 < found.window_labels(windows).count("failure") < len(windows)


def test_ton_iot_texts_and_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "Train_Test_IoT_Garage.csv"
    rows = ["0,high,2.5", "1,,", "true,LOW ,3", "false,high,4"]
    lines = [f"{1000 + i},d,t,{cells},0,normal" for i, cells in enumerate(rows)]
    path.write_text("\n".join(["ts,date,time,signal,level,number,label,type", *lines]))
    found = ton_iot.read(path)
    got: dict[str, list[tuple[int, float]]] = {tag.name: [] for tag in found.catalog.tags}
    for batch in found.batches:
        for tag, value, at in zip(batch.tag, batch.value, batch.source_ns, strict=True):
            got[found.catalog.tags[tag].name].append((int(at) // S - 1000, float(value)))
    assert got == {
        "signal": [(0, 0), (1, 1), (2, 1), (3, 0)],
        "level": [(0, 0), (2, 1), (3, 0)],  # high, low; an empty cell is no sample
        "number": [(0, 2.5), (2, 3), (3, 4)],
    }


def test_rows_in_any_order_and_gaps(tmp_path: Path) -> None:
    at = np.array([3, 1, 2], dtype=np.int64) * S
    values = np.array([[3.0, np.nan], [1.0, 10.0], [2.0, 20.0]])
    found = stream(
        "x", [TagInfo("a", "a", "d"), TagInfo("b", "b", "d")], at, values, np.array(["w", NORMAL, NORMAL])
    )
    (batch,) = found.batches
    assert batch.source_ns.tolist() == [S, S, 2 * S, 2 * S, 3 * S]
    assert batch.value.tolist() == [1, 10, 2, 20, 3]
    assert found.labels.tolist() == [NORMAL, NORMAL, "w"]
    (tmp_path / "t.csv").write_text("a;b\n1;2\n")
    with pytest.raises(DatasetError, match="no column 'datetime'"):
        skab.read(tmp_path / "t.csv")
