"""The page's web server: in a thread of its own, on the first free port."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

from cellwatch.nodes.page.address import is_any

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn

PORTS = 20  # tried from the wanted one on
CONNECTIONS = 200  # at once; more are told to come again
STOP_S = 2.0


class ServerError(OSError):
    """The page cannot be served; the text says why."""


class PageServer:
    """`make_app` gives the application; it is called in the thread, because its imports take a second.

    `bind` takes a port, `start` serves on it. `trouble` says why it does not, "" while it does.
    """

    def __init__(
        self, make_app: Callable[[], Any], host: str, port: int, certificate: str = "", private_key: str = ""
    ) -> None:
        self._make_app, self._host, self._first = make_app, host, port
        self._tls = _tls(certificate, private_key) if certificate else None
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.port = 0
        self.trouble = ""

    @property
    def url(self) -> str:
        """Where a browser finds the page, "" before `bind`."""
        if not self.port:
            return ""
        host = socket.gethostname() if is_any(self._host) else self._host
        return f"http{'s' if self._tls else ''}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def bind(self) -> None:
        """Take the wanted port, or the next that is free. ServerError if there is none."""
        if self._socket is not None:
            return
        for port in range(self._first, self._first + PORTS) if self._first else (0,):
            try:
                self._socket = _listen(self._host, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ServerError(f"{self._host}: {error.strerror or error}") from None
                continue
            self.port = self._socket.getsockname()[1]
            return
        last = self._first + PORTS - 1
        raise ServerError(f"{self._host}: ports {self._first} to {last} are all in use: set dashboard: port")

    def start(self) -> None:
        """Bind and serve. ServerError."""
        self.bind()
        self.trouble = ""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let go of the port; open streams end."""
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_S + 1.0)
        if self._socket is not None:
            self._socket.close()
        self._socket = self._server = self._thread = None
        self.port = 0

    def _run(self) -> None:
        try:
            import uvicorn

            from cellwatch.nodes.page.connections import PromptConnection

            config = uvicorn.Config(
                self._make_app(), http=PromptConnection, ws="none", lifespan="off", loop="asyncio",
                log_config=None, log_level="error", access_log=False, server_header=False,
                proxy_headers=False, limit_concurrency=CONNECTIONS,
                timeout_graceful_shutdown=round(STOP_S),
            )  # fmt: skip
            config.load()
            if self._tls is not None:
                config.ssl = self._tls
            self._server = uvicorn.Server(config)
            if not self._stopping.is_set():
                asyncio.run(self._server.serve([self._socket] if self._socket else None))
            if not self._stopping.is_set():
                self.trouble = "the server ended"
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
        found.set_inheritable(False)
    except OSError:
        found.close()
        raise
    return found


def _tls(certificate: str, private_key: str) -> ssl.SSLContext:
    """ServerError where the files cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, private_key or None, lambda: "")  # nobody is there to type one
    except OSError as error:
        raise ServerError(f"dashboard: {certificate}: {error.strerror or error}") from None
    return context
