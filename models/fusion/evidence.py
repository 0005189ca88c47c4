"""What all sources say of one window, as arrays over its n devices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.fusion.settings import EWAD
from cellwatch.models.types import Level

if TYPE_CHECKING:
    from cellwatch.models.fusion.pairing import Pending
    from cellwatch.models.types import F32, F64, I64, U8, Bool, LevelScores, Violation

Rows = slice | np.ndarray  # rows of the window that a part speaks of, in its order


@dataclass(frozen=True, slots=True)
class Evidence:
    """One window. Row i of every array is `devices[i]`."""

    devices: tuple[str, ...]  # n
    screening: dict[str, U8]  # source -> (n,) Screening, UNKNOWN where it said nothing
    confidence: dict[str, F64]  # source -> (n,), NaN where it did not speak
    violations: dict[str, tuple[Violation, ...]]  # device -> gravest first, as the sources ordered them
    levels: dict[Level, list[tuple[str, Rows, LevelScores]]]  # with the source and the rows
    missing: tuple[str, ...]  # sources that are late or abstain, in words
    absent: list[tuple[str, Bool, str]]  # the same: source, devices (n,) that it concerns, words

    def silent(self, source: str) -> Bool:
        """(n,): of which devices `source` is late or abstains."""
        out = np.zeros(len(self.devices), bool)
        for absent, rows, _ in self.absent:
            if absent == source:
                out |= rows
        return out

    def stack(self, level: Level, wanted: I64 | None = None) -> tuple[tuple[str, ...], tuple[str, ...], F32]:
        """Detectors (m), classes (c) and probabilities (g, m, c) of the `wanted` g rows, all if None.

        Detectors and classes are the union over the parts; what a part does not speak of is NaN.
        """
        parts = self.levels.get(level, [])
        rows = np.arange(len(self.devices)) if wanted is None else wanted
        if len(parts) == 1 and isinstance(parts[0][1], slice):  # one source, all devices: nothing to merge
            only = parts[0][2]
            return (
                only.detectors,
                only.classes,
                only.probabilities if wanted is None else only.probabilities[rows],
            )
        detectors = tuple(dict.fromkeys(d for _, _, s in parts for d in s.detectors))
        classes = tuple(dict.fromkeys(c for _, _, s in parts for c in s.classes))
        out = np.full((len(self.devices), len(detectors), len(classes)), np.nan, np.float32)
        for _, at, s in parts:
            block = np.zeros((len(s.probabilities), len(s.detectors), len(classes)), np.float32)
            block[:, :, [classes.index(c) for c in s.classes]] = s.probabilities
            block[np.isnan(s.probabilities).any(axis=2)] = np.nan
            every = np.arange(len(self.devices))[at]
            out[every[:, None], [detectors.index(d) for d in s.detectors]] = block
        return detectors, classes, out[rows]

    def attack_scores(self) -> tuple[tuple[str, ...], tuple[str, ...], F64]:
        """Detectors (m) of L1, the source of each, and their P(attack) (n, m), NaN = abstained."""
        parts = self.levels.get(Level.L1, [])
        detectors, sources, places = _columns(tuple((source, s.detectors) for source, _, s in parts))
        attack = [s.probabilities[:, :, s.classes.index("attack")] for _, _, s in parts]
        if (
            parts
            and sum(len(p) for p in places) == len(detectors)
            and all(isinstance(at, slice) for _, at, _ in parts)
        ):
            return detectors, sources, np.concatenate(attack, axis=1, dtype=float)  # nothing is shared out
        out = np.full((len(self.devices), len(detectors)), np.nan)
        every = np.arange(len(self.devices))
        for (_, at, _), place, scores in zip(parts, places, attack, strict=True):
            out[every[at][:, None], place] = scores
        return detectors, sources, out


@lru_cache(maxsize=64)
def _columns(
    parts: tuple[tuple[str, tuple[str, ...]], ...],
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[list[int], ...]]:
    """Union of the parts' detectors, the source of each, and the columns of each part."""
    at: dict[tuple[str, str], int] = {}
    places = tuple([at.setdefault((source, d), len(at)) for d in detectors] for source, detectors in parts)
    return tuple(d for _, d in at), tuple(s for s, _ in at), places


def gather(pending: Pending, sources: tuple[str, ...]) -> Evidence:
    """The evidence on one window; `sources` are those that were waited for."""
    devices = pending.devices()
    n = len(devices)
    at: dict[str, int] = {}
    screening: dict[str, U8] = {}
    confidence: dict[str, F64] = {}
    levels: dict[Level, list[tuple[str, Rows, LevelScores]]] = {}
    violations: dict[str, list[Violation]] = {}
    missing: list[str] = []
    absent: list[tuple[str, Bool, str]] = []
    # EWAD last: what a rule or a limit says of a feature is said first.
    for source, parts in sorted(pending.parts.items(), key=lambda one: one[0] == EWAD):
        whole = len(parts) == 1 and parts[0].devices == devices and not parts[0].abstained
        if whole:
            screening[source], confidence[source] = parts[0].screening, parts[0].confidence.astype(float)
        else:
            screening[source], confidence[source] = np.zeros(n, np.uint8), np.full(n, np.nan)
            unheard = np.ones(n, bool)
        for part in parts:
            rows: Rows = slice(None)
            if not whole:
                at = at or {d: i for i, d in enumerate(devices)}
                rows = np.array([at[d] for d in part.devices], int)
                unheard[rows] = False
                screening[source][rows] = np.maximum(screening[source][rows], part.screening)
                if part.abstained:
                    text = f"{source}: {part.abstained}"
                    missing.append(text)
                    absent.append((source, _mask(n, rows), text))
                    continue
                confidence[source][rows] = part.confidence
            for scores in part.levels:
                levels.setdefault(scores.level, []).append((source, rows, scores))
            for v in part.violations:
                violations.setdefault(v.device, []).append(v)
        if not whole and source in sources and any(p.partial for p in parts) and unheard.any():
            missing.append(f"{source}: late for {unheard.sum()} of {n} devices")
            absent.append((source, unheard, f"{source}: late"))
    for source in sources:
        if source not in pending.parts:
            missing.append(f"{source}: late")
            absent.append((source, np.ones(n, bool), f"{source}: late"))
    return Evidence(
        devices,
        screening,
        confidence,
        {d: tuple(v) for d, v in violations.items()},
        levels,
        tuple(dict.fromkeys(missing)),
        absent,
    )


def _mask(n: int, rows: Rows) -> Bool:
    mask = np.zeros(n, bool)
    mask[rows] = True
    return mask
