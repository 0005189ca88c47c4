"""The link against a real asyncua server in a thread: what it reads, how it fails, how it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole

from cellwatch.models.types import Command, CommandStatus, LinkState
from cellwatch.nodes.drivers import opcua_link
from cellwatch.nodes.drivers.audit_log import AuditLog, read
from cellwatch.nodes.drivers.opcua_browse import browse
from cellwatch.nodes.drivers.opcua_link import OpcuaLink
from cellwatch.nodes.drivers.opcua_settings import (
    AccessError,
    LinkError,
    LinkSettings,
    SettingsError,
    UnreachableError,
    make_certificate,
)
from cellwatch.nodes.drivers.tag_map import TagMap

URI = "urn:test:plc1"
WILD = 'tags: [{path: "Objects/*:PLC1/*:*", sampling_ms: 50}]'


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class _Users:
    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> Any:
        del iserver
        known = (username, password) == ("anna", "secret") or (username is None and certificate is not None)
        return User(role=UserRole.User) if known else None


class Plc:
    """A PLC with eight numbers A0..A7, a Boolean, an Int16, a set-point SP and a text."""

    def __init__(self, port: int, *, pads: int = 0, secure: Any = None, extra: str = "") -> None:
        self.port, self.pads, self.secure, self.extra = port, pads, secure, extra
        self.loop = asyncio.new_event_loop()
        self.nodes: dict[str, Any] = {}
        self.running = False
        self.frozen: set[str] = set()
        self.count = 0
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    @property
    def endpoint(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/"

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def start(self) -> Plc:
        self.call(self._start())
        return self

    async def _start(self) -> None:
        self.server = server = Server(user_manager=_Users() if self.secure else None)
        await server.init()
        server.set_endpoint(self.endpoint)
        if self.secure:
            certificate, key = self.secure
            server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
            await server.load_certificate(str(certificate))
            await server.load_private_key(str(key))
        for i in range(self.pads):
            await server.register_namespace(f"urn:pad:{i}")
        ns = await server.register_namespace(URI)
        plc = await server.nodes.objects.add_object(ns, "PLC1")
        self.plc, self.ns = plc, ns
        for i in range(self.pads):  # a download moves the node ids, too
            await plc.add_object(ns, f"Pad{i}")
        for i in range(8):
            self.nodes[f"A{i}"] = await plc.add_variable(ns, f"A{i}", float(i))
        self.nodes["FLAG"] = await plc.add_variable(ns, "FLAG", True)
        self.nodes["COUNT"] = await plc.add_variable(ns, "COUNT", ua.Variant(7, ua.VariantType.Int16))
        self.nodes["TEXT"] = await plc.add_variable(ns, "TEXT", "running")
        self.nodes["SP"] = await plc.add_variable(ns, "SP", ua.Variant(1.0, ua.VariantType.Float))
        await self.nodes["SP"].set_writable()
        if self.extra:
            self.nodes[self.extra] = await plc.add_variable(ns, self.extra, 1.0)
        a0 = self.nodes["A0"]
        await a0.add_property(0, "EURange", ua.Range(0.0, 80.0))
        unit = ua.EUInformation(UnitId=4408652, DisplayName=ua.LocalizedText("°C"))
        await a0.add_property(0, "EngineeringUnits", unit)
        await self.nodes["A1"].add_property(0, "InstrumentRange", ua.Range(-5.0, 5.0))
        await server.start()
        self.running = True
        self.task = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self.count += 1
            for i in range(8):
                if f"A{i}" not in self.frozen:
                    await self.nodes[f"A{i}"].write_value(float(self.count))

    def write(self, name: str, value: Any, status: int = 0) -> None:
        variant = value if isinstance(value, ua.Variant) else ua.Variant(value, ua.VariantType.Double)
        data = ua.DataValue(variant, ua.StatusCode(status))
        self.call(self.server.write_attribute_value(self.nodes[name].nodeid, data))

    def stop(self) -> None:
        if not self.running:
            return
        self.running = False
        self.call(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    async def _stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.server.stop()
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # asyncua leaves some behind
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    @property
    def subscriptions(self) -> dict[int, Any]:
        return self.server.iserver.subscription_service.subscriptions

    async def _each(self, action: Callable[[Any], Any]) -> None:
        for subscription in list(self.subscriptions.values()):
            action(subscription)

    def each_subscription(self, action: Callable[[Any], Any]) -> None:
        self.call(self._each(action))


@pytest.fixture(scope="module")
def shared() -> Iterator[Plc]:
    server = Plc(free_port()).start()
    yield server
    server.stop()


@pytest.fixture
def plc(shared: Plc) -> Plc:
    """The server that the tests share (starting one takes seconds), set back to its beginning."""
    shared.frozen = set()
    time.sleep(0.15)  # every value has moved on
    shared.write("SP", ua.Variant(1.0, ua.VariantType.Float))
    return shared


@pytest.fixture
def mortal() -> Iterator[Plc]:
    """A server of the test's own, to be stopped."""
    server = Plc(free_port()).start()
    yield server
    server.stop()


