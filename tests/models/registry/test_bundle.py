"""Bundles: whole or not at all, never a changed, foreign or dangerous file."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cellwatch.models.registry import bundle, shipped
from cellwatch.models.registry.bundle import (
    MANIFEST,
    PACK,
    SIGNATURE,
    BundleError,
    check_target,
    read,
    write,
)
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.manifest import Manifest, ModelEntry


@pytest.fixture(params=[False, True], ids=["loose", "packed"])
def packed(request):
    return request.param


@pytest.fixture
def folder(tmp_path, manifest, files, keys):
    write(tmp_path / "m", manifest, files, keys)
    return tmp_path / "m"


def test_round_trip_and_replacement(tmp_path, manifest, files, keys, packed):
    place = tmp_path / "b" / "m"
    place.parent.mkdir()
    version = write(place, manifest, files, keys, packed=packed)
    found = read(place, keys, schema_id="s1", window_s=1.0)
    assert (found.version, found.files) == (version, files)
    assert replace(found.manifest, files={}) == manifest
    assert write(place, manifest, files, keys, packed=packed) == version
    other = write(place, replace(manifest, lineage={"seed": 1}), files, keys, packed=packed)
    assert other != version == version
    assert read(place, keys).version == other
    assert [p.name for p in place.parent.iterdir()] == ["m"]


def test_a_packed_bundle_is_the_same_version_and_reproducible(tmp_path, manifest, files):
    a, b = (write(tmp_path / n, manifest, files, packed=n != "loose") for n in ("pack", "loose"))
    write(tmp_path / "again", manifest, dict(reversed(files.items())), packed=True)
    assert a == b
    assert (tmp_path / "pack" / PACK).read_bytes() == (tmp_path / "again" / PACK).read_bytes()


def _tree(folder) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def _into_a_registry(folder) -> None:
    (folder / "versions").mkdir()
    (folder / "current.json").write_text("{}")


@pytest.mark.parametrize(
    ("fill", "word"),
    [
        (lambda f: (f / "thesis.tex").write_text("years"), "other things"),
        (lambda f: (f / ".git").mkdir(), "other things"),
        (_into_a_registry, "registry"),
        (lambda f: (f / MANIFEST).write_text('{"version": 1}'), "not replaced"),
    ],
)
def test_what_is_no_bundle_is_never_replaced(tmp_path, manifest, files, keys, fill, word):
    place = tmp_path / "mine"
    place.mkdir()
    fill(place)
    before = _tree(place)
    for attempt in (lambda: check_target(place), lambda: write(place, manifest, files, keys)):
        with pytest.raises(BundleError, match=word):
            attempt()
    assert _tree(place) == before
    assert {p.name for p in tmp_path.iterdir()} <= {"mine", "keys"}


@pytest.mark.parametrize("name", ["notes.txt", "more.json", "profile.json.d"])
def test_a_bundle_with_something_of_the_users_in_it_is_not_replaced(folder, manifest, files, keys, name):
    (folder / name).mkdir() if name.endswith(".d") else (folder / name).write_text("{}")
    with pytest.raises(BundleError, match=rf"{name} is none of its models"):
        write(folder, manifest, files, keys)
    assert (folder / name).exists()


def test_new_and_empty_folders_and_older_bundles_are_good_targets(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for good in (folder, tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        check_target(good)
    assert not (tmp_path / "a").exists()
    for bad in (tmp_path / "file", tmp_path / "file" / "m"):
        with pytest.raises(BundleError, match="not a folder"):
            check_target(bad)


def test_a_link_to_a_bundle_stays_a_link(folder, tmp_path, manifest, files, keys):
    (tmp_path / "link").symlink_to(folder)
    version = write(tmp_path / "link", replace(manifest, lineage={"seed": 1}), files, keys)
    assert (tmp_path / "link").is_symlink()
    assert read(folder, keys).version == version


class NoExchange:
    """libc on a file system without RENAME_EXCHANGE."""

    def renameat2(self, *_) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1


def test_without_an_exchange_in_one_step_the_old_one_lies_aside_until_the_new_one_stands(
    folder, manifest, files, keys, monkeypatch
):
    monkeypatch.setattr(bundle.ctypes, "CDLL", lambda *_, **__: NoExchange())
    old = read(folder, keys).version
    new = write(folder, replace(manifest, lineage={"seed": 1}), files, keys)
    assert read(folder, keys).version == new != old
    assert {p.name for p in folder.parent.iterdir()} == {"m", "keys"}


def test_a_bundle_stands_there_at_every_moment(folder, manifest, files, keys, monkeypatch):
    """Whatever is called on the way, a kill just then leaves a whole bundle."""
    missing = []

    def watched(function):
        def call(*args, **more):
            missing.append(not (folder / MANIFEST).exists())
            return function(*args, **more)

        return call

    for holder, name in ((bundle.Path, "rename"), (bundle.shutil, "rmtree"), (bundle.os, "fsync")):
        monkeypatch.setattr(holder, name, watched(getattr(holder, name)))
    write(folder, replace(manifest, lineage={"seed": 1}), files, keys)
    assert len(missing) > 3
    assert not any(missing)


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda f: (f / "profile.json").write_bytes(b"[]"), "sha256"),
        (lambda f: (f / "L1-XGB.onnx").write_bytes((f / "L1-XGB.onnx").read_bytes()[:-1]), "sha256"),
        (lambda f: (f / "L1-XGB.onnx").unlink(), "missing"),
        (lambda f: (f / MANIFEST).unlink(), "missing"),
        (lambda f: (f / SIGNATURE).unlink(), "not signed"),
        (lambda f: (f / SIGNATURE).write_text("{}"), "not a signature"),
        (lambda f: (f / SIGNATURE).write_text('{"signature": "00"}'), "not signed by a key"),
        (lambda f: (f / SIGNATURE).write_text('{"signature": "zz"}'), "not signed by a key"),
        (lambda f: (f / "more.pkl").write_bytes(pickle.dumps(1)), "does not know"),
        (lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text() + " "), "not signed by a key"),
    ],
)
def test_damage_is_refused_with_the_reason(folder, keys, harm, word):
    harm(folder)
    with pytest.raises(BundleError, match=word):
        read(folder, keys)


def test_every_cut_of_a_packed_bundle_is_refused(tmp_path, manifest, files, keys):
    place = tmp_path / "p"
    write(place, manifest, files, keys, packed=True)
    whole = (place / PACK).read_bytes()
    for length in range(0, len(whole), 23):
        (place / PACK).write_bytes(whole[:length])
        with pytest.raises(BundleError):
            read(place, keys)
    for at in range(0, len(whole), 29):
        (place / PACK).write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with contextlib.suppress(BundleError):
            assert read(place, keys).files == files  # a byte that means nothing, as a date


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, manifest, files, keys):
    place = tmp_path / "p"
    write(place, manifest, files, keys, packed=True)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as pack:
        pack.writestr("profile.json", bytes(65 << 20))
        pack.writestr("L1-XGB.onnx", b"")
    (place / PACK).write_bytes(out.getvalue())
    with pytest.raises(BundleError, match=r"64 MiB|sha256"):
        read(place, keys)


def test_links_are_not_followed(folder, keys, tmp_path):
    (tmp_path / "elsewhere").write_bytes((folder / "profile.json").read_bytes())
    (folder / "profile.json").unlink()
    (folder / "profile.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="cannot be read"):
        read(folder, keys)


def test_a_pipe_does_not_hang_it(folder, keys):
    (folder / "profile.json").unlink()
    os.mkfifo(folder / "profile.json")
    with pytest.raises(BundleError, match="regular"):
        read(folder, keys)


def test_another_machine_trusts_only_the_keys_it_was_given(folder, keys, tmp_path):
    other = Keys(tmp_path / "other")
    with pytest.raises(BundleError, match="not signed by a key"):
        read(folder, other)
    other.sign(b"it has a key of its own now")
    with pytest.raises(BundleError, match="not signed by a key"):
        read(folder, other)
    (other.folder / "trusted").mkdir()
    (other.folder / "trusted" / "plant.pub").write_text((keys.folder / "registry.pub").read_text())
    assert read(folder, other).files
    with pytest.raises(BundleError, match="not signed by a key"):
        read(folder, None)


def test_the_key_is_private(keys):
    keys.sign(b"")
    private = keys.folder / "registry.key"
    assert private.stat().st_mode & 0o777 == 0o600
    private.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        keys.sign(b"")


@pytest.mark.parametrize("place", ["", "trusted", "trusted/plant.pub"])
def test_keys_that_others_can_write_are_no_keys(folder, keys, place):
    (keys.folder / "trusted").mkdir(mode=0o755)
    (keys.folder / "trusted" / "plant.pub").write_text((keys.folder / "registry.pub").read_text())
    assert read(folder, keys).files
    for mode in (0o020, 0o002):
        path = keys.folder / place
        path.chmod(path.stat().st_mode | mode)
        with pytest.raises(BundleError, match="chmod go-w"):
            read(folder, keys)
        path.chmod(path.stat().st_mode & ~mode)


def test_a_shipped_one_needs_no_signature_and_a_list_inside_is_worth_nothing(
    tmp_path, manifest, files, monkeypatch
):
    place = tmp_path / "s"
    write(place, replace(manifest, lineage={"shipped": ["all of it"]}), files)
    with pytest.raises(BundleError, match="not signed"):
        read(place, None)
    digest = hashlib.sha256((place / MANIFEST).read_bytes()).hexdigest()
    monkeypatch.setattr(shipped, "SHIPPED", frozenset({digest}))
    assert read(place, None).files == files


@pytest.mark.parametrize(("field", "value"), [("schema_id", "s2"), ("window_s", 10.0), ("site", "factory")])
def test_models_for_another_cell_are_refused_with_both_sides(folder, keys, field, value):
    with pytest.raises(BundleError, match=rf"(s1|1 s|bench).*{'10 s' if field == 'window_s' else value}"):
        read(folder, keys, **{field: value})


@pytest.mark.parametrize(
    "name", ["../x.onnx", "/x.json", "a/b.json", ".x.json", "x.pkl", "x.pt", "manifest.json", "current.json"]
)
def test_names_that_are_not_let_in(tmp_path, manifest, files, keys, name):
    with pytest.raises(BundleError, match=r"plain file name|let in"):
        write(tmp_path / "m", manifest, {**files, name: b"{}"}, keys)


def test_a_signed_manifest_cannot_reach_outside_its_folder(folder, keys):
    body = json.loads((folder / MANIFEST).read_text())
    body["files"]["../outside.json"] = hashlib.sha256(b"{}").hexdigest()
    (folder.parent / "outside.json").write_bytes(b"{}")
    text = json.dumps(body).encode()
    (folder / MANIFEST).write_bytes(text)
    (folder / SIGNATURE).write_text(json.dumps({"signature": keys.sign(text)}))
    with pytest.raises(BundleError, match="plain file name"):
        read(folder, keys)


def _model(content: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(content)


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def _external_inside(model: onnx.ModelProto) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    tensor.data_location = TensorProto.EXTERNAL
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _foreign(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example.run", 1))


def _second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]))


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (_external, "outside"),
        (_external_inside, "outside"),
        (_foreign, "com.example.run"),
        (_second_input, "from x to probabilities"),
    ],
)
def test_graphs_that_are_not_let_in(tmp_path, manifest, files, keys, harm, word):
    model = _model(files["L1-XGB.onnx"])
    harm(model)
    with pytest.raises(BundleError, match=word):
        write(tmp_path / "m", manifest, {**files, "L1-XGB.onnx": model.SerializeToString()}, keys)


@pytest.mark.parametrize("name", ["L1-XGB.onnx", "profile.json"])
def test_a_pickle_is_refused_whatever_it_is_called(tmp_path, manifest, files, keys, name):
    with pytest.raises(BundleError, match="not "):
        write(tmp_path / "m", manifest, {**files, name: pickle.dumps({"a": 1})}, keys)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"window_s": 0.0}, "window_s"),
        ({"models": [ModelEntry("A", 2, "window", "profile.json")]}, "unknown level"),
        ({"models": [ModelEntry("A", 1, "picture", "profile.json")]}, "kind"),
        ({"models": [ModelEntry("A", 1, "window", "a.onnx")]}, "no sha256"),
        ({"models": [ModelEntry("A", 1, "window", "profile.json")] * 2}, "twice"),
    ],
)
def test_manifests_that_make_no_sense(tmp_path, manifest, files, keys, change, word):
    with pytest.raises(ValueError, match=word):
        write(tmp_path / "m", replace(manifest, **change), files, keys)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 2}', b"\xff"])
def test_what_is_no_manifest(text):
    with pytest.raises(ValueError, match="manifest"):
        Manifest.from_json(text)


def test_served_and_weights(manifest):
    more = replace(
        manifest,
        models=[ModelEntry(d, v, "window", "f") for v in (1, 2) for d in ("XGB", "RNN")],
        serve={"1": ["RNN"]},
        weights={"1": {"XGB": 0.5, "rulesense": 1.0}, "2": {"XGB": 0.25}},
    )
    assert [(m.level, m.detector) for m in more.served()] == [(1, "RNN"), (2, "XGB"), (2, "RNN")]
    assert more.fusion_weights() == {"XGB": 0.5, "rulesense": 1.0, "L2/XGB": 0.25}
