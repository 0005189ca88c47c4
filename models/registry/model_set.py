"""The models in a folder, whether it is a registry or one bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellwatch.models.detectors.ensemble import Ensemble
from cellwatch.models.detectors.merged import ServedGraph
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.registry.bundle import MANIFEST, POINTER, Bundle, read
from cellwatch.models.registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cellwatch.models.registry.keys import Keys


@dataclass(frozen=True)
class ModelSet:
    """A checked bundle. `folder` is where a node looks for versions: a registry, or the bundle itself."""

    folder: Path
    path: Path  # of the bundle
    bundle: Bundle


def serves(folder: Path) -> bool:
    """Whether a folder is a bundle, or a registry in which a version was promoted."""
    return (folder / POINTER).exists() or (folder / MANIFEST).exists()


def open_set(
    folder: Path, keys: Keys | None, schema_id: str, window_s: float | None, site: str | None = None
) -> ModelSet:
    """The bundle in `folder`, or the current one of a registry. BundleError says why not."""
    if (folder / POINTER).exists():
        registry = Registry(folder, keys)
        bundle = registry.load(schema_id=schema_id, window_s=window_s, site=site)
        return ModelSet(folder, registry.path(bundle.version), bundle)
    return ModelSet(folder, folder, read(folder, keys, schema_id=schema_id, window_s=window_s, site=site))


def graphs_of(bundle: Bundle) -> list[ServedGraph]:
    """What a bundle wants served."""
    served = bundle.manifest.served()
    return [ServedGraph(e.level, e.detector, e.kind, bundle.files[e.file]) for e in served]


def ensemble_of(bundle: Bundle, budget_s: float, clock: Callable[[], float]) -> Ensemble:
    """The models of a bundle, loaded and tried."""
    m = bundle.manifest
    return Ensemble(
        m.schema_id,
        {int(level): tuple(names) for level, names in m.classes.items()},
        Scaler.from_dict(m.scaler),
        graphs_of(bundle),
        clock=clock,
        length=m.sequence,
        budget_s=budget_s,
    )
