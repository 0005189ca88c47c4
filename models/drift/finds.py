"""Which attacks were found: an alarm that stood before the attack began has found nothing.

A version that calls a device an attacker all day misses no attack on it, and tells nobody of one.
"""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import I64, Bool

NONE = -1  # no objection


def found(attack: Bool, run: I64) -> Bool:
    """Attacks that were found, of n labelled samples: the run of objections did not begin without one.

    `attack`, `run` (n,): what a sample was, and the run that it is part of (or NONE); those of a run in the
    order of time. The first of them says how the run began.

    >>> attack = np.array([0, 1, 1, 1, 0, 1], bool)
    >>> found(attack, np.array([4, 4, NONE, 5, 5, 5])).tolist()
    [False, False, False, True, False, True]
    """
    at = np.flatnonzero(run != NONE)
    _, first, which = np.unique(run[at], return_index=True, return_inverse=True)
    out = np.zeros(len(run), np.bool_)
    out[at] = attack[at] & attack[at][first][which]
    return out


def found_of(attack: Bool, told: Bool, objected: Bool) -> Bool:
    """The same for samples (windows, devices), of which some were `told` what they are.

    >>> objected = np.array([[1, 0], [1, 1], [0, 1]], bool)
    >>> attack = np.array([[0, 0], [1, 1], [0, 1]], bool)
    >>> found_of(attack, np.ones((3, 2), bool), objected).astype(int).tolist()
    [[0, 0], [0, 1], [0, 1]]
    """
    row = np.ascontiguousarray(objected.T)
    begins = row.copy()
    begins[:, 1:] &= ~row[:, :-1]
    at = np.flatnonzero(row & told.T)  # few: what follows costs little
    run = np.searchsorted(np.flatnonzero(begins), at, side="right")
    out = np.zeros(row.shape, np.bool_)
    out.ravel()[at] = found(attack.T.ravel()[at], run)
    return out.T
