"""A fitness that asks the fused ensemble itself: its measured quality on validation rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellwatch.models.selection.subsets import DIGITS, top_k_means
from cellwatch.models.types import F32, F64, I64, Bool

_CELLS = 1 << 24  # numbers of a table that is held at a time


@dataclass(frozen=True, slots=True)
class Answers:
    """What N models say of n rows: probabilities (N, n, c), their weights (N,) > 0, and the truth (n,)."""

    p: F32
    weights: F64
    y: I64


def fused(z: Bool, answers: Answers) -> I64:
    """The class that each fused ensemble of `z` (B, N) calls for each row, (B, n).

    Fused in the posterior form, argmax_c sum_i w_i p_i(c | x); with two classes that is L1's formula with the
    threshold 0.5.
    """
    models, n, c = answers.p.shape
    w = (z * answers.weights).astype(np.float32)
    return np.asarray((w @ answers.p.reshape(models, n * c)).reshape(-1, n, c).argmax(axis=2))


def fused_quality(z: Bool, answers: Answers) -> F64:
    """Mean of accuracy, F1 and MCC (0 where negative) of each fused ensemble of `z` (B, N), (B,) in 0..1.

    F1 is that of class 1 with two classes, else the mean over the classes that occur or are called.
    """
    _, n, c = answers.p.shape
    rows = max(1, _CELLS // (n * c))
    return np.concatenate(
        [_quality(fused(z[i : i + rows], answers), answers.y, c) for i in range(0, len(z), rows)]
    )


def _quality(called: I64, y: I64, classes: int) -> F64:
    """`called` (B, n) by B ensembles, against the truth (n,)."""
    many, n = called.shape
    right = called == y
    at = called + classes * np.arange(many)[:, None]
    size = many * classes
    said = np.bincount(at.ravel(), minlength=size).reshape(many, classes).astype(np.float64)
    hit = np.bincount(at[right], minlength=size).reshape(many, classes).astype(np.float64)
    truth = np.bincount(y, minlength=classes).astype(np.float64)
    accuracy = hit.sum(axis=1) / n
    there = (said + truth) > 0
    f1 = np.divide(2 * hit, said + truth, out=np.zeros_like(hit), where=there)
    f1_mean = f1[:, 1] if classes == 2 else f1.sum(axis=1) / there.sum(axis=1)
    both = (n * n - (said**2).sum(axis=1)) * (n * n - (truth**2).sum())
    above = hit.sum(axis=1) * n - said @ truth
    mcc = np.divide(above, np.sqrt(both), out=np.zeros(many), where=both > 0)
    return np.asarray((accuracy + f1_mean + mcc.clip(0.0)) / 3.0)


def measured_fitness(z: Bool, values: F64, k: int, answers: Answers) -> F64:
    """`top_k_means` with the measured quality of the fused ensemble in place of its members' mean quality."""
    found = top_k_means(z, values, k)
    found[:, 0] = fused_quality(z, answers).round(DIGITS)
    return found


class Tabulated:
    """A fitness that was worked out for all subsets beforehand: the many runs of a search only look it up."""

    def __init__(self, z: Bool, objectives: F64) -> None:
        """`z` (B, N) with N <= 62, and `objectives` (B, d)."""
        keys = _keys(z)
        self._order = np.argsort(keys)
        self._keys = keys[self._order]
        self._objectives = objectives

    def __call__(self, z: Bool) -> F64:
        """Objectives (n, d) of ensembles (n, N) that are all in the table."""
        return self._objectives[self._order[np.searchsorted(self._keys, _keys(z))]]


def _keys(z: Bool) -> I64:
    return z.astype(np.int64) @ (1 << np.arange(z.shape[1], dtype=np.int64))
