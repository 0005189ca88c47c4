"""Monitors for when labels come late or never."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellwatch.models.drift.chart import Chart
from cellwatch.models.drift.distribution import LEAST, Distribution
from cellwatch.models.types import F32, F64

MONITORS = ("features", "scores", "disagreement", "calibration")
_FLOORS = (0.005, 0.005, 0.002, 0.002)  # least deviation of each: smaller movements are none


@dataclass(frozen=True, slots=True)
class Shift:
    """One monitor at the end of a block, for the device that is furthest beyond its limit, or nearest it."""

    monitor: str
    device: int
    value: float  # NaN: no device had enough windows
    limit: float  # infinite while the reference is too short
    over: bool  # any device is
    column: int = -1  # of `features` and `scores`: the column that moved most


@dataclass(frozen=True, slots=True)
class Block:
    """What the monitors say of one block; `over`: those over their limit on the device that has most."""

    shifts: tuple[Shift, ...]  # in the order of MONITORS
    over: tuple[str, ...]
    device: int


class LabelFree:
    """Four monitors of d devices over blocks of windows, without a loop over devices or columns.

    - features: the largest Hellinger distance of a column to its profile
    - scores: the same for P(attack) of each model
    - disagreement: standard deviation of P(attack) between the models, mean of the block
    - calibration: confidence max(p, 1 - p) of the mean score, mean of the block, in either direction: the
      confidence of a calibrated model is its accuracy (difference of confidences, Guillory et al. 2021)

    The first `profile` windows give the bins, the blocks after it the references of the charts.
    """

    def __init__(self, devices: int, *, profile: int, block: int, reference: int, alpha: float) -> None:
        """`profile` and `block` in windows, `reference` in blocks, `alpha` for each monitor and block.

        ValueError where a profile or block has fewer than LEAST windows.
        """
        if min(profile, block) < LEAST:
            raise ValueError(f"a profile and a block have {LEAST} windows at least")
        self._profile, self._block = profile, block
        self._kept: list[tuple[F32, F32]] = []
        self._distributions: tuple[Distribution, ...] = ()  # of features and scores, once there is a profile
        self._charts = tuple(
            Chart(devices * sides, reference=reference, alpha=alpha, floor=floor)
            for floor, sides in zip(_FLOORS, (1, 1, 1, 2), strict=True)
        )

    def step(self, values: F32, scores: F32) -> list[Block]:
        """Features (w, d, f) and P(attack) of the models (w, d, m) of w windows, NaN = missing.

        What is said of the blocks that they complete. Windows are kept until then and judged together: one
        pass over a block costs a third of a pass for each of its windows.
        """
        found, done = [], 0
        while done < len(values):
            wanted = self._block if self._distributions else self._profile
            until = done + wanted - sum(len(kept) for kept, _ in self._kept)
            self._kept.append((np.array(values[done:until]), np.array(scores[done:until])))
            if until <= len(values):
                whole = tuple(np.concatenate(parts) for parts in zip(*self._kept, strict=True))
                self._kept.clear()
                if self._distributions:
                    found.append(self._judge(*whole))
                else:
                    self._distributions = tuple(Distribution(part) for part in whole)
            done = until
        return found

    def _judge(self, *whole: F32) -> Block:
        distances = [d.distance(part) for d, part in zip(self._distributions, whole, strict=True)]
        disagreement, confidence = _spread(whole[1])
        largest = [np.fmax.reduce(distance, axis=1) for distance in distances]
        values = (*largest, disagreement, np.concatenate([confidence, -confidence]))
        limits = [chart.limit for chart in self._charts]
        over = [chart.step(value) for chart, value in zip(self._charts, values, strict=True)]
        devices = len(disagreement)
        shifts = []
        for i, name in enumerate(MONITORS):
            place = _worst(values[i], limits[i])
            device = place % devices
            column = int(np.argmax(np.nan_to_num(distances[i][device]))) if i < len(distances) else -1
            value, limit = abs(float(values[i][place])), abs(float(limits[i][place]))
            shifts.append(Shift(name, device, value, limit, bool(over[i].any()), column))
        by_device = np.stack([one.reshape(-1, devices).any(axis=0) for one in over])
        most = int(np.argmax(by_device.sum(axis=0)))
        named = tuple(name for name, o in zip(MONITORS, by_device[:, most], strict=True) if o)
        return Block(tuple(shifts), named, most)


def _spread(scores: F32) -> tuple[F64, F64]:
    """Disagreement and confidence (d,) of scores (w, d, m), means over the windows; NaN without LEAST."""
    there = np.isfinite(scores)
    models = there.sum(axis=2)
    known = np.where(there, scores, 0.0)
    n = np.maximum(models, 1)
    mean = known.sum(axis=2) / n
    spread = np.sqrt(np.maximum(np.square(known).sum(axis=2) / n - mean * mean, 0))
    heard = models > 0
    windows = heard.sum(axis=0)
    whole = np.where(windows < LEAST, np.nan, windows)
    confidence = np.where(heard, np.maximum(mean, 1 - mean), 0.0)
    return np.asarray((spread * heard).sum(axis=0) / whole), np.asarray(confidence.sum(axis=0) / whole)


def _worst(values: F64, limits: F64) -> int:
    """Place of the value furthest beyond its limit, or nearest it."""
    beyond = values - limits
    return int(np.argmax(np.where(np.isnan(beyond), -np.inf, beyond)))
