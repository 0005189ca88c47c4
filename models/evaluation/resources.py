"""Resource usage (DeepSense, section 4.6), from samples of a monitor."""

from __future__ import annotations

from cellwatch.models.types import F64


def peak_ram_mb(samples: F64) -> float:
    """Greatest of the memory samples (n,) in bytes, as MB (1e6 bytes); NaN without samples.

    >>> import numpy as np
    >>> peak_ram_mb(np.array([2e6, 5e6, 3e6]))
    5.0
    """
    return float(samples.max()) / 1e6 if len(samples) else float("nan")


def mean_cpu(samples: F64) -> float:
    """Mean of the load samples (n,), shares of all cores in 0..1; NaN without samples."""
    return float(samples.mean()) if len(samples) else float("nan")


def size_mb(size_bytes: int) -> float:
    """Size of a model's file in MB (1e6 bytes)."""
    return size_bytes / 1e6
