"""EWAD in the cell: each device on its own scale, its last windows together, a verdict with reasons."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.types import Level, LevelScores, Screening, Verdicts, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellwatch.models.ewad.calibration import Calibration
    from cellwatch.models.ewad.devices import Devices
    from cellwatch.models.ewad.served import ServedEwad
    from cellwatch.models.types import F32, F64, I64, Bool, FeatureWindow

EWAD = "ewad"  # the source, its detector and the rule that its violations name
RECENT = 5  # windows of a device whose mean score is judged
NOW = 0.05  # p-value of the window itself above which it is ordinary, whatever came before
NAMED = 3  # features that a verdict names
BATCH = 8192  # rows of a recording at once
FAR = 3.0  # normal standard deviations from which a feature is worth naming
TAG_COLUMN = {  # column of the tag behind a column of its device
    "sensor_bad-quality_ratio": "good_ratio",
    "sensor_staleness_max": "staleness",
    "sensor_zscore_max": "zscore",
    "sensor_zscore_avg": "zscore",
    "sensor_residual_max": "residual",
    "sensor_residual_avg": "residual",
    "sensor_std-zscore_max": "std_zscore",
    "sensor_slope-zscore_max": "slope_zscore",
}


def recent_mean(score: F64, device: I64, window: I64) -> F64:
    """Mean score (n,) of each row's device over its last `RECENT` windows, 0 (normal) for those that lack.

    Rows in any order; a window that is missing, or lacks the device, ends its row of windows.
    """
    order = np.lexsort((window, device))
    s, d, w = score[order], device[order], window[order]
    total, whole = s.copy(), np.ones(len(s), bool)
    for k in range(1, RECENT):
        whole[:k] = False
        whole[k:] &= (d[k:] == d[:-k]) & (w[k:] - w[:-k] == k)
        total[k:] += np.where(whole[k:], s[:-k], 0.0)
    out = np.empty(len(s))
    out[order] = total / RECENT
    return out


def _of_numbers(x: F32, score: F64) -> F64:
    """Scores (n,) of rows (n, f): a row without a single number has none."""
    return np.where(np.isfinite(x).any(axis=1), score, np.nan)


def attack_probability(p_value: F64, alpha: float) -> F64:
    """P(attack) behind a p-value: 0.5 at `alpha`, where an alarm begins, near 0 for ordinary windows.

    The Bayes factor in favour of normal is at least -e p ln p (Sellke, Bayarri and Berger, Calibration of p
    values, The American Statistician 2001), 1 from p = 1/e on.
    """
    return 1.0 / (1.0 + _bayes_factor(p_value) / _bayes_factor(np.array(alpha)))


def _bayes_factor(p: F64) -> F64:
    p = np.clip(p, 1e-300, 1.0 / math.e)
    factor: F64 = -math.e * p * np.log(p)
    return factor


class Watch:
    """Judges the windows of a cell.

    `quiet` knows the recent means of quiet windows. A device is SUSPICIOUS where its mean is so rare that
    quiet windows would raise at most `false_alarms_per_hour` alarms an hour of the whole cell, and the window
    itself is none of the ordinary. A device that was never commissioned has no score.
    """

    def __init__(
        self,
        schema_id: str,
        features: tuple[str, ...],
        window_s: float,
        devices: Devices,
        served: ServedEwad,
        quiet: Calibration,
        false_alarms_per_hour: float,
    ) -> None:
        if devices.centre.shape[1] != len(features):
            raise ValueError(f"{devices.centre.shape[1]} columns of devices for {len(features)} features")
        self.alpha = false_alarms_per_hour * window_s / 3600.0 / len(devices.names)
        self._schema_id, self._features = schema_id, features
        self._devices, self._served, self._quiet = devices, served, quiet
        self._recent: F64 = np.zeros((len(devices.names), RECENT))
        self._last_id = -1

    def take_over(self, other: Watch) -> None:
        """Go on where another one stops, as far as the devices are the same."""
        if self._devices.names == other._devices.names:
            self._recent, self._last_id = other._recent, other._last_id

    def judge(self, window: FeatureWindow, rows: Sequence[int] | None = None) -> Verdicts:
        """Verdicts on the devices of `rows`, all of them if None. ValueError if the schema is another.

        Every device is kept in mind, so that a replica can take any of them over at once.
        """
        if window.schema_id != self._schema_id:
            raise ValueError(f"the EWAD has schema {self._schema_id}, the window {window.schema_id}")
        n = len(window.devices)
        places = self._devices.places(window.devices)
        known = np.flatnonzero(places >= 0)
        p, far, ordinary = (
            np.full(n, np.nan),
            np.zeros((n, len(self._features)), np.float32),
            np.ones(n, bool),
        )
        if len(known):
            x = self._devices.centred(window.values[known], places[known])
            said = self._served.judge(x)
            score = _of_numbers(x, said.score)
            mean = self._mean(window.window_id, places[known], score)
            p[known] = np.where(np.isfinite(score), self._quiet.p_value(mean), np.nan)
            far[known], ordinary[known] = said.features, ~(said.p_value <= NOW)
        odd = (p < self.alpha) & ~ordinary
        screening = np.where(
            np.isnan(p), Screening.UNKNOWN, np.where(odd, Screening.SUSPICIOUS, Screening.ALLOW)
        )
        attack = attack_probability(p, self.alpha)
        mine = list(range(n)) if rows is None else list(rows)
        violations = [v for i in mine if odd[i] for v in self._reasons(window, i, int(places[i]), far[i])]
        return Verdicts(
            EWAD,
            window.window_id,
            window.end_ns,
            window.closed_ns,
            tuple(window.devices[i] for i in mine),
            screening[mine].astype(np.uint8),
            attack[mine].astype(np.float32),
            (
                LevelScores(
                    Level.L1,
                    (EWAD,),
                    ("benign", "attack"),
                    np.stack([1.0 - attack, attack], axis=1)[mine, None].astype(np.float32),
                ),
            ),
            tuple(violations),
            partial=rows is not None,
        )

    def replay(self, values: F32, devices: Sequence[str]) -> tuple[F64, Bool]:
        """p-values (w, d) of a recording (w, d, f) without gaps, and which windows `judge` would suspect."""
        w, d, f = values.shape
        places = self._devices.places(devices)
        known = np.flatnonzero(places >= 0)
        p, odd = np.full((w, d), np.nan), np.zeros((w, d), bool)
        device = np.tile(places[known], w)
        x = self._devices.centred(values[:, known].reshape(-1, f), device)
        parts = [self._served.judge(some) for some in np.array_split(x, len(x) // BATCH + 1)]
        score, own = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("score", "p_value")
        )
        score = _of_numbers(x, score)
        mean = recent_mean(np.nan_to_num(score), device, np.repeat(np.arange(w), len(known)))
        p[:, known] = np.where(np.isfinite(score), self._quiet.p_value(mean), np.nan).reshape(w, -1)
        odd[:, known] = (p[:, known] < self.alpha) & (own.reshape(w, -1) <= NOW)
        return p, odd

    def _mean(self, window_id: int, places: I64, score: F64) -> F64:
        """As `recent_mean`, window by window."""
        now = np.zeros_like(self._recent)
        if window_id == self._last_id:  # told again
            now[places] = self._recent[places]
        elif window_id == self._last_id + 1:
            now[places, :-1] = self._recent[places, 1:]
        self._last_id = window_id
        now[places, -1] = np.nan_to_num(score, posinf=0.0, neginf=0.0)
        self._recent = now
        mean: F64 = now[places].mean(axis=1)
        return mean

    def _reasons(self, window: FeatureWindow, row: int, place: int, far: F32) -> list[Violation]:
        """The features that are farthest from what the others let expect, and the range that was seen."""
        size = np.abs(np.nan_to_num(far))
        worst = [k for k in np.argsort(-size, kind="stable")[:NAMED].tolist() if size[k] >= FAR] or [
            int(size.argmax())
        ]
        out = []
        for k in worst:
            observed = float(window.values[row, k])
            low, high = float(self._devices.low[place, k]), float(self._devices.high[place, k])
            tag = self._tag(window, row, self._features[k])
            text = f"{self._features[k]} is {observed:.4g}, normally {low:.4g} to {high:.4g}"
            if low <= observed <= high:
                text = f"{self._features[k]} is {observed:.4g}, which does not fit the rest"
            text += f" ({far[k]:+.1f} standard deviations{tag and ', mostly ' + tag})"
            out.append(
                Violation(window.devices[row], self._features[k], observed, low, high, EWAD, "", message=text)
            )
        return out

    @staticmethod
    def _tag(window: FeatureWindow, row: int, feature: str) -> str:
        """The tag of the device that has most part in one of its sensor columns, "" where there is none."""
        mine = np.flatnonzero(window.tag_device == row)
        column = TAG_COLUMN.get(feature)
        if column is None or not len(mine):
            return ""
        values = window.tag_values[mine, TAG_COLUMNS.index(column)]
        size = -values if column == "good_ratio" else np.abs(values)
        return window.tags[mine[int(np.nanargmax(size))]] if np.isfinite(size).any() else ""
