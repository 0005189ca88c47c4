"""Gated recurrent unit (DeepSense, Table 1: GRU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch


@dataclass(eq=False, kw_only=True)
class GRU(Network):
    """One GRU layer over the last windows.

    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014.

    hidden: values of the state.
    """

    NAME: ClassVar[str] = "GRU"

    hidden: int = 80

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Recurrent

        cell = nn.GRU(width, self.hidden, batch_first=True)
        return Recurrent(cell, len(self.classes), self.training.dropout)
