"""Habits of the factory: the DataSense cast at home, and a control network of four PLCs around it.

Ports, peers and sizes of the cast are read from the real benign hour (CIC IIoT 2025,
benign_samples_10sec.csv), periods from its first half: the lists network_{ports,ips,protocols}_*, the number
of packets in the windows where a habit shows, network_packet-size_*, network_window-size_* and network_ttl_*.
docs/world.md compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cellwatch.plc_sim.frames import (
    ICMPV6,
    UDP,
    Host,
    arp_frame,
    group,
    group6,
    icmp_unreachable,
    igmp_query,
    igmp_report,
    udp_body,
    udp_frame,
)
from cellwatch.plc_sim.network import services
from cellwatch.plc_sim.network.appliances import (
    beacon,
    datagram,
    keep_alive,
    lldp_frame,
    notice,
    opaque,
    probe,
    punch,
    sweep,
    upload,
)
from cellwatch.plc_sim.network.control import Register, engineering, modbus_poll, opcua_poll
from cellwatch.plc_sim.network.hosts import ATTACKERS
from cellwatch.plc_sim.network.services import S
from cellwatch.plc_sim.network.tcp import MS, Tcp
from cellwatch.plc_sim.network.telemetry import SENSORS, listener, sensor
from cellwatch.plc_sim.tags import PLC_TAGS
from cellwatch.plc_sim.wire import discovery, http, names

if TYPE_CHECKING:
    from cellwatch.plc_sim.network.network import Habit, Network

POLL_S, MODBUS_S, SESSION_S = 0.5, 1.0, 120.0
SWEEP_S, SWEEP_JITTER = 10.7, 0.46  # the router's ARP: no exchange in 15 % of the windows, two in 8 %
NETBIOS_S = 600.0  # 6 of 360 windows
# Registers of the compressor controller MB401: the tags of PLC4, numbers times ten.
REGISTERS = tuple(Register(tag.name, 10.0 if tag.kind == "float" else 1.0) for tag in PLC_TAGS["PLC4"])

# name: local port, cloud port, cloud address. Plugs of two makes: by MAC.
_PLUGS = {
    "plug-all-cameras": (13837, 8886, "52.43.232.245"),
    "plug-all-rpb": (3473, 8886, "35.164.195.39"),
    "plug-cameras-yi": (31946, 8886, "34.211.189.2"),
    "plug-cameras-geeni": (49742, 8886, "34.211.189.2"),
    "plug-cameras-dekco-blurams": (31004, 8886, "54.188.109.168"),
    "plug-mqtt": (40087, 8886, "100.21.156.247"),
    "plug-rfid": (40148, 8886, "35.162.13.26"),
    "plug-edge1": (40627, 8886, "34.210.19.179"),
    "plug-motion": (40296, 8886, "54.188.109.168"),
    "plug-flame": (40720, 8886, "44.235.194.199"),
    "plug-proximity": (40918, 8886, "34.210.19.179"),
    "plug-vibration": (40412, 8886, "54.212.163.173"),
    "plug-all-sensors": (40503, 8883, "52.25.223.91"),
}
_TIME_SERVERS = ("162.159.200.123", "198.181.199.84", "23.133.168.246", "54.39.17.239", "216.232.132.95")


def habits(net: Network, start: int) -> Iterator[Habit]:
    """All habits, each first due within its period."""
    life = _Life(net, start)
    yield from life.control()
    yield from life.sensors()
    yield from life.plugs()
    yield from life.cameras()
    yield from life.gear()
    yield from life.router()


class _Life:
    def __init__(self, net: Network, start: int) -> None:
        self.net, self.start = net, start
        self.router_host = net.hosts["router"]
        self.times = [net.remote(f"time{i}", ip, 53) for i, ip in enumerate(_TIME_SERVERS)]
        self.everyone, self.upnp = group("255.255.255.255"), group("239.255.255.250")

    def due(self, within_s: float) -> int:
        return self.start + int(self.net.uniform() * within_s * S)

    def control(self) -> Iterator[Habit]:
        """PLCs, their clients, the Modbus device."""
        net = self.net
        for i, plc in enumerate(net.site.plcs):
            yield opcua_poll(net, "HMI1", plc, net.tags[plc], POLL_S, 0.02, self.due(POLL_S), channel=1 + i)
            yield services.arp(net, "HMI1", plc, 20.0, 0.3, self.due(20.0))
            yield services.ntp(net, plc, self.router_host, 64.0, 0.1, self.due(64.0))
        yield modbus_poll(net, "HMI1", "MB401", REGISTERS, MODBUS_S, self.due(MODBUS_S))
        yield engineering(net, "ENG1", net.site.plcs, SESSION_S, self.due(SESSION_S))
        for name in ("HMI1", "ENG1"):
            yield services.ntp(net, name, self.router_host, 64.0, 0.1, self.due(64.0))
            yield services.dns(
                net, name, self.router_host, b"update.example.com", 300.0, 0.3, self.due(300.0)
            )

    def sensors(self) -> Iterator[Habit]:
        """14 publishers, each with an announcement of its address once a minute."""
        net = self.net
        for i, (name, spec) in enumerate(SENSORS.items()):
            host = net.hosts[name]
            yield sensor(net, name, spec, self.due(1.0))
            yield beacon(net, 60.0, 0.0, self.due(60.0), _announce(host))
            yield services.ntp(net, name, self.times[i % len(self.times)], 3600.0, 0.0, self.due(3600.0))
            resolver = net.remote("8.8.8.8", "8.8.8.8", 118)
            yield services.dns(net, name, resolver, b"pool.ntp.org", 3600.0, 0.0, self.due(3600.0))
        # The broker's messages go to the cloud's Elasticsearch, about once a second.
        tcp = net.connect("mqtt-broker", "iot-cloud", 9200, source=57688, stamps=True, windows=(2003, 660))
        yield _bulk_index(net, tcp, 1.0, self.due(1.0))
        for name, period in (("mqtt-broker", 97.0), ("edge1", 124.0)):
            for server in self.times[:2]:
                yield _fixed_time(net, name, server, 2 * period, self.due(2 * period))
        yield listener(net, "edge1", 305.0, (10.0, 16.0), self.due(305.0))
        for name in ATTACKERS.values():  # idle Raspberry Pis
            yield _fixed_time(net, name, self.times[2], 103.0, self.due(103.0))

    def plugs(self) -> Iterator[Habit]:
        """Beacon of the maker's app, keep-alive to its cloud."""
        net = self.net
        for i, (name, (local, port, ip)) in enumerate(_PLUGS.items()):
            old = net.hosts[name].mac[0] == 0xD4
            period, size, source = (6.0, 172, 49153) if old else (5.0, 188, 49154)
            ports = (source, 6667)
            yield beacon(
                net, period, 0.004, self.due(period), datagram(net, name, self.everyone, ports, size)
            )
            if not old:
                yield beacon(net, 10.0, 0.0, self.due(10.0), _announce(net.hosts[name]))
            cloud = net.remote(f"plug-cloud{i}", ip, 238, 65535)
            tcp = net.connect(
                name, cloud, port, source=local, windows=(2920 - int(1400 * net.uniform()), 65535)
            )
            yield keep_alive(net, tcp, (69, 69), 60.0 if not old else 58.0, 0.0, self.due(60.0))

    def cameras(self) -> Iterator[Habit]:
        """Keep-alives, hole punching and, now and then, a clip for the cloud."""
        net = self.net
        # blurams: two connections with timestamps, a search for the gateway each minute, DHCPv6 in vain
        cloud = net.remote("blurams-cloud", "129.146.59.211", 53, 135)
        tcp = net.connect("blurams-camera", cloud, 50523, source=38843, stamps=True, windows=(4736, 135))
        yield keep_alive(net, tcp, (93, 89), 10.0, 0.0, self.due(10.0))
        cloud = net.remote("blurams-data", "129.146.164.113", 53, 2000)
        tcp = net.connect("blurams-camera", cloud, 50920, source=40356, stamps=True, windows=(12271, 439))
        yield keep_alive(net, tcp, (40, 40), 16.0, 0.4, self.due(16.0), rounds=(2, 5), ack=True)
        yield _gateway_search(net, 60.0, self.due(60.0))
        yield _solicit(net, "blurams-camera", 147, self.due(60.0))
        data = net.remote("blurams-store", "129.146.123.175", 53)
        yield upload(net, "blurams-camera", data, b"store.blurams.com", (10, 900), 900.0, self.due(900.0))
        # dekco: a keep-alive nobody can read, pictures over plain HTTP
        cloud = net.remote("dekco-cloud", "47.252.33.91", 51, 166)
        tcp = net.connect("dekco-camera", cloud, 18665, source=40791, stamps=True, windows=(15008, 166))
        yield keep_alive(net, tcp, (210, 106), 34.0, 0.02, self.due(34.0), make=opaque)
        store = net.remote("dekco-store", "47.88.37.113", 48, 43440)
        yield upload(
            net, "dekco-camera", store, b"store.dekco.com", (15, 60), 510.0, self.due(510.0), port=80,
            windows=(91, 15000), mss=(1460, 1240),
        )  # fmt: skip
        # geeni: the beacon of the plugs, MQTT over TLS
        ports = (45235, 6667)
        yield beacon(net, 5.0, 0.004, self.due(5.0), _df(net, "geeni-camera", self.everyone, ports, 188))
        cloud = net.remote("geeni-cloud", "34.211.189.2", 238, 27)
        tcp = net.connect("geeni-camera", cloud, 8883, source=48679, stamps=True, windows=(7468, 27))
        yield keep_alive(net, tcp, (69, 69), 60.0, 0.02, self.due(60.0))
        yield keep_alive(net, tcp, (197, 69), 64.0, 0.3, self.due(64.0))
        yield probe(net, tcp, 25.0, 0.3, self.due(25.0))
        store = net.remote("geeni-store", "52.218.136.217", 239)
        yield upload(
            net,
            "geeni-camera",
            store,
            b"s3.amazonaws.com",
            (10, 60),
            450.0,
            self.due(450.0),
            windows=(251, 11000),
        )
        # myq: short notices both ways
        cloud = net.remote("myq-cloud", "52.0.242.211", 236, 480)
        tcp = net.connect("myq-camera", cloud, 5104, source=50336, stamps=True, windows=(6908, 480))
        yield notice(net, tcp, 1, 33, 47.0, 0.3, self.due(47.0))
        yield notice(net, tcp, 0, 69, 66.0, 0.3, self.due(66.0))
        yield notice(net, tcp, 0, 78, 150.0, 0.3, self.due(150.0))
        # yi: hole punching to three servers, clips
        servers = [
            net.remote(f"yi-relay{i}", ip, 47)
            for i, ip in enumerate(("8.219.125.49", "47.252.29.207", "47.254.42.218"))
        ]
        yield punch(net, "yi-camera", servers, (17721, 32100), (108, 8), 25.0, self.due(25.0))
        store = net.remote("yi-store", "47.88.5.14", 43, 42340)
        yield upload(net, "yi-camera", store, b"store.yi.com", (100, 900), 510.0, self.due(510.0))
        # wisenet: announces itself to the switch
        yield beacon(net, 1.0, 0.002, self.due(1.0), lldp_frame(net, "wisenet-camera", 198))

    def gear(self) -> Iterator[Habit]:
        """Access point and switch."""
        net = self.net
        ap, switch = net.hosts["ap"], net.hosts["switch"]
        yield beacon(
            net, 10.0, 0.003, self.due(10.0), datagram(net, "ap", self.everyone, (43209, 29810), 929)
        )
        yield services.arp(net, "switch", "blurams-camera", 48.0, 0.4, self.due(48.0), broadcast=False)
        location = b"http://192.168.1.200/desc.xml"
        notify = [
            udp_frame(switch, self.upnp, (1900 if size < 400 else 50004, 1900), body, ttl=1)
            for size in (372, 380, 388, 396, 414, 444)
            for body in (discovery.ssdp_notify(location, size - 42),)
        ]
        yield beacon(net, 180.0, 0.0, self.due(180.0), *[_same(frame) for frame in notify])
        everyone6 = b"\xff\x02" + bytes(13) + b"\x02"
        for host in (ap, net.hosts["edge1"], net.hosts["mqtt-broker"], net.hosts["blurams-camera"]):
            body = bytes([133, 0, 0, 0]) + bytes(4) + b"\x01\x01" + host.mac  # router solicitation, RFC 4861
            yield beacon(net, 1800.0, 0.1, self.due(1800.0), _same(group6(host, everyone6, ICMPV6, body)))

    def router(self) -> Iterator[Habit]:
        """Neighbours, announcements, questions to everybody."""
        net, router = self.net, self.router_host
        here = [
            name for name in (*net.site.hosts, *ATTACKERS.values()) if name not in {"router", "iot-cloud"}
        ]
        yield sweep(
            net, [name for name in here if name != "switch"], SWEEP_S, SWEEP_JITTER, self.due(SWEEP_S)
        )
        for name in here:
            if name not in {"ap", "switch"}:
                yield services.netbios(net, "router", name, NETBIOS_S, self.due(NETBIOS_S))
        mdns, ssdp6 = group("224.0.0.251"), b"\xff\x02" + bytes(13) + b"\x0c"
        question = udp_frame(router, mdns, (5353, 5353), names.mdns_query(b"_http._tcp.local"), ttl=255)
        yield beacon(net, 60.0, 0.05, self.due(60.0), _same(question))
        location = b"http://192.168.1.1:1900/rootDesc.xml"
        notify = [
            udp_frame(router, self.upnp, (1900, 1900), discovery.ssdp_notify(location, size), ttl=2)
            for size in (300, 310, 340, 350)
        ]
        yield beacon(net, 60.0, 0.0, self.due(60.0), *[_same(frame) for frame in notify])
        search = discovery.ssdp_search()
        yield beacon(
            net, 30.0, 0.0, self.due(30.0), _same(udp_frame(router, self.upnp, (33916, 1900), search, 2))
        )
        body = udp_body((54595, 1900), search)
        yield beacon(net, 30.0, 0.0, self.due(30.0), _same(group6(router, ssdp6, UDP, body, 2)))
        chassis = lldp_frame(net, "router", 90)
        nowhere = b"\x01\x80\xc2\x00\x00\x13" + router.mac + b"\x89\x3a"
        topology = nowhere + discovery.topology_discovery(router.mac, 1)
        yield beacon(net, 60.0, 0.0, self.due(60.0), chassis, _same(topology))
        lease = Host("unspecified", router.mac, bytes(4), 64)
        discover = udp_frame(lease, self.everyone, (68, 67), discovery.dhcp(1, router.mac, 7))
        yield beacon(net, 95.0, 0.1, self.due(95.0), _same(discover))
        yield _group_query(net, ("geeni-camera", "wisenet-camera"), self.upnp, 125.0, self.due(125.0))
        yield beacon(
            net, 30.0, 0.0, self.due(30.0), datagram(net, "router", self.everyone, (20002, 20002), 60)
        )


