# mypy: disable-error-code="attr-defined"
# asyncua re-exports its generated types without __all__.
"""The last values of a few tags, for HistoryRead (OPC UA Part 11, 6.4.3: raw values)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.history import HistoryStorageInterface

PAGE = 10_000  # values in one answer


class History(HistoryStorageInterface):
    """Up to `depth` values a node, in order of their source times."""

    def __init__(self, depth: int) -> None:
        super().__init__(PAGE)
        self.depth = depth
        self._values: dict[ua.NodeId, deque[ua.DataValue]] = {}

    async def init(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def new_historized_node(self, node_id: ua.NodeId, period: timedelta | None, count: int = 0) -> None:
        """Begin to keep a node."""
        del period, count
        self._values[node_id] = deque(maxlen=self.depth)

    def keep(self, node_id: ua.NodeId, value: ua.DataValue) -> None:
        """Take a new value; nothing happens for a node without history."""
        kept = self._values.get(node_id)
        if kept is not None:
            kept.append(value)

    async def read_node_history(
        self, node_id: ua.NodeId, start: datetime | None, end: datetime | None, nb_values: int
    ) -> tuple[list[ua.DataValue], datetime | None]:
        """Values between two times (both included), newest first if `start` is the later one or missing.

        Also the time at which the next call goes on, None if there is no more.
        """
        if node_id not in self._values:
            raise ServiceError(ua.StatusCodes.BadHistoryOperationUnsupported)
        never = ua.get_win_epoch()
        first, last = (None if t is None or t == never else t for t in (start, end))
        kept: Iterable[ua.DataValue] = self._values[node_id]
        backwards = first is None or (last is not None and first > last)
        if backwards:
            kept = reversed(self._values[node_id])
            first, last = (last, first) if first is not None else (None, last)
        found = (
            value
            for value in kept
            if (first is None or first <= _time(value)) and (last is None or _time(value) <= last)
        )
        size = min(nb_values or PAGE, PAGE)
        page = list(islice(found, size + 1))
        more = len(page) > size and start not in {None, never}
        return page[:size], page[size].SourceTimestamp if more else None


def _time(value: ua.DataValue) -> datetime:
    assert value.SourceTimestamp is not None
    return value.SourceTimestamp
