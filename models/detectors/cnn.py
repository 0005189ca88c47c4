"""Convolutional network (DeepSense, Table 1: CNN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch


@dataclass(eq=False, kw_only=True)
class CNN(Network):
    """Two convolutions over time, each with batch normalisation.

    LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE 86, 1998;
    over time as Wang, Yan and Oates, Time Series Classification from Scratch, IJCNN 2017.

    hidden: channels of each convolution.
    """

    NAME: ClassVar[str] = "CNN"

    hidden: int = 72

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Convolved

        body = nn.Sequential(
            nn.Conv1d(width, self.hidden, 3, padding=1),
            nn.BatchNorm1d(self.hidden),
            nn.ReLU(),
            nn.Conv1d(self.hidden, self.hidden, 3, padding=1),
            nn.BatchNorm1d(self.hidden),
            nn.ReLU(),
        )
        return Convolved(body, self.hidden, len(self.classes), self.training.dropout)
