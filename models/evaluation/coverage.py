"""Coverage (DeepSense, section 4.5): over classes and devices, and how models differ from each other."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F64, I64, Bool


def coverage(right: Bool, group: I64, weights: F64 | None = None) -> float:
    """sum_k w_k |C_k| / |S_k|: the mean share of right answers of the groups that occur.

    Class coverage with the attack class of each sample as `group` (n,), device coverage with its device; -1
    leaves a sample out (benign ones, for class coverage). `weights` (K,) of the groups, equal without it, are
    scaled to sum 1 over the groups that occur. NaN if none occurs.

    >>> coverage(np.array([True, False, True, True]), np.array([0, 0, 1, -1]))
    0.75
    """
    held = group >= 0
    groups = int(group.max(initial=-1)) + 1 if weights is None else len(weights)
    there = np.bincount(group[held], minlength=groups)
    hit = np.bincount(group[held], weights=right[held], minlength=groups)
    w = (np.ones(groups) if weights is None else weights) * (there > 0)
    if not w.sum():
        return float("nan")
    return float(np.divide(hit, there, out=np.zeros(groups), where=there > 0) @ w / w.sum())


def detection_diversity(right: Bool) -> F64:
    """1 - |C_M and C_others| / |C_M or C_others| of each model, (m,): the formula of the paper.

    `right` (m, n): which of n samples each of m models got right. C_others is the union of all others. 0
    for a model that got nothing right: by the formula it would be the most diverse of all.
    """
    others = _others(right)
    either = (right | others).sum(axis=1)
    both = (right & others).sum(axis=1)
    return np.where(right.any(axis=1), 1.0 - both / np.maximum(either, 1), 0.0)


def exclusive_detections(right: Bool) -> F64:
    """|C_M without C_others| / |C_M| of each model, (m,): the prose of the paper ("made exclusively").

    0 for a model that got nothing right.
    """
    own = right.sum(axis=1)
    return np.asarray((right & ~_others(right)).sum(axis=1) / np.maximum(own, 1))


def error_diversity(right: Bool) -> F64:
    """|E_M without E_others| / |E_M| of each model, (m,), E the samples it got wrong.

    1 for a model without errors: it shares none, and the best model must not come last.
    """
    wrong = ~right
    own = wrong.sum(axis=1)
    alone = (wrong & ~_others(wrong)).sum(axis=1)
    return np.where(own > 0, alone / np.maximum(own, 1), 1.0)


def _others(held: Bool) -> Bool:
    """For each model the union of what all others hold, (m, n)."""
    return np.asarray(held.sum(axis=0) - held > 0)