def _announce(host: Host) -> Callable[[], bytes]:
    """Gratuitous ARP (RFC 5227): ask for the own address."""
    return _same(arp_frame(host, host, reply=False))


def _same(frame: bytes) -> Callable[[], bytes]:
    return lambda: frame


def _df(net: Network, src: str, to: Host, ports: tuple[int, int], size: int) -> Callable[[], bytes]:
    payload = opaque(net, size)
    return lambda: udp_frame(net.hosts[src], to, ports, payload, df=True)


def _bulk_index(net: Network, tcp: Tcp, period_s: float, at: int) -> Habit:
    """Bulk insert of the last second's messages into Elasticsearch, over one connection for good."""
    while True:
        yield at
        lines = http.json_of(int(net.between(2120, 2560)))
        request = http.request("POST", "192.168.230.7:9200", "/_bulk", lines)
        response = http.response(http.json_of(int(net.between(180, 260))))
        ready = net.exchange(tcp, at, request, response, int(net.between(8, 20) * MS), MS)
        at = max(at + net.wobble(period_s, 0.02), ready + 2 * MS)


def _fixed_time(net: Network, client: str, server: Host, period_s: float, at: int) -> Habit:
    """NTP from port 123, as a daemon asks."""
    while True:
        yield at
        services.ask_time(net, client, server, at, port=123)
        at += net.wobble(period_s, 0.05)


