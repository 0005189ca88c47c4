"""The seven kinds of chaos: what a client sees of each, and that the link survives and recovers."""

from __future__ import annotations

import asyncio
import contextlib
import time

import numpy as np
import pytest
from asyncua import Client, ua

from cellwatch.models.types import LinkState
from cellwatch.nodes.drivers.opcua_link import OpcuaLink
from cellwatch.nodes.drivers.opcua_settings import LinkSettings
from cellwatch.nodes.drivers.tag_map import TagMap
from cellwatch.plc_sim.chaos import BAD_NO_COMMUNICATION, CHAOS, HOUR_NS, ClockJump, run

WILD = 'tags: [{path: "Objects/*:PLC1/*:*", sampling_ms: 50, queue_size: 10}]'


@contextlib.asynccontextmanager
async def connected(endpoint, patience_s=4.0):
    client = Client(endpoint, timeout=patience_s)
    async with client:
        ns = await client.get_namespace_index("urn:cellwatch:plc_sim")
        yield client, await client.nodes.objects.get_child([f"{ns}:PLC1", f"{ns}:LIT101"])


class Linked:
    """The suite's link on the plant's server, and all that it has given out."""

    def __init__(self, plc, first=4, **options):
        self.first = first  # values of LIT101 to wait for
        base = {
            "publishing_interval_s": 0.1,
            "keep_alive_s": 0.3,
            "backoff_max_s": 0.5,
            "request_timeout_s": 1.0,
        }
        settings = LinkSettings("PLC1", plc.server.endpoint, **(base | options))
        self.link = OpcuaLink(settings, TagMap.parse(WILD))
        self.batches = []

    def __enter__(self):
        self.link.start(wait_s=10)
        self.until(lambda: len(self.levels()) >= self.first)
        return self

    def __exit__(self, *_):
        self.link.stop()

    def until(self, done, timeout_s=15.0):
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, self.link.stats
            time.sleep(0.02)
            self.drain()

    def drain(self):
        self.batches += self.link.drain()

    def levels(self, field="value"):
        index = [t.name for t in self.link.catalog.tags].index("LIT101") if self.link.catalog else -1
        return [v for b in self.batches for v in getattr(b, field)[b.tag == index].tolist()]

    def recovers(self):
        """Wait until fresh values of LIT101 flow again."""
        begin = time.time_ns()

        def flows():
            fresh = [s for s, v in zip(self.levels("source_ns"), self.levels(), strict=True) if v == v]
            return self.link.stats.state is LinkState.CONNECTED and sum(s > begin for s in fresh) > 5

        self.until(flows)

    @property
    def gaps(self):
        return [g for b in self.batches for g in b.gaps]


def test_restart(served_plc):
    port = served_plc.server.port
    with Linked(served_plc) as linked:
        with served_plc.trouble("server_restart"):
            with pytest.raises(OSError):
                asyncio.run(asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 2))
            linked.until(lambda: linked.link.stats.state is not LinkState.CONNECTED)
            lost_from = max(linked.levels("source_ns"))
        assert served_plc.server.port == port
        linked.recovers()
        (gap,) = linked.gaps
        assert gap.start_ns <= lost_from < gap.end_ns
        assert linked.link.stats.reconnects == 1


def test_node_ids_changed(served_plc):
    async def node_id():
        async with connected(served_plc.server.endpoint) as (_, node):
            return node.nodeid, await (await node.get_child("0:EURange")).read_value()

    before, span = asyncio.run(node_id())
    with Linked(served_plc) as linked:
        known = {t.name: (i, t.node_id) for i, t in enumerate(linked.link.catalog.tags)}
        with served_plc.trouble("node_ids_changed"):
            after, span_after = asyncio.run(node_id())
        assert (after.NamespaceIndex, type(after.Identifier)) == (before.NamespaceIndex + 1, int)
        assert span_after == span
        linked.recovers()
        now = {t.name: (i, t.node_id) for i, t in enumerate(linked.link.catalog.tags)}
        assert {name: i for name, (i, _) in now.items()} == {name: i for name, (i, _) in known.items()}
        assert not set(now.values()) & set(known.values())
        with served_plc.trouble("node_ids_changed"):
            pass
        assert asyncio.run(node_id())[0] != after


def test_stalled_server_accepts_and_never_answers(served_plc):
    async def answers(patience_s):
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError, ua.UaError, OSError):
            async with connected(served_plc.server.endpoint, patience_s) as (_, node):
                return await node.read_value()

    async def knock():
        reader, writer = await asyncio.open_connection("127.0.0.1", served_plc.server.port)
        writer.write(b"HELF\x28\0\0\0" + b"\0" * 32)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)  # neither an answer nor a close
        writer.close()

    with Linked(served_plc) as linked:
        with served_plc.trouble("server_stalled"):
            asyncio.run(knock())
            assert asyncio.run(answers(0.5)) is None
            linked.until(lambda: linked.link.stats.state is not LinkState.CONNECTED)
        assert asyncio.run(answers(4.0)) is not None
        linked.recovers()
        assert linked.gaps


