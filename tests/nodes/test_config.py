"""The cell file: every mistake gets one line that names file and key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cellwatch.nodes.cell import Artifacts, node_table
from cellwatch.nodes.cli import config_path
from cellwatch.nodes.config import ConfigError, load
from cellwatch.nodes.page.users import Role, UsersFile
from cellwatch.nodes.runner import RunOptions
from cellwatch.nodes.start import checked

GOOD = "cell: c\nplcs:\n  - {name: PLC1, tag_map: map.yaml, endpoint: 'opc.tcp://127.0.0.1:4840'}\n"


@pytest.fixture
def cell_file(tmp_path):
    (tmp_path / "map.yaml").write_text("tags: []\n")
    path = tmp_path / "cell.yaml"

    def write(text):
        path.write_text(text)
        return path

    return write


def test_good_file_with_paths_relative_to_it(cell_file):
    path = cell_file(GOOD)
    cell = load(path)
    assert cell.plcs[0].tag_map == str(path.parent / "map.yaml")
    assert cell.window_s == 1.0


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (GOOD + "windows: 2\n", "unknown key 'windows'; allowed: .*window_s"),
        (GOOD + "window_s: fast\n", "window_s: expected float, found str 'fast'"),
        (GOOD + "window_s: true\n", "window_s: expected float"),
        ("plcs: []\n", "key 'cell' is missing"),
        (GOOD.replace("cell: c", "cell: my cell"), "'my cell' must be letters"),
        ("cell: c\nplcs: []\n", "at least one PLC"),
        ("cell: c\nplcs: 5\n", "plcs: expected a list"),
        ("cell: c\nplcs: [{name: A}]\n", "tag_map"),
        ("cell: c\nplcs: [{name: A, tag_map: nowhere.yaml}]\n", "no such file"),
        (GOOD + "  - {name: PLC1, tag_map: map.yaml}\n", "share a name"),
        (GOOD + "fusion: {tresholt: 1}\n", "fusion: unknown key 'tresholt'"),
        (GOOD + "drift: {settle_s: -1}\n", "drift: settle_s: -1 is not 0 to 86400"),
        ("cell: [\n", "line 2: not YAML"),
        ("just text\n", "expected keys and values"),
        ("", "found nothing"),
    ],
)
def test_mistakes_are_named(cell_file, text, word):
    path = cell_file(text)
    with pytest.raises(ConfigError, match=word) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_real_plant_does_not_know_the_truth(cell_file):
    path = cell_file(GOOD + "drift: {truth: true}\n")
    with pytest.raises(ConfigError, match="drift: truth: only a simulated or replayed plant knows it"):
        checked(path, "none", RunOptions())
    assert checked(path, "sim", RunOptions()).drift.truth


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml: no such cell file"):
        load(tmp_path / "no.yaml")


def test_shipped_cells_load_and_make_a_table_with_sinks_first():
    folder = config_path("demo").parent
    for path in sorted(folder.glob("*.yaml")):
        cell = load(path)
        table = node_table(cell, Artifacts(Path("x")))
        assert table[0].name == "influx_export_node"
        assert table[-1].name.startswith("opcua_client_node")
        assert not table[-1].parameters["armed"]


def test_the_page_is_in_the_table_only_when_it_is_wanted():
    cell = load(config_path("factory"))
    files = Artifacts(Path("x"), users="home/users.json")
    assert "dashboard_node" not in {spec.name for spec in node_table(cell, files)}
    table = {spec.name: spec for spec in node_table(cell, files, dashboard=True)}
    page = table["dashboard_node"].parameters
    assert (page["host"], page["port"], page["users"]) == ("127.0.0.1", 8080, "home/users.json")
    assert json.loads(page["links"]) == [name for name in table if name.startswith("opcua_client_node")]
    assert json.loads(page["devices"])[:4] == ["PLC1", "PLC2", "PLC3", "PLC4"]
    off = replace(cell, dashboard=replace(cell.dashboard, enabled=False))
    assert "dashboard_node" not in {spec.name for spec in node_table(off, files, dashboard=True)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("host: plant-pc", "host: 'plant-pc' is no address of this machine"),
        ("port: 70000", "port: 70000 is not 0 to 65535"),
        ("private_key: x.pem", "private_key: there is no certificate"),
        ("certificate: x.pem", "certificate: no such file"),
        ("password: x", "unknown key 'password'"),
    ],
)
def test_keys_of_the_page_are_checked(cell_file, line, message):
    with pytest.raises(ConfigError, match=message):
        load(cell_file(GOOD + f"dashboard: {{{line}}}\n"))


@pytest.mark.parametrize("line", ["before_s: -1", "after_s: .nan", "memory_mb: 0", "max_mb: 10000001"])
def test_keys_of_the_black_box_are_checked(cell_file, line):
    with pytest.raises(ConfigError, match=f"black_box: {line.partition(':')[0]}: .* is not"):
        load(cell_file(GOOD + f"black_box: {{{line}}}\n"))


def test_a_page_that_others_reach_needs_users_before_anything_is_started(cell_file, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLWATCH_HOME", str(tmp_path))
    with_page, without = RunOptions(dashboard=True), RunOptions()
    everywhere, here = (GOOD + f"dashboard: {{host: {host}}}\n" for host in ("0.0.0.0", "127.0.0.1"))
    path = cell_file(everywhere)
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 is open to other machines: `cellwatch users add"):
        checked(path, None, with_page)
    assert checked(path, None, without)
    assert checked(cell_file(here), None, with_page)
    users = UsersFile(tmp_path / "users.json")
    users.add("anna", Role.VIEWER, "a long password")
    assert checked(cell_file(everywhere), None, with_page)
    users.remove("anna")
    for text in (everywhere, here):  # a file without users opens nothing
        with pytest.raises(ConfigError, match="has nobody in it"):
            checked(cell_file(text), None, with_page)
    users.path.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        checked(cell_file(here), None, with_page)
