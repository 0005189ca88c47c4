"""The web server itself: ports, TLS, beginning and end, and who is at the other end."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from cellwatch.nodes.page import connections
from cellwatch.nodes.page.peer import owner
from cellwatch.nodes.page.server import PageServer, ServerError


async def hello(scope, receive, send):
    """The smallest ASGI application."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(scope["client"]).encode()})


async def endless(scope, receive, send):
    """A stream that nobody ends."""
    import asyncio

    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.05)


@pytest.fixture
def made():
    servers = []

    def make(app=hello, host="127.0.0.1", port=0, **more):
        servers.append(
            PageServer(app if callable(app) and app.__name__ == "broken" else lambda: app, host, port, **more)
        )
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def get(url, **more):
    with urllib.request.urlopen(url, timeout=10, **more) as answer:
        return answer.read()


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_the_address_is_known_before_the_page_is(made):
    server = made()
    assert (server.url, server.alive) == ("", False)
    server.start()
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert b"127.0.0.1" in get(server.url)  # who comes early waits
    assert server.trouble == ""
    server.stop()
    assert (server.url, server.alive) == ("", False)
    with pytest.raises(OSError):
        get(f"http://127.0.0.1:{server.port or 1}")


def test_a_port_in_use_gives_way_to_the_next(made):
    first, second = made(), made()
    first.start()
    second._first = first.port
    second.start()
    assert first.port < second.port < first.port + 20
    assert get(first.url)
    assert get(second.url)


def test_no_free_port_is_said_in_one_line(made, monkeypatch):
    monkeypatch.setattr("cellwatch.nodes.page.server.PORTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=f"ports {port} to {port} are all in use: set dashboard: port"):
            made(port=port).start()


def test_an_address_that_is_not_of_this_machine(made):
    with pytest.raises(ServerError, match=r"192\.0\.2\.1"):
        made(host="192.0.2.1").start()


def test_the_same_port_again_at_once(made):
    server = made()
    server.start()
    port = server.port
    get(server.url)
    server.stop()
    again = made(port=port)
    again.start()
    assert again.port == port


def test_an_application_that_cannot_be_made_is_said(made):
    def broken():
        raise ImportError("no fastapi")

    server = made(broken)
    server.start()
    assert until(lambda: server.trouble)
    assert server.trouble == "ImportError: no fastapi"
    assert not server.alive


def test_a_stream_does_not_hold_up_the_end(made):
    server = made(endless)
    server.start()
    with urllib.request.urlopen(server.url, timeout=10) as stream:
        assert stream.read(1) == b"x"
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5.0
    assert not [t for t in threading.enumerate() if t.name == "page" and t.is_alive()]


def test_nobody_can_say_to_come_from_elsewhere(made):
    """X-Forwarded-For is believed of no one: it would make a stranger local."""
    server = made()
    server.start()
    request = urllib.request.Request(
        server.url, headers={"X-Forwarded-For": "10.9.9.9", "Forwarded": "for=10.9.9.9"}
    )
    assert b"10.9.9.9" not in get(request)


def test_tls(made, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=plant", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = made(certificate=str(certificate), private_key=str(key))
    server.start()
    assert server.url.startswith("https://127.0.0.1:")
    assert get(server.url, context=ssl.create_default_context(cafile=str(certificate)))
    with pytest.raises(urllib.error.URLError):
        get(server.url)  # a certificate that nobody vouches for
    with pytest.raises(OSError):
        get(server.url.replace("https", "http"))
    with pytest.raises(ServerError, match=r"key\.pem"):
        made(certificate=str(key), private_key=str(key))


def closed(raw):
    raw.settimeout(5)
    try:
        return raw.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"once more"],
)
def test_who_does_not_ask_is_sent_away(made, monkeypatch, begin):
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)
    server = made()
    server.start()
    get(server.url)
    with socket.create_connection(("127.0.0.1", server.port), 5) as raw:
        if begin == b"once more":  # also after a question that was answered
            raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
            said = b""
            while not said.endswith(b"0\r\n\r\n"):
                said += raw.recv(10_000)
            assert said.startswith(b"HTTP/1.1 200")
            begin = b"GET / HTTP"
        raw.sendall(begin)
        assert until(lambda: closed(raw))


def test_nobody_can_take_all_connections(made, monkeypatch):
    """The newcomer gets the place of the one that has asked nothing for longest; who asks keeps it."""
    for name, most in (("MOST_OF_ONE", 3), ("MOST", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(connections, name, most)
            server = made(endless)
            server.start()
            with urllib.request.urlopen(server.url, timeout=10) as stream:
                assert stream.read(1) == b"x"
                idle = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(2)]
                time.sleep(0.1)
                with urllib.request.urlopen(server.url, timeout=10) as other:
                    assert other.read(1) == b"x"
                    assert closed(idle[0])
                    assert stream.read(1) == b"x"
                idle[1].close()


# The other end ------------------------------------------------------------------
def test_the_kernel_knows_whose_a_connection_is():
    for host in ("127.0.0.1", "::1"):
        with socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ) as server:
            port = server.getsockname()[1]
            with socket.create_connection((host, port)) as client:
                address, at = client.getsockname()[:2]
                assert owner(address, at, port) == os.getuid()
                assert owner(address, at, port + 1) is None
            assert owner(address, at + 1, port) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_somebody_else_of_this_machine_is_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; s = socket.create_connection(('127.0.0.1', {port})); s.recv(1)"
        other = subprocess.Popen(["python3", "-c", code], user=65_534, cwd="/", env={"PATH": "/usr/bin:/bin"})
        accepted, peer = server.accept()
        with accepted:
            assert owner(*peer, port) == 65_534
        assert other.wait(10) == 0
