"""Convolution, then long short-term memory (DeepSense, Table 1: CNNLSTM)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import USUAL, Network, Training

if TYPE_CHECKING:
    import torch

CHANNELS = 48


class CNNLSTM(Network):
    """A convolution over three windows feeds an LSTM.

    Sainath et al., Convolutional, Long Short-Term Memory, Fully Connected Deep Neural Networks, ICASSP 2015.

    hidden: values of the state.
    """

    NAME: ClassVar[str] = "CNNLSTM"

    def __init__(
        self, classes: tuple[str, ...], seed: int = 0, *, hidden: int = 64, training: Training = USUAL
    ) -> None:
        super().__init__(classes, seed, hidden, training)

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import OverSteps, Recurrent

        cell = nn.LSTM(CHANNELS, self.hidden, batch_first=True)
        return nn.Sequential(
            OverSteps(width, CHANNELS), Recurrent(cell, len(self.classes), self.training.dropout)
        )
