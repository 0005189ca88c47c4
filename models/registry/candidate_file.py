"""The candidate of a registry, kept in REGISTRY/candidate.json.

Which version is served stands in current.json alone, and it is written first: a crash between the two writes
leaves a candidate that looks one stage behind, and what is in service says which (`Candidate.beside`). The
other order could not be told from an operator who took the candidate out of service by hand: the repair
would put it back. So promoting or rolling back by hand, and a kill -9, are mended in one and the same way.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cellwatch.models.registry.bundle import BundleError
from cellwatch.models.registry.candidate import Candidate
from cellwatch.models.registry.registry import CANDIDATE, candidate_in, locked, write_whole
from cellwatch.models.types import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cellwatch.models.registry.bundle import Bundle
    from cellwatch.models.registry.registry import Registry


class CandidateFile:
    """Moves of the candidate of a registry; each reads the file anew. ValueError if it cannot be."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def read(self, now_ns: int = 0) -> Candidate | None:
        """The candidate as it stands beside what is in service. BundleError if the file is damaged."""
        found = candidate_in(self.registry.folder)
        return found and found.beside(self.registry.current, now_ns)

    def settle(self, now_ns: int) -> Candidate | None:
        """As `read`, and what a crash or a promotion by hand has left behind is written down."""
        if candidate_in(self.registry.folder) is None:
            return None
        with self._locked():
            found = self.read(now_ns)
            if found is not None and found != candidate_in(self.registry.folder):
                self._write(found)
            return found

    def propose(
        self,
        version: str,
        parent: Bundle,
        now_ns: int,
        *,
        scenario: str = "",
        reason: str = "",
        figures: dict[str, Any] | None = None,
    ) -> Candidate:
        """Put a version into shadow, beside `parent`, the one in service.

        Models that came with the release become a version of the registry first, so that there is a way back.
        """
        with self._locked():
            try:
                there = self.read(now_ns)
            except BundleError:  # damaged: this is how it is mended
                there = None
            if there is not None and there.open:
                raise ValueError(f"candidate {there.version} is on its way: {there.stage.name}")
            if version == parent.version:
                raise ValueError(f"version {version} is in service already")
            self.registry.load(version)
            current = self.registry.current
            if current not in ("", parent.version):
                raise ValueError(f"version {parent.version} is not what the registry serves: {current}")
            if not current:
                self.registry.promote(self.registry.add(parent.manifest, parent.files))
            candidate = Candidate(
                version,
                parent.version,
                since_ns=now_ns,
                scenario=scenario,
                reason=reason,
                figures=figures or {},
            )
            self._write(candidate)
            return candidate

    def promote(
        self,
        now_ns: int,
        *,
        devices: tuple[str, ...] = (),
        reason: str = "",
        check: Callable[[Bundle], None] = lambda _: None,
    ) -> Candidate:
        """To the next stage: CANARY for `devices`, ACTIVE unless `check` refuses it, ACCEPTED."""

        def moved(candidate: Candidate) -> Candidate:
            then = candidate.promote(now_ns, devices, reason)
            if then.stage == Stage.ACTIVE:
                self.registry.promote(then.version, check)
            return then

        return self._move(now_ns, moved)

    def hold(self, now_ns: int, reason: str = "") -> Candidate:
        """No stage changes by itself."""
        return self._move(now_ns, lambda c: c.hold(reason))

    def release(self, now_ns: int, reason: str = "") -> Candidate:
        """End of `hold`."""
        return self._move(now_ns, lambda c: c.release(reason))

    def reject(self, now_ns: int, reason: str = "") -> Candidate:
        """Before it is in service."""
        return self._move(now_ns, lambda c: c.reject(now_ns, reason))

    def clear_damaged(self) -> bool:
        """Remove the file if what it says is no candidate; False: it was sound, or there is none."""
        path = self.registry.folder / CANDIDATE
        if not path.exists():
            return False
        with self._locked():
            try:
                candidate_in(self.registry.folder)
            except BundleError as error:
                if isinstance(error.__cause__, OSError):  # unread, which says nothing of what it holds
                    raise
                path.unlink()
                return True
        return False

    def roll_back(self, now_ns: int, reason: str = "") -> Candidate:
        """Its parent is served again."""

        def moved(candidate: Candidate) -> Candidate:
            then = candidate.roll_back(now_ns, reason)
            if self.registry.current != then.version:
                raise ValueError(f"version {then.version} is not in service")
            self.registry.rollback(to=then.parent)
            return then

        return self._move(now_ns, moved)

    def _move(self, now_ns: int, move: Callable[[Candidate], Candidate]) -> Candidate:
        if candidate_in(self.registry.folder) is None:
            raise ValueError(f"{self.registry.folder}: there is no candidate")
        with self._locked():
            there = self.read(now_ns)
            if there is None:
                raise ValueError(f"{self.registry.folder}: there is no candidate")
            then = move(there)
            self._write(then)
            return then

    def _write(self, candidate: Candidate) -> None:
        write_whole(self.registry.folder / CANDIDATE, candidate.to_json())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Of its own: the registry's is taken inside of it.
        with locked(self.registry.folder / ".candidate.lock"):
            yield
