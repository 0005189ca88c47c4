"""REST: who one is, log-in and log-out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.security import APIKeyCookie

from cellwatch.nodes.page.rest_models import Done, LoginIn, Problem, SessionOut
from cellwatch.nodes.page.sessions import Session

if TYPE_CHECKING:
    from cellwatch.nodes.page.access import Access

PREFIX = "/api/v1"
Answers = dict[int | str, dict[str, Any]]
NOT_IN: Answers = {401: {"model": Problem, "description": "Nobody is logged in."}}
FOREIGN: Answers = {403: {"model": Problem, "description": "The role, the CSRF token, or another page asks."}}
UNREADABLE: Answers = {
    400: {"model": Problem, "description": "The body is no text."},
    408: {"model": Problem, "description": "The body does not come."},
    413: {"model": Problem, "description": "The body is too long."},
}
COOKIE = APIKeyCookie(
    name="cellwatch_8080", auto_error=False, description="set by POST /login; with the port"
)


async def sees(request: Request, cookie: Annotated[str | None, Depends(COOKIE)]) -> Session:
    """Whose request it is: what every route depends on."""
    del cookie  # is described; the access takes its own
    found: Session = request.app.state.access.who(request)
    return found


async def changes(
    request: Request,
    session: Annotated[Session, Depends(sees)],
    x_csrf_token: Annotated[str, Header(description="`csrf` of GET /session")] = "",
) -> Session:
    """Likewise, of a request that changes something."""
    request.app.state.access.check_change(session, x_csrf_token)
    return session


Changing = Annotated[Session, Depends(changes)]


def session_router(access: Access, cell: str, *, secure: bool) -> APIRouter:
    """`secure`: the page is served over TLS."""
    router = APIRouter(prefix=PREFIX, tags=["session"])
    own_threads = CapacityLimiter(4)  # hashing does not wait for the cell, nor others for hashing

    def told(session: Session) -> SessionOut:
        login = access.needs_login
        note = "" if login else f"no users: whoever runs the cell is here as {session.user}, engineer"
        return SessionOut(
            user=session.user, role=session.role.name.lower(), csrf=session.csrf, login=login, note=note,
            cell=cell,
        )  # fmt: skip

    def give(response: Response, token: str) -> None:
        response.set_cookie(
            access.cookie, token, httponly=True, samesite="strict", secure=secure, path="/api"
        )

    @router.get("/session", responses={**NOT_IN, **FOREIGN})
    async def session(request: Request, response: Response) -> SessionOut:
        """Who one is, and the token that every POST must carry. Without users it begins a session."""
        peer = request.client
        old = request.cookies.get(access.cookie)
        token, found = access.enter(old, peer.host if peer else "", peer.port if peer else 0)
        if token != old:
            give(response, token)
        return told(found)

    @router.post(
        "/login",
        responses={
            **UNREADABLE,
            401: {"model": Problem, "description": "Wrong name or password."},
            403: FOREIGN[403],
            429: {"model": Problem, "description": "Too many wrong passwords; Retry-After says how long."},
            503: {"model": Problem, "description": "The file of users cannot be used."},
        },
    )
    async def login(asked: LoginIn, request: Request, response: Response) -> SessionOut:
        """Log in; the answer sets the cookie of the session."""
        address = request.client.host if request.client else ""
        do = partial(access.login, asked.user, asked.password, address)
        token, found = await to_thread.run_sync(do, limiter=own_threads)
        give(response, token)
        return told(found)

    @router.post("/logout", responses={**NOT_IN, **FOREIGN})
    def logout(session: Changing, response: Response) -> Done:
        """End the session."""
        access.logout(session)
        response.delete_cookie(access.cookie, path="/api", httponly=True, samesite="strict", secure=secure)
        return Done()

    return router
