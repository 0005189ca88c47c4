"""Preprocessing of raw rows: imputation, outlying training rows, min-max scaling (EWAD-IIoT, section 3.3).

Fitted on training rows only and then applied unchanged to all others, as a part of the served graph.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor

from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.types import F32, Bool

BOUND = 1.0  # how far beyond 0..1 a new value still counts; farther out says no more
NEIGHBOURS = 5
REFERENCES = 512  # training rows that KNN imputation looks among
MOST = 0.1  # of the training rows: never are more left out as outlying


class Preprocessing(torch.nn.Module):
    """Raw rows (n, f), NaN or infinite where a number is missing, become complete rows (n, w) around 0..1."""

    kept: Tensor
    low: Tensor
    span: Tensor
    fill: Tensor
    category: Tensor
    reference: Tensor
    bound: Tensor

    def __init__(
        self,
        kept: Tensor,
        low: Tensor,
        span: Tensor,
        fill: Tensor,
        category: Tensor,
        reference: Tensor,
        bound: Tensor,
    ) -> None:
        """(w,) each: `kept` indices of columns, `low` and `span` raw, `fill` scaled, `category` bool.

        `reference` (r, w): complete scaled rows for KNN imputation, r = 0 without it. `bound` (): how far
        beyond 0..1 a scaled value may lie.
        """
        super().__init__()
        for name, value in (
            ("kept", kept),
            ("low", low),
            ("span", span),
            ("fill", fill),
            ("category", category),
            ("reference", reference),
            ("bound", bound),
        ):
            self.register_buffer(name, value)

    @classmethod
    def fit(cls, x: F32, columns: tuple[str, ...], settings: EwadSettings) -> tuple[Self, Bool]:
        """From training rows (n, f); also says which of them (n,) are no outliers.

        The range for min-max is that of the values within |z| <= `outlier_z`. ValueError if nothing varies.
        """
        seen = np.isfinite(x)
        values = np.where(seen, x.astype(np.float64), np.nan)
        with np.errstate(all="ignore"):
            count = np.maximum(seen.sum(axis=0), 1)
            mean = np.nansum(values, axis=0) / count
            deviation = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / count)
            far = np.abs(values - mean) > settings.outlier_z * deviation  # NaN is not far
        usual = _usual(far.sum(axis=1) / np.maximum(seen.sum(axis=1), 1), settings.outlier_share)
        inside = np.where(far | ~usual[:, None], np.nan, values)
        low, high = (
            edge(inside, axis=0, initial=start, where=~np.isnan(inside))
            for edge, start in ((np.min, np.inf), (np.max, -np.inf))
        )
        varies = high > low
        kept = np.flatnonzero(varies | (np.isfinite(low) & (settings.constant == "keep")))
        if not varies.any():
            raise ValueError("no column varies")
        still = ~varies[kept]
        low, span = low[kept], np.where(still, 1.0, (high - low)[kept])
        if settings.scaling == "none":
            low, span = np.zeros_like(low), np.ones_like(span)
        category = np.isin(np.array(columns, dtype=object)[kept], settings.categorical)
        scaled = (inside[:, kept] - low) / span
        fill = _fill(scaled, category, settings.imputation)
        low, span, fill = (part.astype(np.float32) for part in (low, span, fill))
        made = cls(
            torch.from_numpy(kept.astype(np.int64)),
            torch.from_numpy(low),
            torch.from_numpy(span),
            torch.from_numpy(fill),
            torch.from_numpy(category),
            torch.zeros(0, len(kept)),
            torch.tensor(BOUND if settings.scaling == "min-max" else torch.finfo(torch.float32).max),
        )
        if settings.imputation == "knn" and not seen[:, kept].all():
            made.reference = _references(scaled[usual])
        return made, usual

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Complete scaled rows (n, w) and where a number was there, (n, w) of 0 and 1."""
        x = x[:, self.kept]
        missing = torch.isnan(x) | torch.isinf(x)
        scaled = (torch.where(missing, self.low, x) - self.low) / self.span
        scaled = torch.minimum(torch.maximum(scaled, -self.bound), 1 + self.bound)
        present = 1.0 - missing.to(scaled.dtype)
        fill = self._neighbours(scaled, present) if len(self.reference) else self.fill
        return torch.where(missing, fill, scaled), present

    def _neighbours(self, scaled: Tensor, present: Tensor) -> Tensor:
        """Mean (mode for categories) of the nearest references; only present numbers make a distance."""
        seen, rows = scaled * present, self.reference
        distance = present @ (rows * rows).T - 2 * seen @ rows.T  # the row's own square is the same for all
        nearest = rows[torch.topk(distance, min(NEIGHBOURS, len(rows)), dim=1, largest=False).indices]
        votes = (nearest.unsqueeze(1) == nearest.unsqueeze(2)).to(scaled.dtype).sum(dim=2)
        mode = torch.gather(nearest, 1, votes.argmax(dim=1, keepdim=True)).squeeze(1)
        return torch.where(self.category, mode, nearest.mean(dim=1))


def _usual(share: np.ndarray, limit: float) -> Bool:
    """Rows whose share of outlying numbers is within the limit; never less than 1 - MOST of all rows."""
    limit = max(limit, float(np.quantile(share, 1 - MOST)))
    return np.asarray(share <= limit)


def _fill(scaled: np.ndarray, category: Bool, imputation: str) -> np.ndarray:
    """One number per column for what is missing."""
    if imputation == "zero":
        return np.zeros(scaled.shape[1])
    middle = np.nanmean if imputation == "mean" else np.nanmedian
    fill = np.asarray(middle(scaled, axis=0))
    for k in np.flatnonzero(category):
        values, counts = np.unique(scaled[~np.isnan(scaled[:, k]), k], return_counts=True)
        fill[k] = values[counts.argmax()]
    return fill


def _references(scaled: np.ndarray) -> Tensor:
    """At most REFERENCES rows, evenly spaced in time, made complete by their own neighbours."""
    from sklearn.impute import KNNImputer

    rows = scaled[np.unique(np.linspace(0, len(scaled) - 1, REFERENCES).round().astype(np.int64))]
    known = ~np.isnan(rows).all(axis=0)
    rows[:, ~known] = np.nanmedian(scaled[:, ~known], axis=0)
    return torch.from_numpy(KNNImputer(n_neighbors=NEIGHBOURS).fit_transform(rows).astype(np.float32))
