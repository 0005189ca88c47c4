"""Convolution, then bidirectional long short-term memory (DeepSense, Table 1: BiCNNLSTM)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import USUAL, Network, Training

if TYPE_CHECKING:
    import torch

CHANNELS = 48


class BiCNNLSTM(Network):
    """A convolution over three windows feeds an LSTM forwards and one backwards.

    DeepSense names it and no more; here it is CNNLSTM with the BiLSTM of Graves and Schmidhuber, 2005.

    hidden: values of the state of each direction.
    """

    NAME: ClassVar[str] = "BiCNNLSTM"

    def __init__(
        self, classes: tuple[str, ...], seed: int = 0, *, hidden: int = 38, training: Training = USUAL
    ) -> None:
        super().__init__(classes, seed, hidden, training)

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import OverSteps, Recurrent

        cell = nn.LSTM(CHANNELS, self.hidden, batch_first=True, bidirectional=True)
        return nn.Sequential(
            OverSteps(width, CHANNELS), Recurrent(cell, len(self.classes), self.training.dropout)
        )
