"""When a drift began."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F64, Bool

LEAST = 25  # samples on either side


def onset(loss: F64, wrong: Bool) -> int:
    """Place in n samples from which on loss (n,), finite, or errors (n,) are most likely higher.

    The maximum likelihood change point of a mean (Hinkley 1970): the k with the greatest
    (after - before) * sqrt(k (n - k) / n), upwards only, in the one of the two that rises by more standard
    deviations. n // 2 if n < 2 * LEAST, or nothing rises.
    """
    n = len(loss)
    if n < 2 * LEAST:
        return n // 2
    series = np.stack([loss, wrong.astype(np.float64)])
    k = np.arange(LEAST, n - LEAST + 1)
    before = np.cumsum(series, axis=1)[:, k - 1]
    rise = (series.sum(axis=1, keepdims=True) - before) / (n - k) - before / k
    spread = np.maximum(series.std(axis=1, keepdims=True), 1e-9)
    found = (rise * np.sqrt(k * (n - k) / n) / spread).max(axis=0)
    return int(k[np.argmax(found)]) if found.max() > 0 else n // 2
