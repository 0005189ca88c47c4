"""Statistics of each tag in each window, all windows and tags at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellwatch.models.types import F64, I64, U32, Bool, Severity, severity

TAG_COLUMNS = (
    "avg",
    "std_deviation",
    "min",
    "max",
    "slope",  # least squares, unit/s
    "samples",  # of any quality
    "good_ratio",  # share of samples of Good quality
    "staleness",  # s from the last usable sample to the end of the window
    "zscore",  # of avg against the baseline of the mode
    "residual",  # avg against its prediction from the other tags, standardised
    "std_zscore",
    "slope_zscore",
)
TAG_STATISTICS = TAG_COLUMNS[:8]  # from the samples alone; the other four need a baseline
AVG, STD, MIN, MAX, SLOPE, SAMPLES, GOOD_RATIO, STALENESS = range(8)


@dataclass(frozen=True, slots=True)
class TagState:
    """What a tag holds between windows; arrays of shape (m,)."""

    value: F64  # last usable value, NaN = none yet
    time_ns: I64  # its source time
    good: F64  # 1 or 0: quality of the last sample of any kind; NaN = none yet

    @staticmethod
    def empty(m: int) -> TagState:
        """State of `m` tags that were never seen."""
        return TagState(np.full(m, np.nan), np.zeros(m, dtype=np.int64), np.full(m, np.nan))


def usable(value: F64, status: U32) -> Bool:
    """Tell which samples count: numbers whose quality is not Bad; Uncertain is meant to be used (Part 8)."""
    return np.isfinite(value) & (severity(status) < Severity.BAD)


def newest(state: TagState, tag: I64, value: F64, status: U32, time_ns: I64) -> TagState:
    """State after samples in the order of time, by tag; those older than the state's leave it as it is."""
    held, at, good = state.value.copy(), state.time_ns.copy(), state.good.copy()
    fine = usable(value, status)
    good[tag] = severity(status) == Severity.GOOD  # of repeated places numpy keeps the last
    rows, values, times = tag[fine], value[fine], time_ns[fine]
    newer = (times >= at[rows]) | np.isnan(held[rows])
    held[rows[newer]], at[rows[newer]] = values[newer], times[newer]
    return TagState(held, at, good)


def tag_windows(
    tag: I64,
    value: F64,
    status: U32,
    time_ns: I64,
    *,
    first_id: int,
    windows: int,
    window_ns: int,
    state: TagState,
) -> tuple[F64, TagState]:
    """Statistics (windows, m, 8) of consecutive windows, and the state at the end of the last.

    Samples (n,) come in any order; those outside the windows are ignored. Window `first_id` ends at
    `first_id * window_ns`. A tag without a usable sample holds its last value: avg = min = max = last, std
    and slope 0; its `samples` are 0, or those of bad quality. A tag that was never seen is NaN but for
    `samples`.
    """
    m = len(state.value)
    out = np.full((windows, m, 8), np.nan)
    place = time_ns // window_ns + 1 - first_id
    inside = np.flatnonzero((place >= 0) & (place < windows) & (tag >= 0) & (tag < m))
    # One order for every way of feeding: by time, equal times as they came. Online equals offline to the bit.
    inside = inside[np.argsort(time_ns[inside], kind="stable")]
    tag, value, status, time_ns = tag[inside], value[inside], status[inside], time_ns[inside]
    cell = place[inside] * m + tag
    size = windows * m
    end_ns = (first_id + np.arange(windows, dtype=np.int64)) * window_ns

    samples = np.bincount(cell, minlength=size)
    is_good = severity(status) == Severity.GOOD
    good = np.bincount(cell, weights=is_good, minlength=size)
    fine = usable(value, status)
    c, v = cell[fine], value[fine]
    t = (time_ns[fine] - (end_ns[c // m] - window_ns)) / 1e9
    n = np.bincount(c, minlength=size)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(c, weights=v, minlength=size) / n
        middle = np.bincount(c, weights=t, minlength=size) / n
        dv, dt = v - mean[c], t - middle[c]  # deviations first: a large offset costs no digits
        std = np.sqrt(np.bincount(c, weights=dv * dv, minlength=size) / n)
        spread = np.bincount(c, weights=dt * dt, minlength=size)
        slope = np.where(spread > 0, np.bincount(c, weights=dv * dt, minlength=size) / spread, 0.0)
        quality = good / samples
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, c, v)
    np.maximum.at(high, c, v)
    mean = np.clip(mean, low, high)  # rounding may put the mean of equal values beside them
    std = np.where(low == high, 0.0, std)
    slope = np.where(low == high, 0.0, slope)

    # Carry the last value, its time and the last quality over windows without samples.
    last_value, last_ns = np.full(size, np.nan), np.zeros(size, dtype=np.int64)
    last_value[c], last_ns[c] = v, time_ns[fine]  # the last of equal places wins
    last_good = np.full(size, np.nan)
    last_good[cell] = is_good
    has = (n > 0).reshape(windows, m)
    held = _carry(last_value.reshape(windows, m), has, state.value)
    held_ns = _carry(last_ns.reshape(windows, m), has, state.time_ns)
    seen = (samples > 0).reshape(windows, m)
    held_good = _carry(last_good.reshape(windows, m), seen, state.good)

    known = ~np.isnan(held)
    shape = (windows, m)
    out[..., AVG] = np.where(has, mean.reshape(shape), held)
    out[..., MIN] = np.where(has, low.reshape(shape), held)
    out[..., MAX] = np.where(has, high.reshape(shape), held)
    out[..., STD] = np.where(has, std.reshape(shape), np.where(known, 0.0, np.nan))
    out[..., SLOPE] = np.where(has, slope.reshape(shape), np.where(known, 0.0, np.nan))
    out[..., SAMPLES] = samples.reshape(shape)
    out[..., GOOD_RATIO] = np.where(seen, quality.reshape(shape), held_good)
    out[..., STALENESS] = np.where(known, np.maximum(end_ns[:, None] - held_ns, 0) / 1e9, np.nan)
    return out, TagState(held[-1].copy(), held_ns[-1].copy(), held_good[-1].copy())


def _carry(values: F64 | I64, valid: Bool, before: F64 | I64) -> F64 | I64:
    """`values` (windows, m) where valid, else the last valid one above, else `before` (m,)."""
    stacked = np.concatenate([before[None, :], values])
    row = np.where(valid, np.arange(1, len(stacked))[:, None], 0)
    row = np.maximum.accumulate(row, axis=0)
    return np.take_along_axis(stacked, row, axis=0)
