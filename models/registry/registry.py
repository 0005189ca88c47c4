"""Versions of a site's models, and which of them is served.

    REGISTRY/current.json          {"current": "1f0c...", "previous": ["93ab...", ...]}, swapped in one step
    REGISTRY/candidate.json        the version on its way into service (see `candidate_file`)
    REGISTRY/versions/1f0c.../     one bundle (see `bundle`)

Every change is a rename: a crash, or a kill -9, leaves what was there before or what was to be there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cellwatch.models.registry.bundle import MANIFEST, POINTER, Bundle, BundleError, put, read, sync, write
from cellwatch.models.registry.candidate import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cellwatch.models.registry.keys import Keys
    from cellwatch.models.registry.manifest import Manifest

CANDIDATE = "candidate.json"
REMEMBERED = 20  # versions that can be rolled back to


@dataclass(frozen=True, slots=True)
class Version:
    """One line of the list."""

    version: str
    state: str  # current | previous | idle | refused
    site: str = ""
    models: int = 0
    size_bytes: int = 0
    why: str = ""  # of a refused one


class Registry:
    """The versions below one folder. Its errors are `BundleError`, with the reason.

    Without `keys` only what comes with this release is trusted, and nothing can be added.
    """

    def __init__(self, folder: Path, keys: Keys | None) -> None:
        self.folder = folder
        self.keys = keys

    @property
    def current(self) -> str:
        """The version that is served, "" if none was promoted yet."""
        return self._pointer()[0]

    def path(self, version: str) -> Path:
        """Folder of a version; BundleError if there is none."""
        found = self.folder / "versions" / version
        if not version.isalnum() or not found.is_dir():
            known = ", ".join(self._versions()) or "none"
            raise BundleError(f"{self.folder}: no version {version!r}; there are: {known}")
        return found

    def add(self, manifest: Manifest, files: dict[str, bytes]) -> str:
        """Sign and keep a bundle; it is served once it is promoted. A damaged one of the same is mended."""
        if self.keys is None:
            raise BundleError(f"{self.folder}: nothing is added without a key to sign it with")
        if (self.folder / MANIFEST).exists():
            raise BundleError(f"{self.folder}: one bundle, not a registry of versions")
        place = self.folder / "versions"
        place.mkdir(parents=True, exist_ok=True)
        with self._locked():
            # The name is the content's, which is known only after the writing.
            temporary = place / f".new-{os.getpid()}"
            version = write(temporary, manifest, files, self.keys)
            if self._is_sound(version):
                shutil.rmtree(temporary)
            else:
                put(temporary, place / version)
        return version

    def load(
        self,
        version: str = "",
        *,
        schema_id: str | None = None,
        window_s: float | None = None,
        site: str | None = None,
    ) -> Bundle:
        """A checked bundle, that of `current` unless a version is named."""
        version = version or self.current
        if not version:
            raise BundleError(f"{self.folder}: no version was promoted yet")
        bundle = read(self.path(version), self.keys, schema_id=schema_id, window_s=window_s, site=site)
        if bundle.version != version:
            raise BundleError(f"{self.path(version)}: holds version {bundle.version}")
        return bundle

    def versions(self) -> list[Version]:
        """Every version, each checked; the one that is served first."""
        current, previous = self._pointer()
        rank = {v: i for i, v in enumerate([current, *previous])}
        out = []
        for version in sorted(self._versions(), key=lambda v: (rank.get(v, len(rank)), v)):
            state = "current" if version == current else "previous" if version in previous else "idle"
            folder = self.path(version)
            size = sum(p.lstat().st_size for p in folder.iterdir())
            try:
                manifest = self.load(version).manifest
            except BundleError as error:
                out.append(Version(version, "refused", size_bytes=size, why=str(error)))
                continue
            out.append(Version(version, state, manifest.site, len(manifest.models), size))
        return out

    def promote(self, version: str, check: Callable[[Bundle], None] = lambda _: None) -> None:
        """Serve this version from now on, unless it cannot be loaded or `check` refuses it."""
        with self._locked():
            check(self.load(version))
            try:
                current, previous = self._pointer()
            except BundleError:  # damaged: this is how it is mended
                current, previous = "", []
            if version != current:
                self._point(version, [v for v in (current, *previous) if v and v != version])

    def rollback(self, check: Callable[[Bundle], None] = lambda _: None, *, to: str = "") -> str:
        """Serve the version before, or the earlier one `to`, unless `check` refuses it; returns it."""
        with self._locked():
            _, previous = self._pointer()
            if not previous:
                raise BundleError(f"{self.folder}: there is no earlier version to go back to")
            if to and to not in previous:
                raise BundleError(
                    f"{self.folder}: {to} is no earlier version; these are: {', '.join(previous)}"
                )
            earlier = to or previous[0]
            check(self.load(earlier))
            self._point(earlier, previous[previous.index(earlier) + 1 :])
            return earlier

    def gc(self, keep: int = 3) -> list[str]:
        """Remove what is neither served nor among the last `keep` that were; returns what went.

        Before the first promotion nothing goes: any of them may be the one that will be served. A candidate
        on its way stays, and what it is rolled back to.
        """
        with self._locked():
            current, previous = self._pointer()
            wanted = _on_its_way(self.folder)
            previous = [v for i, v in enumerate(previous) if i < keep or v in wanted]
            wanted |= {current, *previous}
            gone = [v for v in self._versions() if v not in wanted] if current else []
            if current:
                self._point(current, previous)
            self._remove(gone)
        return gone

    def drop(self, unwanted: Callable[[Manifest], bool], *, but: str) -> list[str]:
        """Remove what is `unwanted`, but not `but`, what is or was served, and a candidate on its way.

        Returns what went; a damaged one stays, to be seen in the list.
        """
        with self._locked():
            current, previous = self._pointer()
            wanted = {current, *previous, but} | _on_its_way(self.folder)
            gone = []
            for version in self._versions():
                if version not in wanted:
                    with suppress(BundleError):
                        if unwanted(read(self.path(version), self.keys, only=()).manifest):
                            gone.append(version)
            self._remove(gone)
        return gone

    def _remove(self, gone: list[str]) -> None:
        place = self.folder / "versions"
        self._sweep()  # a version that a crash left half removed may have been added again
        for version in gone:
            (place / version).rename(place / f".gone-{version}")
        self._sweep()

    def _sweep(self) -> None:
        """Remove what is half added or half removed."""
        for rest in (self.folder / "versions").glob(".*"):
            shutil.rmtree(rest)

    def _is_sound(self, version: str) -> bool:
        try:
            self.load(version)
        except BundleError:
            return False
        return True

    def _versions(self) -> list[str]:
        place = self.folder / "versions"
        return sorted(p.name for p in place.iterdir() if p.name.isalnum()) if place.is_dir() else []

    def _pointer(self) -> tuple[str, list[str]]:
        path = self.folder / POINTER
        try:
            raw = json.loads(path.read_text())
            return str(raw["current"]), [str(v) for v in raw["previous"]]
        except FileNotFoundError:
            return "", []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: cannot be read ({error}); promote a version anew") from None

    def _point(self, current: str, previous: list[str]) -> None:
        write_whole(
            self.folder / POINTER, json.dumps({"current": current, "previous": previous[:REMEMBERED]})
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not (self.folder / "versions").is_dir() and not (self.folder / POINTER).exists():
            what = "one bundle" if (self.folder / MANIFEST).exists() else "no version of any models is here"
            raise BundleError(f"{self.folder}: not a registry: {what}")
        with locked(self.folder / ".lock"):
            yield


def candidate_in(folder: Path) -> Candidate | None:
    """What candidate.json of a registry says. BundleError if it is damaged."""
    path = folder / CANDIDATE
    try:
        return Candidate.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}): no candidate") from error


def _on_its_way(folder: Path) -> set[str]:
    """The candidate and its parent, nothing once its way has ended."""
    try:
        candidate = candidate_in(folder)
    except BundleError:
        return set()
    return {candidate.version, candidate.parent} if candidate and candidate.open else set()


def write_whole(path: Path, text: str) -> None:
    """Write `text` beside `path`, rename, and make it last: a crash leaves the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    sync(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that a file stands for; it ends with the process, however that ends."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
