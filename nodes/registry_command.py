"""`cellwatch registry`: versions of the models, and which one is served."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from cellwatch.models.registry.candidate_file import CandidateFile
    from cellwatch.models.registry.registry import Registry

T = TypeVar("T")
registry = typer.Typer(
    help="Versions of the models: list, show, promote, roll back; the candidate.", no_args_is_help=True
)

Where = Annotated[
    str, typer.Option("--registry", help="A site (bench, factory), or the folder of a registry.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option("--reason", help="Kept with the candidate.")]
SITE = "bench"


@registry.command("list")
def list_(where: Where = SITE, as_json: AsJson = False) -> None:
    """Every version; the one in service first, refused ones with the reason."""
    from rich.table import Table

    from cellwatch.nodes.cli import out, print_json

    versions = _said(lambda: _registry(where).versions())
    if as_json:
        print_json([asdict(v) for v in versions])
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("version", "state", "site", "models", "MB", ""):
        table.add_column(column)
    for v in versions:
        table.add_row(v.version, v.state, v.site, str(v.models), f"{v.size_bytes / 1e6:.2f}", v.why)
    out.print(table)


@registry.command()
def show(
    version: Annotated[str, typer.Argument(help="Version; without it the one in service.")] = "",
    where: Where = SITE,
    as_json: AsJson = False,
) -> None:
    """What a version is made of: models with their figures, weights, where it comes from."""
    from rich.table import Table

    from cellwatch.nodes.cli import out, print_json

    bundle = _said(lambda: _registry(where).load(version))
    m = bundle.manifest
    if as_json:
        body = asdict(m)
        del body["scaler"]
        print_json({"version": bundle.version, **body})
        return
    out.print(f"version {bundle.version}, site {m.site}, schema {m.schema_id}, windows of {m.window_s:g} s")
    out.print(f"from {m.lineage}", highlight=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("level", "model", "served", "weight", "figures", "sha256"):
        table.add_column(column)
    served = m.served()
    for model in m.models:
        weight = m.weights.get(str(model.level), {}).get(model.detector)
        table.add_row(
            f"L{model.level}",
            model.detector,
            "yes" if model in served else "no",
            "" if weight is None else f"{weight:.3f}",
            ", ".join(f"{k} {v:.4f}" for k, v in model.metrics.items()),
            m.files[model.file][:12],
        )
    out.print(table)


@registry.command()
def promote(version: Annotated[str, typer.Argument(help="Version to serve.")], where: Where = SITE) -> None:
    """Serve this version: a running cell takes it over between two windows, or says why not."""
    _said(lambda: _registry(where).promote(version))
    _settle(where)
    _tell(f"version {version} is promoted")


@registry.command()
def rollback(where: Where = SITE) -> None:
    """Serve the version before."""
    version = _said(lambda: _registry(where).rollback())
    _settle(where)
    _tell(f"version {version} is promoted again")


@registry.command()
def candidate(where: Where = SITE, as_json: AsJson = False) -> None:
    """The version on its way into service, and where it stands."""
    from cellwatch.nodes.cli import print_json

    found = _said(lambda: _candidates(where).read(time.time_ns()))
    if as_json:
        print_json(None if found is None else {**asdict(found), "stage": found.stage.name})
        return
    if found is None:
        _tell("there is no candidate")
        return
    since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(found.since_ns / 1e9))
    held = ", held by an operator" if found.held else ""
    why = found.reason or "no reason given"
    _tell(f"version {found.version}, {found.stage.name} since {since}{held}: {why}")
    _tell(f"in place of {found.parent}; scenario {found.scenario or 'not known'}")
    if found.devices:
        _tell(f"canary: {', '.join(found.devices)}")


@registry.command()
def hold(where: Where = SITE, reason: Reason = "") -> None:
    """Keep the candidate in its stage, whatever its gate says."""
    found = _said(lambda: _candidates(where).hold(time.time_ns(), reason))
    _tell(f"version {found.version} stays {found.stage.name} until it is released")


@registry.command()
def release(where: Where = SITE, reason: Reason = "") -> None:
    """Let the gates of the candidate decide again."""
    found = _said(lambda: _candidates(where).release(time.time_ns(), reason))
    _tell(f"version {found.version} goes on from {found.stage.name} by its gates")


@registry.command()
def reject(where: Where = SITE, reason: Reason = "") -> None:
    """Send the candidate away, unless it is in service (see rollback); a damaged file of one is removed."""
    if _said(lambda: _candidates(where).clear_damaged()):
        _tell("candidate.json was damaged, and is removed: there is no candidate")
        return
    found = _said(lambda: _candidates(where).reject(time.time_ns(), reason or "by hand"))
    _tell(f"version {found.version} is rejected")


@registry.command()
def gc(
    where: Where = SITE,
    keep: Annotated[int, typer.Option(min=0, help="Earlier versions to keep for a roll back.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Remove versions that are neither served nor among the last that were."""
    from cellwatch.nodes.cli import print_json

    gone = _said(lambda: _registry(where).gc(keep))
    if as_json:
        print_json(gone)
    else:
        _tell(f"removed: {', '.join(gone) or 'nothing'}")


