"""Deep SVDD: a network that maps normal rows into a small sphere (Ruff et al., ICML 2018)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cellwatch.models.ewad.baselines.inputs import Inputs
from cellwatch.models.ewad.baselines.one_class import normal_rows, threshold_of
from cellwatch.models.ewad.report import Report
from cellwatch.models.types import F32, F64, Bool

HIDDEN = (128, 64)
CODE = 32
EPOCHS = 100
BATCH = 128
RATE = 1e-3
DECAY = 1e-6
APART = 0.1  # no coordinate of the centre lies nearer to 0, where the trivial solution is


class DeepSvdd:
    """One-class Deep SVDD (eq. 4). Layers have no bias, or everything could collapse into the centre."""

    NEEDS_LABELS: ClassVar[bool] = False
    report: Report | None = None

    def __init__(self, seed: int = 0, epochs: int = EPOCHS) -> None:
        self._seed = seed
        self._epochs = epochs
        self.threshold = 0.0

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """Learn from normal rows (n, f)."""
        learn, held = normal_rows(x, y)
        self._inputs = Inputs.fit(learn, columns)
        rows = torch.from_numpy(self._inputs(learn))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._network = _network(rows.shape[1])
            with torch.no_grad():
                centre = self._network(rows).mean(dim=0)
            self._centre = torch.where(centre.abs() < APART, torch.where(centre < 0, -APART, APART), centre)
            optimiser = torch.optim.Adam(self._network.parameters(), RATE, weight_decay=DECAY)
            for _ in range(self._epochs):
                for batch in torch.split(torch.randperm(len(rows)), BATCH):
                    loss = self._distance(rows[batch]).mean()
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
        self.threshold = threshold_of(self.score(held))

    def score(self, x: F32) -> F64:
        """float64 (n,), squared distance to the centre."""
        with torch.no_grad():
            return np.asarray(self._distance(torch.from_numpy(self._inputs(x))).numpy(), dtype=np.float64)

    def _distance(self, rows: Tensor) -> Tensor:
        out: Tensor = ((self._network(rows) - self._centre) ** 2).sum(dim=1)
        return out


def _network(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip((width, *HIDDEN), (*HIDDEN, CODE), strict=True):
        layers += [nn.Linear(fan_in, fan_out, bias=False), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers[:-1])
