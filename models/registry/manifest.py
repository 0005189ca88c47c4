"""What a bundle of models is made of: one JSON text, whose sha256 is the version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 2
BASELINE, PROFILE, FUSION = "baseline.json", "profile.json", "fusion.json"  # of the other nodes
KINDS = ("window", "sequence")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One graph. `kind` says whether it sees one window (n, f) or the last of a device (n, T, f)."""

    detector: str
    level: int  # 1, 2, 3
    kind: str
    file: str
    metrics: dict[str, float] = field(default_factory=dict)  # on validation data, 0..1


@dataclass(frozen=True, slots=True)
class Manifest:
    """A set of models that belong together: one site, one schema, one window length, one scaler.

    `weights` (level -> detector -> weight, and "rulesense") come from validation data. `serve` names what a
    node serves; a level that is absent is served whole. `files` holds the sha256 of every other file.
    """

    site: str
    schema_id: str
    window_s: float
    classes: dict[str, list[str]]  # level -> class names
    scaler: dict[str, list[float]]
    models: list[ModelEntry]
    weights: dict[str, dict[str, float]]
    serve: dict[str, list[str]] = field(default_factory=dict)
    sequence: int = 8  # T, windows in a sequence
    lineage: dict[str, Any] = field(default_factory=dict)  # parents, data, seed ...
    files: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def served(self) -> list[ModelEntry]:
        """The models that a node loads."""
        return [m for m in self.models if m.detector in self.serve.get(str(m.level), [m.detector])]

    def surroundings(self) -> dict[str, object]:
        """What does not change while a cell runs: models can replace others live only if it is equal.

        The baseline is of the features: with another one they would change under all models in the cell.
        """
        return {
            "site": self.site,
            "schema_id": self.schema_id,
            "window_s": self.window_s,
            BASELINE: self.files.get(BASELINE, ""),
        }

    def fusion_weights(self) -> dict[str, float]:
        """Weights as fusion takes them: bare names are those of L1, "L2/XGB" those of another level."""
        flat = dict(self.weights.get("1", {}))
        for level in ("2", "3"):
            flat |= {f"L{level}/{name}": w for name, w in self.weights.get(level, {}).items()}
        return flat

    def to_json(self) -> bytes:
        """The text whose sha256 is the version; the same manifest always gives the same text."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """ValueError names what is missing or wrong."""
        try:
            raw = json.loads(text)
            if raw.get("format") != FORMAT:
                raise ValueError(f"manifest format {raw.get('format')}, this release reads {FORMAT}")
            manifest = cls(**{**raw, "models": [ModelEntry(**m) for m in raw["models"]]})
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a model manifest ({error})") from None
        manifest.check()
        return manifest

    def check(self) -> None:
        """ValueError if its parts do not belong together."""
        if not self.window_s > 0 or self.sequence < 1:
            raise ValueError(f"window_s {self.window_s}, sequence {self.sequence}: both must be above 0")
        seen = set()
        for model in self.models:
            name = f"L{model.level}/{model.detector}"
            if str(model.level) not in self.classes or model.kind not in KINDS:
                raise ValueError(f"{name}: unknown level or kind")
            if model.file not in self.files:
                raise ValueError(f"{name}: its file {model.file} has no sha256")
            if name in seen:
                raise ValueError(f"{name} stands there twice")
            seen.add(name)


def version_of(text: bytes) -> str:
    """First 12 digits of the sha256 of a manifest's text.

    >>> version_of(b"")
    'e3b0c44298fc'
    """
    return hashlib.sha256(text).hexdigest()[:12]
