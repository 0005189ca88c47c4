"""The preprocessing of EWAD for detectors that are no networks."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch

from cellwatch.models.ewad.preprocessing import Preprocessing
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.types import F32


class Inputs:
    """Rows as EWAD sees them: no constant columns, missing numbers filled in, scaled by the training rows."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    @classmethod
    def fit(cls, x: F32, columns: tuple[str, ...]) -> Self:
        """From training rows (n, f); none is left out. ValueError if nothing varies."""
        return cls(Preprocessing.fit(x, columns, EwadSettings())[0])

    def __call__(self, x: F32) -> F32:
        """Complete rows (n, w)."""
        with torch.no_grad():
            rows = self.preprocessing(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)))[0]
        out: F32 = rows.numpy()
        return out
