"""All monitors of one level of one model, and the decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.drift.decision import Decision
from cellwatch.models.drift.label_free import Block, LabelFree
from cellwatch.models.drift.loss_monitor import OPEN, LossMonitor, LossWindow
from cellwatch.models.types import F32, F64, Bool, DriftState

if TYPE_CHECKING:
    from cellwatch.models.drift.sequential import Sequential


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """The same for every stream."""

    window: int = 500  # W: labelled samples of a window
    consecutive: int = 3  # M: windows over the limit that raise the alarm
    reference: int = 20  # windows, and blocks, of the reference period
    alpha: float = 0.01  # chance of a false signal: of the loss in a window, of a monitor in a block
    profile: int = 500  # windows of the cell that the distributions are learnt from
    block: int = 250  # windows of the cell in a block of the label-free monitors


class DriftWatch:
    """Watches one model that does not change; after a change, `restart` begins a new reference."""

    def __init__(
        self,
        settings: DriftSettings | None = None,
        *,
        devices: int = 1,
        seed: int = 0,
        ceiling: tuple[float, float] = OPEN,
    ) -> None:
        """`seed`: of KSWIN; `ceiling`: of the limits of loss and errors. ValueError for what cannot be."""
        self._settings, self._ceiling = settings or DriftSettings(), ceiling
        self._devices, self._seed = devices, seed
        self.restart()

    def restart(self) -> None:
        """The model was changed: forget everything."""
        it = self._settings
        self._loss = LossMonitor(it.window, it.reference, it.alpha, self._ceiling)
        self._sequential: Sequential | None = None  # made for the first label
        self._decision = Decision(it.consecutive)
        self._label_free = LabelFree(
            self._devices, profile=it.profile, block=it.block, reference=it.reference, alpha=it.alpha
        )
        self._fired: frozenset[str] = frozenset()
        self.windows: list[LossWindow] = []  # of the last `labelled`
        self.blocks: list[Block] = []  # of the last `unlabelled`

    @property
    def state(self) -> DriftState:
        """What the monitors come to."""
        return self._decision.state

    @property
    def reasons(self) -> tuple[str, ...]:
        """Monitors that raised the last alarm."""
        return self._decision.reasons

    @property
    def limits(self) -> tuple[float, float]:
        """Of the mean loss and the share of errors, infinite while the reference is too short."""
        return self._loss.limits

    def labelled(self, loss: F64, wrong: F64 | Bool) -> int | None:
        """Losses (n,) of labelled samples, finite, and whether they were judged wrongly (n,), in their order.

        Samples that depend on each other, such as the devices of one window, are given as one, their mean.

        How many of them it took to raise the alarm, None without one; those after it are not judged.
        """
        if not np.isfinite(loss).all():
            raise ValueError("a loss is not finite: leave samples without a label out")
        if self._sequential is None:
            from cellwatch.models.drift.sequential import Sequential  # river is large, and for labels alone

            self._sequential = Sequential(self._seed)
        self.windows, done = [], 0
        while done < len(loss):
            part = slice(done, done + self._loss.room)
            self._fired |= self._sequential.step(loss[part])
            window = self._loss.step(loss[part], wrong[part])
            done += len(loss[part])
            if window is None:
                break
            self.windows.append(window)
            fired, self._fired = self._fired, frozenset()
            if self._decision.labelled(window.over, fired):
                return done
        return None

    def unlabelled(self, values: F32, scores: F32) -> bool:
        """Features (w, d, f) and P(attack) (w, d, m) of w windows of the cell, NaN = missing.

        True if they raise the alarm.
        """
        self.blocks = self._label_free.step(values, scores)
        raised = [self._decision.unlabelled(block.over) for block in self.blocks]  # each must be told
        return any(raised)