@contextlib.contextmanager
def linked(endpoint: str, tags: str = WILD, **options: Any) -> Iterator[OpcuaLink]:
    audit, source, wait_s = (
        options.pop("audit", None),
        options.pop("source", "test"),
        options.pop("wait_s", 10),
    )
    base = {"publishing_interval_s": 0.05, "keep_alive_s": 0.2, "retry_tags_s": 0.5, "backoff_max_s": 0.5}
    link = OpcuaLink(
        LinkSettings("plc1", endpoint, **(base | options)), TagMap.parse(tags), audit=audit, source=source
    )
    link.start(wait_s=wait_s)
    try:
        yield link
    finally:
        link.stop()


class Collected:
    """Everything drained so far."""

    def __init__(self, link: OpcuaLink) -> None:
        self.link = link
        self.batches: list[Any] = []

    def until(self, done: Callable[[Collected], Any], timeout_s: float = 10.0) -> Collected:
        deadline = time.monotonic() + timeout_s
        while True:
            self.batches += self.link.drain()
            if done(self):
                return self
            assert time.monotonic() < deadline, f"not seen in {timeout_s} s; {self.link.stats}"
            time.sleep(0.02)

    def samples(self, name: str, field: str = "value") -> list[Any]:
        index = {t.name: i for i, t in enumerate(self.link.catalog.tags)}.get(name, -1)
        return [v for b in self.batches for v in getattr(b, field)[b.tag == index].tolist()]

    @property
    def gaps(self) -> list[Any]:
        return [g for b in self.batches for g in b.gaps]


def test_values_units_ranges_and_types(plc):
    tags = """
namespaces: {p: "urn:test:plc1"}
tags:
  - {path: "Objects/p:PLC1/p:A3", name: third, device: pump, unit: bar, range: [1, 2], role: mode}
  - {path: "Objects/p:PLC1/p:TEXT"}
  - {path: "Objects/*:PLC1/*:*", sampling_ms: 50}
  - {path: "Objects/p:PLC1/p:A4", name: fourth}
"""
    with linked(plc.endpoint, tags) as link:
        seen = Collected(link).until(lambda s: len(s.samples("third")) > 5)
        tag = {t.name: t for t in link.catalog.tags}
        assert (tag["A0"].unit, tag["A0"].low, tag["A0"].high, tag["A0"].device) == ("Cel", 0.0, 80.0, "PLC1")
        assert (tag["A1"].low, tag["A1"].high) == (-5.0, 5.0)
        third = tag["third"]
        assert (third.unit, third.low, third.high, third.role, third.device) == (
            "bar",
            1.0,
            2.0,
            "mode",
            "pump",
        )
        assert "A3" not in tag  # the first entry owns it
        assert sum(t.name == "TEXT" for t in link.catalog.tags) == 1  # named, not taken by the wildcard
        assert "not a number" in link.stats.problems[f"{plc.ns}:PLC1/{plc.ns}:TEXT"]
        assert "put this one first" in link.stats.problems["urn:test:plc1:PLC1/urn:test:plc1:A4"]
        assert "fourth" not in tag
        assert seen.samples("FLAG") == [1.0]
        assert seen.samples("COUNT") == [7.0]
        assert math.isnan(seen.samples("TEXT")[0])
        assert seen.samples("SP") == [1.0]
        assert np.all(np.diff(seen.samples("third")) == 1.0)  # nothing missing in between
        assert [b.sequence for b in seen.batches] == list(range(1, len(seen.batches) + 1))
        newest = seen.batches[-1]
        assert abs(time.time_ns() - newest.received_ns) < 5e9
        times = np.array(seen.samples("third", "source_ns"))
        assert np.all(np.diff(times) > 0)
        assert link.stats.state is LinkState.CONNECTED


