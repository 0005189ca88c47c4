"""What browsers are told: only what changed, and nothing that JSON does not know."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest

from cellwatch.models import types as t
from cellwatch.nodes.page.live_cell import LiveCell
from cellwatch.nodes.page.scene import Scene, number
from cellwatch.nodes.page.stream import TOO_MANY, LiveStream

NAN, INF = float("nan"), float("inf")
S = 10**9


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.ns = 1_800_000_000 * S

    def __call__(self):
        return self.ns


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def live(clock):
    return LiveCell("demo", ["PLC1"], clock=clock)


@pytest.fixture
def scene(live, clock):
    return Scene(live, clock)


def judge(live, clock, decision=t.Screening.ALLOW, p=0.1):
    live.on_fused(t.FusedWindow(1, clock.ns, clock.ns, (t.FusedVerdict("PLC1", decision, p, 0.5),)))


def test_only_what_changed_is_told(live, scene, clock):
    judge(live, clock)
    assert scene.changes()["devices"][0]["decision"] == "ALLOW"
    assert scene.changes() == {}
    judge(live, clock)  # the same verdict again
    assert scene.changes() == {}
    judge(live, clock, t.Screening.BLOCK)
    news = scene.changes()
    assert set(news) == {"devices"}
    assert news["devices"][0]["decision"] == "BLOCK"
    assert scene.whole()["devices"] == news["devices"]


def test_a_beat_a_second_without_news(scene, clock):
    scene.changes()
    clock.ns += S // 2
    assert scene.changes() == {}
    clock.ns += S // 2
    assert set(scene.changes()) == {"cell"}
    clock.ns -= 3600 * S  # the clock is set back
    assert set(scene.changes()) == {"cell"}


def test_everything_is_json(live, scene, clock):
    judge(live, clock, p=NAN)
    live.on_catalog(
        t.TagCatalog("PLC1", (t.TagInfo("A", "", "PLC1"), t.TagInfo("B", "", "PLC1", low=0, high=INF)))
    )
    at = np.array([clock.ns])
    live.on_tags(
        t.TagBatch(
            "PLC1", 1, np.array([0], np.uint32), np.array([NAN]), np.zeros(1, np.uint32), at, at, clock.ns
        )
    )
    live.on_drift(
        t.DriftEvent(
            clock.ns, t.DriftState.WARNING, t.Level.L1, "v", figures=(t.DriftFigure("loss", NAN, INF),)
        )
    )
    live.on_candidate(t.CandidateState(clock.ns, t.Stage.CANARY))  # latencies are NaN
    live.on_command(t.Command("c", 1, "PLC1", "A", NAN, clock.ns, 2.0, "why"))
    live.on_health("fusion_node", 1, "late", {"late": "4", "share": "0.25"})
    told = json.loads(json.dumps(scene.changes(), allow_nan=False))
    assert told["tags"][1]["high"] is None
    assert told["values"] == [[None, 1, 0], [None, 0, None]]
    assert told["drift"]["candidate"]["figures"]["latency_s"] is None
    assert told["drift"]["event"]["figures"] == [
        {"monitor": "loss", "value": None, "limit": None, "place": ""}
    ]
    assert told["losses"] == [{"node": "fusion_node", "what": "late", "count": 4}]


def test_a_node_that_falls_silent_is_told(live, scene, clock):
    live.on_health("fusion_node", 0, "deciding", {})
    assert scene.changes()["nodes"][0]["level"] == "ok"
    clock.ns += 10 * S
    (node,) = scene.changes()["nodes"]
    assert (node["level"], node["age_s"]) == ("silent", 10)


def test_the_learning_period_is_told(live, scene, clock):
    live.on_health("rule_node", 0, "commissioning: 7 windows learned", {})
    assert scene.changes()["cell"]["learning"] == "commissioning: 7 windows learned"
    live.on_health("rule_node", 0, "judging", {})
    clock.ns += S
    assert scene.changes()["cell"]["learning"] == ""


def test_numbers_are_short():
    assert [number(x) for x in (1 / 3, 123456.789, -0.0, NAN, -INF)] == [0.333333, 123457.0, 0.0, None, None]


# The stream ------------------------------------------------------------------------------------------------
def parsed(message):
    assert message.startswith(b"data: ")
    assert message.endswith(b"\n\n")
    return json.loads(message[6:])


def test_one_message_for_all_browsers(live, clock):
    async def run():
        stream = LiveStream(Scene(live, clock), 0.01)
        readers = [stream.messages(lambda: True) for _ in range(2)]
        first = [parsed(await anext(r)) for r in readers]
        assert all("cell" in each for each in first)
        waiting = [asyncio.ensure_future(anext(r)) for r in readers]
        await asyncio.sleep(0)
        judge(live, clock, t.Screening.BLOCK)
        a, b = await asyncio.gather(*waiting)
        assert a is b, "made once"
        assert set(parsed(a)) == {"devices"}
        for r in readers:
            await r.aclose()
        assert stream.readers == 0

    asyncio.run(run())


def test_who_comes_later_gets_everything_and_takes_nothing_away(live, clock):
    async def run():
        stream = LiveStream(Scene(live, clock), 0.01)
        one = stream.messages(lambda: True)
        await anext(one)
        waiting = asyncio.ensure_future(anext(one))
        await asyncio.sleep(0)
        judge(live, clock, t.Screening.BLOCK)
        late = stream.messages(lambda: True)
        assert "alarms" in parsed(await anext(late))
        assert parsed(await waiting)["devices"][0]["decision"] == "BLOCK"
        await one.aclose()
        await late.aclose()

    asyncio.run(run())


def test_a_slow_browser_gets_everything_again(live, clock):
    async def run():
        stream = LiveStream(Scene(live, clock), 0.005)
        slow = stream.messages(lambda: True)
        await anext(slow)
        for decision in (t.Screening.BLOCK, t.Screening.ALLOW, t.Screening.SUSPICIOUS):
            judge(live, clock, decision)
            await asyncio.sleep(0.05)  # a tick passes while the browser does not read
        judge(live, clock, t.Screening.BLOCK)
        told = parsed(await anext(slow))
        assert {"cell", "alarms", "devices"} <= set(told)
        await slow.aclose()

    asyncio.run(run())


def test_the_stream_ends_with_its_session(live):
    async def run():
        stream = LiveStream(Scene(live), 0.01)
        standing = [True]
        messages = stream.messages(lambda: standing[0])
        await anext(messages)
        standing[0] = False
        start = time.monotonic()
        left = [m async for m in messages]
        assert time.monotonic() - start < 5
        assert len(left) < 5

    asyncio.run(run())


def test_the_oldest_of_too_many_windows_ends(live):
    async def run():
        stream = LiveStream(Scene(live), 0.01)
        first = stream.messages(lambda: True, "anna")
        await anext(first)
        others = [stream.messages(lambda: True, who) for who in ("anna", "anna", "anna", "bob", "", "")]
        for each in others:
            await anext(each)
        assert [m async for m in _some(first, 3)][-1] != TOO_MANY, "four of a session may stay"
        fifth = stream.messages(lambda: True, "anna")
        await anext(fifth)
        left = [m async for m in first]
        assert left[-1] == TOO_MANY
        for each in (*others, fifth):
            assert await anext(each) != TOO_MANY
            await each.aclose()
        assert stream._streams == {}

    asyncio.run(run())


async def _some(messages, n):
    for _ in range(n):
        yield await anext(messages)


def test_nothing_is_made_while_nobody_looks(live, clock):
    async def run():
        stream = LiveStream(Scene(live, clock), 0.01)
        one = stream.messages(lambda: True)
        await anext(one)
        await one.aclose()
        await asyncio.sleep(0.05)
        assert stream._task.done()

    asyncio.run(run())
