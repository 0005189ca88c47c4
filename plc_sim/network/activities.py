"""Benign life that looks like an attack: many connections, big flows, port checks, writes.

Scenarios ask for it; none of it is labelled. Each takes one to three minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cellwatch.plc_sim.frames import arp_frame, group, udp_frame
from cellwatch.plc_sim.network import sessions
from cellwatch.plc_sim.network.control import OpcUaClient
from cellwatch.plc_sim.network.hosts import ROLES
from cellwatch.plc_sim.network.services import ping
from cellwatch.plc_sim.network.tcp import MS
from cellwatch.plc_sim.wire import discovery

if TYPE_CHECKING:
    from cellwatch.plc_sim.network.network import Habit, Network

S = 1_000 * MS
STATION, HMI = "ENG1", "HMI1"
_EVERYONE = group("255.255.255.255")
_CHECKED = (
    21,
    22,
    23,
    25,
    53,
    80,
    102,
    139,
    443,
    445,
    502,
    554,
    1883,
    3389,
    4840,
    5900,
    6668,
    8080,
    8883,
    44818,
)


def firmware_update(net: Network, at: int) -> Habit:
    """New firmware for sensors and plugs, one by one: a big fast flow, a restart, new connections."""
    devices = _of(net, "sensor", "smart-plug")
    picked = net.rng.permutation(len(devices))[: 3 + int(3 * net.uniform())]
    for name in (devices[i] for i in picked):
        yield at
        tcp = net.connect(STATION, name, 80)
        net.send(tcp.handshake(at, net.gap()))
        done = sessions.transfer(net, tcp, 0, net.between(400, 900), net.between(150, 1200), at + 10 * MS)
        yield done
        net.send(tcp.close(done + 50 * MS, net.gap()))
        _restart(net, name, done + int(net.between(2, 4) * S))
        at = done + int(net.between(5, 12) * S)


def shift_change(net: Network, at: int) -> Habit:
    """Operators log in: many short connections, sessions and a write on every PLC, a camera watched."""
    for name in _of(net, "camera")[-1:]:  # wisenet, which speaks RTSP
        sessions.watch(net, HMI, name, net.between(20, 60), at + 2 * S)
    gates = _of(net, "mqtt-broker", "edge", "router")
    for _ in range(20 + int(30 * net.uniform())):
        yield at
        server = gates[int(net.uniform() * len(gates))]
        at = sessions.http_get(net, HMI, server, "/status", int(net.between(300, 9000)), at)
        at += int(net.between(0.02, 1.2) * S)
    for i, plc in enumerate(net.site.plcs):
        yield at
        session, at = OpcUaClient.open(net, HMI, plc, at, 200 + i)
        at = session.browse(at, "", net.tags[plc])
        points = net.set_points[plc]
        if points:
            at = session.write(at, [(tag, net.values.get(tag, 0.0)) for tag in points[:1]])
        at = session.close(session.read(at, net.tags[plc])) + int(net.between(0.5, 4) * S)
    yield at
    tcp, at = sessions.ssh_login(net, STATION, "mqtt-broker", at)
    sessions.ssh_type(net, tcp, 10 + int(30 * net.uniform()), at)


def technician_scan(net: Network, at: int) -> Habit:
    """Take stock from the engineering station: who answers an echo, which ports are open, what PLCs offer."""
    here = [name for name in net.site.hosts if name not in {STATION, "iot-cloud"}]
    a = net.hosts[STATION]
    for i, name in enumerate(here):
        yield at
        net.send([(at, arp_frame(a, net.hosts[name], reply=False))])
        net.send([(at + net.gap(), arp_frame(net.hosts[name], a, reply=True))])
        net.send(ping(net, STATION, name, 1000 + i, at + 2 * MS))
        at += int(net.between(0.005, 0.15) * S)
    pause = net.between(0.004, 0.04)  # 25 to 250 ports a second
    for name in here:
        for port in _CHECKED:
            yield at
            sessions.look_at_port(net, STATION, name, ROLES[name], port, at)
            at += net.wobble(pause, 0.5)
    for i, plc in enumerate(net.site.plcs):
        yield at
        session, at = OpcUaClient.open(net, STATION, plc, at, 300 + i)
        at = session.close(session.read(session.browse(at, "", net.tags[plc]), net.tags[plc])) + S
    if "switch" in net.hosts:
        yield at
        sessions.telnet(net, STATION, "switch", ("admin", "secret", "show ports", "exit"), at)


def backup(net: Network, at: int) -> Habit:
    """Copy the disks of broker and edge over SSH and the programs of the PLCs read by read."""
    for name in _of(net, "mqtt-broker", "edge"):
        yield at
        tcp, ready = sessions.ssh_login(net, STATION, name, at)
        size = net.between(2000, 12000)
        done = sessions.transfer(net, tcp, 1, size, net.between(200, 1500), ready)
        yield done
        net.send(tcp.close(done + 20 * MS, net.gap()))
        at = done + int(net.between(1, 5) * S)
    for plc in net.site.plcs:
        yield at
        session, at = OpcUaClient.open(net, STATION, plc, at, 400)
        for _ in range(20 + int(60 * net.uniform())):
            yield at
            at = session.read(at, net.tags[plc] * 3)
        at = session.close(at) + int(net.between(1, 5) * S)


def _of(net: Network, *roles: str) -> list[str]:
    return [name for name in net.site.hosts if ROLES[name] in roles]


def _restart(net: Network, name: str, at: int) -> None:
    """Ask for an address, announce it; a sensor then connects to the broker again."""
    host, router = net.hosts[name], net.hosts["router"]
    ident = int(net.uniform() * (1 << 32))
    for i, kind in enumerate((1, 2, 3, 5)):  # discover, offer, request, acknowledge
        asks = kind in {1, 3}
        lease = (bytes(4), bytes(4)) if asks else (host.ip, router.ip)
        ports = (68, 67) if asks else (67, 68)
        message = discovery.dhcp(kind, host.mac, ident, *lease)
        net.send([(at + i * 15 * MS, udp_frame(host if asks else router, _EVERYONE, ports, message))])
    net.send([(at + 80 * MS, arp_frame(host, host, reply=False))])
    if ROLES[name] == "sensor":
        net.restarts[name] = at + S


ACTIVITIES: dict[str, Callable[[Network, int], Habit]] = {
    "backup": backup,
    "firmware_update": firmware_update,
    "shift_change": shift_change,
    "technician_scan": technician_scan,
}
