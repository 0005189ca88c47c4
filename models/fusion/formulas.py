"""The fusion formulas of DeepSense (section 3.3.4 and 5), each written once, over arrays.

n rows (devices), m detectors, c classes. A detector that abstains has NaN and no weight in any sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cellwatch.models.types import F32, F64, I64

_TIE = 1e-9  # weight of the posterior where votes tie


def attack_probability(scores: F64, weights: F64) -> F64:
    """L1: p = sum(w_i s_i) / sum(w_i) of P(attack) `scores` (n, m); 0 where all abstain.

    `weights` is (m,) and the result (n,), or (m, k) for k weightings at once, (n, k).

    >>> attack_probability(np.array([[0.9, 0.3], [np.nan, 0.5]]), np.ones(2)).round(2).tolist()
    [0.6, 0.5]
    """
    mass = scores @ weights
    if not np.isnan(mass).any():  # the ordinary case: nobody abstains
        return _ratio(mass, weights.sum(axis=0))
    speaks = ~np.isnan(scores)
    return _ratio(np.where(speaks, scores, 0.0) @ weights, speaks @ weights)


def weighted_vote(probabilities: F32, weights: F64) -> F64:
    """L2, L3: p(c) = v(c) / sum v with v(c) the sum of w_i whose class c_i is c, shape (n, c).

    `probabilities` (n, m, c): each detector votes for its most probable class. Rows without a vote are 0.

    >>> p = np.array([[[0.1, 0.9], [0.6, 0.4], [0.2, 0.8]]], np.float32)
    >>> weighted_vote(p, np.array([1.0, 2.0, 1.0])).tolist()
    [[0.5, 0.5]]
    """
    n, _, c = probabilities.shape
    voting, heard = _heard(probabilities, weights)
    at = np.arange(0, n * c, c)[:, None] + heard.argmax(axis=2)
    votes = np.bincount(at.ravel(), weights=voting.ravel(), minlength=n * c).reshape(n, c)
    shares: F64 = votes.astype(float)  # integers where nothing was counted
    return _ratio(shares, shares.sum(axis=1, keepdims=True))


def posterior(probabilities: F32, weights: F64) -> F64:
    """L2, L3: p(c) = sum(w_i p_i(c | x)) / sum(w_i) of the detectors that speak, shape (n, c)."""
    voting, heard = _heard(probabilities, weights)
    mass = (voting.astype(np.float32)[:, None, :] @ heard)[:, 0].astype(float)
    return _ratio(mass, mass.sum(axis=1, keepdims=True))


def winner(shares: F64, tie_break: F64) -> tuple[I64, F64]:
    """Argmax over c of p(c) and S = max p(c), both (n,); -1 and 0 where nobody spoke.

    Equal votes go to the class of the greater `tie_break` (the posterior): two detectors tie often.
    """
    best = (shares + _TIE * tie_break).argmax(axis=1)
    share = shares[np.arange(len(best)), best]
    return np.where(share > 0, best, -1), share


def tied(shares: F64) -> bool:
    """Whether two classes of a row (n, c) have the greatest share."""
    return bool(((shares == shares.max(axis=1, keepdims=True)).sum(axis=1) > 1).any())


def _heard(probabilities: F32, weights: F64) -> tuple[F64, F32]:
    """The weights (n, m) of those who speak, 0 of the others, and their probabilities without a NaN.

    A detector speaks of a row if its probabilities are finite and not all 0.
    """
    total = probabilities.sum(axis=2)
    speaks = np.isfinite(total) & (total > 0)
    if speaks.all():  # the ordinary case
        everywhere = np.empty(total.shape)
        everywhere[:] = weights
        return everywhere, probabilities
    return speaks * weights, np.where(speaks[:, :, None], probabilities, np.float32(0))


def _ratio(part: F64, whole: F64) -> F64:
    """`part` / `whole`, 0 where the whole is 0; then the part is 0 too."""
    ratio: F64 = part / np.where(whole > 0, whole, 1.0)
    return ratio
