"""The link against node-opcua, a server of other hands: 1000 tags at 10 Hz, secured, killed in the middle."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellwatch.models.types import Command, CommandStatus
from cellwatch.nodes.drivers.opcua_link import OpcuaLink
from cellwatch.nodes.drivers.opcua_settings import AccessError, LinkSettings, make_certificate
from cellwatch.nodes.drivers.tag_map import TagMap

HERE = Path(__file__).parent / "node_opcua"
PERIOD_MS = 100
TAGS = """
tags:
  - {path: "Objects/*:PLC1/*:SP", writable: true, range: [0, 50]}
  - {path: "Objects/*:PLC1/*:T*", sampling_ms: 0, queue_size: 50}
"""
pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (HERE / "node_modules" / "node-opcua").exists(),
        reason="node-opcua is not installed: run `npm ci` in tests/nodes/node_opcua",
    ),
]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start_server(**options: Any) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        ["node", "server.js", json.dumps(options)],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in server.stdout:
        if line.startswith("{"):
            if json.loads(line)["event"] == "ready":
                return server
            break
    server.kill()
    raise RuntimeError(f"node-opcua did not start: {line}")


class Proxy:
    """A TCP relay whose connections can be cut while the server lives on."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                a, _ = self.listener.accept()
                b = socket.create_connection(("127.0.0.1", self.target))
                self.pairs += [a, b]
                for x, y in ((a, b), (b, a)):
                    threading.Thread(target=self._pump, args=(x, y), daemon=True).start()

    @staticmethod
    def _pump(x: socket.socket, y: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := x.recv(65536):
                y.sendall(data)
        for s in (x, y):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        pairs, self.pairs = self.pairs, []
        for s in pairs:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def close(self) -> None:
        self.listener.close()
        self.cut()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("keys")
    certificate, key = make_certificate(folder)
    return {
        "security_policy": "Basic256Sha256", "certificate": str(certificate), "private_key": str(key),
        "user": "anna", "password": "secret", "pki": str(folder / "pki"),
    }  # fmt: skip


@contextlib.contextmanager
def linked(port: int, keys: dict[str, str], **options: Any) -> Iterator[OpcuaLink]:
    base = {k: v for k, v in keys.items() if k != "pki"} | {"backoff_max_s": 0.5}
    link = OpcuaLink(
        LinkSettings("plc1", f"opc.tcp://127.0.0.1:{port}", **(base | options)), TagMap.parse(TAGS)
    )
    link.start(wait_s=20)
    try:
        yield link
    finally:
        link.stop()


def collect(link: OpcuaLink, seconds: float, batches: list[Any]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batches += link.drain()
        time.sleep(0.05)


def account(link: OpcuaLink, batches: list[Any]) -> tuple[int, int, list[Any]]:
    """Samples received, samples missing outside every gap, and the gaps."""
    names = [t.name for t in link.catalog.tags]
    counted = np.array([n.startswith("T") for n in names])
    tag = np.concatenate([b.tag for b in batches])
    value = np.concatenate([b.value for b in batches])
    source = np.concatenate([b.source_ns for b in batches])
    keep = counted[tag]
    tag, step, source = tag[keep], value[keep].astype(np.int64), source[keep]
    np.testing.assert_array_equal(
        source, step * PERIOD_MS * 1_000_000
    )  # value and source time belong together
    gaps = [g for b in batches for g in b.gaps]
    first, last = step.min(), step.max()
    seen = np.zeros((len(names), last - first + 1), dtype=bool)
    seen[tag, step - first] = True
    at_ns = np.arange(first, last + 1) * PERIOD_MS * 1_000_000
    excused = np.zeros(len(at_ns), dtype=bool)
    for g in gaps:
        excused |= (at_ns >= g.start_ns) & (at_ns <= g.end_ns)
    # items are created in several calls, so each tag counts from its own first value;
    # the last message may hold a part of the tags
    started = np.maximum.accumulate(seen, axis=1)
    missing = (started & ~seen & ~excused)[counted][:, :-2]
    return len(step), int(missing.sum()), gaps


def test_thousand_tags_secured_and_killed_in_the_middle(keys):
    options = {"port": free_port(), "tags": 1000, "periodMs": PERIOD_MS, "secure": True, "pki": keys["pki"]}
    server = start_server(**options)
    batches: list[Any] = []
    try:
        with (
            pytest.raises(AccessError, match="check user and password"),
            linked(options["port"], keys, password="no"),
        ):
            pass
        with linked(options["port"], keys) as link:
            collect(link, 3.0, batches)
            assert link.stats.gaps == 0
            before = {t.name: t.node_id for t in link.catalog.tags}
            link.submit(Command("w", 1, "PLC1", "SP", 33.3, time.time_ns(), 2.0, "test"), armed=True)
            server.send_signal(signal.SIGKILL)
            server.wait()
            collect(link, 0.5, batches)
            server = start_server(**options, pads=2)
            collect(link, 4.0, batches)
            stats = link.stats
            after = {t.name: t.node_id for t in link.catalog.tags}
            batches += link.drain()
            received, missing, gaps = account(link, batches)
        assert received > 50_000
        assert missing == 0
        assert len(gaps) == 1
        assert gaps[0].reason == "the link was down"
        assert stats.reconnects == 1
        assert stats.dropped == stats.undecoded == stats.duplicates == 0
        assert set(before) == set(after)
        assert before["T5"] != after["T5"]  # the namespace index has moved
        tag = {t.name: t for t in link.catalog.tags}["SP"]
        assert (tag.unit, tag.low, tag.high) == ("Cel", 0.0, 50.0)
    finally:
        server.kill()
        server.wait()


def test_a_cut_connection_resumes_the_session_and_republishes(keys):
    port = free_port()
    server = start_server(port=port, tags=100, periodMs=PERIOD_MS, secure=True, pki=keys["pki"])
    proxy = Proxy(port)
    batches: list[Any] = []
    try:
        with linked(proxy.port, keys) as link:
            collect(link, 1.0, batches)
            subscriptions = set(link._shards)
            for _ in range(3):
                proxy.cut()
                collect(link, 1.5, batches)
            link.submit(Command("w", 1, "PLC1", "SP", 33.3, time.time_ns(), 2.0, "test"), armed=True)
            collect(link, 0.5, batches)
            (result,) = link.results()
            assert result.status is CommandStatus.ACCEPTED, result
            assert result.read_back == pytest.approx(33.3)
            received, missing, _ = account(link, batches)
            assert link.stats.reconnects == 3
            assert set(link._shards) == subscriptions  # the same subscription all the time
            assert missing == 0
            assert received > 4000
    finally:
        proxy.close()
        server.kill()
        server.wait()
