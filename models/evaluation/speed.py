"""Speed and latency (DeepSense, section 4.4). Times in seconds."""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F64


def inference_time(total_s: float, samples: int) -> float:
    """Mean seconds for a sample, T / n; NaN without samples."""
    return total_s / samples if samples else float("nan")


def processing_rate(total_s: float, samples: int) -> float:
    """Samples a second, n / T; NaN without samples or time.

    >>> processing_rate(0.5, 1000)
    2000.0
    """
    return samples / total_s if samples and total_s > 0 else float("nan")


def first_alarms(alarms: F64, onset: F64, end: F64) -> F64:
    """Time of the first alarm within each event [onset, end], NaN for an event without one, (k,).

    `alarms` (n,) ascending, `onset` and `end` (k,), all on one clock.
    """
    if not len(alarms):
        return np.full(len(onset), np.nan)
    place = np.searchsorted(alarms, onset)
    first = alarms[np.minimum(place, len(alarms) - 1)]
    return np.where((place < len(alarms)) & (first <= end), first, np.nan)


def detection_latency(onset: F64, detected: F64) -> float:
    """Mean of detected - onset over the events that were detected; NaN (undefined, the worst) if none was.

    `onset` and `detected` (k,); NaN in `detected` for a missed event.

    >>> detection_latency(np.array([10.0, 20.0, 30.0]), np.array([11.0, np.nan, 34.0]))
    2.5
    """
    late = (detected - onset)[np.isfinite(detected)]
    return float(late.mean()) if len(late) else float("nan")
