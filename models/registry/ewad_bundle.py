"""A folder with one EWAD: the graph that is served, the trained tensors, what is normal for each device.

ewad.json             manifest: columns, site, schema, window, lineage, the sha256 of the others
signature.json        ed25519, as of the models' bundles; none where the release vouches for the manifest
ewad.onnx             x -> score, p_value, parts, features
card.json             settings and report of the training
model.safetensors     the trained model
cell.json, devices.safetensors   of a cell: its devices, and the scores of quiet windows
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cellwatch.models.registry import bundle
from cellwatch.models.registry.bundle import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from cellwatch.models.registry.keys import Keys

MANIFEST = "ewad.json"
FORMAT = 1
GRAPH, CARD, MODEL = "ewad.onnx", "card.json", "model.safetensors"
CELL, DEVICES = "cell.json", "devices.safetensors"


@dataclass(frozen=True, slots=True)
class EwadManifest:
    """What an EWAD was trained for. `site`, `schema_id` and `window_s` are those of a cell, else empty."""

    columns: list[str]
    site: str = ""
    schema_id: str = ""
    window_s: float = 0.0
    lineage: dict[str, Any] = field(default_factory=dict)  # data, digest, seed, versions ...
    files: dict[str, str] = field(default_factory=dict)  # name -> sha256
    format: int = FORMAT

    def to_json(self) -> bytes:
        """The text whose sha256 is the version."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes) -> EwadManifest:
        """ValueError names what is missing or wrong."""
        try:
            raw = json.loads(text)
            if raw.get("format") != FORMAT:
                raise ValueError(f"manifest format {raw.get('format')}, this release reads {FORMAT}")
            manifest = cls(**raw)
            files = dict(manifest.files)
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
            raise ValueError(f"not the manifest of an EWAD ({error})") from None
        if missing := sorted({GRAPH, CARD} - files.keys()):
            raise ValueError(f"{missing[0]} has no sha256")
        return manifest


KIND = Kind(
    MANIFEST,
    (".onnx", ".json", ".safetensors"),
    frozenset({"score", "p_value", "parts", "features"}),
    EwadManifest.from_json,
    ("the EWAD has", "the EWAD knows", "the EWAD is"),
)


@dataclass(frozen=True, slots=True)
class EwadBundle:
    """A checked EWAD in memory."""

    version: str
    manifest: EwadManifest
    files: dict[str, bytes]


def check_target(folder: Path) -> None:
    """BundleError unless an EWAD may be written there: a new place, an empty folder, or an older EWAD."""
    bundle.check_target(folder, KIND)


def write(
    folder: Path,
    manifest: EwadManifest,
    files: dict[str, bytes],
    keys: Keys | None = None,
    *,
    packed: bool = False,
) -> str:
    """Write `folder`, whole or not at all, in place of an older EWAD; returns the version."""
    return bundle.write_as(KIND, folder, manifest, files, keys, packed=packed)


def read(
    folder: Path,
    keys: Keys | None,
    *,
    schema_id: str | None = None,
    window_s: float | None = None,
    site: str | None = None,
) -> EwadBundle:
    """The EWAD in `folder`; BundleError if it is damaged, strange, untrusted or not for this cell."""
    return EwadBundle(*bundle.read_as(KIND, folder, keys, schema_id, window_s, site))
