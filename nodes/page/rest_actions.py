"""REST: what people do. The role is the desk's to check; every POST carries the token of its session."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter

from cellwatch.nodes.page.rest_models import (
    AlarmIn,
    ArmIn,
    CommentIn,
    Done,
    Label,
    LabelDone,
    MoveIn,
    Problem,
    ServiceIn,
    ShelveIn,
    TargetIn,
)
from cellwatch.nodes.page.rest_session import FOREIGN, NOT_IN, PREFIX, UNREADABLE, Answers, Changing

if TYPE_CHECKING:
    from cellwatch.nodes.page.desk import Desk

ANSWERS: Answers = {
    **NOT_IN,
    **FOREIGN,
    **UNREADABLE,
    409: {"model": Problem, "description": "The cell refuses, and says why."},
    503: {"model": Problem, "description": "The cell does not answer, or it cannot be put on record."},
}
UNKNOWN: Answers = {404: {"model": Problem, "description": "There is no such alarm or link."}}


def actions_router(desk: Desk) -> APIRouter:
    """Calls that wait for the cell: they run in worker threads."""
    router = APIRouter(prefix=PREFIX, tags=["actions"], responses=ANSWERS)
    own_threads = CapacityLimiter(4)  # whatever else waits for the cell: who disarms does not

    @router.post("/alarms/acknowledge", responses=UNKNOWN)
    def acknowledge(asked: AlarmIn, session: Changing) -> Done:
        """Say that an alarm was seen (operator)."""
        return Done(warnings=desk.acknowledge(session, asked.key, asked.reason))

    @router.post("/alarms/shelve", responses=UNKNOWN)
    def shelve(asked: ShelveIn, session: Changing) -> Done:
        """Put an alarm aside for a time, or take it back with 0 s (operator)."""
        return Done(warnings=desk.shelve(session, asked.key, asked.duration_s, asked.reason))

    @router.post("/alarms/comment", responses=UNKNOWN)
    def comment(asked: CommentIn, session: Changing) -> Done:
        """Note something on an alarm (operator)."""
        return Done(warnings=desk.comment(session, asked.key, asked.reason))

    @router.post("/alarms/out-of-service", responses=UNKNOWN)
    def out_of_service(asked: ServiceIn, session: Changing) -> Done:
        """Take an alarm out of service, or return it (engineer)."""
        return Done(warnings=desk.out_of_service(session, asked.key, asked.reason, out=asked.out))

    @router.post("/arm", responses=UNKNOWN)
    def arm(asked: ArmIn, session: Changing) -> Done:
        """Let the cell write its commands into the PLCs (engineer)."""
        return Done(warnings=desk.arm(session, asked.reason, asked.links))

    @router.post("/disarm", responses=UNKNOWN)
    async def disarm(asked: ArmIn, session: Changing) -> Done:
        """Withhold every command (operator)."""
        do = partial(desk.disarm, session, asked.reason, asked.links)
        return Done(warnings=await to_thread.run_sync(do, limiter=own_threads))

    @router.post("/override")
    def override(asked: TargetIn, session: Changing) -> Done:
        """Keep the cell's hands off a tag, a device or all, or end that (engineer)."""
        return Done(warnings=desk.override(session, asked.target, asked.reason, on=asked.on))

    @router.post("/maintenance")
    def maintenance(asked: TargetIn, session: Changing) -> Done:
        """No commands and no alarms of something, or end that (engineer)."""
        return Done(warnings=desk.maintenance(session, asked.target, asked.reason, on=asked.on))

    @router.post("/candidate")
    def candidate(asked: MoveIn, session: Changing) -> Done:
        """Promote, hold, release, reject or roll back the candidate (engineer)."""
        return Done(warnings=desk.move_candidate(session, asked.action, asked.reason))

    @router.post("/labels")
    def labels(asked: Label, session: Changing) -> LabelDone:
        """Say what a stretch of time really was (operator)."""
        span_ns = round(asked.start_s * 1e9), round(asked.end_s * 1e9)
        (accepted, expired, held_back), warnings = desk.label(
            session, asked.label, *span_ns, asked.devices, asked.comment
        )
        return LabelDone(accepted=accepted, expired=expired, held_back=held_back, warnings=warnings)

    return router
