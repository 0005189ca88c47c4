"""Bidirectional long short-term memory (DeepSense, Table 1: BiLSTM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch


@dataclass(eq=False, kw_only=True)
class BiLSTM(Network):
    """One LSTM layer forwards and one backwards over the last windows.

    Graves and Schmidhuber, Framewise Phoneme Classification with Bidirectional LSTM, Neural
    Networks 18, 2005.

    hidden: values of the state of each direction.
    """

    NAME: ClassVar[str] = "BiLSTM"

    hidden: int = 40

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Recurrent

        cell = nn.LSTM(width, self.hidden, batch_first=True, bidirectional=True)
        return Recurrent(cell, len(self.classes), self.training.dropout)
