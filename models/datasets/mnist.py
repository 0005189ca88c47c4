"""MNIST: 70,000 images of handwritten digits, 28 x 28 (LeCun et al., Proc. IEEE 1998, 86, 2278)."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.labelled_rows import LabelledRows, absent

SIDE = 28
PARTS = ("train", "t10k")
_UNSIGNED_BYTES = 0x08  # IDX: 0, 0, type, number of dimensions, then each dimension in 32 bits


def load(folder: Path) -> LabelledRows:
    """All images, 0-255 in each of 784 columns; `label` is the digit, `test` the publisher's. DataError."""
    parts = [(_idx(folder, f"{part}-images-idx3"), _idx(folder, f"{part}-labels-idx1")) for part in PARTS]
    for images, labels in parts:
        if len(images) != len(labels) or images.shape[1:] != (SIDE, SIDE):
            raise DataError(
                f"{folder}: {images.shape} images and {len(labels)} labels do not belong together"
            )
    x = np.concatenate([images for images, _ in parts]).reshape(-1, SIDE * SIDE).astype(np.float32)
    return LabelledRows(
        "mnist",
        "MNIST (LeCun et al. 1998), one digit normal and the nine others anomalies",
        tuple(f"p{i:02d}_{j:02d}" for i in range(SIDE) for j in range(SIDE)),
        x,
        np.concatenate([labels for _, labels in parts]).astype(np.int64),
        np.full(len(x), ""),
        test=np.arange(len(x)) >= len(parts[0][0]),
    )


def _idx(folder: Path, stem: str) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, whose name ends with the number of its dimensions."""
    path = folder / f"{stem}-ubyte.gz"
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise absent("mnist", path) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked: {error}") from None
    dims = int(stem[-1])
    head = 4 + 4 * dims
    shape = tuple(np.frombuffer(data[4:head], dtype=">u4").tolist()) if len(data) >= head else ()
    if data[:4] != bytes((0, 0, _UNSIGNED_BYTES, dims)) or len(data) != head + math.prod(shape):
        raise DataError(f"{path}: not an IDX file of bytes in {dims} dimensions")
    return np.frombuffer(data, dtype=np.uint8, offset=head).reshape(shape)
