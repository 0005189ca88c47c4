"""An EWAD of a cell from benign windows alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from cellwatch.models.ewad.calibration import Calibration
from cellwatch.models.ewad.devices import Devices
from cellwatch.models.ewad.ewad import Ewad
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.ewad.watch import recent_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cellwatch.models.ewad.ewad import Progress
    from cellwatch.models.types import F32, I64, Bool, FeatureWindow

HELD_BACK = 0.25  # of the time: the last part calibrates, nothing is trained on it
MOST_ROWS = 8192  # that the GANs are trained on, drawn evenly
STEPS = 300  # of the generators, whatever the rows
LEAST_ROWS = 200  # of training; with fewer there is nothing to learn
CELL = EwadSettings(
    hidden=24,
    latent=8,
    critic_steps=2,
    alpha=0.0,  # so far out in the tail that a cell may be called, the critic is the calmer of the two
    constant="keep",  # what never moved may move in an attack
    outlier_z=math.inf,  # what is rare in a benign period is benign too
)


@dataclass(frozen=True, slots=True)
class QuietRows:
    """Benign windows of a cell, n rows in the order of time."""

    values: F32  # (n, f), NaN = missing
    device: Sequence[str]  # (n,)
    window: I64  # (n,) number of the window; consecutive within one stretch

    @classmethod
    def of(cls, windows: Iterable[FeatureWindow]) -> Self:
        """The rows of windows as they came, also where the clock was set back. ValueError without any."""
        held = [w for w in windows if len(w.devices)]
        if not held:
            raise ValueError("no benign window to train an EWAD from")
        steps = np.diff([w.window_id for w in held], prepend=held[0].window_id - 1)
        number = np.cumsum(np.where(steps == 1, 1, 2))
        return cls(
            np.concatenate([w.values for w in held]),
            [device for w in held for device in w.devices],
            np.repeat(number, [len(w.devices) for w in held]).astype(np.int64),
        )

    def where(self, keep: Bool) -> QuietRows:
        """Some of the rows."""
        device = np.asarray(self.device, str)
        return QuietRows(self.values[keep], device[keep].tolist(), self.window[keep])


@dataclass(frozen=True, slots=True)
class Commissioned:
    """What a cell is watched with."""

    ewad: Ewad  # of centred rows
    devices: Devices
    quiet: Calibration  # of recent mean scores


def commission(
    rows: QuietRows,
    columns: tuple[str, ...],
    *,
    validation: QuietRows | None = None,
    settings: EwadSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Commissioned:
    """Learn each device's scale, the EWAD on that scale, and how quiet windows score.

    Without `validation` the last `HELD_BACK` of the time calibrates. ValueError says why nothing was learnt.
    """
    if validation is None:
        numbers = np.unique(rows.window)
        cut = numbers[int(len(numbers) * (1 - HELD_BACK))]
        rows, validation = rows.where(rows.window < cut), rows.where(rows.window >= cut)
    devices = Devices.fit(rows.values, rows.device)
    train, _, _ = _centred(devices, rows)
    held_back, place, window = _centred(devices, validation)
    if len(train) < LEAST_ROWS or len(held_back) < LEAST_ROWS:
        raise ValueError(
            f"{len(train)} rows to train an EWAD on and {len(held_back)} to calibrate it: "
            f"{LEAST_ROWS} of each are needed; learn for longer"
        )
    if len(train) > MOST_ROWS:
        train = train[np.linspace(0, len(train) - 1, MOST_ROWS).round().astype(np.int64)]
    settings = settings or CELL
    epochs = max(1, round(STEPS * settings.batch / len(train)))
    ewad = Ewad(replace(settings, epochs=epochs), seed)
    ewad.fit(train, columns, validation=held_back, groups=groups_of(columns), progress=progress)
    mean = recent_mean(ewad.score(held_back), place, window)
    return Commissioned(ewad, devices, Calibration.fit(mean))


def groups_of(columns: Sequence[str]) -> tuple[str, ...]:
    """The sensor group of each column: what it measures, such as `network_packet-size`, or a tag column."""
    return tuple(c if c.startswith("sensor_") else "_".join(c.split("_")[:2]) for c in columns)


def _centred(devices: Devices, rows: QuietRows) -> tuple[F32, I64, I64]:
    """Rows of known devices on the common scale, their device and window."""
    place = devices.places(rows.device)
    known = place >= 0
    return devices.centred(rows.values[known], place[known]), place[known], rows.window[known]
