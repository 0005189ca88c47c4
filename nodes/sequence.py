"""Counts of batches that were said and not heard."""

from __future__ import annotations

from collections.abc import Mapping


class Sequence:
    """Last batch number of each source; one that starts anew is a restarted link, not a loss.

    >>> heard = Sequence()
    >>> heard.lost("plc1", 7), heard.lost("plc1", 10), heard.lost("plc1", 1)
    (0, 2, 0)
    """

    def __init__(self, last: Mapping[str, int] | None = None) -> None:
        self.last = dict(last or {})

    def lost(self, source: str, number: int) -> int:
        """Take batch `number` of a source; batches missing between it and the one before."""
        expected = self.last.get(source, number - 1) + 1
        self.last[source] = number
        return max(0, number - expected)
