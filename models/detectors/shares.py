"""Which replica judges which device: rendezvous hashing (Thaler and Ravishankar, IEEE/ACM ToN 6(1), 1998)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def owner(device: str, replicas: Iterable[int]) -> int:
    """The replica with the highest hash together with the device.

    Replicas that know the same members agree without a word; when one goes, only its devices move.

    >>> owner("PLC1", [1])
    1
    """
    return max(replicas, key=lambda r: hashlib.sha256(f"{r}:{device}".encode()).digest())


class Members:
    """Replicas that are alive: heard of within `silence_s`. One never heard of counts until then."""

    def __init__(self, own: int, replicas: int, now_s: float, silence_s: float = 2.2) -> None:
        self.own = own
        self.silence_s = silence_s
        self._heard = dict.fromkeys(range(1, replicas + 1), now_s)
        self._owners: dict[tuple[str, tuple[int, ...]], int] = {}

    def hear(self, replica: int, now_s: float, *, active: bool) -> None:
        """A sign of life; one that is not at work gives its devices away at once."""
        if replica != self.own:
            self._heard[replica] = now_s if active else float("-inf")

    def alive(self, now_s: float) -> tuple[int, ...]:
        """Numbers of all replicas that are at work; oneself is among them."""
        return tuple(
            sorted(r for r, t in self._heard.items() if r == self.own or now_s - t <= self.silence_s)
        )

    def mine(self, devices: tuple[str, ...], now_s: float) -> list[int]:
        """Rows of the devices that this replica judges."""
        alive = self.alive(now_s)
        if len(alive) == 1:
            return list(range(len(devices)))
        if len(self._owners) > 100_000:
            self._owners.clear()
        for device in devices:
            if (device, alive) not in self._owners:
                self._owners[device, alive] = owner(device, alive)
        return [i for i, d in enumerate(devices) if self._owners[d, alive] == self.own]
