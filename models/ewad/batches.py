"""Rows and noise for the steps of one epoch, drawn for every member on its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cellwatch.models.ewad.partitions import Partitions
from cellwatch.models.ewad.settings import EwadSettings


class Batches:
    """Training rows (n, w) on a device, as the members see them."""

    def __init__(self, x: Tensor, parts: Partitions, members: Sequence[int]) -> None:
        columns = torch.from_numpy(parts.columns[list(members)]).to(x.device)
        alike = columns.shape[1] == x.shape[1] and bool((columns == columns[0].sort().values).all())
        mask = torch.from_numpy(parts.mask[list(members)]).to(x.device)
        self.source = x if alike else torch.cat([x[:, own] * m for own, m in zip(columns, mask, strict=True)])
        self._width = columns.shape[1]
        self._rows = [
            torch.from_numpy(parts.rows[i]) + (0 if alike else at * len(x)) for at, i in enumerate(members)
        ]

    def rows(self, index: Tensor) -> Tensor:
        """(members, batch, w) for `index` (members, batch), a part of what `draw` gave."""
        return self.source.index_select(0, index.flatten()).view(*index.shape, self._width)

    def draw(self, seeds: Sequence[torch.Generator], steps: int, how: EwadSettings) -> list[Tensor]:
        """For an epoch of `steps`, each with `critic_steps` of the critics and one of the generators.

        Indices (members, steps, critic_steps + 1, batch), noise (..., latent) and shares (..., 1) in 0..1.
        Drawn on the CPU, so that every device sees the same.
        """
        shape = (steps, how.critic_steps + 1, how.batch)
        drawn = [
            (
                own[torch.randint(len(own), shape, generator=seed)],
                torch.randn(*shape, how.latent, generator=seed),
                torch.rand(*shape, 1, generator=seed),
            )
            for own, seed in zip(self._rows, seeds, strict=True)
        ]
        return [torch.stack(part).to(self.source.device) for part in zip(*drawn, strict=True)]
