"""Which features made a model say what it says: for one window, away from the hot path.

Both methods ask the model about copies of the window in which some features have their `baseline` value, so
they work on any served graph. Trees are cheap to ask and jump: SHAP. Networks are smooth and dear: occlusion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cellwatch.models.types import F32, F64, I64

Method = Literal["shap", "occlusion"]


@dataclass(frozen=True, slots=True)
class Explained:
    """One model of the ensemble, to be asked."""

    detector: str
    weight: float  # in the fusion
    attack: Callable[[F32], F32]  # (n, f) or (n, T, f) -> P(attack) (n,)
    window: F32  # (f,) or (T, f): what it saw
    method: Method


def shapley(
    attack: Callable[[F32], F32], window: F32, baseline: F32, *, pairs: int = 4, seed: int = 0
) -> F64:
    """SHAP values (f,) of P(attack) against one baseline, by `pairs` of an order of features and its reverse.

    Strumbelj and Kononenko 2014; a pair is exact where at most two features act together (Mitchell et al.,
    Sampling Permutations for Shapley Value Estimation, JMLR 2022). They add up to P(window) - P(baseline).
    `window` and `baseline` are (f,) or (T, f); a feature is taken over all its T windows.
    """
    moved = _differing(window, baseline)
    out = np.zeros(window.shape[-1])
    if not len(moved):
        return out
    random = np.random.default_rng(seed)
    orders = [order for _ in range(pairs) for o in [random.permutation(moved)] for order in (o, o[::-1])]
    rows = np.concatenate([_path(window, baseline, order) for order in orders])
    steps = np.diff(np.asarray(attack(rows), float).reshape(len(orders), -1), axis=1)
    for order, step in zip(orders, steps, strict=True):
        out[order] += step
    return out / len(orders)


def occlusion(attack: Callable[[F32], F32], window: F32, baseline: F32) -> F64:
    """Fall of P(attack), (f,), when one feature is put back to its baseline (Zeiler and Fergus 2014)."""
    moved = _differing(window, baseline)
    rows = np.repeat(window[None], len(moved) + 1, axis=0)
    for row, feature in enumerate(moved, start=1):
        rows[row, ..., feature] = baseline[..., feature]
    p = np.asarray(attack(rows), float)
    out = np.zeros(window.shape[-1])
    out[moved] = p[0] - p[1:]
    return out


def top_contributions(
    models: Sequence[Explained], baseline: F32, features: Sequence[str], top: int = 5
) -> list[tuple[str, float]]:
    """The features that raised or lowered the weighted mean P(attack) of the models most, gravest first.

    `baseline` (f,): what is normal, in the scale of the windows. Features without any effect are left out.
    """
    total = sum(m.weight for m in models)
    if not total:
        return []
    share = np.zeros(len(features))
    for m in models:
        normal = np.broadcast_to(baseline, m.window.shape)
        ask = shapley if m.method == "shap" else occlusion
        share += m.weight / total * ask(m.attack, m.window, normal)
    order = np.argsort(-np.abs(share), kind="stable")[:top]
    return [(features[k], float(share[k])) for k in order if share[k]]


def in_words(contributions: Sequence[tuple[str, float]]) -> str:
    """The contributions for a sentence.

    >>> in_words([("network_packets_all_count", 0.31), ("network_ports_all_count", -0.02)])
    'the models go by network_packets_all_count (+0.31), network_ports_all_count (-0.02)'
    """
    return "the models go by " + ", ".join(f"{name} ({share:+.2f})" for name, share in contributions)


def _differing(window: F32, baseline: F32) -> I64:
    """Features that are not at their baseline: the others have no part in it."""
    other = window != baseline
    return np.flatnonzero(other if other.ndim == 1 else other.any(axis=0))


def _path(window: F32, baseline: F32, order: I64) -> F32:
    """(len(order) + 1, ...) rows from the baseline to the window, one feature more a row."""
    rows = np.repeat(np.array(baseline)[None], len(order) + 1, axis=0)
    for step, feature in enumerate(order, start=1):
        rows[step:, ..., feature] = window[..., feature]
    return rows
