"""What each member of the ensemble learns from: rows and columns of the normal data (EWAD-IIoT, section 3.5).

Members may share rows or columns; together they hold all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage

from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.types import F32, F64, I64, Bool


@dataclass(frozen=True, slots=True)
class Partitions:
    """`rows[i]`: indices of the training rows of member i. `columns` (I, w): its columns.

    Only the first `widths[i]` of line i count; the rest repeats the first of them.
    """

    rows: tuple[I64, ...]
    columns: I64
    widths: I64

    @property
    def mask(self) -> F32:
        """(I, w): 1 where a column counts."""
        return (np.arange(self.columns.shape[1]) < self.widths[:, None]).astype(np.float32)


def partition(x: F32, settings: EwadSettings, seed: int, groups: tuple[str, ...] | None = None) -> Partitions:
    """Partitions of complete training rows (n, w).

    "columns": by `groups` (w,) if given, else correlated columns together; every member has all rows.
    "cluster": rows by K-means. "random": rows by lot. Of the remaining columns or rows each member also gets
    the share `overlap`: the most correlated columns, the rows nearest to its cluster, or by lot again.
    """
    n, w = x.shape
    size, overlap = settings.members, settings.overlap
    if settings.partition == "columns":
        return Partitions((np.arange(n),) * size, *_ragged(_by_column(x, groups, size, overlap)))
    held = (_by_cluster if settings.partition == "cluster" else _by_lot)(x, size, overlap, seed)
    rows = tuple(np.flatnonzero(own) for own in held)
    return Partitions(rows, *_ragged(np.ones((size, w), dtype=np.bool_)))


def _ragged(held: Bool) -> tuple[I64, I64]:
    """`columns` and `widths` of what each member holds, (I, w) bool."""
    widths = held.sum(axis=1)
    columns = np.argsort(~held, axis=1, kind="stable")[:, : widths.max()]
    return np.where(np.arange(columns.shape[1]) < widths[:, None], columns, columns[:, :1]), widths


def _by_column(x: F32, groups: tuple[str, ...] | None, size: int, overlap: float) -> Bool:
    centred = x - x.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    near = np.abs(centred.T @ centred) / np.maximum(np.outer(length, length), np.finfo(np.float32).tiny)
    if groups is None:
        owner = _correlated(near, size)
    else:
        owner = _packed(np.unique(groups, return_inverse=True)[1], size)
    base = owner[None] == np.arange(size)[:, None] % (owner.max() + 1)  # too few groups are had twice
    return _nearest(np.where(base, -np.inf, -(base @ near)), base, overlap)


def _correlated(near: F32, size: int) -> I64:
    """Owner of each column: neighbours in a tree of correlations (average linkage), in equal parts."""
    w = len(near)
    if w < 2:
        return np.zeros(w, dtype=np.int64)
    apart = np.clip(1 - near, 0, None)[np.triu_indices(w, 1)]
    owner = np.empty(w, dtype=np.int64)
    owner[leaves_list(linkage(apart, "average"))] = np.arange(w) * min(size, w) // w
    return owner


def _packed(group: I64, size: int) -> I64:
    """Owner of each column: the largest group first, to the member with the fewest columns so far."""
    counts = np.bincount(group)
    load, owner = np.zeros(min(size, len(counts)), dtype=np.int64), np.empty(len(counts), dtype=np.int64)
    for g in np.argsort(-counts, kind="stable"):
        owner[g] = load.argmin()
        load[owner[g]] += counts[g]
    return owner[group]


def _by_cluster(x: F32, size: int, overlap: float, seed: int) -> Bool:
    from sklearn.cluster import KMeans

    found = KMeans(size, n_init=4, random_state=seed).fit(x)
    base = found.labels_[None] == np.arange(size)[:, None]
    away = np.where(base, -1.0, found.transform(x).T)
    return _nearest(away, base, overlap)


def _by_lot(x: F32, size: int, overlap: float, seed: int) -> Bool:
    rng = np.random.default_rng(seed)
    base = rng.permutation(len(x))[None] % size == np.arange(size)[:, None]
    return _nearest(np.where(base, -1.0, rng.random(base.shape)), base, overlap)


def _nearest(away: F64, base: Bool, overlap: float) -> Bool:
    """The base and, of the rest, the share `overlap` that is least far away."""
    rank = np.argsort(np.argsort(away, axis=1, kind="stable"), axis=1)
    own = base.sum(axis=1, keepdims=True)
    return np.asarray(rank < own + np.rint(overlap * (base.shape[1] - own)))
