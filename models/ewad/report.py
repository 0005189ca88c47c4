"""How the training of an `Ewad` went."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from cellwatch.models.types import F32


@dataclass(frozen=True, slots=True)
class Report:
    """Members are numbered 0..I-1; losses are (epochs, I), those of a member's last attempt, NaN where none.

    diverged: members that were left out. attempts: seeds that each member used, 1 if all went well.
    depths: layers of the members that are left. training_bytes: weights, gradients, moments and rows;
    bytes: what is served. outliers: training rows left out of the n.
    """

    diverged: tuple[int, ...]
    attempts: tuple[int, ...]
    depths: tuple[int, ...]
    alpha: float
    beta: float
    rows: int
    outliers: int
    training_bytes: int
    bytes: int
    critic: F32
    generator: F32
    reconstruction: F32

    def to_json(self) -> dict[str, Any]:
        """All of it; a NaN is null."""
        lists = {k: v.astype(object) for k, v in asdict(self).items() if isinstance(v, np.ndarray)}
        for losses in lists.values():
            losses[losses != losses] = None  # noqa: PLR0124 - NaN
        return asdict(self) | {k: v.tolist() for k, v in lists.items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """What `to_json` gave; TypeError for an unknown or missing name."""
        losses = {k: np.array(value[k], dtype=np.float32) for k in ("critic", "generator", "reconstruction")}
        others: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return cls(**(others | losses))
