"""A split by device: what is judged are devices that training never saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cellwatch.models.datasets.dataset import DataError, DataSet, Part

EVERY = 4  # of so many devices, in the order of their names, the last one is held out


def device_disjoint(data: DataSet) -> DataSet:
    """Training and validation rows of three of four devices, test rows of the fourth. DataError."""
    names = np.unique(np.concatenate([part.device for part in (data.train, *data.tests.values())]))
    out = names[EVERY - 1 :: EVERY]
    if not len(out) or "" in names:
        raise DataError(f"{data.name}: --split device needs rows of {EVERY} or more named devices")

    def part(one: Part, held: bool) -> Part:
        return one.take(np.isin(one.device, out) == held)

    return replace(
        data,
        train=part(data.train, False),
        validation=part(data.validation, False),
        tests={name: part(one, True) for name, one in data.tests.items()},
        split=f"{data.split}; test rows are of {len(out)} of {len(names)} devices, which training never saw",
        running=None if data.running is None else part(data.running, False),
    )