def test_bad_and_uncertain_are_carried_with_their_values(plc):
    plc.frozen = {"A0", "A1", "A2"}
    with linked(plc.endpoint) as link:
        seen = Collected(link).until(lambda s: s.samples("A0"))
        plc.write("A0", 42.0, 0x40920000)  # UncertainSubNormal, roughly
        plc.write("A1", ua.Variant(None, ua.VariantType.Null), 0x80050000)
        plc.write("A2", 43.0, 0x808A0000)
        seen.until(
            lambda s: len(s.samples("A2")) > 1 and len(s.samples("A1")) > 1 and len(s.samples("A0")) > 1
        )
        assert (seen.samples("A0")[-1], seen.samples("A0", "status")[-1]) == (42.0, 0x40920000)
        assert math.isnan(seen.samples("A1")[-1])
        assert seen.samples("A1", "status")[-1] == 0x80050000
        assert seen.samples("A2", "status")[-1] == 0x808A0000
        assert (link.stats.bad_quality, link.stats.uncertain) == (2, 1)


def test_bad_nodes_are_reported_and_come_later(plc):
    tags = """
tags:
  - {node: "ns=2;i=99999", name: gone}
  - {node: "nsu=urn:nobody;i=1", name: nobody}
  - {path: "Objects/*:PLC1/*:LATE"}
  - {path: "Objects/*:PLC1/*:A0"}
"""
    with linked(plc.endpoint, tags) as link:
        seen = Collected(link).until(lambda s: len(s.samples("A0")) > 3)
        problems = link.stats.problems
        assert problems["ns=2;i=99999"] == "BadNodeIdUnknown"
        assert "no namespace urn:nobody" in problems["nsu=urn:nobody;i=1"]
        assert "no variable matches" in problems["*:PLC1/*:LATE"]
        changes = link.catalog_changes
        plc.call(plc.plc.add_variable(plc.ns, "LATE", 5.5))
        seen.until(lambda s: "LATE" in [t.name for t in link.catalog.tags] and s.samples("LATE"))
        assert seen.samples("LATE") == [5.5]
        assert link.catalog_changes > changes
        assert link.catalog.tags[0].name == "A0"
        assert set(link.stats.problems) == {"ns=2;i=99999", "nsu=urn:nobody;i=1"}


def test_restart_with_other_node_ids_keeps_indices_and_names_the_gap(mortal):
    other = None
    try:
        with linked(mortal.endpoint) as link:
            seen = Collected(link).until(lambda s: len(s.samples("A5")) > 5)
            before = {t.name: (i, t.node_id) for i, t in enumerate(link.catalog.tags)}
            n = len(seen.batches)
            mortal.stop()
            seen.until(lambda _: link.stats.state is not LinkState.CONNECTED)
            last = max(seen.samples("A5", "source_ns"))
            other = Plc(mortal.port, pads=3, extra="NEW").start()
            seen.until(lambda s: s.gaps and len(s.samples("NEW")) and len(s.samples("A5")) > 20)
            after = {t.name: (i, t.node_id) for i, t in enumerate(link.catalog.tags)}
            assert all(after[name][0] == before[name][0] for name in before)
            assert after["A5"][1] != before["A5"][1]
            assert after["NEW"][0] == len(before)
            (gap,) = seen.gaps
            assert gap.start_ns <= last < gap.end_ns
            assert link.stats.reconnects == 1
            fresh = [
                v for b in seen.batches[n:] for v in b.source_ns[b.tag == after["A5"][0]] if v > gap.end_ns
            ]
            assert len(fresh) > 5
            assert all(not b.replayed for b in seen.batches)
            assert not link.stats.problems
    finally:
        if other is not None:
            other.stop()


