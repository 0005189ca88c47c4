"""Labelled samples since the model was made: when a drift began, and of which kind it is."""

from __future__ import annotations

import numpy as np

from cellwatch.models.drift.attribution import NONE, Attribution, Rates, attribute
from cellwatch.models.drift.onset import onset
from cellwatch.models.types import F64, I64, Bool

KEPT = 50_000


class History:
    """The last KEPT labelled samples. Labels come in any order; a drift begins at a time."""

    def __init__(self, kept: int = KEPT, before: Rates = NONE) -> None:
        """`before`: what became of samples that came before all of these."""
        self._n, self._before = 0, before
        self._end_ns = np.zeros(kept, np.int64)
        self._loss = np.zeros(kept)
        self._wrong, self._attack = np.zeros(kept, np.bool_), np.zeros(kept, np.bool_)

    def __len__(self) -> int:
        return min(self._n, len(self._loss))

    @property
    def rates(self) -> Rates:
        """Of all samples, and of those before them."""
        n = len(self)
        return self._before + Rates.of(self._attack[:n], self._wrong[:n])

    def add(self, end_ns: I64, loss: F64, wrong: Bool, attack: Bool) -> None:
        """Samples (n,): end of the window, loss in nats, judged wrongly, not benign."""
        at = np.arange(self._n, self._n + len(loss)) % len(self._loss)
        self._end_ns[at], self._loss[at], self._wrong[at], self._attack[at] = end_ns, loss, wrong, attack
        self._n += len(loss)

    def cut(self, end_ns: int) -> None:
        """Forget windows that end at `end_ns` or later."""
        kept = np.flatnonzero(self._end_ns[: len(self)] < end_ns)
        for column in (self._end_ns, self._loss, self._wrong, self._attack):
            column[: len(kept)] = column[kept]
        self._n = len(kept)

    def origin(self) -> tuple[int, Attribution]:
        """End of the window with which the drift began, as estimated, and its kind. ValueError if none."""
        if not self._n:
            raise ValueError("no labelled sample yet")
        order = np.argsort(self._end_ns[: len(self)], kind="stable")
        wrong, attack = self._wrong[order], self._attack[order]
        k = onset(self._loss[order], wrong)
        kind = attribute(self._before + Rates.of(attack[:k], wrong[:k]), Rates.of(attack[k:], wrong[k:]))
        return int(self._end_ns[order[k]]), kind
