"""Published data in our form: Lemay's captures, DataSense's hour, sequences of their windows."""

import numpy as np
import pytest

from cellwatch.models.datasets.dataset import DataError, histories
from cellwatch.models.features.schema import default_schema
from cellwatch.models.types import SEQUENCE
from cellwatch.nodes import lemay
from cellwatch.nodes.data_sources import open_data, training_only


def test_a_sequence_stays_within_device_and_session_and_stops_at_a_gap():
    session = np.array(["s"] * 6 + ["t"] * 2)
    device = np.array(["a", "b"] * 3 + ["a", "a"])
    time_ns = np.array([0, 0, 10, 10, 30, 20, 40, 50])  # a: gap between 10 and 30
    before = histories(session, device, time_ns, 10)
    last = before[:, -1].tolist()
    assert last == list(range(8))
    for i, row in enumerate(before):
        assert set(device[row]) == {device[i]}
        assert set(session[row]) == {session[i]}
    assert before[2].tolist() == [0] * (SEQUENCE - 1) + [2]
    assert before[4].tolist() == [4] * SEQUENCE
    assert before[5].tolist() == [1] * (SEQUENCE - 2) + [3, 5]


def test_lemay_has_the_windows_that_its_labels_call_malicious(data_dir):
    folder = data_dir / "lemay_modbus"
    if not folder.is_dir():
        pytest.skip("Lemay's captures are absent; set CELLWATCH_DATA")
    found = {name: data for data in lemay.load(folder) for name in data.tests}
    counts = {name: (len(d.tests[name]), int(d.tests[name].y[1].sum())) for name, d in found.items()}
    assert counts == {"CnC": (8, 2), "moving files": (20, 4)}
    for name, data in found.items():
        assert name not in set(data.train.group)
        assert data.columns == default_schema().names
        assert {0, 1} == set(data.train.y[1])


def test_lemay_refuses_labels_of_another_capture(data_dir, tmp_path):
    folder = data_dir / "lemay_modbus"
    if not folder.is_dir():
        pytest.skip("Lemay's captures are absent; set CELLWATCH_DATA")
    stem = lemay.CAPTURES["CnC"]
    (tmp_path / f"{stem}.pcap").symlink_to(folder / f"{stem}.pcap")
    (tmp_path / f"{stem}_labeled.csv").write_text("1;0\n2;1\n")
    with pytest.raises(DataError, match="not the labels"):
        lemay.windows(tmp_path, stem)


def test_the_benign_hour_is_a_test_and_nothing_to_train_on(data_dir, tmp_path):
    if not (data_dir / "datasense").is_dir():
        pytest.skip("DataSense is absent; set CELLWATCH_DATA")
    (data,) = open_data("datasense", tmp_path)
    assert {name: len(part) for name, part in data.tests.items()} == {"benign hour": 13_680}
    part = data.tests["benign hour"]
    assert not part.y[1].any()
    assert (part.device[part.before] == part.device[:, None]).all()
    assert data.facts["window_s"] == 10.0
    with pytest.raises(DataError, match="only benign rows"):
        training_only(data)


def test_a_test_seed_is_for_simulated_sites(tmp_path):
    with pytest.raises(DataError, match="--test-seed"):
        open_data("nsl_kdd", tmp_path, test_seed=1)
    with pytest.raises(DataError, match="nsl_kdd: --device names a column of a table"):
        open_data("nsl_kdd", tmp_path, device="d")
