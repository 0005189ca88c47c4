"""`cellwatch registry`: what it prints, and one clear line for every mistake."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from cellwatch.models.registry.bundle import read, write
from cellwatch.models.registry.candidate_file import CandidateFile
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.manifest import Manifest, ModelEntry
from cellwatch.models.registry.registry import Registry
from cellwatch.nodes.cli import app


def graph() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")],
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()


MANIFEST = Manifest(
    "bench",
    "s1",
    1.0,
    {"1": ["benign", "attack"]},
    {"centre": [0.0, 0.0], "scale": [1.0, 1.0]},
    [ModelEntry("XGB", 1, "window", "L1-XGB.onnx", {"mcc": 0.5})],
    {"1": {"XGB": 0.5}},
    lineage={"data": "made-up", "seed": 3},
)
FILES = {"L1-XGB.onnx": graph()}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLWATCH_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return Registry(tmp_path / "models" / "bench", Keys(tmp_path / "keys"))


def call(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["registry", *args])
    return done.exit_code, done.stdout, done.stderr


def test_list_show_promote_rollback_gc(place):
    a, b = (place.add(replace(MANIFEST, lineage={"seed": i}), FILES) for i in (1, 2))
    assert call("promote", a)[0] == call("promote", b)[0] == 0
    code, out, _ = call("list", "--json")
    assert code == 0
    assert [(v["version"], v["state"]) for v in json.loads(out)] == [(b, "current"), (a, "previous")]
    assert json.loads(call("show", "--json")[1])["version"] == b
    text = call("show", a)[1]
    assert "XGB" in text
    assert "mcc 0.5000" in text
    assert call("rollback")[1].strip() == f"version {a} is promoted again"
    assert place.current == a
    assert json.loads(call("gc", "--keep", "0", "--json")[1]) == [b]
    assert "removed: nothing" in call("gc")[1]


def test_the_candidate_is_shown_held_and_sent_away(place):
    a, b = (place.add(replace(MANIFEST, lineage={"seed": i}), FILES) for i in (1, 2))
    place.promote(a)
    assert call("candidate")[1].strip() == "there is no candidate"
    assert json.loads(call("candidate", "--json")[1]) is None
    CandidateFile(place).propose(b, place.load(), 0, scenario="A", reason="false alarms")
    assert call("candidate")[1].splitlines() == [
        f"version {b}, SHADOW since 1970-01-01 00:00:00Z: false alarms",
        f"in place of {a}; scenario A",
    ]
    assert call("hold", "--reason", "night shift")[:2] == (
        0,
        f"version {b} stays SHADOW until it is released\n",
    )
    assert "held by an operator: night shift" in call("candidate")[1]
    assert call("release")[0] == 0
    assert call("reject", "--reason", "not now")[0] == 0
    found = json.loads(call("candidate", "--json")[1])
    assert (found["stage"], found["reason"], place.current) == ("REJECTED", "not now", a)
    code, _, err = call("hold")
    assert (code, f"candidate {b} was rejected" in err) == (2, True)


def test_a_site_without_versions_yet_is_none_the_worse(place):
    assert call("list", "--json")[:2] == (0, "[]\n")
    assert call("candidate")[1].strip() == "there is no candidate"


def test_a_damaged_candidate_is_sent_away(place):
    place.promote(place.add(MANIFEST, FILES))
    (place.folder / "candidate.json").write_text("{")
    assert call("candidate")[0] == 2
    assert call("reject")[:2] == (0, "candidate.json was damaged, and is removed: there is no candidate\n")
    assert call("candidate")[1].strip() == "there is no candidate"


def test_promoting_the_candidate_by_hand_is_seen(place):
    a, b = (place.add(replace(MANIFEST, lineage={"seed": i}), FILES) for i in (1, 2))
    place.promote(a)
    CandidateFile(place).propose(b, place.load(), 0)
    assert call("promote", b)[0] == 0
    assert json.loads(call("candidate", "--json")[1])["stage"] == "ACTIVE"
    code, _, err = call("reject")
    assert (code, "is in service: roll it back" in err) == (2, True)
    assert call("rollback")[0] == 0
    assert json.loads(call("candidate", "--json")[1])["stage"] == "ROLLED_BACK"


def test_import_takes_only_what_is_trusted(place, tmp_path):
    other = Keys(tmp_path / "elsewhere")
    write(tmp_path / "b", MANIFEST, FILES, other)
    code, _, err = call("import", str(tmp_path / "b"))
    assert code == 2
    assert "not signed by a key" in err
    place.keys.sign(b"")
    (place.keys.folder / "trusted").mkdir()
    (place.keys.folder / "trusted" / "e.pub").write_text((other.folder / "registry.pub").read_text())
    code, out, _ = call("import", str(tmp_path / "b"))
    assert code == 0
    (version,) = [v.version for v in place.versions()]
    assert version in out
    (place.keys.folder / "trusted" / "e.pub").unlink()
    assert place.load(version).manifest.lineage["data"] == "made-up"  # signed here now


def test_the_shipped_line_is_what_a_release_needs(place, tmp_path, monkeypatch):
    from cellwatch.models.registry import shipped

    write(tmp_path / "b", MANIFEST, FILES)
    digest = call("ship", str(tmp_path / "b"))[1].split('"')[1]
    monkeypatch.setattr(shipped, "SHIPPED", frozenset({digest}))
    assert read(tmp_path / "b", None).manifest.lineage["seed"] == 3


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["show"], "no version was promoted yet"),
        (["show", "abc"], "no version 'abc'"),
        (["promote", "../x"], "not a registry"),
        (["rollback"], "not a registry"),
        (["gc", "--registry", "bnech"], "not a registry"),
        (["ship", "nowhere"], "No such file"),
        (["import", "nowhere"], "missing"),
        (["hold"], "there is no candidate"),
        (["reject"], "there is no candidate"),
        (["reject", "--registry", "bnech"], "no such folder"),
        (["list", "--registry", "facotry"], "facotry: not a registry: no such folder"),
        (["candidate", "--registry", "/nonexist/x"], "/nonexist/x: not a registry: no such folder"),
    ],
)
def test_mistakes_are_one_line(place, args, words):
    code, out, err = call(*args)
    assert code == 2
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not (place.folder.parent).exists()  # a slip of the pen makes no registry


def test_models_of_another_site_are_not_imported(place, tmp_path):
    write(tmp_path / "b", replace(MANIFEST, site="factory"), FILES, place.keys)
    code, _, err = call("import", str(tmp_path / "b"))
    assert code == 2
    assert "factory" in err
    assert call("import", str(tmp_path / "b"), "--registry", "factory")[0] == 0
    assert not place.folder.exists()
