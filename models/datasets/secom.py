"""SECOM: 1567 runs of a semiconductor line, 590 sensors, 104 failed the test at its end.

McCann and Johnston, UCI Machine Learning Repository 2008, 10.24432/C54305. 4.5 % of the numbers are missing,
116 columns never change, one run a row in the order of time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.labelled_rows import LabelledRows, absent


def load(folder: Path) -> LabelledRows:
    """All rows in the order of time. DataError."""
    values, labels = folder / "secom.data", folder / "secom_labels.data"
    for path in (values, labels):
        if not path.is_file():
            raise absent("secom", path)
    try:
        x = np.loadtxt(values, dtype=np.float32, ndmin=2)
        cells = [line.replace('"', "").split() for line in labels.read_text().splitlines() if line.strip()]
        label = np.array([int(cell[0]) > 0 for cell in cells], dtype=np.int64)
        stamps = ["T".join(("-".join(reversed(cell[1].split("/"))), cell[2])) for cell in cells]
        time_ns = np.array(stamps, dtype="datetime64[ns]").astype(np.int64)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise DataError(f"{folder}: not SECOM as it was published: {error}") from None
    if len(x) != len(label):
        raise DataError(f"{folder}: {len(x)} rows but {len(label)} labels")
    order = np.argsort(time_ns, kind="stable")
    return LabelledRows(
        "secom",
        "SECOM (McCann and Johnston 2008), runs of a semiconductor line",
        tuple(f"s{j:03d}" for j in range(x.shape[1])),
        x[order],
        label[order],
        np.full(len(x), ""),
        time_ns[order],
    )
