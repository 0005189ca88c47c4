"""What the cell has seen and been told since a drift began: from its store of samples, or from a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellwatch.models.types import FeatureWindow, SettledLabels
from cellwatch.nodes.drivers import sample_store
from cellwatch.nodes.retrain_order import Order, RefusedError


def live_samples(order: Order) -> tuple[list[FeatureWindow], list[SettledLabels]]:
    """Windows and labels of the store, or of a table."""
    place = Path(order.store)
    if place.is_file():
        return _of_table(place, order)
    try:
        found = sample_store.read(place, order.since_ns, order.until_ns)
    except FileNotFoundError as error:
        raise RefusedError(str(error)) from None
    from cellwatch.nodes.ros import stored

    return stored.windows(found.windows), stored.labels(found.labels)


def _of_table(path: Path, order: Order) -> tuple[list[FeatureWindow], list[SettledLabels]]:
    from cellwatch.nodes.window_table import read as read_table

    table = read_table(path)
    if table.attack is None:
        raise RefusedError(f"{path}: has no labels: its column label1 is empty, or not there")
    end = order.until_ns or int(table.start_ns.max()) + 1
    length = round(table.window_s * 1e9)
    keep = (table.start_ns + length >= order.since_ns) & (table.start_ns < end)
    if not keep.any():
        return [], []
    table = table.where(keep)
    assert table.attack is not None
    names, device = np.unique(table.devices.astype(np.str_), return_inverse=True)
    labels = SettledLabels(
        0, tuple(names.tolist()), ("benign", "attack"), table.start_ns // length,
        device.astype(np.int64), table.attack.astype(np.int64),
    )  # fmt: skip
    return list(table.windows()), [labels]
