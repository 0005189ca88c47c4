"""REST: what the cell sees and thinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, HTTPException, Query

from cellwatch.nodes.page.rest_models import (
    AlarmOut,
    AlarmsOut,
    CandidateOut,
    CommandOut,
    CommentOut,
    DeviceOut,
    DriftOut,
    ExplanationOut,
    Health,
    Key,
    LossOut,
    ModelsOut,
    NodeOut,
    Problem,
    ShareOut,
    TagOut,
    VerdictOut,
)
from cellwatch.nodes.page.rest_session import FOREIGN, NOT_IN, PREFIX, Answers, sees

if TYPE_CHECKING:
    from cellwatch.nodes.page.live_cell import LiveCell

WORST = ("ok", "warn", "error", "silent")
UNKNOWN: Answers = {
    404: {"model": Problem, "description": "There is no such thing, or nothing was heard of it yet."}
}


def reads_router(live: LiveCell) -> APIRouter:
    """Everything needs a session of any role."""
    router = APIRouter(
        prefix=PREFIX, tags=["cell"], dependencies=[Depends(sees)], responses={**NOT_IN, **FOREIGN}
    )

    @router.get("/health")
    async def health() -> Health:
        """The nodes, what was lost, and which links are armed."""
        nodes = live.nodes()
        overridden, maintenance = live.response_state()
        return Health(
            cell=live.name,
            level=max((n.level for n in nodes), key=WORST.index, default="silent"),
            nodes=[NodeOut.model_validate(n) for n in nodes],
            losses=[LossOut.model_validate(x) for x in live.losses()],
            armed=live.armed(),
            overridden=list(overridden),
            maintenance=list(maintenance),
        )

    @router.get("/devices")
    async def devices() -> list[DeviceOut]:
        """Every device with its last verdict."""
        return [DeviceOut.model_validate(d) for d in live.devices()]

    @router.get("/tags")
    async def tags() -> list[TagOut]:
        """Every tag with its last value."""
        return [TagOut.model_validate(t) for t in live.tags()]

    @router.get("/verdicts", responses=UNKNOWN)
    async def verdicts(
        device: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[VerdictOut]:
        """The cell's verdicts of the last windows, newest first, of all devices or of one."""
        if device and all(d.name != device for d in live.devices()):
            raise HTTPException(404, f"there is no device {device}")
        names = VerdictOut.model_fields.keys() - {"window_id", "end_s"}
        return [
            VerdictOut.model_validate(
                {"window_id": window_id, "end_s": end_ns / 1e9} | {name: getattr(v, name) for name in names},
                from_attributes=True,
            )
            for window_id, end_ns, v in live.verdicts(device, limit)
        ]

    @router.get("/alarms")
    async def alarms() -> AlarmsOut:
        """All alarms, what is announced first."""
        found, flooded = live.alarms()
        return AlarmsOut(flooded=flooded, alarms=[AlarmOut.model_validate(a) for a in found])

    @router.get("/explanation", responses=UNKNOWN)
    async def explanation(
        key: Annotated[Key, Query(description="DEVICE/CATEGORY of an alarm")],
    ) -> ExplanationOut:
        """Why an alarm was raised: what was broken, which models say so, what moved them."""
        found = live.explanation(key)
        if found is None:
            raise HTTPException(404, f"nothing is kept of {key}: it was raised before the page ran, or never")
        names = ExplanationOut.model_fields.keys() - {"end_s", "first_s", "shares", "comments"}
        return ExplanationOut.model_validate(
            {name: getattr(found, name) for name in names}
            | {"end_ns": found.end_ns, "first_ns": found.first_ns}
            | {"shares": [ShareOut(feature=feature, share=share) for feature, share in found.shares]}
            | {"comments": [CommentOut.model_validate(c) for c in live.comments(key)]},
            from_attributes=True,
        )

    @router.get("/commands")
    async def commands() -> list[CommandOut]:
        """Pending and past commands, newest first."""
        return [CommandOut.model_validate(c) for c in live.commands()]

    @router.get("/models")
    async def models() -> list[ModelsOut]:
        """What each node serves."""
        return [ModelsOut.model_validate(m) for m in live.models()]

    @router.get("/drift", responses=UNKNOWN)
    async def drift() -> DriftOut:
        """Whether the models still fit."""
        found = live.drift()
        if found is None:
            raise HTTPException(404, "nothing was said of drift yet")
        return DriftOut.model_validate(found)

    @router.get("/candidate", responses=UNKNOWN)
    async def candidate() -> CandidateOut:
        """The version of the models that is on its way into service."""
        found = live.candidate()
        if found is None:
            raise HTTPException(404, "there is no candidate")
        return CandidateOut.model_validate(found)

    return router
