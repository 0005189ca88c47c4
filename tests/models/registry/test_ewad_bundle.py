"""The bundle of an EWAD: only whole, signed and of this cell; nothing else is ever parsed or replaced."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save

from cellwatch.models.registry import bundle, shipped
from cellwatch.models.registry.bundle import PACK, SIGNATURE, BundleError
from cellwatch.models.registry.ewad_bundle import (
    CARD,
    GRAPH,
    MANIFEST,
    MODEL,
    EwadManifest,
    check_target,
    read,
    write,
)
from cellwatch.models.registry.keys import Keys

OUTPUTS = ("score", "p_value", "parts", "features")


def graph(outputs: tuple[str, ...] = OUTPUTS, domain: str = "") -> bytes:
    """The smallest graph with these outputs."""
    made = helper.make_graph(
        [helper.make_node("Identity", ["x"], [name], domain=domain) for name in outputs],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in outputs],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid(domain, 18)]).SerializeToString()


@pytest.fixture
def ewad_manifest() -> EwadManifest:
    return EwadManifest(["a", "b"], "bench", "s1", 1.0, {"seed": 0})


@pytest.fixture
def ewad_files() -> dict[str, bytes]:
    return {GRAPH: graph(), CARD: b"{}", MODEL: save({"w": np.ones((2, 3), np.float32)})}


@pytest.fixture
def folder(tmp_path, ewad_manifest, ewad_files, keys):
    write(tmp_path / "e", ewad_manifest, ewad_files, keys)
    return tmp_path / "e"


def test_round_trip_replacement_and_pack(tmp_path, ewad_manifest, ewad_files, keys):
    place = tmp_path / "e"
    version = write(place, ewad_manifest, ewad_files, keys)
    found = read(place, keys, schema_id="s1", window_s=1.0, site="bench")
    assert (found.version, found.files) == (version, ewad_files)
    assert replace(found.manifest, files={}) == ewad_manifest
    assert write(place, ewad_manifest, ewad_files, keys, packed=True) == version
    assert {p.name for p in place.iterdir()} == {MANIFEST, SIGNATURE, PACK}
    assert read(place, keys).files == ewad_files


def test_what_the_release_lists_needs_no_signature(tmp_path, ewad_manifest, ewad_files, monkeypatch):
    import hashlib

    write(tmp_path / "e", ewad_manifest, ewad_files)
    with pytest.raises(BundleError, match="not signed"):
        read(tmp_path / "e", None)
    digest = hashlib.sha256((tmp_path / "e" / MANIFEST).read_bytes()).hexdigest()
    monkeypatch.setattr(shipped, "SHIPPED", frozenset({digest}))
    assert read(tmp_path / "e", None).files == ewad_files


@pytest.mark.parametrize("name", [GRAPH, CARD, MODEL])
@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_changed_or_truncated_file_is_refused_by_name(folder, keys, name, harm):
    path = folder / name
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if harm == "cut" else content[:-1] + b"!!")
    with pytest.raises(BundleError, match=f"{name}: (sha256|missing)"):
        read(folder, keys)


def test_a_manifest_that_was_edited_or_signed_by_a_stranger_is_refused(folder, keys, tmp_path):
    with pytest.raises(BundleError, match="not signed by a key"):
        read(folder, Keys(tmp_path / "others"))
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"bench"', '"other"'))
    with pytest.raises(BundleError, match="changed since"):
        read(folder, keys)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"schema_id": "s2"}, "has schema s1, the cell s2: train anew"),
        ({"window_s": 10.0}, "windows of 1 s, the cell's have 10 s"),
        ({"site": "factory"}, "for the site 'bench', the cell is 'factory'"),
    ],
)
def test_an_ewad_of_another_cell_is_refused_with_the_reason(folder, keys, wanted, why):
    with pytest.raises(BundleError, match=why):
        read(folder, keys, **wanted)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({GRAPH: b"\x08\x01no graph"}, "not an ONNX graph"),
        ({GRAPH: graph(("score", "p_value"))}, "not a graph from x to features, p_value, parts, score"),
        ({GRAPH: graph(domain="evil.ops")}, "operators of its own"),
        ({CARD: b"{"}, "not JSON"),
        ({MODEL: b"\x80\x04pickle"}, "not a file of safetensors"),
        ({"model.pkl": b""}, "only .onnx and .json and .safetensors files"),
        ({"../x.json": b"{}"}, "not a plain file name"),
        ({MANIFEST: b"{}"}, "not a plain file name"),
    ],
)
def test_only_known_kinds_of_files_are_written(tmp_path, ewad_manifest, ewad_files, keys, bad, why):
    with pytest.raises(BundleError, match=why):
        write(tmp_path / "e", ewad_manifest, ewad_files | bad, keys)
    assert not (tmp_path / "e").exists()


def test_a_poisoned_file_is_refused_even_if_a_trusted_key_signed_it(
    tmp_path, ewad_manifest, ewad_files, keys, monkeypatch
):
    monkeypatch.setattr(bundle, "check_content", lambda *_: None)
    write(tmp_path / "e", ewad_manifest, ewad_files | {MODEL: b"\x80\x04pickle"}, keys)
    monkeypatch.undo()
    with pytest.raises(BundleError, match="not a file of safetensors"):
        read(tmp_path / "e", keys)


def test_nothing_else_is_replaced_and_no_model_bundle(
    tmp_path, manifest, files, ewad_manifest, ewad_files, keys
):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    bundle.write(tmp_path / "models", manifest, files, keys)
    for place in ("letters", "models"):
        with pytest.raises(BundleError, match="holds other things"):
            check_target(tmp_path / place)
        with pytest.raises(BundleError, match="holds other things"):
            write(tmp_path / place, ewad_manifest, ewad_files, keys)
    write(tmp_path / "e", ewad_manifest, ewad_files, keys)
    with pytest.raises(BundleError, match="holds other things"):
        bundle.write(tmp_path / "e", manifest, files, keys)
    (tmp_path / "e" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt is none of its"):
        write(tmp_path / "e", ewad_manifest, ewad_files, keys)


@pytest.mark.parametrize("text", ["[]", "{", '{"format": 9}', '{"format": 1, "columns": [], "files": {}}'])
def test_a_signed_manifest_that_is_none_is_refused(folder, keys, text):
    (folder / MANIFEST).write_text(text)
    signature = {"algorithm": "ed25519", "signature": keys.sign(text.encode())}
    (folder / SIGNATURE).write_text(json.dumps(signature))
    with pytest.raises(BundleError, match=MANIFEST):
        read(folder, keys)
