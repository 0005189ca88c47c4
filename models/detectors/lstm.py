"""Long short-term memory (DeepSense, Table 1: LSTM)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import USUAL, Network, Training

if TYPE_CHECKING:
    import torch


class LSTM(Network):
    """One LSTM layer over the last windows.

    Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 9, 1997.

    hidden: values of the state.
    """

    NAME: ClassVar[str] = "LSTM"

    def __init__(
        self, classes: tuple[str, ...], seed: int = 0, *, hidden: int = 68, training: Training = USUAL
    ) -> None:
        super().__init__(classes, seed, hidden, training)

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Recurrent

        cell = nn.LSTM(width, self.hidden, batch_first=True)
        return Recurrent(cell, len(self.classes), self.training.dropout)
