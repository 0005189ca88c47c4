"""A trained EWAD as a bundle on disk, and back: of any table, or of a cell with its devices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load, save

from cellwatch.models.ewad.calibration import Calibration
from cellwatch.models.ewad.devices import Devices
from cellwatch.models.ewad.judgement import Judgement
from cellwatch.models.ewad.served import ServedEwad
from cellwatch.models.ewad.watch import Watch
from cellwatch.models.registry.ewad_bundle import (
    CARD,
    CELL,
    DEVICES,
    GRAPH,
    MODEL,
    EwadBundle,
    EwadManifest,
    read,
    write,
)
from cellwatch.models.registry.keys import Keys
from cellwatch.models.types import F32, F64

if TYPE_CHECKING:
    from cellwatch.models.ewad.commissioning import Commissioned
    from cellwatch.models.ewad.ewad import Ewad

QUIET = ("knots", "shares", "tail")  # of `Calibration`


@dataclass(frozen=True)
class LoadedEwad:
    """An EWAD of a table, served by ONNX Runtime."""

    bundle: EwadBundle
    card: dict[str, Any]
    served: ServedEwad

    @property
    def version(self) -> str:
        """First digits of the sha256 of its manifest."""
        return self.bundle.version

    @property
    def columns(self) -> tuple[str, ...]:
        """What a row holds (f,)."""
        return tuple(self.bundle.manifest.columns)

    @property
    def lineage(self) -> dict[str, Any]:
        """What it was trained on."""
        return self.bundle.manifest.lineage

    @property
    def threshold(self) -> float:
        """Score from which a row is anomalous, as trained."""
        return float(self.card["threshold"])

    def judge(self, x: F32) -> Judgement:
        """Everything about rows (n, f)."""
        return self.served.judge(x)

    def score(self, x: F32) -> F64:
        """(n,), high = anomalous."""
        return self.judge(x).score

    def p_value(self, x: F32) -> F64:
        """(n,) in 0..1."""
        return self.judge(x).p_value


def save_bundle(
    folder: Path,
    model: Ewad,
    *,
    lineage: Mapping[str, Any],
    keys: Keys | None,
    packed: bool = False,
) -> str:
    """Write an EWAD of a table, signed with `keys`; returns the version. BundleError if it cannot."""
    manifest = EwadManifest(list(model.columns), lineage=dict(lineage))
    return write(folder, manifest, _files(model), keys, packed=packed)


def load_bundle(folder: Path, keys: Keys | None = None) -> LoadedEwad:
    """The EWAD in `folder`, by the keys of this machine if none are given. BundleError if it is refused."""
    if keys is None:
        from cellwatch.nodes.runner import home

        keys = Keys(home() / "keys")
    held = read(folder, keys)
    return LoadedEwad(held, json.loads(held.files[CARD]), ServedEwad(held.files[GRAPH]))


def save_cell(
    folder: Path,
    learnt: Commissioned,
    *,
    site: str,
    schema_id: str,
    window_s: float,
    lineage: Mapping[str, Any],
    keys: Keys | None,
    packed: bool = False,
) -> str:
    """Write the EWAD of a cell; returns the version. A packed one leaves out what only training needs."""
    files = _files(learnt.ewad) | {
        CELL: json.dumps({"devices": learnt.devices.names}).encode(),
        DEVICES: save(
            learnt.devices.tensors() | {f"quiet.{name}": getattr(learnt.quiet, name) for name in QUIET}
        ),
    }
    if packed:
        del files[MODEL]
    manifest = EwadManifest(list(learnt.ewad.columns), site, schema_id, window_s, dict(lineage))
    return write(folder, manifest, files, keys, packed=packed)


def watch_of(held: EwadBundle, false_alarms_per_hour: float) -> Watch:
    """The watch of a cell. ValueError if the EWAD is none of a cell, or its files do not fit together."""
    if CELL not in held.files or DEVICES not in held.files:
        raise ValueError("this EWAD was not trained on a cell: it knows no devices")
    tensors = load(held.files[DEVICES])
    try:
        names = [str(name) for name in json.loads(held.files[CELL])["devices"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{CELL}: not the devices of a cell ({error})") from None
    return Watch(
        held.manifest.schema_id,
        tuple(held.manifest.columns),
        held.manifest.window_s,
        Devices.from_tensors(names, tensors),
        ServedEwad(held.files[GRAPH]),
        _quiet(tensors),
        false_alarms_per_hour,
    )


def _quiet(tensors: Mapping[str, F32]) -> Calibration:
    try:
        quiet = Calibration(*(tensors[f"quiet.{name}"] for name in QUIET))
    except KeyError as error:
        raise ValueError(f"{DEVICES}: {error} is missing") from None
    whole = quiet.knots.ndim == 1 and quiet.knots.shape == quiet.shares.shape and quiet.tail.shape == (2,)
    if not whole or not (np.diff(quiet.knots) > 0).all() or not (quiet.tail > 0).all():
        raise ValueError(f"{DEVICES}: the scores of quiet windows do not fit together")
    return quiet


def _files(model: Ewad) -> dict[str, bytes]:
    return {
        GRAPH: model.to_onnx(),
        CARD: json.dumps(model.card()).encode(),
        MODEL: save(model.tensors()),
    }
