"""A method on training rows that SMOTE and a WGAN-GP have balanced, as in EWAD-IIoT (section 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np

from cellwatch.models.ewad.balancing import balance, smote
from cellwatch.models.ewad.baselines.inputs import Inputs
from cellwatch.models.ewad.method import Method
from cellwatch.models.ewad.report import Report
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.types import F32, F64, Bool

RATE = 0.5  # made-up and real anomalies for each normal row: the larger of the paper's two (Table 2)


class Balanced:
    """Complete rows go to another method, with made-up anomalies behind those that it learns from.

    What that method chooses on its training rows, its threshold above all, it then chooses on made-up ones.
    """

    NEEDS_LABELS: ClassVar[bool] = True

    def __init__(
        self,
        make: Callable[[int], Method],
        settings: EwadSettings,
        seed: int = 0,
        by: Literal["SMOTE", "SMOTE + WGAN-GP"] = "SMOTE",
    ) -> None:
        """`settings` are those of the WGAN-GP of the anomalies."""
        self._inner = make(seed)
        self._settings, self._seed, self._by = settings, seed, by
        self.threshold = 0.0
        self.report: Report | None = None

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """Learn from rows (n, f) and their labels. ValueError without at least two known anomalies."""
        if y is None:
            raise ValueError("needs known anomalies")
        self._inputs = Inputs.fit(x, columns)
        rows = self._inputs(x)
        more, labels = (
            smote(rows, y, RATE, self._seed)
            if self._by == "SMOTE"
            else balance(rows, y, RATE, self._settings, self._seed)
        )
        kept = self._inputs.preprocessing.kept.tolist()
        self._inner.fit(more, np.asarray(labels > 0), tuple(columns[k] for k in kept))
        self.threshold, self.report = self._inner.threshold, self._inner.report

    def score(self, x: F32) -> F64:
        """float64 (n,), high = anomalous."""
        return self._inner.score(self._inputs(x))
