"""The page's application: REST, stream and static files behind one gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from cellwatch import __version__
from cellwatch.nodes.page.access import AccessError
from cellwatch.nodes.page.desk import DeskError
from cellwatch.nodes.page.guard import Guard
from cellwatch.nodes.page.rest_actions import actions_router
from cellwatch.nodes.page.rest_history import history_router
from cellwatch.nodes.page.rest_reads import reads_router
from cellwatch.nodes.page.rest_session import PREFIX, session_router
from cellwatch.nodes.page.stream import live_router

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from cellwatch.nodes.page.access import Access
    from cellwatch.nodes.page.desk import Desk
    from cellwatch.nodes.page.live_cell import LiveCell

STATIC = Path(__file__).resolve().parent / "static"


@dataclass(frozen=True)
class PageSettings:
    """How the page is served."""

    names: tuple[str, ...] = ()  # by which this machine may be called, besides its addresses and localhost
    record: str = ""  # folder of the record; empty: there is no history
    secure: bool = False  # over TLS


def build_app(live: LiveCell, desk: Desk, access: Access, settings: PageSettings) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(
        title="Cellwatch",
        version=__version__,
        summary="What a cell sees and thinks, and what its operators may do.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.access = access
    app.include_router(session_router(access, live.name, secure=settings.secure))
    app.include_router(reads_router(live))
    app.include_router(actions_router(desk))
    app.include_router(history_router(settings.record))
    app.include_router(live_router(live, access))
    app.add_exception_handler(AccessError, _refused)
    app.add_exception_handler(DeskError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.router.default = _files(StaticFiles(directory=STATIC, html=True))
    app.add_middleware(Guard, names=settings.names)
    return app


async def _refused(request: Request, error: Any) -> JSONResponse:
    del request
    wait_s = getattr(error, "wait_s", 0.0)
    headers = {"Retry-After": str(int(wait_s) + 1)} if wait_s else None
    return JSONResponse({"detail": str(error)}, error.status, headers)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    """What is wrong and where, without what was sent: it may be a password, or no JSON."""
    del request
    found = [{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in error.errors()]
    return JSONResponse({"detail": found}, 422)


def _files(static: StaticFiles) -> Any:
    """What is no route: a file of the page, or nothing."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/api/"):
            await JSONResponse({"detail": "not found"}, 404)(scope, receive, send)
            return
        try:
            await static(scope, receive, send)
        except Exception as error:
            status = getattr(error, "status_code", None)
            if status is None:
                raise
            await JSONResponse({"detail": "not found"}, status)(scope, receive, send)

    return answer
