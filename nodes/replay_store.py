"""The rows that a version of the models learnt from: what is learnt again, so that it is not forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from cellwatch.models.datasets.dataset import DataSet, Part, standing_alone
from cellwatch.models.drift.adaptation import AdaptationSet
from cellwatch.models.drift.live_rows import at_level
from cellwatch.models.registry.bundle import Bundle
from cellwatch.nodes.data_sources import SIMULATED, of_sessions, open_data

ADAPTATION = "adaptation"  # folder in a registry
LEARNT = "adaptations"  # of a lineage: the sets that were learnt since, oldest first


def replay_of(
    parent: Bundle,
    cache: Path,
    place: str = "",
    label: str = "",
    told: Callable[[int, int], None] = lambda *_: None,
) -> DataSet:
    """The data set, with the levels and columns of the parent. ValueError says what is missing.

    `place`: a table file with its `label` column, or a folder of windows that `simulated` made; without it a
    simulated site is known by its name in the lineage and made in `cache` if it is not there.
    """
    lineage = parent.manifest.lineage
    name = str(lineage.get("name", ""))
    if place and Path(place).is_dir():
        if not (Path(place) / "dataset.json").is_file():
            raise ValueError(f"{place}: not a folder of labelled windows: it has no dataset.json")
        data = of_sessions(Path(place))
    elif place:
        (data,) = open_data(place, cache, label=label)
    elif name in SIMULATED:
        (data,) = open_data(name, cache, told=told)
    else:
        raise ValueError(
            f"the models learnt from {name or 'data of an unknown name'}, which is needed again: "
            "name the table or folder with --replay (in a cell file: drift: replay)"
        )
    columns = lineage.get("columns")
    if columns is not None and list(data.columns) != columns:
        raise ValueError(f"{data.name}: has other columns than the models know")
    for level, classes in parent.manifest.classes.items():
        if list(data.classes.get(int(level), ())) != classes:
            raise ValueError(f"{data.name}: has other classes at level {level} than the models know")
    return data.only({int(level) for level in parent.manifest.classes})


def learnt_since(parent: Bundle, registry: Path, data: DataSet) -> list[Part]:
    """What earlier candidates learnt of the cell: rows that stand alone. ValueError if a set is lost."""
    found = []
    for one in parent.manifest.lineage.get(LEARNT, []):
        kept = AdaptationSet.load(registry / ADAPTATION / f"{one['set']}.npz")
        x, y, ids = (
            np.concatenate([getattr(kept.benign, name), getattr(kept.attack, name)])
            for name in ("x", "y", "ids")
        )
        levels = {level: at_level(one["names"], level, names)[y] for level, names in data.classes.items()}
        part = standing_alone(x, levels, np.full(len(x), f"set-{one['set'][:8]}"))
        window, _, device = np.char.partition(ids, "/").T
        found.append(replace(part, device=device, time_ns=window.astype(np.int64)))
    return found
