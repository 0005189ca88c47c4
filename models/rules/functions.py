"""Functions of declared rules over series of windows: of a tag by its columns, of all else by its values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cellwatch.models.types import F64

FUNCTIONS = ("avg", "min", "max", "std", "rate", "age", "count", "good", "changed", "missing", "abs")


@dataclass(frozen=True, slots=True)
class Name:
    """What a condition reads: a tag, a feature of the device that is judged, or of a named device."""

    text: str
    feature: str = ""  # column of the schema; "" for a tag
    device: str = ""  # of a feature; "" = the device that is judged


class Source(Protocol):
    """The windows a condition looks at."""

    @property
    def window_s(self) -> float:
        """Length of a window."""

    @property
    def seen(self) -> int:
        """Consecutive windows so far."""

    def series(self, name: Name, column: str, rows: int) -> F64:
        """Last `rows` values (rows, devices) or (rows, 1); column of TAG_COLUMNS, "avg" for a feature."""


Run = Callable[[Source, int], F64]


@dataclass(frozen=True, slots=True)
class Part:
    """A compiled piece. `before(window_s)` is how many windows it needs besides the one it is asked for."""

    run: Run
    before: Callable[[float], int]
    condition: bool = False
    name: Name | None = None  # a bare tag or feature
    constant: bool = False


def windows_of(span_s: float, window_s: float) -> int:
    """How many windows make a span: at least one, rounded up."""
    return max(math.ceil(span_s / window_s - 1e-9), 1)


def apply(function: str, inner: Part, span_s: float | None, tag: Name | None) -> Part:
    """A function of a tag (by its columns of each window) or of any other series (by its values)."""
    if function == "abs":
        return Part(lambda s, n: np.abs(inner.run(s, n)), inner.before)
    if function == "missing":
        return Part(lambda s, n: np.isnan(inner.run(s, n)).astype(float), inner.before, condition=True)
    if function == "age":
        assert tag is not None
        return Part(lambda s, n: s.series(tag, "staleness", n), inner.before)

    def size(window_s: float) -> int:
        """Windows it looks at; a change needs the one before."""
        k = windows_of(span_s or 0.0, window_s)
        if function == "rate" and tag is None:
            return max(k, 2)
        return k + 1 if function == "changed" else k

    def stack(run: Run, source: Source, rows: int) -> F64:
        """(rows, devices, size): for every row the windows of its span; NaN before the span has passed."""
        k = size(source.window_s)
        blocks = sliding_window_view(run(source, rows + k - 1), k, axis=0)
        passed = source.seen - np.arange(rows)[::-1] >= k + inner.before(source.window_s)
        return np.where(passed[:, None, None], blocks, np.nan)

    def column(name: str) -> Run:
        return inner.run if tag is None else lambda s, n: s.series(tag, name, n)

    def run(source: Source, rows: int) -> F64:
        def of(name: str) -> F64:
            return stack(column(name), source, rows)

        match function:
            case "avg":
                return _mean(of("avg"))
            case "good":
                return _mean(of("good_ratio"))
            case "min":
                return np.asarray(np.fmin.reduce(of("min"), axis=-1))
            case "max":
                return np.asarray(np.fmax.reduce(of("max"), axis=-1))
            case "count":
                values = of("samples")
                known = np.isfinite(values).any(axis=-1)
                return np.where(known, np.nansum(values, axis=-1), np.nan)
            case "std":
                means = of("avg")
                between = _mean((means - _mean(means)[..., None]) ** 2)
                within = _mean(of("std_deviation") ** 2) if tag is not None else 0.0
                return np.asarray(np.sqrt(between + within))
            case "rate":
                if tag is not None and size(source.window_s) == 1:
                    return source.series(tag, "slope", rows)
                values = of("avg")
                passed_s = (values.shape[-1] - 1) * source.window_s
                return np.asarray((values[..., -1] - values[..., 0]) / passed_s)
            case _:
                return _changed(of("min"), of("max"))

    return Part(run, lambda w: size(w) - 1 + inner.before(w), condition=function == "changed")


def _mean(values: F64) -> F64:
    """Mean over the last axis of what is there."""
    ok = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(ok, values, 0.0).sum(axis=-1) / ok.sum(axis=-1))


def _changed(low: F64, high: F64) -> F64:
    """Whether a value moved inside a window of the span, or left the range of the window before."""
    inside = (low != high)[..., 1:] & np.isfinite(low[..., 1:])
    outside = (low[..., 1:] < low[..., :-1]) | (high[..., 1:] > high[..., :-1])
    known = (np.isfinite(low[..., 1:]) & np.isfinite(low[..., :-1])).any(axis=-1)
    return np.where(known, (inside | outside).any(axis=-1).astype(float), np.nan)