def test_half_open_connections_stay_silent_and_new_ones_work(served_plc):
    async def talk():
        async with connected(served_plc.server.endpoint, 0.5) as (old, node):
            assert await node.read_value() > 0
            line = old.uaclient.protocol.transport
            chaos = CHAOS["half_open_tcp"]()
            await asyncio.to_thread(served_plc.run, chaos.begin(served_plc.server))
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await node.read_value()
            assert not line.is_closing()  # neither FIN nor RST came
            async with connected(served_plc.server.endpoint) as (_, other):
                assert await other.read_value() > 0
            await asyncio.to_thread(served_plc.run, chaos.end(served_plc.server))
            await asyncio.sleep(0.2)
            assert line.is_closing()

    with Linked(served_plc) as linked:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError, ConnectionError, ua.UaError):
            asyncio.run(talk())  # asyncua's own goodbye fails on the dead line
        linked.recovers()
        assert linked.link.stats.reconnects >= 1
        missing = np.diff(np.unique(linked.levels())).max() > 1.0
        assert bool(linked.gaps) == bool(missing)  # republished, or named


def test_clock_jump(served_plc):
    async def clocks():
        async with connected(served_plc.server.endpoint) as (client, node):
            value = await node.read_data_value()
            now = await client.get_node(ua.ObjectIds.Server_ServerStatus_CurrentTime).read_value()
            return value.SourceTimestamp.timestamp(), value.ServerTimestamp.timestamp(), now.timestamp()

    with Linked(served_plc) as linked:
        with served_plc.trouble("clock_jump"):
            time.sleep(1.2)  # the server's own clock ticks once a second
            for clock in asyncio.run(clocks()):
                assert abs(clock - time.time() - HOUR_NS * 1e-9) < 3.0
            linked.until(lambda: max(linked.levels("source_ns")) > time.time_ns() + HOUR_NS // 2)
        with served_plc.trouble(ClockJump(-HOUR_NS)):
            linked.until(lambda: linked.levels("source_ns")[-1] < time.time_ns() - HOUR_NS // 2)
        linked.until(lambda: abs(linked.levels("source_ns")[-1] - time.time_ns()) < 10**9)
        values = linked.levels()
        assert np.all(np.diff(values) == 1.0)  # the values themselves know nothing of it
        assert linked.link.stats.state is LinkState.CONNECTED


def test_burst_of_bad_quality(served_plc):
    async def status():
        async with connected(served_plc.server.endpoint) as (_, node):
            value = await node.read_data_value(raise_on_bad_status=False)
            return value.StatusCode.value, value.Value.Value

    with Linked(served_plc) as linked:
        with served_plc.trouble("bad_quality_burst"):
            linked.until(lambda: linked.link.stats.bad_quality >= len(served_plc.tags))
            assert asyncio.run(status()) == (BAD_NO_COMMUNICATION, None)
            assert linked.levels("status")[-1] == BAD_NO_COMMUNICATION
            assert np.isnan(linked.levels()[-1])
        linked.recovers()
        assert linked.levels("status")[-1] == 0
        assert linked.link.stats.reconnects == 0


def test_full_queue(served_plc):
    with Linked(served_plc) as linked:
        assert linked.link.stats.dropped == 0
        with served_plc.trouble("queue_full"):
            linked.until(lambda: linked.link.stats.dropped >= 11)  # each analog tag overflows
        assert any("ran over" in gap.reason for gap in linked.gaps)
        stamps = np.array(linked.levels("source_ns"))
        assert np.all(np.diff(stamps) >= 0)
        dropped = linked.link.stats.dropped
        linked.recovers()
        time.sleep(0.5)
        linked.drain()
        settled = linked.link.stats.dropped
        time.sleep(0.5)
        linked.drain()
        assert linked.link.stats.dropped == settled >= dropped


def test_a_step_of_a_scenario_is_announced(served_plc):
    said = []
    step = run("bad_quality_burst", served_plc.server, 0.1, lambda event, **rest: said.append((event, rest)))
    served_plc.run(step)
    assert [(event, rest["name"], rest["plc"], rest["phase"]) for event, rest in said] == [
        ("chaos", "bad_quality_burst", "PLC1", "begin"),
        ("chaos", "bad_quality_burst", "PLC1", "end"),
    ]
    assert served_plc.server.distortion.status == 0


def test_after_a_burst_every_tag_shows_its_own_value(served_plc):
    served_plc.held = True
    time.sleep(0.1)
    values = served_plc.values()

    async def read():
        async with connected(served_plc.server.endpoint) as (_, node):
            return await node.read_value()

    with Linked(served_plc, first=1), served_plc.trouble("queue_full"):
        served_plc.run(served_plc.server.publish(time.time_ns(), values))
        assert asyncio.run(read()) != values[0]
    served_plc.run(served_plc.server.publish(time.time_ns(), values))
    assert asyncio.run(read()) == values[0]
