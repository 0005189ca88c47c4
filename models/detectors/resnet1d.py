"""Residual network over time (DeepSense, Table 1: ResNet1D)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import USUAL, Network, Training

if TYPE_CHECKING:
    import torch

BLOCKS = 2


class ResNet1D(Network):
    """A convolution and two residual blocks.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016; over time as Wang, Yan and Oates,
    Time Series Classification from Scratch, IJCNN 2017.

    hidden: channels.
    """

    NAME: ClassVar[str] = "ResNet1D"

    def __init__(
        self, classes: tuple[str, ...], seed: int = 0, *, hidden: int = 44, training: Training = USUAL
    ) -> None:
        super().__init__(classes, seed, hidden, training)

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Convolved, Residual

        first = nn.Conv1d(width, self.hidden, 3, padding=1)
        body = nn.Sequential(first, *(Residual(self.hidden) for _ in range(BLOCKS)))
        return Convolved(body, self.hidden, len(self.classes), self.training.dropout)
