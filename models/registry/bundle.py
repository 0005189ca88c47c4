"""A folder of models: ONNX and JSON only, each file checked by its sha256, the manifest by who made it.

Nothing of a bundle is parsed before it is trusted: the manifest's own sha256 is listed in `shipped`, or a
trusted key has signed it; the manifest then vouches for every other file.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from cellwatch.models.registry import shipped
from cellwatch.models.registry.manifest import Manifest, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    import onnx

    from cellwatch.models.registry.keys import Keys

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
PACK = "files.zip"  # every other file in one, for a small bundle: LZMA, flat
POINTER = "current.json"  # of a registry, see `registry`: no file of a bundle has this name
MAX_BYTES = 64 << 20  # of one file
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}  # operators whose meaning the ONNX standard fixes


class BundleError(ValueError):
    """A bundle that must not be used; the text names the file and the reason."""


class Stated(Protocol):
    """What every manifest states: a dataclass whose text vouches for the files."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def site(self) -> str: ...
    @property
    def schema_id(self) -> str: ...
    @property
    def window_s(self) -> float: ...
    @property
    def files(self) -> dict[str, str]: ...
    def to_json(self) -> bytes: ...


M = TypeVar("M", bound=Stated)


@dataclass(frozen=True, slots=True)
class Kind(Generic[M]):
    """What may lie in a folder of this kind."""

    manifest: str  # name of the file that vouches for the others
    suffixes: tuple[str, ...]
    outputs: frozenset[str]  # that every graph has
    parse: Callable[[bytes], M]  # the text of a manifest; ValueError
    says: tuple[str, str, str]  # how a refusal begins: who has a schema, knows windows, is for a site


MODELS = Kind(
    MANIFEST,
    (".onnx", ".json"),
    frozenset({"probabilities"}),
    Manifest.from_json,
    ("the models have", "the models know", "the models are"),
)


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
    """Write `folder`, whole or not at all, in place of an older bundle; returns the version.

    BundleError if anything else stands there (see `check_target`). With `keys` the manifest is signed;
    without, it is good only where `shipped` lists it. `packed` puts all files into one.
    """
    return write_as(MODELS, folder, manifest, files, keys, packed=packed)


