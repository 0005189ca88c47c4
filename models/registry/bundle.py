"""A folder of models: ONNX and JSON only, each file checked by its sha256, the manifest by who made it.

Nothing of a bundle is parsed before it is trusted: the manifest's own sha256 is listed in `shipped`, or a
trusted key has signed it; the manifest then vouches for every other file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cellwatch.models.registry import shipped
from cellwatch.models.registry.manifest import Manifest, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from cellwatch.models.registry.keys import Keys

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
SUFFIXES = (".onnx", ".json")
PACK = "files.zip"  # every other file in one, for a small bundle: LZMA, flat
MAX_BYTES = 64 << 20  # of one file
DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}  # operators whose meaning the ONNX standard fixes


class BundleError(ValueError):
    """A bundle that must not be used; the text names the file and the reason."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle in memory."""

    version: str
    manifest: Manifest
    files: dict[str, bytes]


def write(
    folder: Path,
    manifest: Manifest,
    files: dict[str, bytes],
    keys: Keys | None = None,
    *,
    packed: bool = False,
) -> str:
    """Write `folder`, whole or not at all, in place of an older one; returns the version.

    With `keys` the manifest is signed; without, it is good only where `shipped` lists it. `packed` puts all
    files into one.
    """
    manifest = replace(
        manifest, files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    )
    manifest.check()
    for name, content in files.items():
        check_name(name)
        check_content(name, content)
    text = manifest.to_json()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    body = {**({PACK: _packed(files)} if packed else files), MANIFEST: text}
    if keys is not None:
        body[SIGNATURE] = json.dumps({"algorithm": "ed25519", "signature": keys.sign(text)}).encode()
    for name, content in body.items():
        with (temporary / name).open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
    _put(temporary, folder)
    return version_of(text)


def read(
    folder: Path, keys: Keys | None, *, schema_id: str | None = None, window_s: float | None = None
) -> Bundle:
    """The bundle in `folder`; BundleError if it is damaged, strange, untrusted or not for this cell."""
    text = _bytes(folder, MANIFEST)
    _check_trust(folder, text, keys)
    try:
        manifest = Manifest.from_json(text)
    except ValueError as error:
        raise BundleError(f"{folder / MANIFEST}: {error}") from None
    if schema_id is not None and manifest.schema_id != schema_id:
        raise BundleError(
            f"{folder}: the models have schema {manifest.schema_id}, the cell {schema_id}: train anew"
        )
    if window_s is not None and manifest.window_s != window_s:
        raise BundleError(
            f"{folder}: the models know windows of {manifest.window_s:g} s, the cell's have {window_s:g} s"
        )
    pack = _Pack(folder) if (folder / PACK).exists() else None
    here = {p.name for p in folder.iterdir()} - {MANIFEST, SIGNATURE, PACK} | (
        pack.names() if pack else set()
    )
    strange = sorted(here - manifest.files.keys())
    if strange:
        raise BundleError(f"{folder / strange[0]}: the manifest does not know this file")
    files = {}
    for name, digest in manifest.files.items():
        check_name(name)
        content = pack.read(name) if pack else _bytes(folder, name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError(
                f"{folder / name}: sha256 does not fit the manifest: the file was changed or damaged"
            )
        try:
            check_content(name, content)
        except BundleError as error:
            raise BundleError(f"{folder}: {error}") from None
        files[name] = content
    return Bundle(version_of(text), manifest, files)


def check_name(name: str) -> None:
    """BundleError unless it names a file of a known kind in the bundle's own folder."""
    if name != Path(name).name or name.startswith(".") or "\\" in name or name in {MANIFEST, SIGNATURE}:
        raise BundleError(f"{name!r}: not a plain file name")
    if Path(name).suffix not in SUFFIXES:
        raise BundleError(f"{name}: only {' and '.join(SUFFIXES)} files are let in")


def check_content(name: str, content: bytes) -> None:
    """BundleError unless the bytes are what the suffix says: a self-contained ONNX graph, or JSON."""
    if name.endswith(".json"):
        try:
            json.loads(content)
        except ValueError:
            raise BundleError(f"{name}: not JSON") from None
        return
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise BundleError(f"{name}: not an ONNX graph") from None
    foreign = {o.domain for o in model.opset_import} - DOMAINS
    if foreign or model.functions:
        raise BundleError(f"{name}: uses operators of its own ({', '.join(sorted(foreign)) or 'functions'})")
    if not {"x"} == {i.name for i in model.graph.input} or "probabilities" not in {
        o.name for o in model.graph.output
    }:
        raise BundleError(f"{name}: not a graph from x to probabilities")
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in _tensors(model.graph)):
        raise BundleError(f"{name}: its weights lie outside the file")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph and of those inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)


def _check_trust(folder: Path, text: bytes, keys: Keys | None) -> None:
    if hashlib.sha256(text).hexdigest() in shipped.SHIPPED:
        return
    if not (folder / SIGNATURE).exists():
        raise BundleError(f"{folder}: not signed, and not one that came with this release")
    try:
        signature = str(json.loads(_bytes(folder, SIGNATURE))["signature"])
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"{folder / SIGNATURE}: not a signature") from None
    if keys is None or not keys.signed(text, signature):
        raise BundleError(f"{folder}: not signed by a key that this machine trusts, or changed since")


def _packed(files: dict[str, bytes]) -> bytes:
    """One zip; the same files always give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as pack:
        for name in sorted(files):
            pack.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_LZMA)
    return out.getvalue()


class _Pack:
    """The files of a packed bundle, unpacked in memory; a bomb is refused by the size it declares."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / PACK
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(_bytes(folder, PACK)))
        except BundleError:
            raise
        except Exception as error:  # zipfile meets strange bytes with errors of many kinds
            raise BundleError(f"{self._place}: not a zip file ({error})") from None

    def names(self) -> set[str]:
        return set(self._zip.namelist())

    def read(self, name: str) -> bytes:
        try:
            size = self._zip.getinfo(name).file_size
        except KeyError:
            raise BundleError(f"{self._place}: {name}: missing") from None
        if size > MAX_BYTES:
            raise BundleError(f"{self._place}: {name}: larger than {MAX_BYTES >> 20} MiB")
        try:
            return self._zip.read(name)
        except Exception as error:
            raise BundleError(f"{self._place}: {name}: damaged ({error})") from None


def _bytes(folder: Path, name: str) -> bytes:
    """Content of a regular file; a link, a pipe or a giant is refused."""
    path = folder / name
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BundleError(f"{path}: missing") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from None
    with os.fdopen(file, "rb") as source:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: not a regular file")
        if status.st_size > MAX_BYTES:
            raise BundleError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        return source.read(MAX_BYTES)


def _put(temporary: Path, folder: Path) -> None:
    """Rename into place and make it last."""
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old)
    else:
        temporary.rename(folder)
    sync(folder.parent)


def sync(folder: Path) -> None:
    """Have a folder's entries on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
