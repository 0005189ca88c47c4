"""Lemay's Modbus captures (Lemay and Fernandez, CSET 2016) as a data set: one row a window of a capture.

The row is that of the busiest device, the master, which takes part in every exchange. A window is malicious
if one of its packets is. There are few windows, and attacks of one kind are in one capture alone: training
sees two captures, the test is the third.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from cellwatch.models.datasets.dataset import L1, DataError, DataSet, Part, digest, standing_alone
from cellwatch.models.features.columns import TRAFFIC_COLUMNS
from cellwatch.models.features.packets import parse
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.types import F32, I64
from cellwatch.nodes.drivers.capture import FileCapture
from cellwatch.nodes.features_file import read_labels

WINDOW_S = 10.0
CAPTURES = {
    "characterization": "characterization_modbus_6RTU_with_operate",
    "CnC": "CnC_uploading_exe_modbus_6RTU_with_operate",
    "moving files": "moving_two_files_modbus_6RTU",
}
TESTED = ("CnC", "moving files")


def load(folder: Path) -> list[DataSet]:
    """A data set for each capture that has benign windows and malicious ones; the others train. DataError."""
    held = {name: windows(folder, stem) for name, stem in CAPTURES.items()}
    columns = default_schema().names
    found = []
    for test in TESTED:
        rest = [name for name in CAPTURES if name != test]
        parts = {
            test: _part(*held[test], test),
            "rest": _part(
                np.concatenate([held[name][0] for name in rest]),
                np.concatenate([held[name][1] for name in rest]),
                "",
            ),
        }
        train = parts["rest"]
        names = np.concatenate([np.full(len(held[name][1]), name) for name in rest])
        train = Part(train.pool, train.before, train.y, names, train.device)
        nobody = train.take(np.zeros(0, dtype=np.int64))
        found.append(
            DataSet(
                f"lemay ({test})",
                "Lemay's Modbus captures, 10-s windows of the master",
                columns,
                {1: L1},
                train,
                nobody,
                {test: parts[test]},
                digest(*(a for pair in held.values() for a in pair)),
                "by capture: trained on the two others",
            )
        )
    return found


def windows(folder: Path, stem: str) -> tuple[F32, I64]:
    """Rows (w, 97) and labels (w,) of a capture's windows of 10 s. DataError."""
    capture, truth = folder / f"{stem}.pcap", folder / f"{stem}_labeled.csv"
    if not capture.is_file() or not truth.is_file():
        raise DataError(f"lemay: data absent ({capture})")
    malicious = read_labels(truth).packets
    traffic = TrafficWindows(WINDOW_S)
    times = []
    with closing(FileCapture(capture)) as source:
        while not source.exhausted:
            for block in source.read():
                times.append(block.time_ns)
                traffic.add(parse(block))
    at = np.concatenate(times)
    if malicious is None or len(malicious) != len(at):
        raise DataError(f"{truth}: not the labels of {capture.name}")
    bad = set(np.unique(at[malicious] // traffic.window_ns + 1).tolist())
    batches = [batch for batch in traffic.close(None) if len(batch.devices)]
    packets = TRAFFIC_COLUMNS.index("network_packets_all_count")
    x = np.full((len(batches), len(default_schema().names)), np.nan, dtype=np.float32)
    for row, batch in zip(x, batches, strict=True):
        row[: len(TRAFFIC_COLUMNS)] = batch.values[int(batch.values[:, packets].argmax())]
    return x, np.array([batch.window_id in bad for batch in batches], dtype=np.int64)


def _part(x: F32, y: I64, name: str) -> Part:
    return standing_alone(x, {1: y}, np.full(len(y), name))
