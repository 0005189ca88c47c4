"""EWAD alone, and single GANs by the same code: GAN, WGAN with clipped weights, WGAN-GP."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from cellwatch.models.ewad.ewad import Ewad
from cellwatch.models.ewad.report import Report
from cellwatch.models.ewad.settings import EwadSettings, Kind
from cellwatch.models.types import F32, F64, Bool

NAMES: dict[str, Kind] = {"GAN": "gan", "WGAN": "wgan", "WGAN-GP": "wgan-gp"}


class Unsupervised:
    """An `Ewad` that learns from normal rows; labels only say which rows are none."""

    NEEDS_LABELS: ClassVar[bool] = False

    def __init__(self, settings: EwadSettings, seed: int = 0) -> None:
        self.model = Ewad(settings, seed)
        self.threshold = 0.0
        self.report: Report | None = None

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """Learn from rows (n, f) in the order of time."""
        self.model.fit(x, columns, labels=None if y is None else y.astype(np.int64))
        self.threshold, self.report = self.model.threshold, self.model.report

    def score(self, x: F32) -> F64:
        """float64 (n,), high = anomalous."""
        return self.model.score(x)


def single(name: str, settings: EwadSettings) -> EwadSettings:
    """One GAN of a kind on all columns, otherwise with the settings of an EWAD."""
    return replace(settings, members=1, depths=settings.depths[:1], kind=NAMES[name])
