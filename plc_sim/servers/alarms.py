# mypy: disable-error-code="attr-defined,arg-type,no-untyped-call"
# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
"""Alarms as OPC UA events (Part 9): a condition for each tag and limit, acknowledged the standard way."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from asyncua import Server, ua
from asyncua.common import event_objects

from cellwatch.plc_sim.plcs.alarms import AlarmEvent
from cellwatch.plc_sim.servers.nodes import child

SERVER = ua.NodeId(ua.ObjectIds.Server)
ACKNOWLEDGE = ua.NodeId(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge)
_TYPES: dict[str, Any] = {
    "DEVIATION": event_objects.ExclusiveDeviationAlarm,
    "TRIP": event_objects.TripAlarm,
}  # every other condition is a limit


class Alarms:
    """The conditions of one PLC; clients hear them at the PLC's object and at the Server object."""

    def __init__(self, server: Server, plc: ua.NodeId) -> None:
        self._internal = server.iserver
        self._plc = plc
        self._conditions: dict[ua.NodeId, Any] = {}
        self._internal.isession.add_method_callback(ACKNOWLEDGE, self._acknowledge)

    async def announce(self) -> None:
        """Make the PLC a source of events."""
        await self._internal.isession.write(
            ua.WriteParameters(
                [
                    ua.WriteValue(
                        self._plc,
                        ua.AttributeIds.EventNotifier,
                        None,
                        ua.DataValue(
                            ua.Variant(ua.EventNotifier.SubscribeToEvents.mask, ua.VariantType.Byte)
                        ),
                    )
                ]
            )
        )
        await self._refer(SERVER, ua.ObjectIds.HasNotifier, self._plc)

    async def change(self, alarm: AlarmEvent, source: ua.NodeId, at: datetime) -> None:
        """A condition has come or gone; it stays of interest (Retain) until it is gone and acknowledged."""
        name = f"{alarm.tag}_{alarm.condition}"
        number = {"HI": 3, "HIHI": 4, "LO": 5, "LOLO": 6, "DEVIATION": 7}.get(alarm.condition, 8)
        node = child(source, number, alarm.condition)
        event = self._conditions.get(node)
        if event is None:
            event = await self._new(node, name, alarm, source)
        if alarm.active:
            self._set(event, "AckedState", False, "Acknowledged", "Unacknowledged", at)
        self._set(event, "ActiveState", alarm.active, "Active", "Inactive", at)
        event.Severity = alarm.severity
        event.Message = ua.LocalizedText(alarm.message)
        await self._send(event, at)

    async def _new(self, node: ua.NodeId, name: str, alarm: AlarmEvent, source: ua.NodeId) -> Any:
        event = _TYPES.get(alarm.condition, event_objects.ExclusiveLimitAlarm)()
        event.add_property("NodeId", node, ua.VariantType.NodeId)  # the ConditionId
        event.SourceNode, event.SourceName = source, alarm.tag
        event.InputNode, event.ConditionName = source, name
        event.ConditionClassId = ua.NodeId(ua.ObjectIds.ProcessConditionClassType)
        event.ConditionClassName = ua.LocalizedText("ProcessConditionClassType")
        event.Quality = ua.StatusCode(ua.StatusCodes.Good)
        event.SuppressedOrShelved = False
        now = datetime.now(UTC)
        self._set(event, "EnabledState", True, "Enabled", "Disabled", now)
        self._set(event, "AckedState", True, "Acknowledged", "Unacknowledged", now)
        self._conditions[node] = event
        item = ua.AddNodesItem(
            ParentNodeId=source,
            ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasCondition),
            RequestedNewNodeId=node,
            BrowseName=ua.QualifiedName(name, node.NamespaceIndex),
            NodeClass=ua.NodeClass.Object,
            NodeAttributes=ua.ObjectAttributes(DisplayName=ua.LocalizedText(name)),
            TypeDefinition=event.EventType,
        )
        for result in await self._internal.isession.add_nodes([item]):
            result.StatusCode.check()
        return event

    @staticmethod
    def _set(event: Any, state: str, on: bool, yes: str, no: str, at: datetime) -> None:
        setattr(event, state, ua.LocalizedText(yes if on else no))
        setattr(event, f"{state}/Id", on)
        event.add_property(f"{state}/TransitionTime", at, ua.VariantType.DateTime)

    async def _send(self, event: Any, at: datetime) -> None:
        event.Retain = getattr(event, "ActiveState/Id") or not getattr(event, "AckedState/Id")
        event.EventId = uuid.uuid4().bytes
        event.Time = event.ReceiveTime = at
        for emitter in (self._plc, SERVER):  # the last one is where ConditionRefresh looks
            event.emitting_node = emitter
            await self._internal.subscription_service.trigger_event(event)

    async def _acknowledge(self, condition: ua.NodeId, *arguments: ua.Variant) -> ua.StatusCode:
        """Acknowledge(EventId, Comment), called on the condition (Part 9, 5.7.3)."""
        event = self._conditions.get(condition)
        if event is None:
            return ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown)
        if len(arguments) != 2:
            return ua.StatusCode(ua.StatusCodes.BadArgumentsMissing)
        if arguments[0].Value != event.EventId:
            return ua.StatusCode(ua.StatusCodes.BadEventIdUnknown)
        if getattr(event, "AckedState/Id"):
            return ua.StatusCode(ua.StatusCodes.BadConditionBranchAlreadyAcked)
        now = datetime.now(UTC)
        self._set(event, "AckedState", True, "Acknowledged", "Unacknowledged", now)
        event.Comment = arguments[1].Value
        await self._send(event, now)
        return ua.StatusCode()

    async def _refer(self, source: ua.NodeId, reference: int, target: ua.NodeId) -> None:
        item = ua.AddReferencesItem()
        item.SourceNodeId, item.TargetNodeId = source, target
        item.ReferenceTypeId, item.IsForward = ua.NodeId(reference), True
        item.TargetNodeClass = ua.NodeClass.Object
        for result in await self._internal.isession.add_references([item]):
            result.check()
