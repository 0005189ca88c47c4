"""Which models a cell is watched with.

Those that its registry serves, else those that came with this release.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cellwatch.models.features.schema import default_schema
from cellwatch.models.registry import ewad_bundle
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.model_set import ModelSet, open_set, serves
from cellwatch.nodes.config import CellConfig, ConfigError
from cellwatch.plc_sim.scenario import ScenarioError
from cellwatch.plc_sim.scenario import load as load_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


def site_of(scenario: str) -> str:
    """Site of a scenario by name or file; "" is the demonstration. Raises ConfigError."""
    try:
        return load_scenario(scenario or "demo").site
    except ScenarioError as error:
        raise ConfigError(str(error)) from None


def for_cell(cell: CellConfig, home: Path, shipped: Path, console: Console) -> ModelSet | None:
    """The models of a cell; None: it has none, the ensemble abstains and the rules learn at the start.

    `home` holds what was trained here (models/SITE) and the keys, `shipped` what came with the release. The
    set's folder is the registry in `home` in both cases: a later promotion is seen. ConfigError if the
    cell file names models that cannot be used.
    """
    keys, schema_id = Keys(home / "keys"), default_schema().schema_id
    if cell.ensemble.models:
        try:
            return open_set(Path(cell.ensemble.models), keys, schema_id, cell.window_s)
        except ValueError as error:
            raise ConfigError(f"ensemble: models: {error}") from None
    kind, _, what = cell.plant.partition(":")
    if kind != "sim":
        return None
    site = site_of(what)
    local = home / "models" / site
    for folder in (local, shipped / site):
        if serves(folder):
            try:
                return replace(open_set(folder, keys, schema_id, cell.window_s, site), folder=local)
            except ValueError as error:
                console.print(f"models are left out: {error}", style="yellow", highlight=False)
    return None


def ewad_for_cell(cell: CellConfig, home: Path, shipped: Path, say: Callable[[str], None]) -> str:
    """Folder of the EWAD of a cell; "": it has none.

    That of the cell file; else of a real cell what its commissioning made, of a simulated site what was
    trained here (ewad/SITE), else what came with the release. ConfigError if that of the cell file is
    refused; the others are left out, and `say` gets the reason.
    """
    keys, schema_id = Keys(home / "keys"), default_schema().schema_id
    if cell.ewad.model:
        try:
            ewad_bundle.read(Path(cell.ewad.model), keys, schema_id=schema_id, window_s=cell.window_s)
        except ValueError as error:
            raise ConfigError(f"ewad: model: {error}") from None
        return cell.ewad.model
    kind, _, what = cell.plant.partition(":")
    places: dict[str, list[tuple[str, Path]]] = {
        "none": [(cell.cell, home / "cells" / cell.cell / "ewad")],
        "sim": [(site, folder / site) for site in [site_of(what)] for folder in (home / "ewad", shipped)]
        if kind == "sim"
        else [],
    }
    for site, folder in places.get(kind, []):
        if (folder / ewad_bundle.MANIFEST).exists():
            try:
                ewad_bundle.read(folder, keys, schema_id=schema_id, window_s=cell.window_s, site=site)
            except ValueError as error:
                say(f"EWAD is left out: {error}")
            else:
                return str(folder)
    return ""
