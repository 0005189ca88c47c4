"""Which models a cell gets: named ones, promoted ones, shipped ones, or none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from rich.console import Console

from cellwatch.models.features.schema import default_schema
from cellwatch.models.registry import shipped as shipped_list
from cellwatch.models.registry.bundle import MANIFEST, write
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.manifest import Manifest
from cellwatch.models.registry.registry import Registry
from cellwatch.nodes.cell import node_table
from cellwatch.nodes.config import CellConfig, ConfigError, EnsembleConfig, PlcConfig
from cellwatch.nodes.model_sets import for_cell
from cellwatch.nodes.runner import CellRun, RunOptions

CELL = CellConfig("c", [PlcConfig("PLC1", "t.yaml")], plant="sim:quiet-shift", window_s=10.0)
SET = Manifest(
    "factory",
    default_schema().schema_id,
    10.0,
    {},
    {"centre": [], "scale": []},
    [],
    {"1": {"rulesense": 1.0}},
)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The home and what is shipped; a bundle for the factory is in both, and trusted."""
    home, shipped = tmp_path / "home", tmp_path / "shipped"
    keys = Keys(home / "keys")
    registry = Registry(home / "models" / "factory", keys)
    registry.promote(registry.add(SET, {}))
    write(shipped / "factory", replace(SET, lineage={"seed": 1}), {})
    import hashlib

    digest = hashlib.sha256((shipped / "factory" / MANIFEST).read_bytes()).hexdigest()
    monkeypatch.setattr(shipped_list, "SHIPPED", frozenset({digest}))
    return home, shipped


def chosen(cell: CellConfig, places) -> str:
    found = for_cell(cell, *places, Console(quiet=True))
    if found is None:
        return "none"
    path = found.path.parent.parent if found.path.parent.name == "versions" else found.path
    return str(path.relative_to(places[0].parent))


def test_promoted_ones_go_before_shipped_ones(places):
    assert chosen(CELL, places) == "home/models/factory"
    (places[0] / "models" / "factory" / "current.json").unlink()
    assert chosen(CELL, places) == "shipped/factory"


def test_a_damaged_registry_is_said_and_the_shipped_ones_serve(places, capsys):
    (next((places[0] / "models" / "factory" / "versions").iterdir()) / MANIFEST).write_text("{}")
    found = for_cell(CELL, *places, Console(soft_wrap=True))
    assert found.path == places[1] / "factory"
    assert "not signed by a key" in capsys.readouterr().out


def test_other_windows_no_models(places):
    assert chosen(replace(CELL, window_s=1.0), places) == "none"


def test_a_cell_without_any_has_none(places):
    assert chosen(replace(CELL, plant="sim", window_s=1.0), places) == "none"


def test_a_promotion_is_seen_by_a_cell_that_was_started_on_shipped_models(places, monkeypatch, tmp_path):
    (places[0] / "models" / "factory" / "current.json").unlink()
    found = for_cell(CELL, *places, Console(quiet=True))
    monkeypatch.setenv("CELLWATCH_HOME", str(tmp_path / "home"))
    run = CellRun(CELL, RunOptions(), print)
    run.run_folder.mkdir(parents=True)
    run.commissioning_s = 1.0
    files = run.artifacts(found)
    (spec,) = [s for s in node_table(CELL, files) if s.executable == "ensemble_node"]
    assert spec.parameters["models"] == str(places[0] / "models" / "factory")
    assert spec.parameters["fallback"] == str(places[1] / "factory")
    assert json.loads(spec.parameters["surroundings"])["site"] == "factory"


def test_models_of_another_site_are_left_out(places):
    registry = Registry(places[0] / "models" / "factory", Keys(places[0] / "keys"))
    registry.promote(registry.add(replace(SET, site="bench"), {}))
    assert chosen(CELL, places) == "shipped/factory"


@pytest.mark.parametrize("plant", ["none", "replay:x.csv"])
def test_a_plant_that_is_not_simulated_has_none_unless_named(places, plant):
    cell = replace(CELL, plant=plant)
    assert chosen(cell, places) == "none"
    named = replace(cell, ensemble=EnsembleConfig(models=str(places[1] / "factory")))
    assert chosen(named, places) == "shipped/factory"


def test_named_models_that_cannot_be_used_are_a_mistake(places):
    named = EnsembleConfig(models=str(places[1] / "factory"))
    with pytest.raises(ConfigError, match=r"ensemble: models: .*10 s.* 1 s"):
        chosen(replace(CELL, window_s=1.0, ensemble=named), places)
    with pytest.raises(ConfigError, match="missing"):
        chosen(replace(CELL, ensemble=EnsembleConfig(models="nowhere")), places)
    with pytest.raises(ConfigError, match="no scenario"):
        chosen(replace(CELL, plant="sim:nothing"), places)