def test_secured_with_user_and_certificate(tmp_path):
    client = make_certificate(tmp_path, "cell")
    assert make_certificate(tmp_path, "cell") == client  # kept, not made again
    assert client[1].stat().st_mode & 0o077 == 0
    wrong = make_certificate(tmp_path, "wrong")
    own = make_certificate(tmp_path, "server")
    plc = Plc(free_port(), secure=own).start()
    (tmp_path / "pw").write_text("secret\n")
    options = {
        "security_policy": "Basic256Sha256", "certificate": str(client[0]), "private_key": str(client[1]),
        "user": "anna", "password_file": str(tmp_path / "pw"), "server_certificate": str(own[0]),
    }  # fmt: skip
    try:
        with linked(plc.endpoint, **options) as link:
            Collected(link).until(lambda s: len(s.samples("A0")) > 3)
            assert link.settings.mode == "SignAndEncrypt"
            assert "secret" not in repr(link.settings)
        start = time.monotonic()
        with (
            pytest.raises(AccessError, match=r"refuses the user 'anna' .* check user and password"),
            linked(plc.endpoint, **(options | {"password_file": "", "password": "guess"})),
        ):
            pass
        assert time.monotonic() - start < 5
        pinned = options | {"server_certificate": str(wrong[0]), "request_timeout_s": 1.0}
        with pytest.raises(LinkError), linked(plc.endpoint, **pinned, wait_s=2):  # another server than pinned
            pass
        with (
            pytest.raises(SettingsError, match="offers no endpoint with Basic256Sha256 and Sign;"),
            linked(plc.endpoint, **(options | {"server_certificate": "", "security_mode": "Sign"})),
        ):
            pass
        with (
            pytest.raises(SettingsError, match="cannot be read"),
            linked(plc.endpoint, **(options | {"certificate": str(tmp_path / "pw")})),
        ):
            pass
        assert "PLC1" in browse(LinkSettings("p", plc.endpoint, **options))
        own_identity = {
            "user": "",
            "password_file": "",
            "user_certificate": str(wrong[0]),
            "user_key": str(wrong[1]),
        }
        with linked(plc.endpoint, **(options | own_identity)) as link:  # a certificate instead of a user name
            Collected(link).until(lambda s: s.samples("A0"))
    finally:
        plc.stop()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"security_policy": "Basic256Sha256"}, "needs a client certificate"),
        ({"security_policy": "Basic128"}, "unknown security_policy 'Basic128'"),
        (
            {"security_policy": "Basic256Sha256", "security_mode": "None"},
            "leaves Basic256Sha256 without effect",
        ),
        ({"certificate": "x"}, "protects nothing"),
        ({"user": "a", "password_env": "NO_SUCH_VARIABLE_HERE"}, "NO_SUCH_VARIABLE_HERE .* is not set"),
        ({"password_file": "no/such/file"}, "password_file no/such/file does not exist"),
        ({"publishing_interval_s": 0}, "publishing_interval_s must be above 0"),
        ({"endpoint": "http://x:1"}, "is not an OPC UA endpoint"),
        ({"endpoint": "opc.tcp://x"}, "has no port"),
        ({"user_certificate": "x"}, "belong together"),
    ],
)
def test_settings_that_cannot_work_fail_at_once(options, says):
    with pytest.raises(SettingsError, match=says):
        LinkSettings(**({"plc": "p", "endpoint": "opc.tcp://127.0.0.1:4840"} | options))


def test_nobody_there_is_one_line():
    port = free_port()
    with pytest.raises(
        UnreachableError, match=rf"opc.tcp://127.0.0.1:{port}: no answer .*is the server running"
    ):
        OpcuaLink(LinkSettings("p", f"opc.tcp://127.0.0.1:{port}"), TagMap.parse(WILD)).start(wait_s=0.5)
    with pytest.raises(UnreachableError):
        browse(LinkSettings("p", f"opc.tcp://127.0.0.1:{port}"))


def test_the_server_may_come_later():
    port = free_port()
    link = OpcuaLink(LinkSettings("p", f"opc.tcp://127.0.0.1:{port}", backoff_max_s=0.3), TagMap.parse(WILD))
    link.start()
    time.sleep(0.5)
    assert link.stats.state is not LinkState.CONNECTED
    assert "no answer" in link.stats.trouble
    plc = Plc(port).start()
    try:
        Collected(link).until(lambda s: link.catalog and len(s.samples("A0")) > 3)
        assert (link.stats.trouble, link.stats.gaps) == ("", 0)
    finally:
        link.stop()
        plc.stop()


