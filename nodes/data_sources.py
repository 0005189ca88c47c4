"""Data by name: simulated sites, published tables, files. What a name stands for is made or found here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cellwatch.models.datasets import nsl_kdd
from cellwatch.models.datasets.dataset import (
    DataError,
    DataSet,
    Part,
    digest,
    drawn_tests,
    from_sessions,
    histories,
    levels_of,
    levels_y,
)
from cellwatch.models.datasets.published import GROUPS, PUBLISHED
from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.datasets.splits import in_order
from cellwatch.models.datasets.tables import data_set, read_table
from cellwatch.models.features import datasense
from cellwatch.models.features.schema import default_schema
from cellwatch.nodes import lemay

SIMULATED = ("sim:factory", "sim:bench")
NAMES = (*SIMULATED, "datasense", "lemay", "nsl_kdd", *GROUPS, *PUBLISHED)
Told = Callable[[int, int], None]


def data_root() -> Path:
    """Where published data lies: $CELLWATCH_DATA, else shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("CELLWATCH_DATA", beside))


def open_data(
    spec: str,
    cache: Path,
    *,
    label: str = "",
    group: str = "",
    time: str = "",
    device: str = "",
    test_seed: int = 0,
    told: Told = lambda *_: None,
) -> list[DataSet]:
    """What `spec` stands for: "sim:SITE" (made in `cache` if it is not there), a name, or a table.

    With `test_seed` a simulated site is tested on sessions that are drawn anew with this seed.
    Raises DataError; its text says `data absent` where files are not there.
    """
    root = data_root()
    if device and (spec.startswith("sim:") or spec in NAMES):
        raise DataError(f"{spec}: --device names a column of a table; this data knows its devices")
    if spec.startswith("sim:"):
        return [simulated(spec.removeprefix("sim:"), cache, told, test_seed)]
    if test_seed:
        raise DataError(
            f"{spec}: --test-seed draws new sessions of a simulated site; this data is what it is"
        )
    if spec == "nsl_kdd":
        return [nsl_kdd.load(root / "nsl_kdd")]
    if spec == "lemay":
        return lemay.load(root / "lemay_modbus")
    if spec == "datasense":
        return [load_datasense(root / "datasense")]
    if spec in GROUPS:
        return [PUBLISHED[name].load(name, root) for name in GROUPS[spec]]
    if spec in PUBLISHED:
        return [PUBLISHED[spec].load(spec, root)]
    path = Path(spec)
    if not path.suffix:
        raise DataError(f"no data set is called {spec!r}; there are: {', '.join(NAMES)}; or give a file")
    table = read_table(path)
    if not label:
        raise DataError(f"{path}: say which column is the label: --label COLUMN")
    return [data_set(path.name, f"table {path.name}", table, label, group=group, time=time, device=device)]


def simulated_folder(site: str, cache: Path) -> Path:
    """Where the windows of a site lie in `cache`: SITE if it holds them, else SITE-FINGERPRINT."""
    from cellwatch.nodes.simulated import RECIPES, fingerprint

    if site not in RECIPES:
        raise DataError(f"no simulated site is called {site!r}; there are: {', '.join(RECIPES)}")
    given = cache / site / "dataset.json"
    if given.is_file() and json.loads(given.read_text())["fingerprint"] == fingerprint(site):
        return given.parent
    return cache / f"{site}-{fingerprint(site)}"


def simulated(site: str, cache: Path, told: Told, test_seed: int = 0) -> DataSet:
    """The labelled windows of a simulated site; with `test_seed` the tests are sessions drawn with it."""
    from cellwatch.nodes.simulated import generate

    folder = generate(site, simulated_folder(site, cache), seen=told)
    data = of_sessions(folder)
    if not test_seed:
        return data
    fresh = generate(site, folder / f"test-{test_seed}", seen=told, test_seed=test_seed, like=folder)
    drawn, sessions = read_sessions(fresh)
    return replace(
        data,
        about=f"{data.about}; test sessions drawn with seed {test_seed}",
        tests=drawn_tests(sessions, drawn["classes"]),
    )


def of_sessions(folder: Path) -> DataSet:
    """The data set that `generate` made in a folder."""
    about, sessions = read_sessions(folder)
    return from_sessions(
        sessions,
        about["classes"],
        default_schema().names,
        name=f"sim:{about['site']}",
        about=f"simulated {about['site']}, windows of {about['window_s']:g} s",
        fingerprint=about["fingerprint"],
        facts={
            "site": about["site"], "window_s": about["window_s"], "folder": str(folder),
            "sha256": about["sha256"], "seeds": {s["name"]: s["seed"] for s in about["sessions"]},
        },
    )  # fmt: skip


def read_sessions(folder: Path) -> tuple[dict[str, Any], list[SessionWindows]]:
    """What `generate` made in a folder: its dataset.json, and the sessions."""
    about = json.loads((folder / "dataset.json").read_text())
    return about, [SessionWindows.load(folder / f"{s['name']}.npz") for s in about["sessions"]]


def load_datasense(folder: Path) -> DataSet:
    """DataSense's 10-s windows in our columns: the benign hour, and the attacks where their files are.

    Without attack rows there is nothing to train on: `train` is empty, and the hour is one test.
    """
    files = sorted(folder.glob("*_samples_10sec.csv*"))
    if not files:
        raise DataError(f"datasense: data absent ({folder}/benign_samples_10sec.csv.tar.xz)")
    try:
        tables = [datasense.read(path) for path in files]
    except datasense.TableError as error:
        raise DataError(str(error)) from None
    table = datasense.to_ours(pa.concat_tables(tables))
    schema = default_schema()
    pool = np.full((len(table), len(schema.names)), np.nan, dtype=np.float32)
    for j, name in enumerate(schema.names):
        if name in table.column_names:
            pool[:, j] = table[name].to_numpy()
    kinds = [_kind(a.as_py(), b.as_py()) for a, b in zip(table["label2"], table["label3"], strict=True)]
    names = ("benign", *sorted({*kinds} - {"benign"}))
    levels = levels_of(names)
    y = levels_y(np.array([names.index(kind) for kind in kinds]), levels)
    device = np.array(table["device_name"].to_pylist())
    session = np.array(table["label_full"].to_pylist())
    at = np.array([np.datetime64(t.rstrip("Z"), "ns") for t in table["timestamp_start"].to_pylist()])
    time_ns = at.astype(np.int64)
    window_ns = round(datasense.window_s(table, files[0]) * 1e9)
    whole = Part(pool, histories(session, device, time_ns, window_ns), y, session, device, time_ns)
    split = in_order(y[3], session, time_ns, whole=False) if len(names) > 1 else np.full(len(whole), 2)
    parts = [whole.take(split == k) for k in range(3)]
    return DataSet(
        "datasense",
        "DataSense / CIC IIoT 2025 (Firouzi et al., Electronics 2025, 14, 4095), real windows of 10 s",
        schema.names,
        levels,
        parts[0],
        parts[1],
        {"test": parts[2]} if len(names) > 1 else {"benign hour": parts[2]},
        digest(pool, y[3]),
        "whole attack sessions, in the order of time within each class",
        {"window_s": window_ns / 1e9},
        in_time=True,
    )


def _kind(category: str, name: str) -> str:
    return "benign" if category in {"", "benign"} else f"{category}/{name.split('-port-', maxsplit=1)[0]}"


def training_only(data: DataSet) -> DataSet:
    """The data set itself; DataError if it has nothing to train on."""
    if not len(data.train):
        raise DataError(f"{data.name}: only benign rows here, nothing to train on; judge models with it")
    return replace(data)
