"""The GANs of all members with their encoders, and one step of their training (EWAD-IIoT, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cellwatch.models.ewad.layers import Stack
from cellwatch.models.ewad.settings import EwadSettings

BETAS = (0.5, 0.9)  # of Adam, as Gulrajani et al. use it for WGAN-GP (NIPS 2017)
PROBE = 0.01  # how far ahead the curvature is looked up, in the latent space
FLAT = 1e-6  # curvature below which the next step may as well be long
STRIDE = 0.5  # of the step that the curvature allows
TINY = 1e-12


class Gan(torch.nn.Module):
    """Generators G, critics C and encoders E of members with `depths`, on `width` columns each."""

    def __init__(self, depths: Sequence[int], width: int, settings: EwadSettings) -> None:
        super().__init__()
        hidden, latent = settings.hidden, settings.latent
        self.width, self.settings = width, settings
        self.generator = Stack(depths, latent, hidden, width, settings.generator_slope)
        self.critic = Stack(depths, width, hidden, 1, settings.critic_slope)
        self.encoder = Stack(depths, width, hidden, latent, settings.critic_slope)

    @property
    def stacks(self) -> tuple[Stack, Stack, Stack]:
        return self.generator, self.critic, self.encoder

    def start(self, member: int, generator: torch.Generator) -> None:
        """Draw all weights of one member anew."""
        for stack in self.stacks:
            stack.start(member, generator)

    def finite(self) -> Tensor:
        """(members,) bool: whether all weights of a member are numbers."""
        return self.generator.finite() & self.critic.finite() & self.encoder.finite()

    def select(self, members: Sequence[int]) -> Gan:
        """A copy with some of the members, in ascending order."""
        made = Gan([self.generator.depths[i] for i in members], self.width, self.settings)
        for mine, theirs in zip(made.stacks, self.stacks, strict=True):
            mine.put(theirs.select(members), range(len(members)))
        return made.to(self.generator.weights[0].device)

    def put(self, other: Gan, members: Sequence[int]) -> None:
        """Take over what `other` has learnt for some of the members; the opposite of `select`."""
        for mine, theirs in zip(self.stacks, other.stacks, strict=True):
            mine.put(theirs, members)

    def invert(self, x: Tensor, mask: Tensor) -> Tensor:
        """G^-1: the latent of x (members, n, width), NaN nowhere; `mask` (members, n or 1, width) 0 or 1.

        "latent" goes on from the encoder's answer by `latent_steps` of gradient descent on ||x - G(z)||^2,
        the step of each row from the curvature at its start. Of all z on the way the best is given.
        """
        z: Tensor = self.encoder(x)
        if self.settings.inverse == "encoder":
            return z

        def look(z: Tensor) -> tuple[Tensor, Tensor]:
            y, g = self.generator.with_gradient(z, weigh=lambda y: (y - x) * mask)
            return (((y - x) * mask) ** 2).sum(dim=2, keepdim=True), g

        best, (least, g) = z, look(z)
        length = (g * g).sum(dim=2, keepdim=True).sqrt().clamp(min=TINY)
        bend = (look(z - PROBE / length * g)[1] - g).square().sum(dim=2, keepdim=True).sqrt()
        step = STRIDE * PROBE / bend.clamp(min=FLAT)
        for _ in range(self.settings.latent_steps):
            z = z - step * g
            error, g = look(z)
            best, least = torch.where(error < least, z, best), torch.where(error < least, error, least)
        return best


class Trainer:
    """One optimiser for the critics, one for generators and encoders; members never touch each other.

    Losses are (members,) tensors. The critic descends on E[C(fake)] - E[C(real)] + penalty: Algorithm 1
    prints the two expectations the other way round, which would push its critic the wrong way.
    """

    def __init__(self, gan: Gan, settings: EwadSettings, mask: Tensor) -> None:
        """`mask` (members, 1, width): 1 where a column counts."""
        self.gan, self.how = gan, settings
        self.mask, self.widths = mask, mask.sum(dim=(1, 2))
        self.padded = bool((mask == 0).any())
        self._critic = _optimiser(gan.critic.parameters(), settings)
        self._maker = _optimiser([*gan.generator.parameters(), *gan.encoder.parameters()], settings)

    def rate(self, rate: float) -> None:
        """Set the learning rate."""
        for optimiser in (self._critic, self._maker):
            for group in optimiser.param_groups:
                group["lr"] = rate

    @torch.no_grad()
    def fake(self, z: Tensor) -> Tensor:
        """Made rows (members, n, width)."""
        return self._masked(self.gan.generator(z))

    def critic(self, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
        """One step of the critics; rows are (members, n, width), 0 where no column counts.

        `share` (members, n, 1) in 0..1 says where between real and made the penalty looks.
        """
        critic, how = self.gan.critic, self.how
        if how.kind == "wgan-gp":
            y_real, y_fake, squared = critic.between(real, fake, share, self.mask if self.padded else None)
            penalty = ((squared + TINY).sqrt() - 1).square().mean(dim=1)
            loss = (y_fake - y_real).mean(dim=(1, 2)) + how.penalty * penalty
        else:
            y_real, y_fake = critic(torch.cat([real, fake], dim=1)).split(real.shape[1], dim=1)
            if how.kind == "gan":
                loss = (functional.softplus(-y_real) + functional.softplus(y_fake)).mean(dim=(1, 2))
            else:
                loss = (y_fake - y_real).mean(dim=(1, 2))
        _descend(self._critic, loss)
        if how.kind == "wgan":
            with torch.no_grad():
                for p in critic.parameters():
                    p.clamp_(-how.clip, how.clip)
        return loss.detach()

    def maker(self, real: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """One step of generators and encoders; the adversarial loss and the reconstruction error."""
        gan, how = self.gan, self.how
        gan.critic.requires_grad_(False)
        code = gan.encoder(real)
        if how.reconstruction > 0:
            fake, rebuilt = gan.generator(torch.cat([z, code], dim=1)).split(real.shape[1], dim=1)
            weight = how.reconstruction
        else:
            fake = gan.generator(z)
            gan.generator.requires_grad_(False)  # this part of the loss is the encoder's alone
            rebuilt, weight = gan.generator(code), 1.0
            gan.generator.requires_grad_(True)
        y = gan.critic(self._masked(fake))
        loss = (functional.softplus(-y) if how.kind == "gan" else -y).mean(dim=(1, 2))
        error = self._masked(rebuilt - real).square().mean(dim=1).sum(dim=1) / self.widths
        _descend(self._maker, loss + weight * error)
        gan.critic.requires_grad_(True)
        return loss.detach(), error.detach()

    def _masked(self, x: Tensor) -> Tensor:
        return x * self.mask if self.padded else x


def _optimiser(parameters: Iterable[torch.nn.Parameter], settings: EwadSettings) -> torch.optim.Optimizer:
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=settings.rate, betas=BETAS, fused=True)
    return torch.optim.RMSprop(parameters, lr=settings.rate, foreach=True)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
