"""Connections of the page's server: none may keep others out by being slow, or by being many."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0  # for the head of a request, from its first byte or the connection on
MOST_OF_ONE, MOST = 60, 190  # connections of one address, which may stand for many people, and of all


class PromptConnection(H11Protocol):
    """uvicorn's own, which would wait for a request for ever.

    Where there are too many, the newcomer takes the place of the one that has asked nothing for longest.
    """

    _deadline: asyncio.TimerHandle | None = None
    since_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since_s = self.loop.time()
        self._wait()
        others = [c for c in self.connections if isinstance(c, PromptConnection) and c is not self]
        of_one = [c for c in others if c.host == self.host]
        for several, most in ((of_one, MOST_OF_ONE), (others, MOST)):
            if len(several) >= most:
                min(several, key=lambda c: (not c.idle, c.since_s)).transport.abort()
                return

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.idle:
            self._wait_no_more()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    @property
    def host(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_S, self._give_up)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.idle:
            self.transport.close()
