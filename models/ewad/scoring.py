"""From raw rows to scores: all that is served, in one module (EWAD-IIoT, section 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from cellwatch.models.ewad.calibration import p_value
from cellwatch.models.ewad.gan import TINY, Gan
from cellwatch.models.ewad.preprocessing import Preprocessing
from cellwatch.models.ewad.settings import EwadSettings

FLOOR = 0.05  # of the median error: columns that are rebuilt better than this are not measured more finely


class Outputs(NamedTuple):
    """The outputs of the graph for n rows, I members and f columns."""

    score: Tensor  # (n,)
    p_value: Tensor  # (n,)
    parts: Tensor  # (n, I)
    features: Tensor  # (n, f)


class Scoring(torch.nn.Module):
    """S(x) = 1/I sum(alpha log ||x - G(E(x))||^2 - beta C(x)), every term standardised on normal rows.

    Eq. 12 takes C(x) as it is, but a critic is high on normal data. A missing number is rebuilt from the
    others and not counted; a member that sees no number at all of a row abstains with the usual 0.
    """

    columns: Tensor  # (I, w) of the preprocessed columns
    mask: Tensor  # (I, 1, w)
    slots: Tensor  # (f, m) places in (I * w) that hold a raw column; I * w is a place that is always 0
    error: Tensor  # (I, 1, w) root mean square error of normal rows
    weight: Tensor  # (I, 1, w) of a squared standardised error
    usual: Tensor  # (2, 2, I): mean and deviation of the two terms of each member
    share: Tensor  # (2,) alpha and beta
    whole: Tensor  # (2,) mean and deviation of S
    knots: Tensor  # (k,), as in `Calibration`
    shares: Tensor  # (k,)
    tail: Tensor  # (2,)

    def __init__(
        self,
        settings: EwadSettings,
        prepare: Preprocessing,
        gan: Gan,
        **learnt: Tensor,
    ) -> None:
        """`learnt`: the tensors named above."""
        super().__init__()
        self.settings = settings
        self.prepare, self.gan = prepare, gan
        for name, value in learnt.items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Outputs:
        """Of raw rows (n, f)."""
        terms, residual = self.terms(x)
        each = (self.share.reshape(2, 1, 1) * terms).sum(dim=0)
        mean, deviation = self.whole[0], self.whole[1]
        if self.settings.combination == "mean":
            parts = (each - mean) / deviation / each.shape[1]
            score = parts.sum(dim=1)
        else:
            parts = (each - mean) / deviation
            score = parts.amin(dim=1)
        flat = residual.transpose(0, 1).flatten(1)
        flat = torch.cat([flat, torch.zeros_like(flat[:, :1])], dim=1)
        held = (self.slots < flat.shape[1] - 1).sum(dim=1).clamp(min=1)
        features = flat[:, self.slots.flatten()].reshape(-1, *self.slots.shape).sum(dim=2) / held
        return Outputs(score, p_value(score, self.knots, self.shares, self.tail), parts, features)

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised error and critic terms (2, n, I), and residuals (I, n, w) in normal errors."""
        raw, residual = self.raw(x)
        seen = raw[2] > 0
        mean, deviation = self.usual[:, :1], self.usual[:, 1:]
        return torch.where(seen, (raw[:2] - mean) / deviation, 0.0), residual

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log error, -C(x) and how many numbers a member sees, (3, n, I), and the residuals as in `terms`."""
        scaled, present = self.prepare(x)
        view, seen = self._views(scaled) * self.mask, self._views(present) * self.mask
        z = self.gan.invert(view, seen)
        residual = (view - self.gan.generator(z)) * seen / self.error
        count = seen.sum(dim=2)
        squares = (residual * residual * self.weight).sum(dim=2) / count.clamp(min=1.0)
        critic = -self.gan.critic(view).squeeze(2)
        return torch.stack([torch.log(squares + TINY).T, critic.T, count.T]), residual

    def _views(self, x: Tensor) -> Tensor:
        """(I, n, w) of (n, columns)."""
        return x[:, self.columns.flatten()].reshape(-1, *self.columns.shape).transpose(0, 1)

    @classmethod
    def from_state(cls, state: dict[str, Tensor], settings: EwadSettings, depths: Sequence[int]) -> Self:
        """From a `state_dict`; KeyError or RuntimeError if something is missing or does not fit."""

        def below(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}

        gan = Gan(depths, state["columns"].shape[1], settings)
        gan.load_state_dict(below("gan"))
        own = {k: v for k, v in state.items() if "." not in k}
        made = cls(settings, Preprocessing(**below("prepare")), gan, **own)
        made.load_state_dict(state)
        return made.eval()