# -- the stream ----------------------------------------------------------------------------------------------


def test_overflow_is_counted_and_named(plc):
    plc.frozen = {"A0"}
    with linked(plc.endpoint) as link:
        seen = Collected(link).until(lambda s: s.samples("A0"))
        plc.write(
            "A0", 9.0, 0x00000480
        )  # asyncua's own queue runs over in silence, so the mark is set by hand
        seen.until(lambda s: sum(b.dropped for b in s.batches))
        assert link.stats.dropped == sum(b.dropped for b in seen.batches) == 1
        (gap,) = seen.gaps
        assert "ran over" in gap.reason
        assert gap.end_ns == seen.samples("A0", "source_ns")[-1]


def test_a_slow_reader_is_told_what_it_lost(plc):
    with linked(plc.endpoint, queue_samples=60) as link:
        seen = Collected(link)
        deadline = time.monotonic() + 10
        while link.stats.dropped < 100 and time.monotonic() < deadline:
            time.sleep(0.05)
        seen.until(lambda s: len(s.batches) > 3)
        received, dropped = link.stats.received, link.stats.dropped
        told = sum(b.dropped for b in seen.batches)
        got = sum(len(b.tag) for b in seen.batches)
        seen.batches += link.drain()
        assert told >= 100
        assert told <= dropped
        assert seen.batches[0].gaps[0].reason == f"{told} samples dropped: the link's queue was full"
        assert seen.batches[0].gaps[0].start_ns > 0
        assert seen.batches[0].sequence > 1
        assert received >= told + got


def test_a_dead_subscription_is_noticed_and_rebuilt(plc):
    with linked(plc.endpoint) as link:
        seen = Collected(link).until(lambda s: len(s.samples("A0")) > 3)
        plc.each_subscription(
            lambda s: s._task.cancel()
        )  # socket and session live, nothing is published any more
        seen.until(lambda s: s.gaps)
        n = len(seen.samples("A0"))
        seen.until(lambda s: len(s.samples("A0")) > n + 3)
        assert "silent" in seen.gaps[0].reason
        assert seen.gaps[0].end_ns - seen.gaps[0].start_ns > 1e9
        assert link.stats.reconnects == 1
        assert len(plc.subscriptions) == 1


def test_data_that_stops_under_living_keep_alives_is_noticed(plc, monkeypatch):
    monkeypatch.setattr(opcua_link, "_QUIET_S", 1.0)
    with linked(plc.endpoint) as link:
        seen = Collected(link).until(lambda s: len(s.samples("A0")) > 3)
        plc.each_subscription(lambda s: s.monitored_item_srv.delete_all_monitored_items())
        seen.until(lambda s: s.gaps)
        assert "no data comes" in seen.gaps[0].reason
        seen.until(lambda s: s.batches[-1].sequence and len(s.samples("A0")) > 10)


def test_constant_values_are_not_a_dead_subscription(plc, monkeypatch):
    monkeypatch.setattr(opcua_link, "_QUIET_S", 0.5)
    plc.frozen = {f"A{i}" for i in range(8)}
    with linked(plc.endpoint) as link:
        seen = Collected(link).until(lambda s: s.samples("A0"))
        time.sleep(2.5)
        seen.batches += link.drain()
        assert link.stats.reconnects == 0
        assert not seen.gaps
        assert sum(len(b.tag) == 0 for b in seen.batches) > 5  # the keep-alives
        assert link.stats.last_heard_age_s < 1.0 < link.stats.last_data_age_s


