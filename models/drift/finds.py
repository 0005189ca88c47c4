"""Which attacks were found: an alarm that stood before the attack began has found nothing.

A version that calls a device an attacker all day misses no attack on it, and tells nobody of one.
"""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import I64, Bool

NONE = -1  # no objection


def found(attack: Bool, run: I64) -> Bool:
    """Attacks that were found, of n labelled samples: the run of objections has no benign one before them.

    `attack`, `run` (n,): what a sample was, and the run that it is part of (or NONE); those of a run in the
    order of time.

    >>> attack = np.array([0, 1, 1, 1, 0, 1], bool)
    >>> found(attack, np.array([4, 4, NONE, 5, 5, 5])).tolist()
    [False, False, False, True, False, False]
    """
    at = np.flatnonzero(run != NONE)
    at = at[np.argsort(run[at], kind="stable")]
    benign = np.cumsum(~attack[at])
    begins = np.diff(run[at], prepend=NONE) != 0
    before: I64 = (benign - ~attack[at])[begins]  # benign ones of the runs before
    out = np.zeros(len(run), np.bool_)
    out[at] = attack[at] & (benign == before[np.cumsum(begins) - 1])
    return out


def found_of(attack: Bool, told: Bool, objected: Bool) -> Bool:
    """The same for samples (windows, devices), of which some were `told` what they are.

    >>> objected = np.array([[1, 0], [1, 1], [0, 1]], bool)
    >>> attack = np.array([[0, 0], [1, 1], [0, 1]], bool)
    >>> found_of(attack, np.ones((3, 2), bool), objected).astype(int).tolist()
    [[0, 0], [0, 1], [0, 1]]
    """
    at, run = _runs(objected)
    told_there = told.T.ravel()[at]
    at, run = at[told_there], run[told_there]
    out = np.zeros(told.T.shape, np.bool_)
    out.ravel()[at] = found(attack.T.ravel()[at], run)
    return out.T


def told_of(told: Bool, objected: Bool, within: int) -> Bool:
    """Objections (windows, devices) of which somebody said what they are, if only of another of the run.

    That one is at most `within` windows away: an alarm that goes on long after an attack is another thing.

    >>> objected, told = np.ones((5, 1), bool), np.array([[0], [1], [0], [0], [0]], bool)
    >>> told_of(told, objected, 2).ravel().astype(int).tolist()
    [1, 1, 1, 1, 0]
    """
    at, run = _runs(objected)
    out = np.zeros(told.T.shape, np.bool_)
    known = np.flatnonzero(told.T.ravel()[at])
    if len(known):
        follows = np.searchsorted(known, np.arange(len(at)))
        near = np.zeros(len(at), np.bool_)
        for one in (known[np.minimum(follows, len(known) - 1)], known[np.maximum(follows - 1, 0)]):
            near |= (run[one] == run) & (np.abs(at[one] - at) <= within)
        out.ravel()[at] = near
    return out.T


def _runs(objected: Bool) -> tuple[I64, I64]:
    """Places of the objections in `objected.T.ravel()`, and the number of the run of each."""
    row = np.ascontiguousarray(objected.T)
    begins = row.copy()
    begins[:, 1:] &= ~row[:, :-1]
    at = np.flatnonzero(row)
    return at, np.searchsorted(np.flatnonzero(begins), at, side="right")
