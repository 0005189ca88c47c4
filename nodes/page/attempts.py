"""Wrong passwords: who guesses must wait, longer each time."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

FREE_OF_ONE, FREE_OF_ALL = 5, 20  # wrong passwords for one user, and from one address, before it must wait
LONGEST_S = 300.0
FORGET_S = 900.0
MOST = 10_000  # kept; the oldest are forgotten first


@dataclass
class _Count:
    wrong: int = 0
    last_s: float = 0.0


class Attempts:
    """Counts by address and user, and by address; waits double from 1 s to five minutes.

    A user is not locked out from an address that guessed nothing: nobody can keep an operator out from afar.
    An IPv6 address counts with its whole /64, which is one machine's to choose from. Times in s, monotonic.
    """

    def __init__(self) -> None:
        self.wrong = 0  # in all
        self._counts: dict[tuple[str, str], _Count] = {}

    def wait_s(self, address: str, user: str, now_s: float) -> float:
        """How long this one must still wait, 0 = try."""
        place = _place(address)
        return max(
            self._wait(self._counts.get((place, user)), FREE_OF_ONE, now_s),
            self._wait(self._counts.get((place, "")), FREE_OF_ALL, now_s),
        )

    def failed(self, address: str, user: str, now_s: float) -> None:
        self.wrong += 1
        for key in ((_place(address), user), (_place(address), "")):
            count = self._counts.pop(key, None)
            if count is None or now_s - count.last_s > FORGET_S:
                count = _Count()
            count.wrong, count.last_s = count.wrong + 1, now_s
            self._counts[key] = count  # the latest last
        while len(self._counts) > MOST:
            del self._counts[next(iter(self._counts))]

    def succeeded(self, address: str, user: str) -> None:
        """The count of the address stays: a password of one's own does not buy guesses at others'."""
        self._counts.pop((_place(address), user), None)

    @staticmethod
    def _wait(count: _Count | None, free: int, now_s: float) -> float:
        if count is None or count.wrong < free or now_s - count.last_s > FORGET_S:
            return 0.0
        span_s = min(2.0 ** min(count.wrong - free, 20), LONGEST_S)
        return max(0.0, count.last_s + span_s - now_s)


def _place(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(getattr(ip, "ipv4_mapped", None) or ip)
