"""Plain recurrent network (DeepSense, Table 1: RNN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch


@dataclass(eq=False, kw_only=True)
class RNN(Network):
    """One Elman layer over the last windows.

    Elman, Finding Structure in Time, Cognitive Science 14, 1990.

    hidden: values of the state.
    """

    NAME: ClassVar[str] = "RNN"

    hidden: int = 136

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Recurrent

        cell = nn.RNN(width, self.hidden, batch_first=True)
        return Recurrent(cell, len(self.classes), self.training.dropout)
