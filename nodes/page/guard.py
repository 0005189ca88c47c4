"""The gate before the page: whose browser asks, from which page, and how much it sends."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 65_536  # of a request's body
BODY_S = 10.0  # for a part of it
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guard:
    """ASGI middleware. `names` are the host names of this machine by which the page may be called.

    - Host: an IP address or one of `names`. A name of somebody else's that resolves to this machine (DNS
      rebinding) is refused.
    - /api is for this page and for programs: a browser says where a request comes from (Fetch Metadata), and
      other pages are refused, also those of other ports of this machine, which get its cookies.
    - Whatever changes something, with an Origin other than this page's, is refused.
    - Bodies of more than `MOST_BYTES` are refused.
    """

    def __init__(self, app: App, names: Iterable[str] = ()) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names) | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page has no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        shielded = _Shielded(send, private=scope["path"].startswith("/api/"))
        status, text = self._objection(scope)
        if status:
            await _refuse(shielded, status, text)
            return
        await self._app(scope, _Limited(receive), shielded)

    def _objection(self, scope: Scope) -> tuple[int, str]:
        """Status and reason, (0, "") if there is none."""
        given: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        hosts = given.get("host", [])
        if len(hosts) != 1 or not self._ours(hosts[0]):
            return 421, "this page is not called so: use its address, or put the name under dashboard: names"
        api = scope["path"].startswith("/api/")
        if api and given.get("sec-fetch-site", ["none"])[0] not in {"same-origin", "none"}:
            return 403, "from another page"
        if scope["method"] not in SAFE:
            origins = given.get("origin", [])
            if origins and origins != [f"{scope['scheme']}://{hosts[0]}"]:
                return 403, "from another page"
        length = given.get("content-length", ["0"])[0]
        if not length.isdigit() or int(length) > MOST_BYTES:
            return 413, f"more than {MOST_BYTES} bytes"
        return 0, ""

    def _ours(self, host: str) -> bool:
        name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not colon:
            name = host
        elif not port.isdigit():
            return False
        if name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
        except ValueError:
            return False
        return True


class _Limited:
    """Counts a body that does not say how long it is, and does not wait for ever."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._bytes, self._ended = receive, 0, False

    async def __call__(self) -> Message:
        try:
            # After the body there is nothing to come but the end of the connection.
            message = await asyncio.wait_for(self._receive(), None if self._ended else BODY_S)
        except TimeoutError:
            raise HTTPException(408, "the body does not come") from None
        self._ended = not message.get("more_body", False)
        self._bytes += len(message.get("body", b""))
        if self._bytes > MOST_BYTES:
            raise HTTPException(413, f"more than {MOST_BYTES} bytes")
        return message


class _Shielded:
    """Adds the headers that keep a browser from doing what this page never asks of it."""

    def __init__(self, send: Send, *, private: bool) -> None:
        self._send, self._private = send, private

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = {**HEADERS, "cache-control": "no-store" if self._private else "no-cache"}
            kept = [
                (k, v) for k, v in message.get("headers", []) if k.decode("latin-1").lower() not in headers
            ]
            added = [(k.encode(), v.encode()) for k, v in headers.items()]
            message = {**message, "headers": [*kept, *added]}
        await self._send(message)


async def _refuse(send: Send, status: int, text: str) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
