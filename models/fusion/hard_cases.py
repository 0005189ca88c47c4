"""Hard cases: windows on which RuleSense and the models disagree, a bounded sample of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.types import HardCase, Screening

if TYPE_CHECKING:
    from cellwatch.models.types import FeatureWindow, FusedWindow


def hard_cases(fused: FusedWindow, features: FeatureWindow) -> list[HardCase]:
    """The conflicts of one window, with the features they were decided on."""
    if not any(v.conflict for v in fused.verdicts):
        return []
    row = {d: i for i, d in enumerate(features.devices)}
    return [
        HardCase(
            fused.window_id,
            fused.end_ns,
            v.device,
            features.schema_id,
            features.values[row[v.device]].copy(),
            Screening.SUSPICIOUS if "rules" in v.agreeing else Screening.ALLOW,
            v.rules_confidence,
            v.probability,
            v.category,
        )
        for v in fused.verdicts
        if v.conflict and v.device in row
    ]


class HardCases:
    """Says where each case is kept: the newest half in a ring, of all older ones a uniform sample.

    `capacity` slots, at least 2. Slots below `capacity // 2` are the ring; what leaves it is offered to the
    reservoir in the others (Vitter 1985, algorithm R): a night of one conflict cannot wash out a year.
    """

    def __init__(self, capacity: int, seed: int = 0, seen: int = 0) -> None:
        if capacity < 2:
            raise ValueError("hard cases need room for at least 2")
        self.ring = capacity // 2
        self.capacity = capacity
        self.seen = seen  # cases so far
        self._seed = seed

    def place(self) -> tuple[int, int | None]:
        """For the next case: its slot, and the slot that the case there moves to (None: it is dropped)."""
        slot = self.seen % self.ring
        older = self.seen - self.ring  # number of the case that leaves the ring, < 0 while there is room
        self.seen += 1
        if older < 0:
            return slot, None
        room = self.capacity - self.ring
        if older < room:
            return slot, self.ring + older
        # one draw for each number: the same after a restart
        k = int(np.random.default_rng((self._seed, older)).integers(older + 1))
        return slot, self.ring + k if k < room else None
