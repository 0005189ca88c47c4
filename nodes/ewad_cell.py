"""Training the EWAD of a cell: from a simulated site's quiet sessions, or from its commissioning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cellwatch.models.datasets.dataset import digest
from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.ewad.commissioning import QuietRows, commission
from cellwatch.models.features.schema import default_schema
from cellwatch.models.registry.ewad_bundle import check_target
from cellwatch.models.registry.keys import Keys
from cellwatch.models.types import FeatureWindow
from cellwatch.nodes.ewad_bundling import save_cell

APART = 1 << 32  # between the window numbers of two sessions
Told = Callable[[str, int, int], None]


def train_site(
    site: str,
    folder: Path,
    *,
    cache: Path,
    keys: Keys | None,
    packed: bool = False,
    seed: int = 0,
    told: Told = lambda *_: None,
) -> str:
    """Train on the quiet training sessions of a simulated site, calibrate on its quiet validation sessions.

    The sessions are played into `cache` if they are not there. Writes `folder` and returns the version.
    """
    from cellwatch.nodes.data_sources import read_sessions, simulated_folder
    from cellwatch.nodes.simulated import generate

    place = generate(site, simulated_folder(site, cache), seen=lambda done, of: told("simulating", done, of))
    about, sessions = read_sessions(place)
    quiet = [s for s in sessions if not (s.y > 0).any()]
    train, validation = (quiet_rows([s for s in quiet if s.split == k]) for k in ("train", "validation"))
    learnt = commission(
        train,
        default_schema().names,
        validation=validation,
        seed=seed,
        progress=lambda share: told("training", round(100 * share), 100),
    )
    lineage = {
        "data": about["fingerprint"],
        "digest": digest(train.values, validation.values),
        "name": f"sim:{site}, quiet sessions",
        "rows": len(train.values),
        "calibrated_on": len(validation.values),
        "seed": seed,
    }
    return save_cell(
        folder,
        learnt,
        site=site,
        schema_id=default_schema().schema_id,
        window_s=float(about["window_s"]),
        lineage=lineage,
        keys=keys,
        packed=packed,
    )


def quiet_rows(sessions: Sequence[SessionWindows]) -> QuietRows:
    """The rows of some sessions, each a stretch of its own."""
    spans = [s.values.shape[:2] for s in sessions]
    return QuietRows(
        np.concatenate([s.values.reshape(w * d, -1) for s, (w, d) in zip(sessions, spans, strict=True)]),
        [name for s, (w, _) in zip(sessions, spans, strict=True) for name in s.devices * w],
        np.concatenate([k * APART + np.repeat(np.arange(w), d) for k, (w, d) in enumerate(spans)]),
    )


def train_commissioned(
    windows: Sequence[FeatureWindow],
    folders: Sequence[Path],
    *,
    site: str,
    keys: Keys,
    progress: Callable[[float], None],
) -> str:
    """Train on the benign windows of a commissioning period; writes each folder and returns the version.

    ValueError says why nothing was trained.
    """
    for folder in folders:
        check_target(folder)
    rows = QuietRows.of(windows)
    learnt = commission(rows, default_schema().names, progress=progress)
    first, last = windows[0], windows[-1]
    version = ""
    for folder in folders:
        version = save_cell(
            folder,
            learnt,
            site=site,
            schema_id=first.schema_id,
            window_s=(first.end_ns - first.start_ns) / 1e9,
            lineage={
                "data": "commissioning",
                "digest": digest(rows.values),
                "since_ns": first.start_ns,
                "until_ns": last.end_ns,
                "rows": len(rows.values),
                "seed": 0,
            },
            keys=keys,
        )
    return version
