"""Bidirectional gated recurrent unit (DeepSense, Table 1: BiGRU)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import USUAL, Network, Training

if TYPE_CHECKING:
    import torch


class BiGRU(Network):
    """One GRU layer forwards and one backwards over the last windows.

    Cho et al., EMNLP 2014, in both directions as Schuster and Paliwal, Bidirectional Recurrent Neural
    Networks, IEEE Transactions on Signal Processing 45, 1997.

    hidden: values of the state of each direction.
    """

    NAME: ClassVar[str] = "BiGRU"

    def __init__(
        self, classes: tuple[str, ...], seed: int = 0, *, hidden: int = 48, training: Training = USUAL
    ) -> None:
        super().__init__(classes, seed, hidden, training)

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Recurrent

        cell = nn.GRU(width, self.hidden, batch_first=True, bidirectional=True)
        return Recurrent(cell, len(self.classes), self.training.dropout)
