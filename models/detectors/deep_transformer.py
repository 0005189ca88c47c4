"""Deep transformer encoder (DeepSense, Table 1: DeepTransformer)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import USUAL, Network, Training

if TYPE_CHECKING:
    import torch

LAYERS = 4
HEADS = 4


class DeepTransformer(Network):
    """Four layers of self-attention over the last windows.

    Vaswani et al., Attention Is All You Need, NeurIPS 2017; normalised first as Xiong et al., On Layer
    Normalization in the Transformer Architecture, ICML 2020.

    hidden: values per window, a multiple of 4.
    """

    NAME: ClassVar[str] = "DeepTransformer"

    def __init__(
        self, classes: tuple[str, ...], seed: int = 0, *, hidden: int = 32, training: Training = USUAL
    ) -> None:
        super().__init__(classes, seed, hidden, training)

    def _build(self, width: int) -> torch.nn.Module:
        from cellwatch.models.detectors.layers import Attentive

        return Attentive(width, self.hidden, LAYERS, HEADS, len(self.classes), self.training.dropout)
