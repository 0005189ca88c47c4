"""What declared rules look at: the tags and features they name, of the last windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.rules.tag_names import NONE, TagNames, missing

if TYPE_CHECKING:
    from cellwatch.models.rules.functions import Name
    from cellwatch.models.rules.language import Condition
    from cellwatch.models.types import F64, I64, FeatureWindow

COLUMN = {name: i for i, name in enumerate(TAG_COLUMNS)}
SCHEMA = default_schema()
FEATURE = {name: i for i, name in enumerate(SCHEMA.names)}


class Signals:
    """The last windows of every name that some conditions use. One window is one `push`.

    Windows that do not follow one another start the history anew: a span never reaches over a hole.
    """

    def __init__(self, conditions: Sequence[Condition]) -> None:
        names = dict.fromkeys(name for c in conditions for name in c.names)
        self._conditions = tuple(conditions)
        self._tag_at = {n.text: i for i, n in enumerate(n for n in names if not n.feature)}
        self._feature_at = {f: i for i, f in enumerate(dict.fromkeys(n.feature for n in names if n.feature))}
        self._columns = np.array([FEATURE[f] for f in self._feature_at], dtype=np.int64)
        self._last = -1
        self._tags: tuple[str, ...] | None = None
        self._place: I64 = np.zeros(0, dtype=np.int64)
        self.devices: tuple[str, ...] = ()
        self.seen = 0  # consecutive windows so far
        self.window_s = 0.0
        self._depth = self._end = 0  # rows that are kept; place of the next one in the buffers
        self._tag_rows: F64 = np.zeros((0, 0, len(TAG_COLUMNS)))
        self._feature_rows: F64 = np.zeros((0, 0, 0))

    def push(self, window: FeatureWindow) -> I64 | None:
        """Take a window. If the devices changed: where each of them stood before, -1 for a new one.

        ValueError for a window of another schema.
        """
        if window.schema_id != SCHEMA.schema_id:
            raise ValueError(f"rules need schema {SCHEMA.schema_id}, not {window.schema_id}")
        window_s = (window.end_ns - window.start_ns) / 1e9
        if window_s != self.window_s:
            self.window_s = window_s
            self._depth = 1 + max((c.before(window_s) for c in self._conditions), default=0)
            self._tag_rows = np.full((2 * self._depth, len(self._tag_at), len(TAG_COLUMNS)), np.nan)
            self._feature_rows = np.full((2 * self._depth, len(self._columns), len(self.devices)), np.nan)
            self.seen = 0
        if window.window_id != self._last + 1:
            self.seen = 0
        self._last = window.window_id
        if window.tags != self._tags:
            tags = TagNames(window)
            self._tags = window.tags
            self._place = np.array([tags.at(tag) for tag in self._tag_at], dtype=np.int64)
        moved = self._move(window.devices) if window.devices != self.devices else None
        # Rows lie in a buffer of twice the depth, so that the last ones are always one block.
        if self.seen == 0:
            self._end = 0
        elif self._end == 2 * self._depth:
            self._tag_rows[: self._depth] = self._tag_rows[self._depth :]
            self._feature_rows[: self._depth] = self._feature_rows[self._depth :]
            self._end = self._depth
        row = self._end
        known = self._place >= 0
        self._tag_rows[row] = np.nan
        if known.any():  # before the first tags come, windows have none
            self._tag_rows[row, known] = window.tag_values[self._place[known]]
        self._feature_rows[row] = window.values[:, self._columns].T
        self._end += 1
        self.seen += 1
        return moved

    def series(self, name: Name, column: str, rows: int) -> F64:
        """Last `rows` windows of a tag's column (rows, 1) or of a feature (rows, devices), NaN = missing."""
        first = self._end - min(rows, self._end)
        if not name.feature:
            found = self._tag_rows[first : self._end, self._tag_at[name.text], COLUMN[column], None]
        else:
            found = self._feature_rows[first : self._end, self._feature_at[name.feature]]
            if name.device:
                at = self.devices.index(name.device) if name.device in self.devices else -1
                found = found[:, [at]] if at >= 0 else np.full((len(found), 1), np.nan)
        short = rows - len(found)
        return np.concatenate([np.full((short, found.shape[1]), np.nan), found]) if short else found

    def owner(self, window: FeatureWindow, name: Name) -> str:
        """Device of a tag in a window, "" if the window has no such tag."""
        place = self._place[self._tag_at[name.text]]
        return window.devices[window.tag_device[place]] if place >= 0 else ""

    def lacking(self, condition: Condition) -> list[str]:
        """Why the tags that a condition names cannot be told in the newest window; empty if all can."""
        places = {n.text: int(self._place[self._tag_at[n.text]]) for n in condition.names if not n.feature}
        return [missing(name, at) for name, at in places.items() if at <= NONE]

    def unknown(self, condition: Condition) -> list[str]:
        """The same of its tags, and of the devices whose features it names."""
        devices = dict.fromkeys(n.device for n in condition.names if n.device)
        absent = [f"no device is called '{d}'" for d in devices if d not in self.devices]
        return self.lacking(condition) + absent

    def _move(self, devices: tuple[str, ...]) -> I64:
        before = {name: i for i, name in enumerate(self.devices)}
        moved = np.array([before.get(name, -1) for name in devices], dtype=np.int64)
        rows = self._feature_rows
        padded = np.concatenate([rows, np.full((*rows.shape[:2], 1), np.nan)], axis=2)
        self._feature_rows = padded[:, :, moved]
        self.devices = devices
        return moved
