"""REST: curves of the record."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, HTTPException, Query

from cellwatch.nodes.page.rest_models import EPOCH_END_S, Problem, SeriesOut
from cellwatch.nodes.page.rest_session import FOREIGN, NOT_IN, PREFIX, Answers, sees

if TYPE_CHECKING:
    from cellwatch.nodes.history import History

MOST_SPAN_S = 31 * 86_400.0
SPAN_S = 3600.0  # without a beginning
MOST_WAITING = 20  # a page asks for several curves at once
Moment = Annotated[float | None, Query(ge=0, le=EPOCH_END_S, allow_inf_nan=False)]
Word = Annotated[str, Query(min_length=1, max_length=200)]
ANSWERS: Answers = {
    **NOT_IN,
    **FOREIGN,
    400: {"model": Problem, "description": "No such column, no number, or too long a time."},
    404: {"model": Problem, "description": "There is no record yet."},
    503: {"model": Problem, "description": "Too many read the record."},
}


class Record:
    """The record of the cell, opened with the first question."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._history: History | None = None

    def series(
        self, measurement: str, column: str, where: dict[str, str], span_ns: tuple[int, int], points: int
    ) -> SeriesOut:
        """HTTPException 400 or 404."""
        try:
            found = self._open().series(measurement, column, where, *span_ns, points)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        except OSError as error:
            raise HTTPException(404, f"no record: {error.strerror or error}") from None
        return SeriesOut(
            time_s=(found.time_ns / 1e9).tolist(), low=found.low.tolist(), high=found.high.tolist()
        )

    def _open(self) -> History:
        from cellwatch.nodes.history import History  # brings pyarrow, which a page can do without

        if not self._folder or not Path(self._folder).is_dir():
            raise HTTPException(404, "there is no record yet")
        self._history = self._history or History(self._folder)
        return self._history


def history_router(folder: str) -> APIRouter:
    """`folder`: the record of the cell, "" = there is none."""
    router = APIRouter(prefix=PREFIX, tags=["history"], dependencies=[Depends(sees)], responses=ANSWERS)
    record = Record(folder)
    one_by_one = CapacityLimiter(1)  # a long range takes memory and a core; others need the threads

    @router.get("/history")
    async def history(
        measurement: Word,
        column: Word,
        where: Annotated[list[str] | None, Query(max_length=16, description="key=value of a tag")] = None,
        start_s: Moment = None,
        end_s: Moment = None,
        points: Annotated[int, Query(ge=1, le=5000)] = 1000,
    ) -> SeriesOut:
        """One numeric field over time, at most `points` stretches; without times the last hour."""
        end = time.time() if end_s is None else end_s
        start = max(end - SPAN_S, 0.0) if start_s is None else start_s
        if not 0 < end - start <= MOST_SPAN_S:
            raise HTTPException(400, f"start_s must lie before end_s, by at most {MOST_SPAN_S:.0f} s")
        pairs = [text.partition("=") for text in where or []]
        if any(not (key and equals) for key, equals, _ in pairs):
            raise HTTPException(400, "where: key=value")
        if one_by_one.statistics().tasks_waiting >= MOST_WAITING:
            raise HTTPException(503, "too many read the record; try again")
        span_ns = round(start * 1e9), round(end * 1e9)
        ask = partial(record.series, measurement, column, {k: v for k, _, v in pairs}, span_ns, points)
        return await to_thread.run_sync(ask, limiter=one_by_one)

    return router