@pytest.mark.parametrize("kept", [True, False])
def test_a_lost_message_is_republished_or_named(plc, kept):
    lost: list[Any] = []

    def sabotage(subscription: Any) -> None:
        forward = subscription.pub_result_callback

        async def once(result: Any, *rest: Any) -> None:
            if result.NotificationMessage.NotificationData and not lost:
                lost.append(result)
                if not kept:
                    subscription._not_acknowledged_results.pop(result.NotificationMessage.SequenceNumber)
                return
            await forward(result, *rest)

        subscription.pub_result_callback = once

    with linked(plc.endpoint) as link:
        seen = Collected(link).until(lambda s: len(s.samples("A0")) > 3)
        plc.each_subscription(sabotage)
        seen.until(lambda s: any(b.replayed for b in s.batches) if kept else s.gaps)
        missing = [
            i.Value.SourceTimestamp.timestamp()
            for n in lost[0].NotificationMessage.NotificationData
            for i in n.MonitoredItems
        ]
        if kept:
            (batch,) = [b for b in seen.batches if b.replayed]
            assert sorted(batch.source_ns / 1e9) == pytest.approx(sorted(missing), abs=1e-5)
            values = sorted(seen.samples("A0"))
            assert np.all(np.diff(values) == 1.0)
            assert (link.stats.replayed, link.stats.gaps) == (len(missing), 0)
        else:
            (gap,) = seen.gaps
            assert "no longer keeps them" in gap.reason
            assert gap.start_ns / 1e9 <= min(missing) <= max(missing) <= gap.end_ns / 1e9
            assert link.stats.replayed == 0


def test_a_node_that_goes_makes_all_be_resolved_again(plc):
    with linked(plc.endpoint) as link:
        seen = Collected(link).until(lambda s: len(s.samples("A0")) > 3)
        plc.frozen = {"A7"}
        plc.write("A7", ua.Variant(None, ua.VariantType.Null), 0x80340000)
        seen.until(lambda _: link.stats.reconnects == 1)
        seen.until(lambda s: len(s.samples("A0")) > 30)


def test_many_items_are_spread_over_subscriptions_and_all_deleted_in_the_end(plc):
    with linked(plc.endpoint, items_per_subscription=3) as link:
        Collected(link).until(lambda s: all(s.samples(f"A{i}") for i in range(8)))
        assert len(plc.subscriptions) == 4
    assert not plc.subscriptions


