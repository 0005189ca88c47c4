"""Training of all members together, and what happens to one that diverges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cellwatch.models.ewad.batches import Batches
from cellwatch.models.ewad.gan import Gan, Trainer
from cellwatch.models.ewad.partitions import Partitions
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.types import F32

ATTEMPTS = 3  # seeds that a member gets before it is left out
WILD = 1e12  # a loss beyond this has diverged as well as one that is no number
DECAY_FROM = 0.5  # of all epochs: from then on the learning rate falls towards 0

Progress = Callable[[float], None]  # called with the part done, 0..1


@dataclass(frozen=True, slots=True)
class Trained:
    """The GANs of the members that learnt, `members` their numbers, and how it went for all I of them.

    `attempts[i]`: seeds used. `critic`, `generator`, `reconstruction`: mean loss per epoch, (epochs, I), of
    the last attempt. `bytes`: of weights, gradients, moments and rows, at the peak of training.
    """

    gan: Gan
    members: tuple[int, ...]
    attempts: tuple[int, ...]
    critic: F32
    generator: F32
    reconstruction: F32
    bytes: int


def device() -> torch.device:
    """Where nets are trained and rows are judged: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def depths(settings: EwadSettings) -> list[int]:
    """Layers of each member. The depths take turns; members are then sorted by them, which `Stack` needs."""
    return sorted(settings.depths[i % len(settings.depths)] for i in range(settings.members))


def train(
    x: F32, parts: Partitions, settings: EwadSettings, seed: int, progress: Progress | None = None
) -> Trained:
    """Train one GAN per member on complete rows (n, w), all in one go.

    A member whose loss is no number any more does not touch the others; it starts again from another seed,
    and is left out after ATTEMPTS. Weights, rows and noise of a member depend on the seed, its number and the
    attempt only, so that together or alone it learns the same. ValueError if every member diverged.
    """
    here = device()
    layers = depths(settings)
    gan = Gan(layers, parts.columns.shape[1], settings).to(here)
    rows = torch.from_numpy(x).to(here)
    losses = np.full((3, settings.epochs, settings.members), np.nan, dtype=np.float32)
    left, attempts, most = list(range(settings.members)), np.zeros(settings.members, dtype=np.int64), 0
    for attempt in range(ATTEMPTS):
        some = Gan([layers[i] for i in left], parts.columns.shape[1], settings)
        seeds = [_generator(seed, i, attempt) for i in left]
        for at, generator in enumerate(seeds):
            some.start(at, generator)
        some.to(here)
        course, used = _course(some, rows, parts, left, seeds, settings, progress)
        losses[:, :, left] = course
        attempts[left] += 1
        most = max(most, used)
        sound = (np.abs(course) < WILD).all(axis=(0, 1)) & some.finite().cpu().numpy()  # NaN is not below
        fit = [at for at in range(len(left)) if sound[at]]
        if fit:
            gan.put(some.select(fit), [left[at] for at in fit])
        left = [i for i, well in zip(left, sound, strict=True) if not well]
        if not left:
            break
    members = [i for i in range(settings.members) if i not in left]
    if not members:
        raise ValueError(f"every member diverged, each from {ATTEMPTS} seeds: lower the learning rate")
    critic, maker, reconstruction = losses
    return Trained(
        gan.select(members), tuple(members), tuple(attempts.tolist()), critic, maker, reconstruction, most
    )


def _generator(seed: int, member: int, attempt: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, member, attempt]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def _course(
    gan: Gan,
    x: Tensor,
    parts: Partitions,
    members: Sequence[int],
    seeds: Sequence[torch.Generator],
    how: EwadSettings,
    progress: Progress | None,
) -> tuple[F32, int]:
    """All epochs of some members: losses (3, epochs, members) and bytes used."""
    here = x.device
    batches = Batches(x, parts, members)
    trainer = Trainer(gan, how, torch.from_numpy(parts.mask[list(members)]).to(here).unsqueeze(1))
    steps = -(-len(x) // how.batch)
    losses = np.full((3, how.epochs, len(members)), np.nan, dtype=np.float32)
    for epoch in range(how.epochs):
        trainer.rate(how.rate * min(1.0, (1 - epoch / how.epochs) / (1 - DECAY_FROM)))
        index, z, share = batches.draw(seeds, steps, how)
        sums = torch.zeros(3, len(members), device=here)
        for step in range(steps):
            real = torch.split(batches.rows(index[:, step].flatten(1)), how.batch, dim=1)
            fake = torch.split(trainer.fake(z[:, step, :-1].flatten(1, 2)), how.batch, dim=1)
            for k in range(how.critic_steps):
                sums[0] += trainer.critic(real[k], fake[k], share[:, step, k]) / how.critic_steps
            made, error = trainer.maker(real[-1], z[:, step, -1])
            sums[1] += made
            sums[2] += error
        losses[:, epoch] = (sums / steps).cpu().numpy()
        if progress:
            progress((epoch + 1) / how.epochs)
        if not (np.abs(losses[:, epoch]) < WILD).all(axis=0).any():
            break
    weights = sum(p.numel() for p in gan.parameters())
    return losses, 4 * (4 * weights + batches.source.numel())  # weight, gradient and two moments
