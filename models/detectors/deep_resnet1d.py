"""Deep residual network over time (DeepSense, Table 1: DeepResNet1D)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch

BLOCKS = 6


@dataclass(eq=False, kw_only=True)
class DeepResNet1D(Network):
    """A pointwise convolution and six residual blocks.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016; over time as Wang, Yan and Oates,
    Time Series Classification from Scratch, IJCNN 2017.

    hidden: channels.
    """

    NAME: ClassVar[str] = "DeepResNet1D"

    hidden: int = 32

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Convolved, Residual

        first = nn.Conv1d(width, self.hidden, 1)
        body = nn.Sequential(first, *(Residual(self.hidden) for _ in range(BLOCKS)))
        return Convolved(body, self.hidden, len(self.classes), self.training.dropout)
