"""`cellwatch select`: answers, JSON, pictures, and mistakes in one line."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

pytest.importorskip("pymoo")

from cellwatch.nodes.cli import app

HEAD = "model,level,detection_quality,resource_usage,speed_latency,coverage\n"
THREE = HEAD + "A,1,.9,.2,.5,.5\nB,1,.2,.9,.5,.5\nC,1,.1,.1,.5,.1\n"
QUICK = ("--runs", "2", "--workers", "1", "--population", "20", "--generations", "5")


@pytest.fixture
def select(tmp_path):
    def run(text, *options):
        path = tmp_path / "scores.csv"
        path.write_text(text)
        return CliRunner().invoke(app, ["select", "--scores", str(path), *options], env={"COLUMNS": "200"})

    return run


def test_json_is_as_promised(select):
    result = select(THREE, *QUICK, "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert list(said) == ["levels"]
    assert list(said["levels"]) == ["1"]
    one = said["levels"]["1"]
    assert list(one) == ["front", "ranked", "frequent", "hypervolume_ratio"]
    assert one["front"] == [
        {"models": ["A"], "objectives": [0.9, 0.2, 0.5, 0.5]},
        {"models": ["A", "B"], "objectives": [0.55, 0.55, 0.5, 0.5]},
        {"models": ["B"], "objectives": [0.2, 0.9, 0.5, 0.5]},
    ]
    assert one["ranked"][0].keys() == {"models", "objectives", "score"}
    assert {tuple(each["models"]) for each in one["ranked"]} == {("A",), ("A", "B"), ("B",)}
    assert [each["runs"] for each in one["frequent"]] == [2, 2, 2]
    assert one["hypervolume_ratio"] == 1.0


def test_all_levels_of_the_papers_table(root):
    table = str(root / "config/selection/deepsense_table1.csv")
    options = ("--runs", "1", "--workers", "1", "--generations", "10")
    result = CliRunner().invoke(app, ["select", "--scores", table, *options], env={"COLUMNS": "220"})
    assert result.exit_code == 0
    for level, subsets in ((1, "44,551"), (2, "35,442"), (3, "35,442")):
        assert f"level {level}: " in result.stdout
        assert f"of {subsets} ensembles are on the front" in result.stdout
        assert all(f"L{level}_Ens{i}" in result.stdout for i in (1, 2, 3))


def test_workers_do_not_change_the_answer(root):
    table = str(root / "config/selection/deepsense_table1.csv")
    options = ("--level", "3", "--runs", "6", "--population", "30", "--generations", "4", "--json")
    said = [
        CliRunner().invoke(app, ["select", "--scores", table, *options, "--workers", workers]).stdout
        for workers in ("1", "2")
    ]
    assert said[0] == said[1]
    assert json.loads(said[0])["levels"]["3"]["hypervolume_ratio"] <= 1.0


def test_names_that_are_not_the_papers_are_compared_with_nothing(select):
    assert "paper" not in select(THREE, *QUICK).stdout


@pytest.mark.parametrize(("kind", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_picture(select, tmp_path, kind, magic):
    path = tmp_path / "new" / f"front.{kind}"
    assert select(THREE, *QUICK, "--picture", str(path)).exit_code == 0
    assert path.read_bytes().startswith(magic)


def test_sensitivity(select):
    result = select(THREE, "--sensitivity", "--json")
    one = json.loads(result.stdout)["levels"]["1"]
    assert one["ranked"]["W3"]["VIKOR"][0] == "A"
    assert one["ranked"]["W4"]["VIKOR"][0] == "B"
    assert one["between_weights"].keys() == {"TOPSIS", "VIKOR", "Chebyshev"}
    assert "Kendall's tau between methods" in select(THREE, "--sensitivity").stdout


def test_weights_rank(select):
    def best(weights):
        said = json.loads(select(THREE, *QUICK, "--weights", weights, "--json").stdout)
        return said["levels"]["1"]["ranked"][0]["models"]

    assert best("9,1,1,1") == ["A"]
    assert best("1,9,1,1") == ["B"]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (THREE.replace("coverage", "x"), (), "no column coverage"),
        (THREE.replace(".1,.1,.5", ".1,nan,.5"), (), "line 4, resource_usage: nan"),
        (THREE.replace("C,1", "C,7"), (), "line 4: level 7: levels are 1, 2, 3"),
        (HEAD + "A,2,.9,.2,.5,.5\n", (), "level 2 has one model only (A)"),
        (HEAD + "A,1,1,1,1,1\nB,1,1,1,1,1\n", (), "all 2 models have the same scores"),
        (THREE, ("--level", "2"), "has no level 2: it has 1"),
        (THREE, ("--level", "x"), "--level x: such as 1 or 1,2,3"),
        (THREE, ("--sizes", "5-2"), "--sizes 5-2: such as 1-5"),
        (THREE, ("--sizes", "0-2"), "--sizes 0-2: such as 1-5"),
        (THREE, ("--sizes", "4-5"), "--sizes 4-5: there are only 3 models"),
        (THREE, ("--weights", "1,2"), "--weights 1,2: four numbers"),
        (THREE, ("--weights", "0,0,0,0"), "--weights 0,0,0,0: weights are numbers >= 0"),
        (THREE, ("--reference", "a,0,0,0"), "--reference a,0,0,0: four numbers"),
        (THREE, (*QUICK, "--picture", "/proc/none/x.svg"), "/proc/none"),
        (THREE, (*QUICK, "--data", "nowhere"), "no data set is called 'nowhere'"),
        (THREE, (*QUICK, "--picture", "x.docx"), "x.docx: a picture is .svg, .png or .pdf"),
    ],
)
def test_mistakes_are_one_line(select, text, options, said):
    result = select(text, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x81"])
def test_a_file_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "scores.csv"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(app, ["select", "--scores", str(path)])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


def test_without_pymoo_it_says_what_to_install(select, monkeypatch):
    for name in [
        each
        for each in sys.modules
        if each.startswith(("cellwatch.models.selection", "cellwatch.nodes.choosing"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    result = select(THREE, *QUICK)
    assert result.exit_code == 2
    assert "pymoo" in result.stderr
    assert "pip install 'cellwatch[learn]'" in result.stderr
    assert select(THREE, "--sensitivity").exit_code == 0