def write_as(
    kind: Kind[M], folder: Path, manifest: M, files: dict[str, bytes], keys: Keys | None, *, packed: bool
) -> str:
    """As `write`, a bundle of any kind."""
    check_target(folder, kind)
    text = replace(
        manifest, files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    ).to_json()
    kind.parse(text)
    folder = folder.resolve()
    for name, content in files.items():
        check_name(name, kind)
        check_content(name, content, kind)
    body = {**({PACK: pack_files(files)} if packed else files), kind.manifest: text}
    if keys is not None:
        body[SIGNATURE] = json.dumps({"algorithm": "ed25519", "signature": keys.sign(text)}).encode()
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")  # nobody else's
    temporary.mkdir(parents=True)
    try:
        for name, content in body.items():
            with (temporary / name).open("wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
        put(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return version_of(text)


def check_target(folder: Path, kind: Kind[Any] | None = None) -> None:
    """BundleError unless `write` may put a bundle there: a new place, an empty folder, or an older bundle.

    A bundle that is to be replaced holds nothing but what its manifest knows: no file of anybody else is ever
    deleted. Ask before a long training.
    """
    kind = kind or MODELS
    folder = folder.resolve()
    if not folder.exists():
        above = next(p for p in folder.parents if p.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise BundleError(f"{folder}: cannot be made: {above} is not a folder to write into")
        return
    if not folder.is_dir():
        raise BundleError(f"{folder}: not a folder")
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        raise BundleError(f"{folder}: cannot be replaced: no right to write into {folder.parent}")
    here = {p.name for p in folder.iterdir()}
    if not here:
        return
    if POINTER in here or "versions" in here:
        raise BundleError(f"{folder}: holds a model registry; name a new folder")
    if kind.manifest not in here:
        raise BundleError(f"{folder}: holds other things than models; name a new folder")
    try:
        known = kind.parse(file_bytes(folder, kind.manifest)).files.keys()
    except ValueError as error:
        raise BundleError(f"{folder}: not replaced, name a new folder ({error})") from None
    strange = sorted(here - {kind.manifest, SIGNATURE, PACK} - known)
    strange += sorted(name for name in here - set(strange) if (folder / name).is_dir())
    if strange:
        raise BundleError(f"{folder}: not replaced: {strange[0]} is none of its models; name a new folder")


def read(
    folder: Path,
    keys: Keys | None,
    *,
    schema_id: str | None = None,
    window_s: float | None = None,
    site: str | None = None,
    only: Collection[str] | None = None,
) -> Bundle:
    """The bundle in `folder`; BundleError if it is damaged, strange, untrusted or not for this cell.

    With `only` no other files are read; those of these names that it does not have are left out.
    """
    return Bundle(*read_as(MODELS, folder, keys, schema_id, window_s, site, only))


def read_as(
    kind: Kind[M],
    folder: Path,
    keys: Keys | None,
    schema_id: str | None,
    window_s: float | None,
    site: str | None,
    only: Collection[str] | None = None,
) -> tuple[str, M, dict[str, bytes]]:
    """As `read`, a bundle of any kind: version, manifest, files."""
    text = file_bytes(folder, kind.manifest)
    check_trust(folder, text, keys)
    try:
        manifest = kind.parse(text)
    except ValueError as error:
        raise BundleError(f"{folder / kind.manifest}: {error}") from None
    have, know, are = kind.says
    if schema_id is not None and manifest.schema_id != schema_id:
        raise BundleError(
            f"{folder}: {have} schema {manifest.schema_id or 'none'}, the cell {schema_id}: train anew"
        )
    if window_s is not None and manifest.window_s != window_s:
        raise BundleError(
            f"{folder}: {know} windows of {manifest.window_s:g} s, the cell's have {window_s:g} s"
        )
    if site is not None and manifest.site != site:
        raise BundleError(f"{folder}: {are} for the site {manifest.site!r}, the cell is {site!r}")
    return version_of(text), manifest, read_files(folder, manifest.files, kind, only)


def read_files(
    folder: Path, digests: Mapping[str, str], kind: Kind[Any], only: Collection[str] | None = None
) -> dict[str, bytes]:
    """The files whose sha256 a trusted manifest names, each checked; nothing else may lie there."""
    pack = Pack(folder) if (folder / PACK).exists() else None
    here = {p.name for p in folder.iterdir()} - {kind.manifest, SIGNATURE, PACK} | (
        pack.names() if pack else set()
    )
    strange = sorted(here - digests.keys())
    if strange:
        raise BundleError(f"{folder / strange[0]}: the manifest does not know this file")
    files = {}
    for name, digest in digests.items():
        if only is not None and name not in only:
            continue
        check_name(name, kind)
        content = pack.read(name) if pack else file_bytes(folder, name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError(
                f"{folder / name}: sha256 does not fit the manifest: the file was changed or damaged"
            )
        try:
            check_content(name, content, kind)
        except BundleError as error:
            raise BundleError(f"{folder}: {error}") from None
        files[name] = content
    return files


def check_name(name: str, kind: Kind[Any]) -> None:
    """BundleError unless it names a file of a known kind in the bundle's own folder."""
    if (
        name != Path(name).name
        or name.startswith(".")
        or "\\" in name
        or name in {kind.manifest, SIGNATURE, POINTER}
    ):
        raise BundleError(f"{name!r}: not a plain file name")
    if Path(name).suffix not in kind.suffixes:
        raise BundleError(f"{name}: only {' and '.join(kind.suffixes)} files are let in")


def check_content(name: str, content: bytes, kind: Kind[Any]) -> None:
    """BundleError unless the bytes are what the suffix says: an ONNX graph with weights, JSON, tensors."""
    if name.endswith(".json"):
        try:
            json.loads(content)
        except ValueError:
            raise BundleError(f"{name}: not JSON") from None
        return
    if name.endswith(".safetensors"):
        from safetensors import SafetensorError, deserialize

        try:
            deserialize(content)  # type: ignore[no-untyped-call]
        except SafetensorError:
            raise BundleError(f"{name}: not a file of safetensors") from None
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
    given, gives = {i.name for i in model.graph.input}, {o.name for o in model.graph.output}
    if given != {"x"} or not kind.outputs <= gives:
        raise BundleError(f"{name}: not a graph from x to {', '.join(sorted(kind.outputs))}")
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


def check_trust(folder: Path, text: bytes, keys: Keys | None) -> None:
    """BundleError unless the release, or a trusted key, vouches for the text of a manifest."""
    if hashlib.sha256(text).hexdigest() in shipped.SHIPPED:
        return
    if not (folder / SIGNATURE).exists():
        raise BundleError(f"{folder}: not signed, and not one that came with this release")
    try:
        signature = str(json.loads(file_bytes(folder, SIGNATURE))["signature"])
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"{folder / SIGNATURE}: not a signature") from None
    try:
        trusted = keys is not None and keys.signed(text, signature)
    except (ValueError, OSError) as error:
        raise BundleError(f"{folder}: its signature cannot be checked: {error}") from error
    if not trusted:
        raise BundleError(f"{folder}: not signed by a key that this machine trusts, or changed since")


def pack_files(files: dict[str, bytes]) -> bytes:
    """One zip; the same files always give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as pack:
        for name in sorted(files):
            pack.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_LZMA)
    return out.getvalue()


class Pack:
    """The files of a packed bundle, unpacked in memory; a bomb is refused by the size it declares."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / PACK
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(file_bytes(folder, PACK)))
        except BundleError:
            raise
        except Exception as error:  # zipfile meets strange bytes with errors of many kinds
            raise BundleError(f"{self._place}: not a zip file ({error})") from error

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
            raise BundleError(f"{self._place}: {name}: damaged ({error})") from error


def file_bytes(folder: Path, name: str) -> bytes:
    """Content of a regular file; a link, a pipe or a giant is refused."""
    path = folder / name
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BundleError(f"{path}: missing") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    with os.fdopen(file, "rb") as source:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: not a regular file")
        if status.st_size > MAX_BYTES:
            raise BundleError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        return source.read(MAX_BYTES)


def put(temporary: Path, folder: Path) -> None:
    """Rename into place, in one step also where a bundle stands, and make it last."""
    if folder.exists():
        _exchange(temporary, folder)
        shutil.rmtree(temporary)
    else:
        temporary.rename(folder)
    sync(folder.parent)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders: renameat2(2) with RENAME_EXCHANGE, so there is never a moment with none."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in {errno.EINVAL, errno.ENOSYS}:
        raise OSError(number, os.strerror(number), str(other))
    aside = one.with_name(f"{one.name}.old")  # this file system cannot: a kill leaves the old one aside
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def sync(folder: Path) -> None:
    """Have a folder's entries on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
