"""Convolution, then long short-term memory (DeepSense, Table 1: CNNLSTM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch

CHANNELS = 48


@dataclass(eq=False, kw_only=True)
class CNNLSTM(Network):
    """A convolution over three windows feeds an LSTM.

    Sainath et al., Convolutional, Long Short-Term Memory, Fully Connected Deep Neural Networks, ICASSP 2015.

    hidden: values of the state.
    """

    NAME: ClassVar[str] = "CNNLSTM"

    hidden: int = 64

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import OverSteps, Recurrent

        cell = nn.LSTM(CHANNELS, self.hidden, batch_first=True)
        return nn.Sequential(
            OverSteps(width, CHANNELS), Recurrent(cell, len(self.classes), self.training.dropout)
        )
