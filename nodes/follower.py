"""What a node needs of the models in service beside the graphs: it follows when others take over."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

from cellwatch.models.registry.bundle import MANIFEST, Bundle, BundleError, read
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.registry import Registry

T = TypeVar("T")
RETRY_S = 5.0  # between attempts where the disk or the machine is in the way


class Follower(Generic[T]):
    """Reads what a version brings in a thread, so that no window waits; it is taken between two windows.

    `models` is a registry or one bundle, "" = follow nobody; `fallback` the bundle that the cell was started
    with, which no registry need have; `version` is in use at the start. Of a bundle only the files `names`
    are read, and `parse` makes of them what the node needs (ValueError).
    """

    def __init__(
        self,
        models: str,
        fallback: str,
        keys: str,
        version: str,
        names: tuple[str, ...],
        parse: Callable[[Bundle], T],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.version = self._wanted = version
        self.trouble = ""  # why the version in service was not taken over
        self.taken = 0
        self._places = [Path(p) for p in (models, fallback) if p] if models else []
        self._keys = Keys(Path(keys)) if keys else None
        self._names, self._parse, self._clock = names, parse, clock
        self._failed_s: float | None = None  # when reading failed for a reason that may pass
        self._next: Future[T] | None = None
        self._reader = ThreadPoolExecutor(1)

    def hear(self, version: str) -> None:
        """The version in service, as `ModelState` names it; "" = none."""
        if self._places and version and version != self._wanted:
            self._wanted = version
            self._read()

    def take(self) -> T | None:
        """What the version brings, once it has been read; None: nothing new.

        What could not be read, as with too many open files, is tried again: a version is named only once.
        """
        if self._failed_s is not None and self._clock() - self._failed_s >= RETRY_S:
            self._read()
        if self._next is None or not self._next.done():
            return None
        done, self._next = self._next, None
        try:
            found = done.result()
        except (ValueError, OSError) as error:
            self.trouble = f"version {self._wanted} is not taken over: {error}"
            if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
                self._failed_s = self._clock()
            return None
        self.version, self.trouble = self._wanted, ""
        self.taken += 1
        return found

    def close(self) -> None:
        """End the thread."""
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> None:
        self._failed_s = None
        self._next = self._reader.submit(self._load, self._wanted)

    def _load(self, version: str) -> T:
        places = [Registry(p, self._keys).path(version) for p in self._places if _has(p, version)]
        for place in (*places, *self._places):
            if (place / MANIFEST).exists():
                bundle = read(place, self._keys, only=self._names)
                if bundle.version == version:
                    return self._parse(bundle)
        raise BundleError(f"it is not in {self._places[0]}")


def _has(registry: Path, version: str) -> bool:
    return version.isalnum() and (registry / "versions" / version).is_dir()
