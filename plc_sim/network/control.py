"""Clients of controllers: OPC UA sessions and Modbus polling, showing the values of the moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

from cellwatch.plc_sim.network.services import ping
from cellwatch.plc_sim.network.tcp import MS, Tcp
from cellwatch.plc_sim.wire import modbus, opcua

if TYPE_CHECKING:
    from cellwatch.plc_sim.network.network import Habit, Network

S = 1_000 * MS
OPCUA_PORT, MODBUS_PORT = 4840, 502
_Message = Callable[[int, int, int], bytes]  # (time_ns, channel, sequence)


@dataclass(frozen=True, slots=True)
class Register:
    """One holding register: a tag times a factor."""

    tag: str
    factor: float = 10.0

    def raw(self, values: Mapping[str, float]) -> int:
        """Value of the register, 0..65535; without a value 0."""
        shown = values.get(self.tag, 0.0) * self.factor
        return 0 if isnan(shown) else min(max(round(shown), 0), 65535)


@dataclass(slots=True)
class OpcUaClient:
    """One client's session on one server; each call sends a request at `at` and returns when it is over."""

    net: Network
    tcp: Tcp
    channel: int
    sequence: int = 1

    @classmethod
    def open(cls, net: Network, client: str, server: str, at: int, channel: int) -> tuple[OpcUaClient, int]:
        """Connect, open a secure channel without security, create and activate a session."""
        tcp = net.connect(client, server, OPCUA_PORT)
        gap = net.gap()
        net.send(tcp.handshake(at, gap))
        url = b"opc.tcp://%s:%d/" % (".".join(map(str, tcp.ends[1].ip)).encode(), OPCUA_PORT)
        me = cls(net, tcp, channel)
        at = net.exchange(tcp, at + 3 * gap, opcua.hello(url), opcua.acknowledge(), 0, MS // 4) + MS
        request, response = opcua.open_channel_request(at), opcua.open_channel_response(at, channel)
        at = net.exchange(tcp, at, request, response, MS, MS // 4) + MS
        name = client.encode()
        at = me._ask(
            at,
            lambda t, c, s: opcua.create_session_request(t, c, s, url, name),
            opcua.create_session_response,
        )
        at = me._ask(at, opcua.activate_session_request, opcua.activate_session_response)
        return me, at

    def read(self, at: int, names: Sequence[str]) -> int:
        """Read values; what is unknown is 0."""
        encoded = [name.encode() for name in names]
        get = self.net.values.get
        values = [get(name, 0.0) for name in names]
        return self._ask(
            at,
            lambda t, c, s: opcua.read_request(t, c, s, encoded),
            lambda t, c, s: opcua.read_response(t, c, s, values),
            40 * MS,
        )

    def write(self, at: int, items: Sequence[tuple[str, float]], status: int = opcua.GOOD) -> int:
        """Write values, each answered with `status`."""
        encoded = [(name.encode(), value) for name, value in items]
        return self._ask(
            at,
            lambda t, c, s: opcua.write_request(t, c, s, encoded),
            lambda t, c, s: opcua.write_response(t, c, s, [status] * len(encoded)),
        )

    def call(self, at: int, method: str, status: int = opcua.GOOD) -> int:
        """Call a method of the PLC's object."""
        plc = self.tcp.ends[1].name.encode()
        return self._ask(
            at,
            lambda t, c, s: opcua.call_request(t, c, s, plc, method.encode()),
            lambda t, c, s: opcua.call_response(t, c, s, status),
        )

    def browse(self, at: int, node: str, found: Sequence[str]) -> int:
        """Browse a node (`""`: Objects), under which `found` lies."""
        return self._ask(
            at,
            lambda t, c, s: opcua.browse_request(t, c, s, node.encode()),
            lambda t, c, s: opcua.browse_response(t, c, s, [name.encode() for name in found]),
        )

    def close(self, at: int) -> int:
        """Close the channel and the connection; returns when all is said."""
        gap = self.net.gap()
        self.sequence += 1
        last = opcua.close_channel(at, self.channel, self.sequence)
        self.net.send(self.tcp.say(at, 0, last))
        self.net.send(self.tcp.close(at + gap, gap))
        return at + 4 * gap

    def _ask(self, at: int, request: _Message, response: _Message, ack_ns: int = MS // 2) -> int:
        self.sequence += 1
        think = int(self.net.between(2, 6) * MS)
        return (
            self.net.exchange(
                self.tcp,
                at,
                request(at, self.channel, self.sequence),
                response(at + think, self.channel, self.sequence),
                think,
                ack_ns,
            )
            + ack_ns
            + MS // 10
        )


def opcua_poll(
    net: Network,
    client: str,
    server: str,
    names: Sequence[str],
    period_s: float,
    jitter: float,
    at: int,
    channel: int,
) -> Habit:
    """Open a session and read all values at a steady rate; a late answer delays the next request."""
    session, ready = OpcUaClient.open(net, client, server, at, channel)
    at = max(at + int(period_s * S), ready)
    while True:
        yield at
        ready = session.read(at, names)
        at = max(at + net.wobble(period_s, jitter), ready)


def engineering(net: Network, station: str, plcs: Sequence[str], period_s: float, at: int) -> Habit:
    """Ping a PLC, read it a few times and hang up; then the next one."""
    count = 0
    while True:
        yield at
        plc = plcs[count % len(plcs)]
        count += 1
        for i in range(2):
            net.send(ping(net, station, plc, 2 * count + i, at + i * S // 2))
        session, ready = OpcUaClient.open(net, station, plc, at + S, 100 + count)
        for _ in range(2 + int(4 * net.uniform())):
            ready = session.read(ready + 150 * MS, net.tags[plc])
        session.close(ready + 300 * MS)
        at = max(at + net.wobble(period_s, 0.4), ready + S)


def modbus_poll(
    net: Network, client: str, server: str, tags: Sequence[Register], period_s: float, at: int
) -> Habit:
    """Read all registers at a steady rate."""
    tcp = net.connect(client, server, MODBUS_PORT)
    gap = net.gap()
    net.send(tcp.handshake(at, gap))
    transaction, at = 0, at + 4 * gap
    while True:
        yield at
        transaction += 1
        values = [register.raw(net.values) for register in tags]
        ready = net.exchange(
            tcp,
            at,
            modbus.read_request(transaction, 1, 0, len(tags)),
            modbus.read_response(transaction, 1, values),
            int(net.between(1, 4) * MS),
        )
        at = max(at + net.wobble(period_s, 0.02), ready + 41 * MS)
