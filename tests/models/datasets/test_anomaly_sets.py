"""SECOM, MNIST and SKAB as rows for detectors of anomalies: made-up files, and the real ones."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from cellwatch.models.datasets import mnist, secom, skab
from cellwatch.models.datasets.dataset import DataError

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[4] / "shared" / "data"))


def real(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is absent; set CELLWATCH_DATA")
    return DATA / name


def write_secom(folder: Path, rows: str, labels: str) -> Path:
    (folder / "secom.data").write_text(rows)
    (folder / "secom_labels.data").write_text(labels)
    return folder


def test_secom_rows_come_in_the_order_of_time(tmp_path: Path) -> None:
    labels = '-1 "20/07/2008 11:55:00"\n1 "03/08/2008 00:00:00"\n1 "19/07/2008 13:17:00"\n'
    found = secom.load(write_secom(tmp_path, "1 NaN\n2 5\n3 6\n", labels))
    assert found.x[:, 0].tolist() == [3, 1, 2]  # 19 July, 20 July, 3 August: days first
    assert np.isnan(found.x[1, 1])
    assert found.y.tolist() == [True, False, True]
    assert found.columns == ("s000", "s001")


@pytest.mark.parametrize(
    ("rows", "labels", "says"),
    [
        ("1 2\n", "", "0 labels"),
        ("1 2\n", "yes 1\n", "not SECOM"),
        ("1 2\n", '1 "1 July"\n', "not SECOM"),
        ("1 x\n", "", "not SECOM"),
    ],
)
def test_secom_says_what_is_wrong(tmp_path: Path, rows: str, labels: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        secom.load(write_secom(tmp_path, rows, labels))
    with pytest.raises(DataError, match="data absent"):
        secom.load(tmp_path / "nowhere")


def test_real_secom() -> None:
    found = secom.load(real("secom"))
    assert found.x.shape == (1567, 590)
    assert found.y.sum() == 104
    assert found.time_ns is not None
    assert (np.diff(found.time_ns) >= 0).all()


def write_mnist(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    for part in ("train", "t10k"):
        for kind, data in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes((0, 0, 8, data.ndim)) + np.array(data.shape, dtype=">u4").tobytes()
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + data.tobytes()))
    return folder


def test_mnist_keeps_the_publishers_split(tmp_path: Path) -> None:
    images = np.arange(3 * 784, dtype=np.uint8).reshape(3, 28, 28)
    found = mnist.load(write_mnist(tmp_path, images, np.array([7, 0, 9], dtype=np.uint8)))
    assert found.label.tolist() == [7, 0, 9, 7, 0, 9]
    assert found.test is not None
    assert found.test.tolist() == [False] * 3 + [True] * 3
    assert found.x[1, 29] == images[1, 1, 1]
    assert found.columns[29] == "p01_01"


def test_mnist_says_what_is_wrong(tmp_path: Path) -> None:
    images = np.zeros((3, 28, 28), dtype=np.uint8)
    with pytest.raises(DataError, match="do not belong together"):
        mnist.load(write_mnist(tmp_path, images, np.zeros(2, dtype=np.uint8)))
    path = write_mnist(tmp_path, images, np.zeros(3, dtype=np.uint8)) / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for bad in (whole[:-40], b"not gzip", gzip.compress(gzip.decompress(whole)[:-1]), gzip.compress(b"")):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="train-images"):
            mnist.load(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="data absent"):
        mnist.load(tmp_path)


def test_real_skab_has_the_published_runs() -> None:
    found = skab.load(real("skab"))
    runs = dict.fromkeys(found.group.tolist())
    assert len(runs) == 34
    assert list(runs)[:3] == ["valve1/0", "valve1/1", "valve1/2"]
    assert found.test is not None
    assert {int((~found.test & (found.group == run)).sum()) for run in runs} == {400}


def test_absent_skab(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data absent"):
        skab.load(tmp_path)
