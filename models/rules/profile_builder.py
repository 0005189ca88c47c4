"""Learning a profile from benign windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cellwatch.models.features.columns import STATISTICS
from cellwatch.models.rules.habits import HabitsBuilder
from cellwatch.models.rules.limits import STALENESS, Limits
from cellwatch.models.rules.profile import ModeProfile, Profile
from cellwatch.models.types import F32, Bool, FeatureWindow

# A tag that was ever silent for longer than this many windows while all was well reports on change or on an
# event; its silence says nothing, and is not judged.
EVENT_DRIVEN_WINDOWS = 5
# Not how the cell behaves but how it is set up and how busy it is (lost data shows as staleness), whom the
# tap had not heard since its start (a matter of habits), and what sensors measure (it steps when the world
# does).
UNJUDGED = frozenset(
    {
        *("sensor_tags_count", "sensor_samples_count", "industrial_new-peers_count"),
        *(f"log_data-ranges_{statistic}" for statistic in STATISTICS),
    }
)
# Least spread of a column, as a share of its largest magnitude. Traffic comes in whole numbers and moves in
# steps (a port more, another flag, a window half as large); measured values move by little.
FEATURE_FLOOR, TAG_FLOOR = 0.5, 0.05
MIN_WINDOWS = 20  # fewer say next to nothing about what is normal


def least_windows(asked: int) -> int:
    """How many windows must come of a learning period of `asked`, else it was interrupted.

    Half of them, and MIN_WINDOWS; of a short period four fifths.
    """
    return max(asked // 2, min(MIN_WINDOWS, asked * 4 // 5), 1)


class ProfileBuilder:
    """Collects benign windows in the order of time; `build` learns.

    `margin`: how far limits lie outside the range seen, in units of its spread.
    """

    def __init__(self, features: tuple[str, ...], tag_columns: tuple[str, ...], margin: float = 0.5) -> None:
        self.features = features
        self.tag_columns = tag_columns
        self.margin = margin
        self._windows: list[FeatureWindow] = []
        self._habits = HabitsBuilder()

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, window: FeatureWindow) -> None:
        """Take a window; it is kept until `build`. ValueError when it does not fit those before."""
        if self._windows:
            first = self._windows[0]
            same = window.schema_id == first.schema_id
            if not same or window.end_ns - window.start_ns != first.end_ns - first.start_ns:
                raise ValueError("windows of different schemas or lengths do not make one profile")
        self._windows.append(window)
        self._habits.add(window)

    def build(self) -> Profile:
        """Learn. ValueError without a window."""
        if not self._windows:
            raise ValueError("no benign window to learn a profile from")
        last = self._windows[-1]
        window_s = (last.end_ns - last.start_ns) / 1e9
        rows: dict[tuple[str, int], list[F32]] = {}
        tags: dict[tuple[str, int], dict[str, list[F32]]] = {}
        for w in self._windows:
            modes = w.modes or (0,) * len(w.devices)
            for i, key in enumerate(zip(w.devices, modes, strict=True)):
                rows.setdefault(key, []).append(w.values[i])
            for i, tag in enumerate(w.tags):
                owner = int(w.tag_device[i])
                if w.devices[owner] not in w.held:
                    mine = tags.setdefault((w.devices[owner], modes[owner]), {})
                    mine.setdefault(tag, []).append(w.tag_values[i])
        devices: dict[str, dict[int, ModeProfile]] = {}
        for (device, mode), values in rows.items():
            devices.setdefault(device, {})[mode] = ModeProfile(
                len(values),
                self._learn(np.stack(values), self.features, window_s, FEATURE_FLOOR),
                {
                    tag: self._learn(np.stack(some), self.tag_columns, window_s, TAG_FLOOR)
                    for tag, some in tags.get((device, mode), {}).items()
                },
            )
        return Profile(
            last.schema_id,
            self.features,
            self.tag_columns,
            window_s,
            len(self._windows),
            devices,
            self._habits.build(),
        )

    def _learn(self, values: F32, columns: tuple[str, ...], window_s: float, floor: float) -> Limits:
        """Limits of `values` (windows, c)."""
        fresh: Bool = np.array([c in STALENESS for c in columns])
        with np.errstate(invalid="ignore"):
            longest = np.max(values, axis=0, where=np.isfinite(values), initial=0.0)
        silent = fresh & (longest > EVENT_DRIVEN_WINDOWS * window_s)
        unjudged = np.array([c in UNJUDGED for c in columns]) | silent
        limits = Limits.learn(np.where(unjudged, np.float32(np.nan), values), self.margin, floor)
        # Nothing is ever too fresh, and a sample may come a window later than it used to.
        judged = fresh & np.isfinite(limits.scale)
        return replace(
            limits,
            low=np.where(judged, -np.inf, limits.low),
            high=np.where(judged, limits.high + window_s, limits.high),
        )
