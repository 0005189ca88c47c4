"""The gate on a real port: each thing that it refuses, and that the rest passes."""

from __future__ import annotations

import socket

import pytest

from cellwatch.nodes.page import guard
from cellwatch.nodes.page.guard import MOST_BYTES
from cellwatch.nodes.page.users import Role


@pytest.fixture
def anna(page):
    return page.browser(Role.ENGINEER)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:{port}",
        "localhost:{port}",
        "LOCALHOST",
        "[::1]:{port}",
        "10.0.0.7",
        "plant-pc:{port}",
        "Plant-PC",
    ],
)
def test_the_machine_may_be_called_by_its_addresses_and_names(page, anna, host):
    assert anna.get("devices", Host=host.format(port=page.server.port)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "localhost:{port}:1",
        "localhost:x",
        "[evil.example]",
        "[::1",
        "",
        "plant-pc.evil.example",
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/v1/devices", "/api/v1/session"])
def test_names_of_others_are_refused(page, anna, host, path):
    """DNS rebinding: the name of a page from elsewhere that suddenly resolves to this machine."""
    assert anna.ask("GET", path, Host=host.format(port=page.server.port)).status in {400, 421}


def test_two_hosts_are_refused(page):
    with socket.create_connection(("127.0.0.1", page.server.port), 5) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert raw.recv(100).split(b" ")[1] in {b"400", b"421"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_pages_may_not_ask(anna, page, site):
    """Also those of another port of this machine: browsers call these "same-site", and send the cookies."""
    assert anna.get("devices", Sec_Fetch_Site=site).status == 403
    assert anna.get("session", Sec_Fetch_Site=site).status == 403
    assert anna.post("disarm", Sec_Fetch_Site=site).status == 403
    assert anna.ask("GET", "/", Sec_Fetch_Site=site).status == 200  # a link to the page is no harm
    assert page.line.asked == []


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_the_page_itself_may(anna, site):
    assert anna.post("disarm", Sec_Fetch_Site=site, Origin=anna.origin).status == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:1", "https://127.0.0.1:{port}",
     "http://localhost:{port}", "http://127.0.0.1:{port}/", "http://127.0.0.1:{port}.evil.example"],
)  # fmt: skip
def test_changes_from_another_origin_are_refused(anna, page, origin):
    origin = origin.format(port=page.server.port)
    assert anna.post("disarm", Origin=origin).status == 403
    assert anna.post("login", {"user": "viewer", "password": "viewer-password"}, Origin=origin).status == 403
    assert page.line.asked == []


def test_a_body_that_is_too_long_is_refused(anna, page):
    long = '{"reason": "' + "x" * MOST_BYTES + '"}'
    assert anna.ask("POST", "/api/v1/disarm", long).status == 413
    assert anna.ask("POST", "/api/v1/disarm", "{}", Content_Length="x").status in {400, 413}
    with socket.create_connection(
        ("127.0.0.1", page.server.port), 5
    ) as raw:  # one that does not say how long
        cookie = "; ".join(f"{k}={v}" for k, v in anna.cookies.items())
        head = {
            "Host": "localhost", "Cookie": cookie, "X-CSRF-Token": anna.csrf,
            "Content-Type": "application/json", "Transfer-Encoding": "chunked",
        }  # fmt: skip
        lines = ["POST /api/v1/disarm HTTP/1.1", *(f"{k}: {v}" for k, v in head.items()), "", ""]
        raw.sendall("\r\n".join(lines).encode())
        for _ in range(3):
            raw.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        assert b" 413 " in raw.recv(100)
    assert page.line.asked == []


def test_a_body_that_does_not_come_is_not_waited_for(anna, page, monkeypatch):
    monkeypatch.setattr(guard, "BODY_S", 0.1)
    with socket.create_connection(("127.0.0.1", page.server.port), 5) as raw:
        raw.sendall(
            b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert b" 408 " in raw.recv(100)


def test_web_sockets_are_refused(page):
    with socket.create_connection(("127.0.0.1", page.server.port), 5) as raw:
        raw.sendall(
            b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert b" 101 " not in raw.recv(100)


@pytest.mark.parametrize("path", ["/", "/api/v1/devices", "/nothing", "/api/v1/nothing", "/main.js"])
def test_every_answer_tells_browsers_to_be_careful(anna, path):
    said = anna.ask("GET", path).headers
    policy = said["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert said["x-frame-options"] == "DENY"
    assert said["x-content-type-options"] == "nosniff"
    assert said["referrer-policy"] == "no-referrer"
    assert said["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")
    assert "access-control-allow-origin" not in said
    assert "server" not in said


@pytest.mark.parametrize(
    "path", ["/../access.py", "/%2e%2e/access.py", "/..%2faccess.py", "/static/../../access.py"]
)
def test_there_is_no_way_out_of_the_folder_of_files(anna, path):
    assert anna.ask("GET", path).status == 404


def test_what_is_no_route_is_404_and_what_is_no_method_405(anna):
    assert anna.get("nothing").status == 404
    assert anna.ask("GET", "/nothing.js").status == 404
    assert anna.get("disarm").status == 405
    assert anna.ask("DELETE", "/api/v1/alarms").status == 405
    assert anna.ask("POST", "/index.html", "").status == 405


def test_no_preflight_lets_another_page_in(anna):
    asked = anna.ask(
        "OPTIONS", "/api/v1/disarm", Origin="http://evil.example",
        Access_Control_Request_Method="POST", Access_Control_Request_Headers="x-csrf-token",
    )  # fmt: skip
    assert asked.status == 405
    assert not [k for k in asked.headers if k.lower().startswith("access-control")]
