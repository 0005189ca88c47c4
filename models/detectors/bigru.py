"""Bidirectional gated recurrent unit (DeepSense, Table 1: BiGRU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch


@dataclass(eq=False, kw_only=True)
class BiGRU(Network):
    """One GRU layer forwards and one backwards over the last windows.

    Cho et al., EMNLP 2014, in both directions as Schuster and Paliwal, Bidirectional Recurrent Neural
    Networks, IEEE Transactions on Signal Processing 45, 1997.

    hidden: values of the state of each direction.
    """

    NAME: ClassVar[str] = "BiGRU"

    hidden: int = 48

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Recurrent

        cell = nn.GRU(width, self.hidden, batch_first=True, bidirectional=True)
        return Recurrent(cell, len(self.classes), self.training.dropout)
