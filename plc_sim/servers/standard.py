# mypy: disable-error-code="attr-defined,misc,no-untyped-call"
# asyncua re-exports its generated types without __all__.
# ruff: noqa: SLF001  (asyncua has no other way in)
"""asyncua's server parts, changed where a plant of several PLCs needs it.

- The standard address space (6000 nodes, over a second to make) is made once a process; each server copies a
  node when it first touches it.
- A monitored item whose queue runs over marks the next value with the overflow bit (OPC UA Part 4, 7.39).
- Every connection can be made to go silent.
"""

from __future__ import annotations

import asyncio
import functools
import gc
from copy import deepcopy
from dataclasses import replace
from typing import Any

from asyncua import Server, ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData, NodeManagementService
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.subscription_service import SubscriptionService

OVERFLOW = 0x0480  # InfoType DataValue and the overflow bit of a StatusCode


@functools.cache
def _standard_nodes() -> dict[ua.NodeId, NodeData]:
    from asyncua.server.standard_address_space import standard_address_space

    space = AddressSpace()
    gc.disable()  # 100,000 objects that stay
    try:
        standard_address_space.fill_address_space(NodeManagementService(space))
    finally:
        gc.freeze()
        gc.enable()
    return space._nodes


class _Nodes(dict[ua.NodeId, NodeData]):
    """The nodes of one server: its own, and copies of those standard nodes that it has touched."""

    def __init__(self) -> None:
        super().__init__()
        self.standard = _standard_nodes()

    def __missing__(self, key: ua.NodeId) -> NodeData:
        model = self.standard[key]
        node = NodeData(model.nodeid)
        node.references = list(model.references)
        for name, attribute in model.attributes.items():
            node.attributes[name] = AttributeValue(deepcopy(attribute.value))  # type: ignore[arg-type]
        self[key] = node
        return node

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.standard

    def get(self, key: ua.NodeId, default: Any = None) -> Any:
        """The node, or the default."""
        try:
            return self[key]
        except KeyError:
            return default


class _Subscriptions(SubscriptionService):
    async def create_subscription(self, *args: Any, **kwargs: Any) -> ua.CreateSubscriptionResult:
        result = await super().create_subscription(*args, **kwargs)
        self.subscriptions[result.SubscriptionId].__class__ = _Subscription
        return result


class _Subscription(InternalSubscription):
    async def enqueue_datachange_event(
        self, mid: int, eventdata: ua.MonitoredItemNotification, maxsize: int
    ) -> None:
        waiting = self._triggered_datachanges.get(mid, ())
        if 1 < maxsize <= len(waiting):  # asyncua drops the oldest; the next one tells (Part 4, 5.12.1.5)
            value = waiting[1].Value
            waiting[1].Value = replace(value, StatusCode=ua.StatusCode(value.StatusCode.value | OVERFLOW))
        await super().enqueue_datachange_event(mid, eventdata, maxsize)


class Internal(InternalServer):
    """The services of one PLC's server."""

    def __init__(self, user_manager: Any) -> None:
        super().__init__(user_manager)
        self.subscription_service = _Subscriptions(self.aspace, iserver=self)
        self.isession.subscription_service = self.subscription_service
        self.bind_condition_methods = 1  # severity of the events that frame a refresh
        self.max_monitored_item_queue_size = 1000
        self.max_pending_activation_seconds = 0.0  # a stalled server does not close anything either
        self.disabled_clock = True  # the PLC's own clock, which can jump

    async def load_standard_address_space(self, shelf_file: Any = None) -> None:
        """Take the nodes that all servers of this process share."""
        del shelf_file
        self.aspace._nodes = _Nodes()

    def largest_queue(self) -> int:
        """Largest queue size of all monitored items, 0 without any."""
        items = (
            item.queue_size
            for subscription in self.subscription_service.subscriptions.values()
            for item in subscription.monitored_item_srv._monitored_items.values()
        )
        return max(items, default=0)


class _Line:
    """A transport that can fall silent: nothing is read, what is written is held."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.silent = False
        self.held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        if self.silent:
            self.held.append(data)
        else:
            self.transport.write(data)

    def fall_silent(self) -> None:
        if not self.transport.is_closing():
            self.silent = True
            self.transport.pause_reading()

    def speak(self) -> None:
        self.silent = False
        if not self.transport.is_closing():
            self.transport.writelines(self.held)
            self.transport.resume_reading()
        self.held.clear()


class _Connection(OPCUAProtocol):
    listener: Listener
    line: _Line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.line = _Line(transport)
        if self.listener.stalled:
            self.line.fall_silent()
        stand_in: Any = self.line
        super().connection_made(stand_in)


class Listener(BinaryServer):
    """The socket of one server and its lines."""

    stalled = False

    def _make_protocol(self) -> OPCUAProtocol:
        connection = _Connection(self.iserver, self._policies, self.clients, self.closing_tasks, self.limits)
        connection.listener = self
        return connection

    def lines(self) -> list[_Line]:
        """The open connections."""
        return [client.line for client in self.clients if isinstance(client, _Connection)]


class PlcStack(Server):
    """asyncua's server with these parts."""

    bserver: Listener
    iserver: Internal

    def __init__(self, user_manager: Any) -> None:
        super().__init__(iserver=Internal(user_manager))

    async def start(self) -> None:
        """Listen; OSError if the port is taken."""
        await self._setup_server_nodes()
        await self.iserver.start()
        host, port = self._get_bind_socket_info()
        assert host is not None and port is not None  # noqa: PT018
        self.bserver = Listener(self.iserver, host, port, self.limits)
        self.bserver.set_policies(self._policies)
        await self.bserver.start()
