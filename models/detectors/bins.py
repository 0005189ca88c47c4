"""Columns cut into bins: trees and naive Bayes ask only whether a value lies above a cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.types import F32


@dataclass(frozen=True, slots=True)
class Bins:
    """Cuts per column, ascending. The code of a value is the number of cuts below it."""

    cuts: tuple[F32, ...]

    @classmethod
    def fit(cls, x: F32, bins: int) -> Bins:
        """At most `bins` bins a column, 256 of them at most.

        Half of the cuts lie at quantiles of the rows, half at quantiles of the distinct values, so that rare
        values far out are told apart as well.
        """
        part = np.linspace(0, 1, bins // 2 + 1)[1:-1]
        cuts = []
        for column in x.T:
            distinct = np.unique(column)
            middle = (distinct[1:] + distinct[:-1]) / 2
            if len(middle) >= bins:
                wanted = np.concatenate([np.quantile(column, part), np.quantile(distinct, part)])
                middle = np.unique(middle[np.searchsorted(middle, wanted).clip(max=len(middle) - 1)])
            cuts.append(middle.astype(np.float32))
        return cls(tuple(cuts))

    def codes(self, x: F32) -> NDArray[np.uint8]:
        """uint8 (n, n_columns)."""
        return np.stack(
            [np.searchsorted(cuts, column) for cuts, column in zip(self.cuts, x.T, strict=True)], axis=1
        ).astype(np.uint8)
