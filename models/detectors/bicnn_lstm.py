"""Convolution, then bidirectional long short-term memory (DeepSense, Table 1: BiCNNLSTM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch

CHANNELS = 48


@dataclass(eq=False, kw_only=True)
class BiCNNLSTM(Network):
    """A convolution over three windows feeds an LSTM forwards and one backwards.

    DeepSense names it and no more; here it is CNNLSTM with the BiLSTM of Graves and Schmidhuber, 2005.

    hidden: values of the state of each direction.
    """

    NAME: ClassVar[str] = "BiCNNLSTM"

    hidden: int = 38

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import OverSteps, Recurrent

        cell = nn.LSTM(CHANNELS, self.hidden, batch_first=True, bidirectional=True)
        return nn.Sequential(
            OverSteps(width, CHANNELS), Recurrent(cell, len(self.classes), self.training.dropout)
        )
