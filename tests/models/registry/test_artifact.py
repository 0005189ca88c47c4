"""Model folders: whole or not at all, and never a changed file."""

from __future__ import annotations

import hashlib
import json

import pytest

from cellwatch.models.registry.artifact import MANIFEST, Manifest, ModelEntry, load, save


@pytest.fixture
def folder(tmp_path):
    content = b"graph"
    entry = ModelEntry("XGB", 1, "L1-XGB.onnx", hashlib.sha256(content).hexdigest(), {"mcc": 0.5})
    manifest = Manifest(
        "s1", {"1": ["benign", "attack"]}, [entry], {"centre": [0.0], "scale": [1.0]}, {"XGB": 0.5}, {}
    )
    save(tmp_path / "m", manifest, {"L1-XGB.onnx": content})
    return tmp_path / "m"


def test_round_trip_and_replacement(folder):
    manifest, graphs = load(folder, "s1")
    assert graphs == {"L1-XGB.onnx": b"graph"}
    save(folder, manifest, {"L1-XGB.onnx": b"graph"})
    assert load(folder, "s1")[0] == manifest
    assert [p.name for p in folder.parent.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda f: (f / "L1-XGB.onnx").write_bytes(b"grapH"), "sha256"),
        (lambda f: (f / "L1-XGB.onnx").write_bytes(b"gra"), "sha256"),
        (lambda f: (f / "L1-XGB.onnx").unlink(), "missing"),
        (lambda f: (f / MANIFEST).unlink(), "no such manifest"),
        (lambda f: (f / MANIFEST).write_text("{"), "not a model manifest"),
        (lambda f: (f / MANIFEST).write_text(json.dumps({"models": []})), "not a model manifest"),
    ],
)
def test_damage_is_refused_with_the_file(folder, harm, word):
    harm(folder)
    with pytest.raises(ValueError, match=word):
        load(folder, "s1")


def test_other_schema_is_refused_with_both_ids(folder):
    with pytest.raises(ValueError, match=r"s1.*s2"):
        load(folder, "s2")


def test_a_file_outside_the_folder_is_refused(folder):
    body = json.loads((folder / MANIFEST).read_text())
    body["models"][0]["file"] = "../other.onnx"
    (folder / MANIFEST).write_text(json.dumps(body))
    with pytest.raises(ValueError, match="missing"):
        load(folder)
