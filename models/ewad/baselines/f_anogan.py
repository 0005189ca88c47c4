"""f-AnoGAN: a WGAN-GP and an encoder, judged in data and critic (Schlegl et al., MedIA 2019, 54)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from cellwatch.models.ewad.baselines.gans import single
from cellwatch.models.ewad.baselines.inputs import Inputs
from cellwatch.models.ewad.baselines.one_class import normal_rows, threshold_of
from cellwatch.models.ewad.partitions import partition
from cellwatch.models.ewad.report import Report
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.ewad.training import device, train
from cellwatch.models.types import F32, F64, Bool

KAPPA = 1.0  # weight of the error in the critic's features, as published
CHUNK = 1024  # rows judged at once


class FAnoGan:
    """A(x) = MSE(x, G(E(x))) + kappa MSE(f(x), f(G(E(x)))), f the last hidden layer of the critic.

    The generator learns from the critic alone, the encoder from ||x - G(E(x))||^2.
    """

    NEEDS_LABELS: ClassVar[bool] = False
    report: Report | None = None

    def __init__(self, settings: EwadSettings, seed: int = 0) -> None:
        self._settings = replace(single("WGAN-GP", settings), reconstruction=0.0, partition="random")
        self._seed = seed
        self.threshold = 0.0

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        """Learn from normal rows (n, f)."""
        learn, held = normal_rows(x, y)
        self._inputs = Inputs.fit(learn, columns)
        rows = self._inputs(learn)
        parts = partition(rows, self._settings, self._seed, None)
        self._columns = torch.from_numpy(parts.columns[0])  # all of them, in the order of the net
        self._gan = train(rows, parts, self._settings, self._seed).gan.eval()
        self.threshold = threshold_of(self.score(held))

    def score(self, x: F32) -> F64:
        """float64 (n,), high = anomalous."""
        rows = torch.from_numpy(self._inputs(x))[:, self._columns]
        with torch.no_grad():
            found = [self._judge(part.to(device())).cpu() for part in torch.split(rows, CHUNK)]
        return np.asarray(torch.cat(found).numpy(), dtype=np.float64)

    def _judge(self, rows: Tensor) -> Tensor:
        real = rows.unsqueeze(0)
        made = self._gan.generator(self._gan.encoder(real))
        seen, thought = (self._gan.critic.hidden(x)[-1] for x in (real, made))
        out: Tensor = (real - made).square().mean(dim=2) + KAPPA * (seen - thought).square().mean(dim=2)
        return out[0]
