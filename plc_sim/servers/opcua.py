# mypy: disable-error-code="attr-defined,arg-type"
# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
"""One PLC's OPC UA server: tags as AnalogItems, methods, alarms, history; writes and calls go to the PLC.

Objects / <ns>:PLC1 / <ns>:LIT101 ...     with EngineeringUnits and EURange (OPC UA Part 8)
Objects / <ns>:PLC1 / <ns>:SafeState() ...
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asyncua import Node, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AttributeService

from cellwatch.plc_sim.plcs.alarms import AlarmEvent
from cellwatch.plc_sim.plcs.parts import METHODS, SCAN_S
from cellwatch.plc_sim.servers.alarms import Alarms
from cellwatch.plc_sim.servers.history import History
from cellwatch.plc_sim.servers.nodes import TYPES, data_value, is_analog, variable
from cellwatch.plc_sim.servers.security import OneUser, Security
from cellwatch.plc_sim.servers.standard import PlcStack
from cellwatch.plc_sim.tags import TagSpec

NAMESPACE = "urn:cellwatch:plc_sim"
HISTORY_DEPTH = 6_000  # values a tag: ten minutes of changes in every scan
WriteTaken = Callable[[str, float], int]  # tag, value -> StatusCode, 0 = taken
CallTaken = Callable[[str, Sequence[float]], int]  # method, arguments -> StatusCode
_ADMIN = User(role=UserRole.Admin)
_NUMERIC = {ua.VariantType(n) for n in range(ua.VariantType.Boolean.value, ua.VariantType.Double.value + 1)}


@dataclass(slots=True)
class Distortion:
    """What is wrong with the values that the server shows."""

    clock_ns: int = 0  # added to all timestamps
    status: int = 0  # StatusCode of every tag, 0 for its own
    burst: float = 0.0  # changes of each analog tag in a scan, in sizes of the largest queue


class _Writes(AttributeService):
    """The Write service of clients: tags go through the PLC, everything else is refused."""

    def __init__(self, aspace: Any, nodes: Sequence[ua.NodeId], server: PlcServer) -> None:
        super().__init__(aspace)
        self.place = {node: i for i, node in enumerate(nodes)}
        self.server = server

    async def write(self, params: ua.WriteParameters, user: User = _ADMIN) -> list[ua.StatusCode]:
        if user.role == UserRole.Admin:  # the server's own bookkeeping
            return await super().write(params, user)
        return [await self._one(item) for item in params.NodesToWrite]

    async def _one(self, item: ua.WriteValue) -> ua.StatusCode:
        i = self.place.get(item.NodeId)
        if i is None or item.AttributeId != ua.AttributeIds.Value:
            known = item.NodeId in self._aspace
            return ua.StatusCode(ua.StatusCodes.BadNotWritable if known else ua.StatusCodes.BadNodeIdUnknown)
        spec = self.server.tags[i]
        given = item.Value.Value
        wanted = TYPES[spec.kind][0]
        if given is None or given.VariantType != wanted or given.is_array:
            return ua.StatusCode(ua.StatusCodes.BadTypeMismatch)
        if item.Value.StatusCode is not None and not item.Value.StatusCode.is_good():
            return ua.StatusCode(ua.StatusCodes.BadWriteNotSupported)
        code = self.server.take_write(spec.name, float(given.Value))
        if code:
            return ua.StatusCode(code)
        self.server.written[i] = None  # what the PLC makes of it comes with the next scan
        now = self.server.now()
        value = replace(item.Value, SourceTimestamp=now, ServerTimestamp=now)
        return await self._aspace.write_attribute_value(item.NodeId, ua.AttributeIds.Value, value)


class PlcServer:
    """One OPC UA server with the tags of one PLC. It can be stopped and started again."""

    def __init__(
        self,
        plc: str,
        tags: Sequence[TagSpec],
        take_write: WriteTaken,
        security: Security | None = None,
        take_call: CallTaken | None = None,
        historized: Collection[str] = (),
    ) -> None:
        """`take_write(tag, value)` and `take_call(method, arguments)` return 0 or the refusal's StatusCode.

        Without `take_call` the PLC has no methods; `historized` names the tags with history.
        """
        self.plc = plc
        self.tags = tuple(tags)
        self.security = security or Security()
        self.security.check()
        self.take_write = take_write
        self.take_call = take_call
        self.historized = frozenset(historized)
        self.host = ""
        self.port = 0
        self.certificate: Path | None = None
        self.downloads = 0  # of programs; each one changes the node ids
        self.distortion = Distortion()
        self._server: PlcStack | None = None
        self._clock: asyncio.Task[None] | None = None
        self._alarms: Alarms | None = None
        self._history = History(HISTORY_DEPTH)
        self._nodes: list[ua.NodeId] = []
        self._node: dict[str, ua.NodeId] = {}
        self._shown: list[tuple[float, int]] = [(0.0, 0)] * len(self.tags)  # value and status last published
        self.written: list[tuple[float, int] | None] = []  # what stands in the nodes, None: anything
        self._standing: dict[tuple[str, str], AlarmEvent] = {}  # active alarms
        self._forgotten: list[Any] = []

    @property
    def endpoint(self) -> str:
        """URL for clients."""
        return f"opc.tcp://{self.host}:{self.port}/cellwatch/"

    def now(self) -> datetime:
        """The PLC's clock."""
        return datetime.now(UTC) if not self.distortion.clock_ns else self._stamp(0)

    async def start(
        self, port: int = 0, values: Sequence[float] | None = None, host: str = "127.0.0.1"
    ) -> str:
        """Listen and return the endpoint URL; `port` 0 takes a free one. OSError if the port is taken.

        `values` are shown until `publish` brings others; NaN waits for initial data.
        """
        self.host, self.port = host, claim_port(host, port)
        if values is not None:
            waiting = int(ua.StatusCodes.BadWaitingForInitialData)
            self._shown = [(value, waiting if math.isnan(value) else 0) for value in values]
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # refusals reach the client as StatusCodes
        server = PlcStack(OneUser(self.security))
        await server.init()
        server.set_endpoint(self.endpoint)
        server.set_server_name(f"Cellwatch {self.plc}")
        self.certificate = await self.security.apply(server)
        for k in range(self.downloads):
            await server.register_namespace(f"urn:cellwatch:program:{k + 1}")
        index = await server.register_namespace(NAMESPACE)
        await self._add_nodes(server, index)
        await server.start()
        self._server = server
        self._clock = asyncio.create_task(self._tick(server))
        standing = list(self._standing.values())
        await self.alarm(standing)
        return self.endpoint

    async def stop(self) -> None:
        """Close all sessions and the socket."""
        server, self._server = self._server, None
        if server is None:
            return
        assert self._clock is not None
        self._clock.cancel()
        self._forgotten.clear()
        await asyncio.wait_for(server.stop(), timeout=5.0)

    async def publish(
        self, time_ns: int, values: Sequence[float], status: Sequence[int] | None = None
    ) -> int:
        """Write the values that changed, with source time `time_ns`; returns how many.

        A stopped server remembers them.
        """
        bent = self.distortion
        new = list(zip(values, status, strict=True)) if status is not None else [(v, 0) for v in values]
        if bent.status:
            new = [(value, bent.status) for value, _ in new]
        self._shown = new
        if self._server is None:
            return 0
        before, self.written = self.written, [*new]
        stamp = self._stamp(time_ns)
        write = self._server.iserver.aspace.write_attribute_value
        keep = self._history.keep
        written = 0
        for old, shown, node, spec in zip(before, new, self._nodes, self.tags, strict=True):
            if old == shown:
                continue
            value = data_value(spec, *shown, stamp)
            await write(node, ua.AttributeIds.Value, value)
            if spec.name in self.historized:
                keep(node, value)
            written += 1
        if bent.burst:
            written += await self._burst(time_ns)
        return written

    async def alarm(self, changes: Sequence[AlarmEvent]) -> None:
        """Tell the clients that alarms have come or gone."""
        for change in changes:
            if change.active:
                self._standing[change.tag, change.condition] = change
            else:
                self._standing.pop((change.tag, change.condition), None)
            if self._alarms is not None and self._server is not None:
                await self._alarms.change(change, self._node[change.tag], self.now())

    def stall(self) -> None:
        """Accept connections and answer none, old or new."""
        if self._server is not None:
            self._server.bserver.stalled = True
            for line in self._server.bserver.lines():
                line.fall_silent()

    def resume(self) -> None:
        """Answer again, first what was asked in between."""
        if self._server is not None:
            self._server.bserver.stalled = False
            for line in self._server.bserver.lines():
                if line not in self._forgotten:
                    line.speak()

    def forget(self) -> None:
        """Leave the established connections silent, without FIN or RST."""
        if self._server is not None:
            self._forgotten = self._server.bserver.lines()
            for line in self._forgotten:
                line.fall_silent()

    def reset_forgotten(self) -> None:
        """Reset what `forget` left."""
        for line in self._forgotten:
            line.abort()
        self._forgotten = []

    async def _tick(self, server: PlcStack) -> None:
        """The clock that clients can read, once a second."""
        status = server.get_node(ua.ObjectIds.Server_ServerStatus)
        current = server.get_node(ua.ObjectIds.Server_ServerStatus_CurrentTime)
        while True:
            now = self.now()
            whole = replace(await status.read_value(), CurrentTime=now)
            await status.write_value(whole)
            await current.write_value(now)
            await asyncio.sleep(1.0)

    def _stamp(self, time_ns: int) -> datetime:
        base = time_ns * 1e-9 if time_ns else datetime.now(UTC).timestamp()
        return datetime.fromtimestamp(base + self.distortion.clock_ns * 1e-9, UTC)

    async def _burst(self, time_ns: int) -> int:
        """Changes of all analog tags within one scan, a thousandth of their range up and down."""
        assert self._server is not None
        internal = self._server.iserver
        count = math.ceil(self.distortion.burst * internal.largest_queue())
        step_ns = int(SCAN_S * 1e9 / (count + 1))
        for k in range(count):
            stamp = self._stamp(time_ns + (k + 1) * step_ns)
            for (value, code), node, spec in zip(self._shown, self._nodes, self.tags, strict=True):
                if is_analog(spec):
                    beside = value + (k % 2 * 2 - 1) * 1e-3 * (spec.high - spec.low)
                    shown = data_value(spec, beside, code, stamp)
                    await internal.aspace.write_attribute_value(node, ua.AttributeIds.Value, shown)
        self.written = [None] * len(self.tags)
        return count * len([spec for spec in self.tags if is_analog(spec)])

    async def _add_nodes(self, server: PlcStack, index: int) -> None:
        """The PLC's object with tags and methods; a downloaded program has numbers for node ids."""
        plc = self._id(index, 0, self.plc)
        folder = await server.nodes.objects.add_object(plc, ua.QualifiedName(self.plc, index))
        names = [f"{self.plc}.{spec.name}" for spec in self.tags]
        self._nodes = [self._id(index, i, name) for i, name in enumerate(names, start=1)]
        self._node = {spec.name: node for spec, node in zip(self.tags, self._nodes, strict=True)}
        now = self.now()
        items: list[ua.AddNodesItem] = []
        shown_now = self._shown  # a scan may come while this waits
        self.written = [*shown_now]
        self._history = History(HISTORY_DEPTH)
        for spec, node, shown in zip(self.tags, self._nodes, shown_now, strict=True):
            value = data_value(spec, *shown, now)
            items += variable(node, plc, spec, value, spec.name in self.historized)
            if spec.name in self.historized:
                await self._history.new_historized_node(node, None)
        for result in await server.iserver.isession.add_nodes(items):
            result.StatusCode.check()
        for spec, node, shown in zip(self.tags, self._nodes, shown_now, strict=True):
            first = data_value(spec, *shown, now)
            await server.iserver.aspace.write_attribute_value(node, ua.AttributeIds.Value, first)
        server.iserver.history_manager.set_storage(self._history)
        server.iserver.attribute_service = _Writes(server.iserver.aspace, self._nodes, self)
        if self.take_call is not None:
            await self._add_methods(folder, index)
        self._alarms = Alarms(server, plc)
        await self._alarms.announce()

    async def _add_methods(self, folder: Node, index: int) -> None:
        for k, (name, arguments) in enumerate(METHODS.items(), start=len(self.tags) + 1):
            inputs = [
                ua.Argument(argument, ua.NodeId(ua.ObjectIds.Double), ua.ValueRank.Scalar)
                for argument in arguments
            ]
            node = self._id(index, k, f"{self.plc}.{name}")
            await folder.add_method(node, ua.QualifiedName(name, index), self._method(name), inputs, [])

    def _method(self, name: str) -> Callable[..., Any]:
        async def run(parent: ua.NodeId, *arguments: ua.Variant) -> ua.CallMethodResult | ua.StatusCode:
            del parent
            wanted = len(METHODS[name])
            if len(arguments) != wanted:
                few = len(arguments) < wanted
                return ua.StatusCode(
                    ua.StatusCodes.BadArgumentsMissing if few else ua.StatusCodes.BadTooManyArguments
                )
            fits = [
                ua.StatusCode(
                    ua.StatusCodes.Good
                    if each.VariantType in _NUMERIC and not each.is_array
                    else ua.StatusCodes.BadTypeMismatch
                )
                for each in arguments
            ]
            if not all(each.is_good() for each in fits):
                return ua.CallMethodResult(ua.StatusCode(ua.StatusCodes.BadInvalidArgument), fits)
            assert self.take_call is not None
            return ua.StatusCode(self.take_call(name, [float(each.Value) for each in arguments]))

        return run

    def _id(self, index: int, nth: int, name: str) -> ua.NodeId:
        if not self.downloads:
            return ua.NodeId(name, index)
        return ua.NodeId(1000 * self.downloads + nth, index)


def claim_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0; OSError at once if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or 0"
            ) from None
        return int(probe.getsockname()[1])
