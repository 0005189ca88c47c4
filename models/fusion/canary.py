"""The canary: for some devices the verdict of the candidate stands in place of the one in service."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cellwatch.models.types import FusedVerdict, FusedWindow, Screening

if TYPE_CHECKING:
    from collections.abc import Sequence


class Decided(NamedTuple):
    """A window as the cell says it, and the verdicts that the canary took the place of."""

    window: FusedWindow
    displaced: tuple[FusedVerdict, ...] = ()


class Canary:
    """Joins the two verdicts on a window. One that waits `budget_s` for the candidate goes on without it.

    So does one on which the candidate lacks a source that the version in service has. After `PATIENCE`
    windows without it nobody waits for it until it is in time again. Without devices nothing waits.
    """

    PATIENCE = 3
    KEPT = 64  # windows of the candidate

    def __init__(self, budget_s: float) -> None:
        self.judged = self.missed = 0  # windows in which the candidate decided, and in which it did not
        self.devices: frozenset[str] = frozenset()
        self.version = ""
        self._budget_ns = budget_s * 1e9
        self._heard: OrderedDict[int, FusedWindow] = OrderedDict()
        self._waiting: deque[tuple[FusedWindow, int]] = deque()  # since when, ns
        self._silent = 0  # windows in a row
        self._last = (-1, 0)  # window that went on last, and since when it had waited

    def assign(self, version: str, devices: Sequence[str]) -> None:
        """The candidate, and the devices that it decides for; none: the canary is over."""
        if (version, frozenset(devices)) != (self.version, self.devices):
            self.version, self.devices, self._silent = version, frozenset(devices), 0
            self._heard.clear()

    def hear(self, window: FusedWindow, monotonic_ns: int) -> None:
        """What the candidate says of a window."""
        if not self.devices:
            return
        last, since_ns = self._last
        if window.window_id > last:
            self._heard[window.window_id] = window
        if window.window_id > last or (
            window.window_id == last and monotonic_ns - since_ns < self._budget_ns
        ):
            self._silent = 0
        while len(self._heard) > self.KEPT:
            self._heard.popitem(last=False)

    def offer(self, window: FusedWindow, monotonic_ns: int) -> None:
        """What the version in service says of it."""
        self._waiting.append((window, monotonic_ns))

    def ready(self, monotonic_ns: int) -> list[Decided]:
        """Windows that wait no longer, in order."""
        out = []
        while self._waiting:
            window, since_ns = self._waiting[0]
            theirs = self._heard.pop(window.window_id, None)
            patient = self.devices and self._silent < self.PATIENCE
            if theirs is None and patient and monotonic_ns - since_ns < self._budget_ns:
                break
            self._waiting.popleft()
            self._last = window.window_id, since_ns
            out.append(self._decide(window, theirs) if self.devices else Decided(window))
        return out

    def _decide(self, window: FusedWindow, theirs: FusedWindow | None) -> Decided:
        self._silent += theirs is None
        lacks = theirs is None or not set(window.sources) <= set(theirs.sources)
        said = {v.device: v for v in theirs.verdicts if v.device in self.devices} if theirs else {}
        if lacks or not said:
            self.missed += 1
            return Decided(window)
        self.judged += 1
        verdicts = [self._named(said.get(v.device), v) for v in window.verdicts]
        verdicts.sort(key=lambda v: (-v.decision, -v.probability))  # the gravest first
        displaced = tuple(v for v in window.verdicts if v.device in said)
        return Decided(replace(window, verdicts=tuple(verdicts)), displaced)

    def _named(self, theirs: FusedVerdict | None, own: FusedVerdict) -> FusedVerdict:
        """The one that stands; the candidate's says so."""
        if theirs is None or theirs.decision == Screening.ALLOW:
            return theirs or own
        return replace(theirs, explanation=f"{theirs.explanation}; judged by version {self.version} (canary)")


def canary_devices(devices: Sequence[str], version: str, share: float = 0.25) -> tuple[str, ...]:
    """Which devices a version decides for as a canary: `share` of them, one at least; others for others.

    >>> canary_devices(("PLC1", "PLC2", "HMI", "TANK"), "1f0c5a2b77d1")
    ('TANK',)
    """

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{version}/{name}".encode()).digest()

    return tuple(sorted(sorted(devices, key=rank)[: math.ceil(share * len(devices))]))
