"""Autoencoder (DeepSense, Table 1: AutoEncoder)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from cellwatch.models.detectors.detector import Kind
from cellwatch.models.detectors.network import Network

if TYPE_CHECKING:
    import torch

    from cellwatch.models.detectors.layers import Reconstructing


@dataclass(eq=False, kw_only=True)
class AutoEncoder(Network):
    """An autoencoder of benign windows whose code and errors a small head classifies.

    Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, Science 313, 2006. A
    table of labelled classes asks more of it than one error: here the code and the error of each column
    together feed the head. Encoder, decoder and head learn at once; only rows of the first class ("benign")
    must be reconstructed, so the errors stay news about everything else.

    hidden: values of the head's hidden layer. code: of the code. share: weight of the reconstruction (mean
    squared error) beside the cross-entropy.
    """

    NAME: ClassVar[str] = "AutoEncoder"
    KIND: ClassVar[Kind] = "window"

    hidden: int = 150
    code: int = 24
    share: float = 0.5

    def _build(self, width: int) -> Reconstructing:
        from cellwatch.models.detectors.layers import Reconstructing

        return Reconstructing(width, self.code, self.hidden, len(self.classes), self.training.dropout)

    def _loss(
        self, net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        _, error = cast("Reconstructing", net).residual(x)
        benign = (y == 0).float().unsqueeze(1)
        amiss = (benign * error.square()).sum() / (benign.sum() * x.shape[1]).clamp_min(1.0)
        loss: torch.Tensor = super()._loss(net, x, y, weight) + self.share * amiss
        return loss