def test_live_values_equal_those_of_asyncua(plc):
    """The same server, the stock handler and the link side by side."""
    from asyncua import Client

    stock: dict[tuple[str, int], float] = {}

    class Handler:
        def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
            ns = round(data.monitored_item.Value.SourceTimestamp.timestamp() * 1e6)
            stock[node.nodeid.to_string(), ns] = float(value)

    async def listen() -> None:
        async with Client(plc.endpoint) as client:
            subscription = await client.create_subscription(50, Handler())
            await subscription.subscribe_data_change(
                [client.get_node(plc.nodes[f"A{i}"].nodeid) for i in range(8)]
            )
            await asyncio.sleep(1.0)

    with linked(plc.endpoint) as link:
        seen = Collected(link)
        asyncio.run(listen())
        time.sleep(0.2)
        seen.batches += link.drain()
    ours = {}
    for b in seen.batches:
        for tag, value, source in zip(b.tag.tolist(), b.value.tolist(), b.source_ns.tolist(), strict=True):
            ours[link.catalog.tags[tag].node_id, source // 1000] = value
    assert len(stock) > 80
    assert {k: ours.get(k, ours.get((k[0], k[1] - 1), ours.get((k[0], k[1] + 1)))) for k in stock} == stock


# -- writes --------------------------------------------------------------------------------------------------

WRITES = """
tags:
  - {path: "Objects/*:PLC1/*:SP", writable: true, range: [0, 10], min_interval_s: 0}
  - {path: "Objects/*:PLC1/*:COUNT", writable: true, range: [0, 10], min_interval_s: 0}
  - {path: "Objects/*:PLC1/*:A0", writable: true, min_interval_s: 0}
  - {path: "Objects/*:PLC1/*:*"}
"""


def wait_results(link: OpcuaLink, n: int, timeout_s: float = 5.0) -> list[Any]:
    found: list[Any] = []
    deadline = time.monotonic() + timeout_s
    while len(found) < n and time.monotonic() < deadline:
        found += link.results()
        time.sleep(0.01)
    assert len(found) == n
    return found


def command(tag: str, value: float, name: str = "c1") -> Command:
    return Command(name, 1, "PLC1", tag, value, time.time_ns(), 2.0, "test", 5)


def test_writes_are_confirmed_and_on_record(plc, tmp_path):
    with (
        AuditLog(tmp_path / "audit") as audit,
        linked(plc.endpoint, WRITES, audit=audit, source="fusion") as link,
    ):
        link.submit(command("SP", 5.3, "a"), armed=True)
        link.submit(command("SP", 6.0, "b"), armed=False)
        link.submit(command("COUNT", 3.0, "c"), armed=True)  # the server refuses it
        link.submit(command("A1", 3.0, "d"), armed=True)
        link.submit(command("SP", 5.3, "a"), armed=True)
        results = {(r.command_id, r.status.name): r for r in wait_results(link, 5)}
        accepted = results["a", "ACCEPTED"]
        assert accepted.read_back == pytest.approx(5.3, rel=1e-6)  # a Float on the server
        assert (accepted.window_id, accepted.closed_ns, accepted.error) == (1, 5, "")
        assert results["b", "WITHHELD"].error == "the cell is not armed"
        assert "BadUserAccessDenied" in results["c", "REFUSED"].error
        assert "not writable" in results["d", "REFUSED"].error
        assert "used before" in results["a", "REFUSED"].error
        assert plc.call(plc.nodes["SP"].read_value()) == pytest.approx(5.3)
        assert plc.call(plc.nodes["SP"].read_data_type_as_variant_type()) == ua.VariantType.Float
        assert plc.call(plc.nodes["COUNT"].read_value()) == 7
    rows = read(tmp_path / "audit")
    assert [r["event"] for r in rows] == ["command", "result"] * 5
    assert [r["status"] for r in rows if r["event"] == "result"] == [
        "ACCEPTED", "WITHHELD", "REFUSED", "REFUSED", "REFUSED",
    ]  # fmt: skip
    assert {r["source"] for r in rows} == {"fusion"}


def test_a_value_that_does_not_stay_is_not_accepted(plc):
    plc.call(plc.nodes["A0"].set_writable())
    tags = WRITES.replace(
        '"Objects/*:PLC1/*:A0", writable: true', '"Objects/*:PLC1/*:A0", writable: true, range: [-9, 9]'
    )
    forced = plc.server.iserver.aspace

    async def force() -> None:  # the PLC's own program overwrites the value in every scan
        write = forced.write_attribute_value

        async def overwritten(node_id: Any, attribute: Any, value: Any) -> Any:
            if node_id == plc.nodes["A0"].nodeid:
                value = ua.DataValue(ua.Variant(0.5, ua.VariantType.Double))
            return await write(node_id, attribute, value)

        forced.write_attribute_value = overwritten

    with linked(plc.endpoint, tags) as link:
        plc.call(force())
        link.submit(command("A0", -3.0), armed=True)
        (result,) = wait_results(link, 1)
        assert result.status is CommandStatus.REFUSED
        assert result.read_back == 0.5
        assert "not confirmed: the PLC shows 0.5" in result.error
    del forced.write_attribute_value


@pytest.mark.skipif(not __import__("os").path.exists("/dev/full"), reason="needs /dev/full")
def test_nothing_is_sent_that_cannot_be_recorded(plc):
    with AuditLog("/dev/full") as audit, linked(plc.endpoint, WRITES, audit=audit) as link:
        link.submit(command("SP", 5.0), armed=True)
        (result,) = wait_results(link, 1)
        assert result.status is CommandStatus.REFUSED
        assert "No space left" in result.error
        assert plc.call(plc.nodes["SP"].read_value()) == 1.0


def test_without_a_connection_commands_are_refused(mortal):
    with linked(mortal.endpoint, WRITES) as link:
        mortal.stop()
        Collected(link).until(lambda _: link.stats.state is not LinkState.CONNECTED)
        link.submit(command("SP", 5.0), armed=True)
        assert wait_results(link, 1)[0].error == "the PLC is not connected"
    link.submit(command("SP", 5.0, "after"), armed=True)
    assert wait_results(link, 1)[0].error == "the link is not running"


def test_browse_gives_a_map_that_works(plc):
    text = browse(LinkSettings("p", plc.endpoint))
    assert 'A0" # Double, Cel, 0 to 80' in text
    assert "TEXT" not in text
    assert "    # writable: true\n    # range: [LOW, HIGH]" in text
    with linked(plc.endpoint, text) as link:
        Collected(link).until(lambda s: len(s.samples("A0")) > 2)
        assert {t.name for t in link.catalog.tags} >= {"A0", "FLAG", "COUNT", "SP"}
        assert not link.stats.problems
