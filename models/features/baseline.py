"""What is normal for each tag, learnt from benign windows, for each operating mode of its device.

Location is the median, scale the largest of 1.4826 MAD, a quarter of the span from the 1 % to the 99 %
quantile (bang-bang control has a small MAD and a wide normal range) and a floor (a set-point that never
moved must not give an infinite z-score).

`residual` predicts each tag from all others by ridge regression. With x the z-scores of the averages, C their
correlation and P = (C + ridge I)^-1, the error of every tag's leave-one-out prediction is (P x)_j / P_jj,
for all tags in one product. It is fitted on the first 70 % of the windows and standardised on the last 30
%, which the regression has not seen.

When it does not work: fewer than `MIN_WINDOWS` benign windows in a mode (the mode stays unknown), benign
windows that do not show the whole normal range, and a plant that drifts (recalibrate).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellwatch.models.features.tags import AVG, SLOPE, STD
from cellwatch.models.types import F64, I64, Bool

Z_LIMIT = 50.0  # z-scores are clipped to +-this
MIN_WINDOWS = 8
RIDGE = 0.1  # in units of the correlation's diagonal
FIT_SHARE = 0.7
_JUDGED = (AVG, STD, SLOPE)


def robust(values: F64, floor: F64) -> tuple[F64, F64]:
    """Location and scale (m,) over the rows of `values` (w, m), NaN ignored; scale >= floor."""
    with _quiet():
        middle = np.nanmedian(values, axis=0)
        mad = 1.4826 * np.nanmedian(np.abs(values - middle), axis=0)
        low, high = np.nanquantile(values, [0.01, 0.99], axis=0)
    return middle, np.fmax(np.fmax(mad, (high - low) / 4), floor)


def _quiet() -> warnings.catch_warnings[None]:
    """All-NaN columns are NaN, as wanted, and not worth a warning."""
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)


@dataclass(frozen=True, slots=True)
class ModeBaseline:
    """Normal values of all m tags while their device is in one mode; NaN for tags of other devices."""

    windows: int
    location: F64  # (3, m): avg, std, slope
    scale: F64  # (3, m)
    residual_location: F64  # (m,)
    residual_scale: F64  # (m,)


@dataclass(frozen=True, slots=True)
class TagBaseline:
    """Baselines of every (device, mode) that was seen long enough."""

    tags: tuple[str, ...]  # m
    tag_device: tuple[str, ...]  # (m,) device names
    precision: F64  # (m, m) P of the module's docstring
    modes: dict[tuple[str, int], ModeBaseline]

    @classmethod
    def fit(
        cls,
        values: F64,
        modes: I64,
        ok: Bool,
        *,
        tags: tuple[str, ...],
        tag_device: tuple[str, ...],
        devices: tuple[str, ...],
        span: F64 | None = None,
        window_s: float = 1.0,
    ) -> TagBaseline:
        """Fit on benign windows in the order of time.

        values (w, m, >= 5): tag statistics; modes (w, d) and ok (w, d): mode of each device, and whether it
        was settled in it; span (m,): EURange high - low, NaN where unknown, sets the floors.
        """
        w, m = values.shape[:2]
        column = {name: i for i, name in enumerate(devices)}
        owner = np.array([column[name] for name in tag_device], dtype=np.int64)
        floors = _floors(values, span if span is not None else np.full(m, np.nan), window_s)
        cut = max(1, round(w * FIT_SHARE))
        found: dict[tuple[str, int], tuple[Bool, I64, F64, F64]] = {}
        z = np.full((w, m), np.nan)
        for name, d in column.items():
            mine = np.flatnonzero(owner == d)
            if not len(mine):
                continue
            for mode in np.unique(modes[ok[:, d], d]).tolist():
                rows = ok[:, d] & (modes[:, d] == mode)
                if rows.sum() < MIN_WINDOWS:
                    continue
                pairs = [robust(values[rows][:, mine, k], floors[i, mine]) for i, k in enumerate(_JUDGED)]
                location, scale = np.full((3, m), np.nan), np.full((3, m), np.nan)
                for i, (middle, width) in enumerate(pairs):
                    location[i, mine], scale[i, mine] = middle, width
                found[name, mode] = (rows, mine, location, scale)
                z[np.ix_(rows, mine)] = _z(values[rows][:, mine, AVG], location[0, mine], scale[0, mine])
        x = np.nan_to_num(z[:cut], nan=0.0)
        correlation = x.T @ x / max(1, len(x))
        size = np.sqrt(np.maximum(np.diag(correlation), 1e-12))
        normal = correlation / np.outer(size, size)
        np.fill_diagonal(normal, 1.0)
        # Few windows for many tags: lean on the ridge.
        inverse = np.linalg.inv(normal + (RIDGE + m / max(1, len(x))) * np.eye(m)) if m else np.zeros((0, 0))
        precision = inverse / np.outer(size, size)
        error = _residual(z, precision)
        baselines: dict[tuple[str, int], ModeBaseline] = {}
        for key, (rows, mine, location, scale) in found.items():
            where = np.flatnonzero(rows)
            later = where[where >= cut]
            if len(later) < MIN_WINDOWS // 2:  # the mode was seen early only
                later = where
            centre, width = np.full(m, np.nan), np.full(m, np.nan)
            # 0.1 of the tag's own z: a prediction that is perfect by chance must not become a hair trigger.
            centre[mine], width[mine] = robust(error[later][:, mine], np.full(len(mine), 0.1))
            _, inner = robust(error[where][:, mine], np.full(len(mine), 0.1))
            width[mine] = np.fmax(width[mine], inner)
            baselines[key] = ModeBaseline(len(where), location, scale, centre, width)
        return cls(tags, tag_device, precision, baselines)

    def known(self, devices: tuple[str, ...], modes: I64) -> Bool:
        """Whether each device (w, d) is in a mode that has a baseline."""
        out = np.zeros(modes.shape, dtype=bool)
        for d, name in enumerate(devices):
            for device, mode in self.modes:
                if device == name:
                    out[:, d] |= modes[:, d] == mode
        return out

    def score(self, values: F64, modes: I64, ok: Bool, *, devices: tuple[str, ...]) -> F64:
        """(w, m, 4): zscore, residual, std_zscore, slope_zscore, within +-Z_LIMIT.

        NaN where the device's mode has no baseline or is not settled (`ok` False), and for tags without
        values.
        """
        w, m = values.shape[:2]
        out = np.full((w, m, 4), np.nan)
        if not m:
            return out
        location, scale = np.full((w, 3, m), np.nan), np.full((w, 3, m), np.nan)
        centre, width = np.full((w, m), np.nan), np.full((w, m), np.nan)
        for d, name in enumerate(devices):
            mine = np.array([i for i, device in enumerate(self.tag_device) if device == name], dtype=np.int64)
            for (device, mode), base in self.modes.items():
                rows = (
                    np.flatnonzero(ok[:, d] & (modes[:, d] == mode))
                    if device == name
                    else np.zeros(0, np.int64)
                )
                if not len(rows) or not len(mine):
                    continue
                location[np.ix_(rows, np.arange(3), mine)] = base.location[:, mine]
                scale[np.ix_(rows, np.arange(3), mine)] = base.scale[:, mine]
                centre[np.ix_(rows, mine)] = base.residual_location[mine]
                width[np.ix_(rows, mine)] = base.residual_scale[mine]
        z = _z(values[..., AVG], location[:, 0], scale[:, 0])
        out[..., 0] = z
        out[..., 1] = np.clip((_residual(z, self.precision) - centre) / width, -Z_LIMIT, Z_LIMIT)
        out[..., 2] = _z(values[..., STD], location[:, 1], scale[:, 1])
        out[..., 3] = _z(values[..., SLOPE], location[:, 2], scale[:, 2])
        return out

    def aligned(self, tags: tuple[str, ...], tag_device: tuple[str, ...]) -> TagBaseline:
        """Return the baseline for another order or set of tags; tags it never saw have none."""
        if tags == self.tags and tag_device == self.tag_device:
            return self
        at = {pair: i for i, pair in enumerate(zip(self.tags, self.tag_device, strict=True))}
        old = np.array([at.get(pair, -1) for pair in zip(tags, tag_device, strict=True)], dtype=np.int64)
        new = np.flatnonzero(old >= 0)
        precision = np.eye(len(tags))
        precision[np.ix_(new, new)] = self.precision[np.ix_(old[new], old[new])]

        def move(a: F64) -> F64:
            out = np.full((*a.shape[:-1], len(tags)), np.nan)
            out[..., new] = a[..., old[new]]
            return out

        modes = {
            key: ModeBaseline(
                b.windows, move(b.location), move(b.scale), move(b.residual_location), move(b.residual_scale)
            )
            for key, b in self.modes.items()
        }
        return TagBaseline(tags, tag_device, precision, modes)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for JSON; NaN as None."""
        return {
            "tags": list(self.tags),
            "tag_device": list(self.tag_device),
            "precision": self.precision.tolist(),
            "modes": [
                {
                    "device": device,
                    "mode": mode,
                    "windows": base.windows,
                    "location": _plain(base.location),
                    "scale": _plain(base.scale),
                    "residual_location": _plain(base.residual_location),
                    "residual_scale": _plain(base.residual_scale),
                }
                for (device, mode), base in self.modes.items()
            ],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TagBaseline:
        """Inverse of `to_dict`. Raises ValueError when keys are missing or shapes do not agree."""
        try:
            m = len(data["tags"])
            modes = {}
            for one in data["modes"]:
                arrays = [
                    _array(one[key]) for key in ("location", "scale", "residual_location", "residual_scale")
                ]
                if [a.shape for a in arrays] != [(3, m), (3, m), (m,), (m,)]:
                    raise ValueError(f"baseline of {one['device']} does not fit its {m} tags")
                modes[str(one["device"]), int(one["mode"])] = ModeBaseline(int(one["windows"]), *arrays)
            precision = np.array(data["precision"], dtype=np.float64).reshape(m, m)
            return cls(tuple(data["tags"]), tuple(data["tag_device"]), precision, modes)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a tag baseline: {error}") from None


def _plain(values: F64) -> list[Any]:
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return list(plain.tolist())


def _array(values: Any) -> F64:
    return np.array(values, dtype=np.float64)  # None becomes NaN


def _z(values: F64, location: F64, scale: F64) -> F64:
    return np.clip((values - location) / scale, -Z_LIMIT, Z_LIMIT)


def _residual(z: F64, precision: F64) -> F64:
    """Errors (w, m) of the leave-one-out predictions; a missing tag counts as normal for the others."""
    if not len(precision):
        return z
    return np.where(np.isnan(z), np.nan, np.nan_to_num(z, nan=0.0) @ precision / np.diag(precision))


def _floors(values: F64, span: F64, window_s: float) -> F64:
    """Least scale (3, m) of avg, std and slope: a thousandth of the range, else of the value's size."""
    with _quiet():
        size = np.nanmedian(np.abs(values[..., AVG]), axis=0)
        noise = np.nanmedian(values[..., STD], axis=0)
    base = np.fmax(np.where(np.isfinite(span) & (span > 0), span, size) * 1e-3, 1e-6)
    return np.stack([base, np.fmax(0.1 * noise, 0.1 * base), base / window_s])