def _gateway_search(net: Network, period_s: float, at: int) -> Habit:
    """UPnP search of a camera: the switch answers too late, the router is asked for its description."""
    camera, switch, router = (net.hosts[name] for name in ("blurams-camera", "switch", "router"))
    description = http.response(b"<root>" + b" " * 280 + b"</root>", "text/xml")
    while True:
        yield at
        port = net.port()
        search = discovery.ssdp_search(b"urn:schemas-upnp-org:device:InternetGatewayDevice:1")
        net.send([(at, udp_frame(camera, group("239.255.255.250"), (port, 1900), search, ttl=1))])
        reply = discovery.ssdp_answer(b"http://192.168.1.200/desc.xml", 318)
        answer = udp_frame(switch, camera, (1900, port), reply)
        late = at + int(net.between(100, 900) * MS)
        net.send([(late, answer), (late + net.gap(), icmp_unreachable(camera, switch, answer, whole=True))])
        tcp = net.connect(camera, router, 1900, stamps=True, windows=(29200, 29200))
        net.send(tcp.handshake(at + 20 * MS, net.gap()))
        request = http.request("GET", "192.168.1.1", "/rootDesc.xml")
        ready = net.exchange(tcp, at + 25 * MS, request, description, 2 * MS, MS)
        net.send(tcp.close(ready + 3 * MS, net.gap()))
        at += int(period_s * S)


def _solicit(net: Network, name: str, size: int, at: int) -> Habit:
    """DHCPv6 solicit without an answer, at doubling intervals (RFC 8415, 15), then again from the start."""
    host, servers = net.hosts[name], b"\xff\x02" + bytes(11) + b"\x01\x00\x02"
    body = udp_body((546, 547), discovery.dhcpv6_solicit(host.mac, 99, size))
    while True:
        for wait_s in (1, 2, 4, 8, 16, 32, 64):
            yield at
            net.send([(at, group6(host, servers, UDP, body, 1))])
            at += net.wobble(wait_s, 0.1)


def _group_query(net: Network, members: tuple[str, ...], to: Host, period_s: float, at: int) -> Habit:
    """IGMP general query of the router and the reports of the members (RFC 2236)."""
    router, everyone = net.hosts["router"], group("224.0.0.1")
    while True:
        yield at
        net.send([(at, igmp_query(router, everyone))])
        for name in members:
            net.send([(at + int(net.between(0.1, 8.0) * S), igmp_report(net.hosts[name], to))])
        at += int(period_s * S)
