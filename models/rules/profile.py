"""What is normal: limits of every feature of every device and tag, learned from benign windows."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cellwatch.models.types import F32, F64, FeatureWindow

VERSION = 1
FEW_WINDOWS = 20
# A tag that was ever silent for longer than this many windows while all was well reports on change or on an
# event; its silence says nothing, and is not judged.
EVENT_DRIVEN_WINDOWS = 5
# How the cell is set up and how busy it is, not how it behaves; lost data shows as staleness.
STALENESS = frozenset({"staleness", "sensor_staleness_max"})
UNJUDGED = frozenset({"sensor_tags_count", "sensor_samples_count"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Normal range of c columns. `scale` (> 0) is the unit in which an excess is counted.

    A column without any finite value in the benign period is NaN in all three: it is never judged.
    """

    low: F64  # (c,)
    high: F64  # (c,)
    scale: F64  # (c,)

    @classmethod
    def learn(cls, values: F32 | F64, margin: float) -> Limits:
        """Range of `values` (windows, c), widened by `margin` times its spread on both sides.

        The range of n windows is left by the next one with probability 2 / (n + 1) in every column, so
        the margin grows by 1 + FEW_WINDOWS / n when there was little to learn from.
        The spread has a floor of 5 % of the largest magnitude (and of 0.05 in absolute terms), so
        that a column that never moved does not turn a rounding error into an alarm.
        """
        x = np.asarray(values, dtype=np.float64)
        seen = np.isfinite(x).any(axis=0)
        low = np.min(x, axis=0, where=np.isfinite(x), initial=np.inf)
        high = np.max(x, axis=0, where=np.isfinite(x), initial=-np.inf)
        low[~seen] = high[~seen] = np.nan
        scale = np.maximum(high - low, np.maximum(0.05 * np.maximum(np.abs(low), np.abs(high)), 0.05))
        room = margin * (1 + FEW_WINDOWS / max(len(x), 1)) * scale
        return cls(low - room, high + room, scale)

    def excess(self, values: F32 | F64) -> F64:
        """Distance outside the range in units of `scale`, >= 0; 0 where either side is NaN."""
        out = np.maximum(self.low - values, values - self.high) / self.scale
        return np.where(out > 0, out, 0.0)

    def to_dict(self, columns: tuple[str, ...]) -> dict[str, list[float]]:
        return {
            c: [round(float(v), 9) for v in (self.low[i], self.high[i], self.scale[i])]
            for i, c in enumerate(columns)
            if math.isfinite(self.scale[i])
        }

    @classmethod
    def from_dict(cls, data: dict[str, list[float]], columns: tuple[str, ...]) -> Limits:
        rows = np.array([data.get(c, [math.nan] * 3) for c in columns], dtype=np.float64).reshape(-1, 3)
        return cls(rows[:, 0], rows[:, 1], rows[:, 2])


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits of a cell, bound to one feature schema."""

    schema_id: str
    features: tuple[str, ...]
    tag_columns: tuple[str, ...]
    devices: dict[str, Limits]
    tags: dict[str, Limits]
    windows: int = 0  # benign windows it was learned from

    def with_network(self, windows: list[FeatureWindow], margin: float = 0.5) -> Profile:
        """The same cell on other traffic: network limits from `windows`, everything else as it is."""
        network = np.array([not f.startswith("sensor_") for f in self.features])
        rows: dict[str, list[F32]] = {}
        for w in windows:
            for i, device in enumerate(w.devices):
                rows.setdefault(device, []).append(w.values[i])
        blank = np.full(len(self.features), np.nan)
        devices = {}
        for device, values in rows.items():
            new = Limits.learn(np.stack(values), margin)
            old = self.devices.get(device, Limits(blank, blank, blank))
            devices[device] = Limits(
                np.where(network, new.low, old.low),
                np.where(network, new.high, old.high),
                np.where(network, new.scale, old.scale),
            )
        return replace(self, devices=devices)

    def to_json(self) -> str:
        """Readable JSON with a checksum over everything else."""
        body: dict[str, Any] = {
            "version": VERSION,
            "schema_id": self.schema_id,
            "windows": self.windows,
            "features": list(self.features),
            "tag_columns": list(self.tag_columns),
            "devices": {d: x.to_dict(self.features) for d, x in sorted(self.devices.items())},
            "tags": {t: x.to_dict(self.tag_columns) for t, x in sorted(self.tags.items())},
        }
        return json.dumps({"checksum": _checksum(body), **body}, indent=1)

    @classmethod
    def from_json(cls, text: str, name: str = "profile") -> Profile:
        """Read it back. ValueError on another version or a checksum that does not fit."""
        try:
            body = json.loads(text)
            checksum, version = body.pop("checksum"), body["version"]
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{name}: not a Cellwatch profile ({error})") from None
        if version != VERSION:
            raise ValueError(
                f"{name}: profile version {version}, this release reads {VERSION}: commission anew"
            )
        if checksum != _checksum(body):
            raise ValueError(f"{name}: checksum does not fit: the file was changed or damaged")
        features, columns = tuple(body["features"]), tuple(body["tag_columns"])
        return cls(
            body["schema_id"],
            features,
            columns,
            {d: Limits.from_dict(x, features) for d, x in body["devices"].items()},
            {t: Limits.from_dict(x, columns) for t, x in body["tags"].items()},
            body["windows"],
        )


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class ProfileBuilder:
    """Collects benign windows; `build` learns the limits. Windows are kept as arrays, not copies."""

    def __init__(self, features: tuple[str, ...], tag_columns: tuple[str, ...], margin: float = 0.5) -> None:
        self.features = features
        self.tag_columns = tag_columns
        self.margin = margin
        self._windows: list[FeatureWindow] = []

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, window: FeatureWindow) -> None:
        self._windows.append(window)

    def build(self) -> Profile:
        """Learn. ValueError without a window."""
        if not self._windows:
            raise ValueError("no benign window to learn a profile from")
        devices: dict[str, list[F32]] = {}
        tags: dict[str, list[F32]] = {}
        for w in self._windows:
            for i, device in enumerate(w.devices):
                devices.setdefault(device, []).append(w.values[i])
            for i, tag in enumerate(w.tags):
                if w.devices[w.tag_device[i]] not in w.held:
                    tags.setdefault(tag, []).append(w.tag_values[i])
        last = self._windows[-1]
        window_s = (last.end_ns - last.start_ns) / 1e9
        silent_s = EVENT_DRIVEN_WINDOWS * window_s

        def learn(rows: list[F32], columns: tuple[str, ...]) -> Limits:
            values = np.stack(rows)
            for j, column in enumerate(columns):
                staleness = column in STALENESS
                if column in UNJUDGED or (staleness and np.nanmax(values[:, j], initial=0.0) > silent_s):
                    values[:, j] = np.nan
            limits = Limits.learn(values, self.margin)
            # Nothing is ever too fresh, and a sample may come a window later than it used to.
            fresh = np.array([c in STALENESS for c in columns]) & np.isfinite(limits.scale)
            low = np.where(fresh, -1e9, limits.low)
            return replace(limits, low=low, high=np.where(fresh, limits.high + window_s, limits.high))

        return Profile(
            last.schema_id,
            self.features,
            self.tag_columns,
            {d: learn(rows, self.features) for d, rows in devices.items()},
            {t: learn(rows, self.tag_columns) for t, rows in tags.items()},
            len(self._windows),
        )
