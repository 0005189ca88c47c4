"""Long short-term memory (DeepSense, Table 1: LSTM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch


@dataclass(eq=False, kw_only=True)
class LSTM(Network):
    """One LSTM layer over the last windows.

    Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 9, 1997.

    hidden: values of the state.
    """

    NAME: ClassVar[str] = "LSTM"

    hidden: int = 68

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Recurrent

        cell = nn.LSTM(width, self.hidden, batch_first=True)
        return Recurrent(cell, len(self.classes), self.training.dropout)
