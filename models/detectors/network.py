"""What all networks share: training, early stopping, 8-bit weights, the served graph."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cellwatch.models.detectors.detector import Kind, Labelled, Progress
from cellwatch.models.detectors.grid import on_grid
from cellwatch.models.detectors.labels import ABSENT, present
from cellwatch.models.detectors.network_graph import export
from cellwatch.models.detectors.weights import class_weights
from cellwatch.models.types import F32, F64, I64

if TYPE_CHECKING:
    import torch

CHUNK = 4096  # rows judged at once
HELD_BACK = 10  # one row in so many, at the end, decides which epoch is kept if no validation rows are given


@dataclass(frozen=True, slots=True)
class Training:
    """How a network learns.

    AdamW (Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019), the learning rate rising
    and falling once (Smith and Topin, Super-Convergence, 2018).

    epochs: at most. rows: seen in all epochs together, at most; more rows mean fewer epochs. batch: rows.
    rate: highest learning rate. decay: of the weights. dropout: part of the inner values left out.
    smoothing: of the labels.
    """

    epochs: int = 30
    rows: int = 600_000
    batch: int = 256
    rate: float = 4e-3
    decay: float = 1e-3
    dropout: float = 0.15
    smoothing: float = 0.0


USUAL = Training()


@dataclass(eq=False)
class Network(ABC):
    """A network with weighted cross-entropy; of all epochs the one with the lowest validation loss is kept.

    Matrices are rounded to 8 bits per output at the end of `fit`, so what is served is what was judged.
    """

    NAME: ClassVar[str]
    KIND: ClassVar[Kind] = "sequence"

    classes: tuple[str, ...]
    seed: int = 0
    hidden: int = field(kw_only=True)
    training: Training = field(default=USUAL, kw_only=True)

    @abstractmethod
    def _build(self, width: int) -> torch.nn.Module:
        """An untrained net from x to logits (n, n_classes)."""

    def _loss(
        self, net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        from torch.nn import functional

        return functional.cross_entropy(net(x), y, weight, label_smoothing=self.training.smoothing)

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        import torch

        present(y)
        if validation is None:
            cut = len(x) - len(x) // HELD_BACK
            x, y, validation = x[:cut], y[:cut], (x[cut:], y[cut:])
        torch.set_num_threads(1)  # nets this small lose by sharing cores
        torch.manual_seed(self.seed)
        how = self.training
        self._shape = x.shape[1:]
        net = self._build(x.shape[-1])
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        balance = class_weights(y, len(self.classes))
        _start_at(net, balance * np.bincount(y, minlength=len(self.classes)))
        net.to(device)
        weight = torch.from_numpy(balance.astype(np.float32)).to(device)
        inputs, targets = torch.from_numpy(x).to(device), torch.from_numpy(np.asarray(y)).to(device)
        held = [torch.from_numpy(np.asarray(part)).to(device) for part in validation]
        epochs = max(1, min(how.epochs, how.rows // len(x)))
        steps = -(-len(x) // how.batch)
        optimiser = torch.optim.AdamW(net.parameters(), lr=how.rate, weight_decay=how.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, how.rate, total_steps=epochs * steps, pct_start=0.2
        )
        order = torch.Generator().manual_seed(self.seed)
        best, kept = float("inf"), copy.deepcopy(net.state_dict())
        for epoch in range(epochs):
            net.train()
            for rows in torch.split(torch.randperm(len(inputs), generator=order).to(device), how.batch):
                optimiser.zero_grad()
                loss = self._loss(net, inputs[rows], targets[rows], weight)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimiser.step()
                schedule.step()
            net.eval()
            with torch.no_grad():
                parts = [
                    self._loss(net, a, b, weight).item() * len(a)
                    for a, b in zip(*(torch.split(h, CHUNK) for h in held), strict=True)
                ]
            if progress:
                progress((epoch + 1) / epochs)
            if sum(parts) < best:
                best, kept = sum(parts), copy.deepcopy(net.state_dict())
        net.load_state_dict(kept)
        self._net = net.cpu().eval()
        with torch.no_grad():
            for p in self._net.parameters():
                if p.ndim > 1:
                    p.copy_(torch.from_numpy(on_grid(p.numpy(), tuple(range(1, p.ndim)))))

    def predict_proba(self, x: F32) -> F32:
        import torch

        torch.set_num_threads(1)
        with torch.no_grad():
            parts = [
                torch.softmax(self._net(part), dim=1) for part in torch.split(torch.from_numpy(x), CHUNK)
            ]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def to_onnx(self) -> bytes:
        return export(self._net, self._shape)


def _start_at(net: torch.nn.Module, mass: F64) -> None:
    """The last layer begins with how much each class weighs, so that the first steps are not spent on it."""
    import torch

    head = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
    prior = np.log(np.maximum(mass / mass.sum(), np.exp(ABSENT)))
    with torch.no_grad():
        head.bias.copy_(torch.from_numpy(prior.astype(np.float32)))
