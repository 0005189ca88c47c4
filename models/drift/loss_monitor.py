"""Stage 1: the loss over windows of labelled samples (DeepSense, 3.3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellwatch.models.drift.chart import Chart
from cellwatch.models.types import F64, Bool

FLOORS = (0.005, 0.002)  # least deviation of the loss (nats) and of the errors; smaller movements are none
OPEN = (np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class LossWindow:
    """W labelled samples."""

    end: int  # labelled samples since the start, those of this window among them
    loss: float  # mean, in nats
    limit: float  # of the loss; infinite while the reference is too short
    errors: float  # share judged wrongly, 0..1
    errors_limit: float
    over: bool  # one of the two is over its limit
    reference: bool  # the window belongs to the reference period


class LossMonitor:
    """Mean loss and share of errors of W labelled samples against limits from the reference period.

    The errors stand beside the paper's loss because a model that is unsure near its boundary pays little for
    a boundary that moves a little: its errors double before its loss has moved by one deviation.
    """

    def __init__(
        self, window: int, reference: int, alpha: float, ceiling: tuple[float, float] = OPEN
    ) -> None:
        """Windows of `window` samples, `reference` of them in the reference period. ValueError.

        `ceiling`: of the limits of loss and errors, see `Chart`.
        """
        if window < 1:
            raise ValueError("a window has one sample at least")
        self._window = window
        self._chart = Chart(2, reference=reference, alpha=alpha, floor=FLOORS, ceiling=ceiling)
        self._sums = np.zeros(2)
        self._n = self._end = 0

    @property
    def room(self) -> int:
        """Samples that the window still wants, at least 1."""
        return self._window - self._n

    @property
    def limits(self) -> tuple[float, float]:
        """Of the mean loss and of the share of errors of the next window."""
        loss, errors = self._chart.limit.tolist()
        return loss, errors

    def step(self, loss: F64, wrong: F64 | Bool) -> LossWindow | None:
        """At most `room` losses (n,), finite, and whether the samples were judged wrongly (n,).

        The window, if they complete it.
        """
        self._sums += loss.sum(), wrong.sum()
        self._n += len(loss)
        if self._n < self._window:
            return None
        means = self._sums / self._n
        self._end += self._n
        self._sums[...], self._n = 0, 0
        limits, learning = self._chart.limit, bool(self._chart.learning.any())
        over = bool(self._chart.step(means).any())
        (mean, errors), (limit, errors_limit) = means.tolist(), limits.tolist()
        return LossWindow(self._end, mean, limit, errors, errors_limit, over, learning and not over)