@registry.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="A bundle, signed by a trusted key or of this release.")],
    where: Where = SITE,
) -> None:
    """Check a bundle, sign it with the key of this machine and keep it as a version."""
    from cellwatch.models.registry.bundle import read

    def add() -> str:
        place = _registry(where, new=True)
        bundle = read(folder, place.keys, site=None if "/" in where else where)
        return place.add(bundle.manifest, bundle.files)

    version = _said(add)
    _tell(f"version {version} is kept; serve it with: cellwatch registry promote {version}")


@registry.command()
def ship(folder: Annotated[Path, typer.Argument(help="A bundle that is to come with a release.")]) -> None:
    """Print the line of models/registry/shipped.py that makes a release trust a bundle, or an EWAD."""
    from cellwatch.models.registry import bundle, ewad_bundle
    from cellwatch.nodes.cli import fail

    manifest = folder / ewad_bundle.MANIFEST
    if not manifest.is_file():
        manifest = folder / bundle.MANIFEST
    try:
        text = manifest.read_bytes()
    except OSError as error:
        raise fail(f"{manifest}: {error.strerror}") from None
    _tell(f'    "{hashlib.sha256(text).hexdigest()}",  # {folder.name}')


def _registry(where: str, *, new: bool = False) -> Registry:
    """The registry of a site below $CELLWATCH_HOME, or of a folder. ValueError: neither, nor `new`."""
    from cellwatch.models.registry.keys import Keys
    from cellwatch.models.registry.registry import Registry
    from cellwatch.nodes.runner import home
    from cellwatch.nodes.train_command import SHIPPED

    named = "/" not in where
    folder = home() / "models" / where if named else Path(where)
    known = named and (SHIPPED / where).is_dir()  # nothing was trained for it here yet
    if not (new or known or folder.is_dir()):
        raise ValueError(f"{folder}: not a registry: no such folder")
    return Registry(folder, Keys(home() / "keys"))


def _candidates(where: str) -> CandidateFile:
    from cellwatch.models.registry.candidate_file import CandidateFile

    return CandidateFile(_registry(where))


def _settle(where: str) -> None:
    """Have the candidate follow what is in service now; a damaged one is said by who reads it."""
    with contextlib.suppress(ValueError):
        _candidates(where).settle(time.time_ns())


def _said(action: Callable[[], T]) -> T:
    """What an action gives, or its error as one clear line."""
    from cellwatch.nodes.cli import fail

    try:
        return action()
    except (ValueError, OSError) as error:
        raise fail(error) from None


def _tell(text: str) -> None:
    from cellwatch.nodes.cli import out

    out.print(text, highlight=False, soft_wrap=True)
