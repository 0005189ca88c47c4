"""What the page hears of the cell: one stream of server-sent events for all browsers, and the trends.

GET /api/v1/live                                   sections that changed, at most `PERIOD_S`; all at the begin
GET /api/v1/trend?tags=A&tags=B&span_s=300         least and greatest value of each stretch of time
GET /api/v1/bands?devices=A&span_s=600             when a device was not called ALLOW
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from cellwatch.nodes.page.scene import Scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cellwatch.models.types import F64
    from cellwatch.nodes.page.live_cell import LiveCell

PERIOD_S = 0.25  # 4 Hz
ALIVE_S = 1.0  # how often a stream asks whether its session still stands
MOST_STREAMS = 4  # of a session: a browser has six connections to a host, and buttons need one
TOO_MANY = b"event: enough\ndata: {}\n\n"  # said to the oldest stream before it ends
MOST_SPAN_S, MOST_POINTS, MOST_TAGS = 600.0, 1200, 24


class LiveStream:
    """Makes each message once, whatever the number of browsers, and none while nobody looks."""

    def __init__(self, scene: Scene, period_s: float = PERIOD_S) -> None:
        self._scene, self._period_s = scene, period_s
        self._readers = 0
        self._streams: dict[str, list[object]] = {}  # of each session, the oldest first
        self._task: asyncio.Task[None] | None = None
        self._ticks = 0
        self._message = b""  # of this tick
        self._next: asyncio.Event = asyncio.Event()

    @property
    def readers(self) -> int:
        return self._readers

    async def messages(self, alive: Callable[[], bool], session: str = "") -> AsyncIterator[bytes]:
        """First everything, then what is news; a reader that was too slow gets everything again.

        Ends when `alive()` says no, or when the `session` ("" = none) has opened `MOST_STREAMS` others since.
        """
        self._readers += 1
        me, streams = object(), self._streams.setdefault(session, [])
        streams.append(me)
        if session:
            del streams[:-MOST_STREAMS]
        if self._task is None or self._task.done():
            self._scene.changes()  # nobody has asked for a while
            self._task = asyncio.create_task(self._run())
        try:
            message, at, asked_s = _event(self._scene.whole()), self._ticks, time.monotonic()
            while True:
                yield message
                if self._ticks == at:
                    await self._next.wait()
                if time.monotonic() - asked_s >= ALIVE_S:
                    asked_s = time.monotonic()
                    if not alive():
                        return
                    if me not in streams:
                        yield TOO_MANY
                        return
                missed, at = self._ticks != at + 1, self._ticks
                message = _event(self._scene.whole()) if missed else self._message
        finally:
            self._readers -= 1
            if me in streams:
                streams.remove(me)
            if not streams:
                self._streams.pop(session, None)

    async def _run(self) -> None:
        while self._readers:
            await asyncio.sleep(self._period_s)
            if news := self._scene.changes():
                self._message = _event(news)
                self._ticks += 1
                event, self._next = self._next, asyncio.Event()
                event.set()


def live_router(live: LiveCell, access: Any) -> APIRouter:
    """Routes of the stream and the trends of `live`; `access.who(request)` refuses who has no session."""
    router = APIRouter(prefix="/api/v1", tags=["live"])
    stream = LiveStream(Scene(live))

    @router.get("/live", response_class=StreamingResponse, include_in_schema=False)
    async def follow(request: Request) -> StreamingResponse:
        session = access.who(request)
        return StreamingResponse(
            stream.messages(lambda: bool(access.alive(session)), session.key),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @router.get("/trend")
    async def trend(
        request: Request,
        tags: Annotated[list[str], Query(max_length=MOST_TAGS)],
        span_s: Annotated[float, Query(gt=0, le=MOST_SPAN_S)] = 300.0,
        points: Annotated[int, Query(ge=1, le=MOST_POINTS)] = 300,
    ) -> Response:
        """For each known tag `times` (s since the epoch), `low` and `high`; null = no sample."""
        access.who(request)
        found = live.trend(tags, span_s, points)
        curves = {
            tag: {"times": times.tolist(), "low": _column(low), "high": _column(high)}
            for tag, (times, low, high) in found.items()
        }
        return Response(json.dumps(curves, separators=(",", ":")), media_type="application/json")

    @router.get("/bands")
    async def bands(
        request: Request,
        devices: Annotated[list[str] | None, Query(max_length=200)] = None,
        span_s: Annotated[float, Query(gt=0, le=86_400)] = 600.0,
    ) -> dict[str, list[list[float | str]]]:
        """For each device the stretches (start, end, decision) in which it was SUSPICIOUS or BLOCK."""
        access.who(request)
        wanted = [d.name for d in live.devices()] if devices is None else devices
        return {
            device: [[b.start_s, b.end_s, b.decision.name] for b in live.bands(device, span_s)]
            for device in wanted
        }

    return router


def _event(sections: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(sections, separators=(",", ":"), allow_nan=False).encode() + b"\n\n"


def _column(values: F64) -> list[float | None]:
    rounded = np.round(values, 6)
    return [None if math.isnan(v) else v for v in rounded.tolist()]
