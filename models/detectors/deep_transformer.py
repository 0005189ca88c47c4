"""Deep transformer encoder (DeepSense, Table 1: DeepTransformer)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch

LAYERS = 4
HEADS = 4


@dataclass(eq=False, kw_only=True)
class DeepTransformer(Network):
    """Four layers of self-attention over the last windows.

    Vaswani et al., Attention Is All You Need, NeurIPS 2017; normalised first as Xiong et al., On Layer
    Normalization in the Transformer Architecture, ICML 2020.

    hidden: values per window, a multiple of 4.
    """

    NAME: ClassVar[str] = "DeepTransformer"

    hidden: int = 32

    def _build(self, width: int) -> torch.nn.Module:
        from cellwatch.models.detectors.layers import Attentive

        return Attentive(width, self.hidden, LAYERS, HEADS, len(self.classes), self.training.dropout)
