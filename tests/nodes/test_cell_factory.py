"""The factory's cell file, its tag maps, and the table of nodes that comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cellwatch.nodes.cell import Artifacts, node_table
from cellwatch.nodes.cli import config_path
from cellwatch.nodes.config import ConfigError, load
from cellwatch.plc_sim.scenario import load as load_scenario
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import PLC_TAGS, TAG

FACTORY = config_path("factory")


@pytest.fixture(scope="module")
def cell():
    return load(FACTORY)


def test_it_watches_every_plc_of_its_site(cell):
    site = SITES[load_scenario(cell.plant.partition(":")[2]).site]
    assert site.name == "factory"
    assert [p.name for p in cell.plcs] == list(site.plcs)
    assert cell.window_s == 10.0


@pytest.mark.parametrize("plc", sorted(PLC_TAGS))
def test_tag_maps_name_tags_that_the_plc_has_with_its_ranges(cell, plc):
    entries = yaml.safe_load(Path(next(p.tag_map for p in cell.plcs if p.name == plc)).read_text())["tags"]
    here = {t.name: t for t in PLC_TAGS[plc]}
    named = {e["path"].rsplit(":", 1)[-1]: e for e in entries}
    assert named.keys() - {"*"} <= here.keys()
    assert all(f"*:{plc}/" in e["path"] for e in entries)
    writable = {t.name for t in here.values() if t.writable}
    assert {name for name, e in named.items() if e.get("writable")} == writable
    for name in writable:
        assert named[name]["range"] == [here[name].low, here[name].high]
    assert {n: e["role"] for n, e in named.items() if "role" in e} == {
        t.name: t.role for t in here.values() if t.role
    }


def test_its_response_moves_only_tags_of_the_device_it_names(cell):
    for rule in (r for r in cell.response if r.tag):
        assert rule.devices == [TAG[rule.tag].device]


def test_a_node_for_each_plc_and_each_replica(cell):
    three = replace(cell, ensemble=replace(cell.ensemble, replicas=3))
    table = {s.name: s for s in node_table(three, Artifacts(Path("x"), models="m", keys="k"))}
    shares = [s.parameters for s in table.values() if s.executable == "ensemble_node"]
    assert [(p["replica"], p["replicas"]) for p in shares] == [(1, 3), (2, 3), (3, 3)]
    assert {p["window_s"] for p in shares} == {10.0}
    assert {"ensemble_node", "ensemble_node_2", "ensemble_node_3"} <= table.keys()
    assert sum(s.executable == "opcua_client_node" for s in table.values()) == 4


def test_some_replicas_run_on_another_machine(cell):
    shared = replace(cell, ensemble=replace(cell.ensemble, replicas=3, local=[1, 3]))
    table = [s for s in node_table(shared, Artifacts(Path("x"))) if s.executable == "ensemble_node"]
    assert [s.name for s in table] == ["ensemble_node", "ensemble_node_3"]
    assert [(s.parameters["replica"], s.parameters["replicas"]) for s in table] == [(1, 3), (3, 3)]


@pytest.mark.parametrize("local", [[0], [3], [1, 1]])
def test_local_replicas_are_some_of_all(tmp_path, local):
    text = FACTORY.read_text().replace("../", f"{FACTORY.parent.parent}/")
    (tmp_path / "c.yaml").write_text(f"{text}\nensemble: {{replicas: 2, local: {local}}}\n")
    with pytest.raises(ConfigError, match=r"local: .* are not different numbers of 1 to 2"):
        load(tmp_path / "c.yaml")


@pytest.mark.parametrize("replicas", [0, 17])
def test_replicas_have_bounds(tmp_path, replicas):
    text = FACTORY.read_text().replace("../", f"{FACTORY.parent.parent}/")
    (tmp_path / "c.yaml").write_text(f"{text}\nensemble: {{replicas: {replicas}}}\n")
    with pytest.raises(ConfigError, match=rf"replicas: {replicas} is not 1 to 16"):
        load(tmp_path / "c.yaml")


def test_models_are_found_beside_the_cell_file(tmp_path):
    text = FACTORY.read_text().replace("../", f"{FACTORY.parent.parent}/")
    (tmp_path / "c.yaml").write_text(f"{text}\nensemble: {{models: own}}\n")
    assert load(tmp_path / "c.yaml").ensemble.models == str(tmp_path / "own")
