"""One PLC's server and asyncua's client: values, units, writes, methods, alarms, history, several servers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta

import pytest
from asyncua import Client, ua

from cellwatch.plc_sim.plcs.alarms import AlarmEvent
from cellwatch.plc_sim.servers.opcua import PlcServer
from cellwatch.plc_sim.tags import PLC_TAGS

ALARM = ua.NodeId(ua.ObjectIds.AlarmConditionType)
ACKNOWLEDGE = ua.NodeId(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge)
REFRESH = ua.NodeId(ua.ObjectIds.ConditionType_ConditionRefresh)


@contextlib.asynccontextmanager
async def connected(endpoint, plc="PLC1"):
    async with Client(endpoint) as client:
        ns = await client.get_namespace_index("urn:cellwatch:plc_sim")
        folder = await client.nodes.objects.get_child(f"{ns}:{plc}")

        async def child(name):
            return await folder.get_child(f"{ns}:{name}")

        yield client, folder, child


async def until(done, timeout_s=5.0):
    for _ in range(int(timeout_s / 0.02)):
        if done():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s")


def test_every_tag_has_its_type_unit_range_and_access(served_plc):
    async def talk():
        async with connected(served_plc.server.endpoint) as (_, _, child):
            for spec in served_plc.tags:
                node = await child(spec.name)
                kind = await node.read_data_type_as_variant_type()
                assert kind.name == {"float": "Double", "int": "Int32", "bool": "Boolean"}[spec.kind]
                access = await node.get_access_level()
                assert (ua.AccessLevel.CurrentWrite in access) == spec.writable
                assert (ua.AccessLevel.HistoryRead in access) == (spec.name == "LIT101")
                assert (await node.read_description()).Text == spec.about
                if spec.kind != "float":
                    continue
                assert (await node.read_type_definition()).Identifier == ua.ObjectIds.AnalogItemType
                unit = await (await node.get_child("0:EngineeringUnits")).read_value()
                span = await (await node.get_child("0:EURange")).read_value()
                assert (span.Low, span.High) == (spec.low, spec.high)
                assert unit.UnitId > 0
            unit = await (await (await child("TIT101")).get_child("0:EngineeringUnits")).read_value()
            assert (unit.UnitId, unit.DisplayName.Text) == (4408652, "°C")  # CEL of UNECE Rec. 20

    asyncio.run(talk())


def test_all_units_of_the_factory_have_a_code():
    from cellwatch.plc_sim.servers.nodes import _unit

    for tags in PLC_TAGS.values():
        for spec in tags:
            assert spec.kind != "float" or _unit(spec.unit).UnitId > 0, spec


def test_writes_reach_the_plc_and_its_refusal_the_client(served_plc):
    async def talk():
        async with connected(served_plc.server.endpoint) as (client, _, child):
            served_plc.held = True
            await asyncio.sleep(0.1)
            set_point = await child("LIC101_SP")
            await set_point.write_value(42.0)
            assert served_plc.writes == [("LIC101_SP", 42.0)]
            assert await set_point.read_value() == 42.0
            served_plc.run(served_plc.server.publish(time.time_ns(), served_plc.values()))
            assert await set_point.read_value() == served_plc.values()[7]  # the PLC did not keep it
            served_plc.refusal = ua.StatusCodes.BadOutOfRange
            with pytest.raises(ua.uaerrors.BadOutOfRange):
                await set_point.write_value(99.0)
            assert await set_point.read_value() == served_plc.values()[7]
            for node, value, error in (
                (set_point, True, ua.uaerrors.BadTypeMismatch),
                (client.nodes.server_state, 1, ua.uaerrors.BadNotWritable),
            ):
                with pytest.raises(error):
                    await node.write_value(value)
            assert len(served_plc.writes) == 2

    asyncio.run(talk())


def test_methods_run_in_the_plc(served_plc):
    async def talk():
        async with connected(served_plc.server.endpoint) as (_, plc, child):
            await plc.call_method(await child("SafeState"))
            await plc.call_method(await child("SetMode"), 1)
            await plc.call_method(await child("SetOutput"), 2.0, ua.Variant(55, ua.VariantType.UInt16))
            assert served_plc.calls == [("SafeState", []), ("SetMode", [1.0]), ("SetOutput", [2.0, 55.0])]
            for arguments, error in (
                ((), ua.uaerrors.BadArgumentsMissing),
                ((1, 2), ua.uaerrors.BadTooManyArguments),
                (("auto",), ua.uaerrors.BadInvalidArgument),
            ):
                with pytest.raises(error):
                    await plc.call_method(await child("SetMode"), *arguments)
            served_plc.refusal = ua.StatusCodes.BadInvalidState
            with pytest.raises(ua.uaerrors.BadInvalidState):
                await plc.call_method(await child("Reset"))
            inputs = await (await (await child("SetOutput")).get_child("0:InputArguments")).read_value()
            assert [each.Name for each in inputs] == ["output", "percent"]

    asyncio.run(talk())


class Events:
    def __init__(self):
        self.seen = []

    def event_notification(self, event):
        self.seen.append(event)

    def alarms(self):
        return [
            (e.SourceName, getattr(e, "ActiveState/Id"), getattr(e, "AckedState/Id"), e.Retain, e.Severity)
            for e in self.seen
            if hasattr(e, "ActiveState/Id") and getattr(e, "ActiveState/Id") is not None
        ]


def test_alarms_come_are_acknowledged_and_go(served_plc):
    on = AlarmEvent("PLC1", "LIT101", "HI", True, 500, "LIT101 is 93")
    off = on._replace(active=False, message="LIT101 is 80")

    async def talk():
        async with connected(served_plc.server.endpoint) as (client, plc, _):
            events = Events()
            subscription = await client.create_subscription(50, events)
            await subscription.subscribe_alarms_and_conditions(client.nodes.server, ALARM)
            at_plc = Events()
            other = await client.create_subscription(50, at_plc)
            await other.subscribe_events(plc, ALARM)
            served_plc.run(served_plc.server.alarm([on]))
            await until(events.alarms)
            assert events.alarms() == [("LIT101", True, False, True, 500)]
            event = events.seen[-1]
            assert event.Message.Text == "LIT101 is 93"
            assert event.ConditionName == "LIT101_HI"
            assert event.EventType.Identifier == ua.ObjectIds.ExclusiveLimitAlarmType
            assert event.SourceNode.Identifier == "PLC1.LIT101"
            condition = client.get_node(event.NodeId)
            with pytest.raises(ua.uaerrors.BadEventIdUnknown):
                await condition.call_method(ACKNOWLEDGE, b"no", ua.LocalizedText("?"))
            await condition.call_method(ACKNOWLEDGE, event.EventId, ua.LocalizedText("seen"))
            await until(lambda: len(events.alarms()) == 2)
            assert events.alarms()[-1] == ("LIT101", True, True, True, 500)
            assert events.seen[-1].Comment.Text == "seen"
            with pytest.raises(ua.uaerrors.BadConditionBranchAlreadyAcked):
                await condition.call_method(ACKNOWLEDGE, events.seen[-1].EventId, ua.LocalizedText("again"))
            served_plc.run(served_plc.server.alarm([off]))
            await until(lambda: len(events.alarms()) == 3)
            assert events.alarms()[-1] == ("LIT101", False, True, False, 500)
            await until(lambda: at_plc.alarms() == events.alarms())

    asyncio.run(talk())


def test_who_comes_late_gets_the_standing_alarms_by_a_refresh(served_plc):
    trip = AlarmEvent("PLC1", "FIT101", "TRIP", True, 900, "dry pump")

    async def talk():
        served_plc.run(served_plc.server.alarm([trip]))
        async with connected(served_plc.server.endpoint) as (client, _, _):
            events = Events()
            subscription = await client.create_subscription(50, events)
            await subscription.subscribe_alarms_and_conditions(client.nodes.server, ALARM)
            condition_type = client.get_node(ua.NodeId(ua.ObjectIds.ConditionType))
            number = ua.Variant(subscription.subscription_id, ua.VariantType.UInt32)
            await condition_type.call_method(REFRESH, number)
            await until(events.alarms)
            assert events.alarms() == [("FIT101", True, False, True, 900)]

    asyncio.run(talk())


def test_history_of_a_tag_and_only_of_it(served_plc):
    async def talk():
        async with connected(served_plc.server.endpoint) as (_, _, child):
            await until(lambda: served_plc.count >= 12)
            served_plc.held = True
            await asyncio.sleep(0.1)
            level = await child("LIT101")
            newest = await level.read_raw_history()
            assert [v.Value.Value for v in newest] == list(map(float, range(served_plc.count, 0, -1)))
            first, last = newest[-1].SourceTimestamp, newest[0].SourceTimestamp
            all_ = await level.read_raw_history(first, last)
            assert [v.Value.Value for v in all_] == list(map(float, range(1, served_plc.count + 1)))
            some = await level.read_raw_history(all_[3].SourceTimestamp, all_[6].SourceTimestamp)
            assert [v.Value.Value for v in some] == [4.0, 5.0, 6.0, 7.0]
            back = await level.read_raw_history(all_[6].SourceTimestamp, all_[3].SourceTimestamp)
            assert [v.Value.Value for v in back] == [7.0, 6.0, 5.0, 4.0]
            assert [v.Value.Value for v in await level.read_raw_history(first, last, 2)] == [1.0, 2.0]
            assert await level.read_raw_history(last + timedelta(seconds=1), last + timedelta(hours=1)) == []
            details = ua.ReadRawModifiedDetails(False, first, last, 5, False)
            page = await level.history_read(details)
            assert len(page.HistoryData.DataValues) == 5
            rest = await level.history_read(details, page.ContinuationPoint)
            assert rest.HistoryData.DataValues[0].Value.Value == 6.0
            with pytest.raises(ua.uaerrors.BadHistoryOperationUnsupported):
                await (await child("TIT101")).read_raw_history(first, last)

    asyncio.run(talk())


def test_overflow_of_a_queue_is_marked_on_the_next_value(served_plc):
    async def talk():
        async with connected(served_plc.server.endpoint) as (client, _, child):
            got = []

            class Handler:
                def datachange_notification(self, node, value, data):
                    got.append((value, data.monitored_item.Value.StatusCode.value))

            subscription = await client.create_subscription(400, Handler())
            await subscription.subscribe_data_change(await child("LIT101"), queuesize=3)
            await until(lambda: any(code for _, code in got[3:-2]))
            await subscription.delete()
            marked = next(i for i, (_, code) in enumerate(got) if code and i >= 3)
            values = [value for value, _ in got[marked - 1 : marked + 3]]
            assert [code for _, code in got[marked : marked + 3]] == [0x480, 0, 0]
            assert values[1] > values[0] + 1  # of eight changes the last three
            assert values[1:] == [values[1], values[1] + 1, values[1] + 2]

    asyncio.run(talk())


def test_servers_of_one_process_share_nothing_that_they_show():
    async def talk():
        servers = [PlcServer(plc, tags, lambda *_: 0) for plc, tags in PLC_TAGS.items()]
        for server in servers:
            await server.start(0, [1.0] * len(server.tags))
        try:
            for server in servers:
                async with connected(server.endpoint, server.plc) as (client, folder, _):
                    assert len(await folder.get_variables()) == len(server.tags)
                    objects = [
                        (await n.read_browse_name()).Name for n in await client.nodes.objects.get_children()
                    ]
                    assert [name for name in objects if name.startswith("PLC")] == [server.plc]
                    info = await client.get_node(ua.ObjectIds.Server_ServerStatus_BuildInfo).read_value()
                    assert info.ManufacturerName
                    analog = client.get_node(ua.ObjectIds.AnalogItemType)  # of the shared standard nodes
                    assert (await analog.read_browse_name()).Name == "AnalogItemType"
        finally:
            for server in servers:
                await server.stop()

    asyncio.run(talk())
