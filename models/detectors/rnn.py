"""Plain recurrent network (DeepSense, Table 1: RNN)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import USUAL, Network, Training

if TYPE_CHECKING:
    import torch


class RNN(Network):
    """One Elman layer over the last windows.

    Elman, Finding Structure in Time, Cognitive Science 14, 1990.

    hidden: values of the state.
    """

    NAME: ClassVar[str] = "RNN"

    def __init__(
        self, classes: tuple[str, ...], seed: int = 0, *, hidden: int = 136, training: Training = USUAL
    ) -> None:
        super().__init__(classes, seed, hidden, training)

    def _build(self, width: int) -> torch.nn.Module:
        from torch import nn

        from cellwatch.models.detectors.layers import Recurrent

        cell = nn.RNN(width, self.hidden, batch_first=True)
        return Recurrent(cell, len(self.classes), self.training.dropout)
