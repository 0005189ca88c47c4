"""Whether a probability of attack means what it says: reliability diagram and its error."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F64, Bool

BINS = 10


def reliability(p: F64, attacked: Bool, bins: int = BINS) -> list[dict[str, float]]:
    """For each bin of equal width that holds rows: mean probability, share of attacks, rows.

    `p` (n,) in 0..1, `attacked` (n,). (DeGroot and Fienberg, The Statistician 1983.)

    >>> reliability(np.array([0.1, 0.3, 0.9]), np.array([False, True, True]), bins=2)[0]
    {'predicted': 0.2, 'observed': 0.5, 'rows': 2}
    """
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    rows = np.bincount(place, minlength=bins)
    said, true = (np.bincount(place, weights=w, minlength=bins) for w in (p, attacked))
    return [
        {"predicted": float(said[k] / rows[k]), "observed": float(true[k] / rows[k]), "rows": int(rows[k])}
        for k in np.flatnonzero(rows).tolist()
    ]


def calibration_error(p: F64, attacked: Bool, bins: int = BINS) -> float:
    """Expected calibration error, 0..1: mean distance of the bins from the diagonal, weighted by rows."""
    found = reliability(p, attacked, bins)
    return (
        sum(b["rows"] * abs(b["predicted"] - b["observed"]) for b in found) / len(p)
        if len(p)
        else float("nan")
    )
