"""What an EWAD says of rows: the outputs of the trained model and of the graph that is served alike."""

from __future__ import annotations

from typing import NamedTuple

from cellwatch.models.types import F32, F64


class Judgement(NamedTuple):
    """All outputs for n rows."""

    score: F64  # (n,), high = anomalous; 0 is the mean and 1 the standard deviation of normal validation rows
    p_value: F64  # (n,), share of normal rows that score at least as high
    parts: F32  # (n, I), the share of each member in the score; they add up to it (combination "mean")
    features: F32  # (n, f), signed: how many normal standard deviations a value lies above the expected one
