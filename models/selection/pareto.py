"""Pareto fronts of ensembles, all objectives high = good, and the volume that a front dominates."""

from __future__ import annotations

from dataclasses import dataclass

import moocore
import numpy as np

from cellwatch.models.types import F64, Bool


@dataclass(frozen=True, slots=True)
class Front:
    """Ensembles that no other one dominates: members (n, N) and objectives (n, d)."""

    z: Bool
    objectives: F64

    def __len__(self) -> int:
        return len(self.z)


def front(z: Bool, objectives: F64) -> Front:
    """The non-dominated ones of different ensembles (B, N) with objectives (B, d), the first one descending.

    Of ensembles with the same objectives those with the fewest members stay: more members cost more and bring
    nothing.
    """
    keep = np.flatnonzero(moocore.is_nondominated(-objectives, keep_weakly=True))
    size = z[keep].sum(axis=1)
    _, same = np.unique(objectives[keep], axis=0, return_inverse=True)
    fewest = np.full(same.max() + 1, z.shape[1])
    np.minimum.at(fewest, same, size)
    keep = keep[size == fewest[same]]
    keep = keep[np.lexsort((*z[keep].T, *-objectives[keep].T[::-1]))]
    return Front(z[keep], objectives[keep])


def hypervolume(objectives: F64, reference: F64) -> float:
    """Volume between `reference` (d,) and the points (n, d) that are better; 0 if none is."""
    # not maximise=True: moocore 0.3.2 then turns the caller's own numbers
    return float(moocore.hypervolume(-objectives, ref=-reference))
