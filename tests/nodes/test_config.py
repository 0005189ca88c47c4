"""The cell file: every mistake gets one line that names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellwatch.nodes.cell import Artifacts, node_table
from cellwatch.nodes.cli import config_path
from cellwatch.nodes.config import ConfigError, load
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
