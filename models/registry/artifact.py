"""A trained ensemble on disk: ONNX graphs and one JSON manifest, each file checked by its sha256.

Written to a temporary folder and renamed, so that a crash leaves either the old one or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One served graph."""

    detector: str
    level: int
    file: str
    sha256: str
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an ensemble is made of. `weights` come from validation data."""

    schema_id: str
    classes: dict[str, list[str]]  # level -> class names
    models: list[ModelEntry]
    scaler: dict[str, list[float]]
    weights: dict[str, float]
    lineage: dict[str, object]
    version: int = VERSION


def save(folder: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write `files` and the manifest as `folder`, all or nothing."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, content in files.items():
        (temporary / name).write_bytes(content)
    (temporary / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1))
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old)
    else:
        temporary.rename(folder)


def load(folder: Path, schema_id: str | None = None) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and graphs. ValueError names the file that is missing, changed or of another schema."""
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text())
        models = [ModelEntry(**m) for m in raw.pop("models")]
        manifest = Manifest(models=models, **raw)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such manifest: the model folder is incomplete") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a model manifest ({error})") from None
    if manifest.version != VERSION:
        raise ValueError(f"{path}: manifest version {manifest.version}, this release reads {VERSION}")
    if schema_id is not None and manifest.schema_id != schema_id:
        raise ValueError(f"{path}: models have schema {manifest.schema_id}, the cell {schema_id}: train anew")
    graphs = {}
    for entry in manifest.models:
        file = folder / entry.file
        if Path(entry.file).name != entry.file or not file.is_file():
            raise ValueError(f"{file}: model file is missing")
        graphs[entry.file] = file.read_bytes()
        if hashlib.sha256(graphs[entry.file]).hexdigest() != entry.sha256:
            raise ValueError(f"{file}: sha256 does not fit the manifest: the file was changed or damaged")
    return manifest, graphs
