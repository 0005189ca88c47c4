"""The cell network: who is there and what they say when all is well.

Habits: the HMI polls PLC1 over OPC UA, sensors publish by MQTT, everyone refreshes ARP and asks for the time,
some ask for names, and the engineering station connects now and then. Frames are made per tick.

Device names, addresses and topics of the sensors, the broker and the router are those of the DataSense
testbed (CIC IIoT 2025, devices.csv); PLC1, HMI1 and ENG1 have locally administered addresses.
"""

from __future__ import annotations

import heapq
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cellwatch.plc_sim import opcua_wire
from cellwatch.plc_sim.frames import (
    ACK,
    FIN,
    MSS_OPTION,
    PSH,
    SYN,
    Block,
    Frames,
    Host,
    arp_frame,
    host,
    icmp_echo,
    merge,
    tcp_frame,
    udp_frame,
)

MS = 1_000_000  # ns
S = 1_000 * MS
OPCUA_PORT, MQTT_PORT, DNS_PORT, NTP_PORT = 4840, 1883, 53, 123

# name, MAC, IPv4, TTL, TCP window: the window and TTL of Linux, Windows (HMI, engineering) and ESP32 stacks
_TABLE = (
    ("PLC1", "02:00:00:00:01:01", "192.168.1.120", 64, 8192),
    ("HMI1", "02:00:00:00:01:02", "192.168.1.110", 128, 64240),
    ("ENG1", "02:00:00:00:01:03", "192.168.1.111", 128, 64240),
    ("mqtt-broker", "dc:a6:32:dc:28:46", "192.168.1.193", 64, 64240),
    ("steam-sensor", "08:b6:1f:81:d2:cc", "192.168.1.13", 255, 5760),
    ("water-sensor", "08:b6:1f:84:66:78", "192.168.1.11", 255, 5760),
    ("vibration-sensor", "08:b6:1f:82:27:d0", "192.168.1.16", 255, 5760),
    ("router", "28:87:ba:bd:c6:6c", "192.168.1.1", 64, 29200),
)
DEVICES: dict[str, str] = {mac: name for name, mac, *_ in _TABLE}  # MAC -> name

# Attackers of the DataSense testbed; not in the plant's inventory.
_ATTACKERS = (
    ("attacker0", "e4:5f:01:55:90:c1", "192.168.1.100"),
    ("attacker1", "dc:a6:32:c9:e6:f3", "192.168.1.101"),
    ("attacker2", "dc:a6:32:c9:e5:a3", "192.168.1.102"),
)
ATTACKERS: dict[str, str] = {mac: name for name, mac, _ in _ATTACKERS}

# topic and publishing period (s) of each sensor
SENSORS = {
    "steam-sensor": (b"iiot/steam", 1.0),
    "water-sensor": (b"iiot/water", 1.0),
    "vibration-sensor": (b"iiot/vibration", 0.5),
}
POLL_S = 0.5  # the HMI reads all values twice a second
POLLED = tuple(
    name.encode()
    for name in (
        "LIT101",
        "TIT101",
        "FIT101",
        "FIT102",
        "PIT101",
        "IIT101",
        "EIT101",
        "LIC101_CV",
        "TIC101_CV",
    )
)
ARP_S, NTP_S, DNS_S, PING_S, SESSION_S = 20.0, 16.0, 30.0, 15.0, 25.0


@dataclass(slots=True)
class Tcp:
    """One TCP connection: sequence numbers of both sides (index 0 client, 1 server)."""

    ends: tuple[Host, Host]
    ports: tuple[int, int]
    seq: list[int]

    def segment(self, side: int, flags: int, payload: bytes = b"", options: bytes = b"") -> bytes:
        """Return the next segment of `side`; SYN and FIN count one."""
        other = 1 - side
        ports = self.ports if side == 0 else (self.ports[1], self.ports[0])
        ack = self.seq[other] if flags & ACK else 0
        frame = tcp_frame(
            self.ends[side], self.ends[other], ports, self.seq[side], ack, flags, payload, options
        )
        self.seq[side] = (self.seq[side] + len(payload) + bool(flags & (SYN | FIN))) & 0xFFFFFFFF
        return frame

    def handshake(self, at: int, gap: int) -> list[tuple[int, bytes]]:
        """SYN, SYN-ACK, ACK."""
        return [
            (at, self.segment(0, SYN, options=MSS_OPTION)),
            (at + gap, self.segment(1, SYN | ACK, options=MSS_OPTION)),
            (at + 2 * gap, self.segment(0, ACK)),
        ]


@dataclass(slots=True)
class Habit:
    """Something a host does every `period` seconds, with a share of jitter."""

    act: str
    subject: str
    period: float
    jitter: float
    due: int  # ns, first time
    count: int = 0
    tcp: Tcp | None = field(default=None)


class Network:
    """All hosts and their habits; `tick` gives the frames of one stretch of time."""

    def __init__(self, rng: np.random.Generator, start_ns: int) -> None:
        """Start at `start_ns`; connections of HMI and sensors open within the first second."""
        self.rng = rng
        self.hosts = {name: host(name, mac, ip, ttl, window) for name, mac, ip, ttl, window in _TABLE}
        self.hosts |= {name: host(name, mac, ip) for name, mac, ip in _ATTACKERS}
        for each in self.hosts.values():
            each.ident = int(rng.integers(65536))
        self.queue: list[tuple[int, bytes]] = []
        self.held: list[Block] = []  # answers to an attack that are due after the tick
        self.values: tuple[float, ...] = (0.0,) * len(POLLED)
        self.delay_ns = 0  # extra time PLC1 takes to answer (under attack)
        self.habits = self._habits(start_ns)
        self.agenda = [(habit.due, i) for i, habit in enumerate(self.habits)]
        heapq.heapify(self.agenda)

    def tick(self, start_ns: int, end_ns: int, extra: list[Block]) -> Frames:
        """Frames of [start_ns, end_ns) in order of time; `extra` are those of an attack."""
        while self.agenda[0][0] < end_ns:  # in order of time: habits share connections
            due, i = self.agenda[0]
            habit = self.habits[i]
            getattr(self, f"_do_{habit.act}")(habit, max(due, start_ns))
            wobble = 1.0 + habit.jitter * (2.0 * self.rng.random() - 1.0)
            heapq.heapreplace(self.agenda, (due + int(habit.period * wobble * S), i))
        ready = [item for item in self.queue if item[0] < end_ns]
        if len(ready) < len(self.queue):
            self.queue = [item for item in self.queue if item[0] >= end_ns]
        else:
            self.queue = []
        blocks = [*self.held, *extra]
        self.held = [
            _part(block, block.time_ns >= end_ns) for block in blocks if (block.time_ns >= end_ns).any()
        ]
        return merge(ready, [_part(block, block.time_ns < end_ns) for block in blocks])

    def connect(self, client: str, server: str, port: int) -> Tcp:
        """Make a new connection with a random client port and sequence numbers."""
        numbers = self.rng.integers(1 << 32, size=2)
        ends = (self.hosts[client], self.hosts[server])
        return Tcp(ends, (int(self.rng.integers(49152, 65536)), port), [int(numbers[0]), int(numbers[1])])

    def _habits(self, start: int) -> list[Habit]:
        def due(within_s: float) -> int:
            return start + int((0.2 + self.rng.random() * within_s) * S)

        habits = [Habit("poll", "HMI1", POLL_S, 0.02, due(POLL_S))]
        habits += [Habit("publish", name, period, 0.05, due(period)) for name, (_, period) in SENSORS.items()]
        habits += [Habit("ping", name, PING_S, 0.05, due(PING_S) + S) for name in SENSORS]
        habits += [
            Habit("arp", name, ARP_S, 0.3, due(ARP_S)) for name in DEVICES.values() if name != "router"
        ]
        habits += [
            Habit("ntp", name, NTP_S, 0.1, due(NTP_S)) for name in DEVICES.values() if name != "router"
        ]
        habits += [Habit("dns", name, DNS_S, 0.3, due(DNS_S)) for name in (*SENSORS, "ENG1", "HMI1")]
        habits.append(Habit("session", "ENG1", SESSION_S, 0.4, due(SESSION_S)))
        by_name = {habit.subject: habit for habit in habits if habit.act == "publish"}
        for habit in habits:  # keep-alives travel on the connection of the publications
            if habit.act == "publish":
                habit.tcp = self._mqtt_connect(habit.subject, start)
            elif habit.act == "ping":
                habit.tcp = by_name[habit.subject].tcp
            elif habit.act == "poll":
                habit.tcp = self._opcua_connect("HMI1", start, channel=1)
        return habits

    def _gap(self) -> int:
        """Draw a network and stack delay, 0.2-1 ms."""
        return int((0.2 + 0.8 * self.rng.random()) * MS)

    def _opcua_connect(self, client: str, at: int, channel: int) -> Tcp:
        tcp = self.connect(client, "PLC1", OPCUA_PORT)
        gap = self._gap()
        at_ns = at + 3 * gap
        self.queue += [
            *tcp.handshake(at, gap),
            (at_ns, tcp.segment(0, PSH | ACK, opcua_wire.hello(b"opc.tcp://192.168.1.120:4840/"))),
            (at_ns + gap, tcp.segment(1, PSH | ACK, opcua_wire.acknowledge())),
            (at_ns + 2 * gap, tcp.segment(0, PSH | ACK, opcua_wire.open_channel_request(at_ns + 2 * gap))),
            (
                at_ns + 4 * gap,
                tcp.segment(1, PSH | ACK, opcua_wire.open_channel_response(at_ns + 4 * gap, channel)),
            ),
            (at_ns + 5 * gap, tcp.segment(0, ACK)),
        ]
        return tcp

    def _mqtt_connect(self, name: str, at: int) -> Tcp:
        tcp = self.connect(name, "mqtt-broker", MQTT_PORT)
        gap = self._gap()
        client_id = name.encode()
        # CONNECT: MQTT 3.1.1, clean session, keep-alive 60 s
        variable = b"\x00\x04MQTT\x04\x02\x00\x3c" + struct.pack(">H", len(client_id)) + client_id
        self.queue += [
            *tcp.handshake(at, gap),
            (at + 3 * gap, tcp.segment(0, PSH | ACK, bytes([0x10, len(variable)]) + variable)),
            (at + 4 * gap, tcp.segment(1, ACK)),
            (at + 5 * gap, tcp.segment(1, PSH | ACK, b"\x20\x02\x00\x00")),
            (at + 6 * gap, tcp.segment(0, ACK)),
        ]
        return tcp

    def _do_poll(self, habit: Habit, at: int) -> None:
        assert habit.tcp is not None
        habit.count += 1
        self._read(habit.tcp, at, channel=1, sequence=habit.count + 1)

    def _read(self, tcp: Tcp, at: int, channel: int, sequence: int) -> None:
        """Read request, response after the PLC's thinking time, delayed ACK."""
        answer = at + self._gap() + int((2 + 4 * self.rng.random()) * MS) + self.delay_ns
        request = opcua_wire.read_request(at, channel, sequence, POLLED)
        response = opcua_wire.read_response(answer, channel, sequence, self.values)
        self.queue += [
            (at, tcp.segment(0, PSH | ACK, request)),
            (answer, tcp.segment(1, PSH | ACK, response)),
            (answer + 40 * MS, tcp.segment(0, ACK)),
        ]

    def _do_publish(self, habit: Habit, at: int) -> None:
        assert habit.tcp is not None
        topic, _ = SENSORS[habit.subject]
        payload = b'{"id":"%s","value":%d}' % (
            habit.subject.encode(),
            int(1000 + 20 * self.rng.standard_normal()),
        )
        body = struct.pack(">H", len(topic)) + topic + payload
        self.queue += [
            (at, habit.tcp.segment(0, PSH | ACK, bytes([0x30, len(body)]) + body)),
            (at + self._gap(), habit.tcp.segment(1, ACK)),
        ]

    def _do_ping(self, habit: Habit, at: int) -> None:
        assert habit.tcp is not None
        gap = self._gap()
        self.queue += [
            (at, habit.tcp.segment(0, PSH | ACK, b"\xc0\x00")),
            (at + gap, habit.tcp.segment(1, PSH | ACK, b"\xd0\x00")),
            (at + 2 * gap, habit.tcp.segment(0, ACK)),
        ]

    def _do_arp(self, habit: Habit, at: int) -> None:
        asks = self.hosts[habit.subject]
        peer = (
            "mqtt-broker"
            if habit.subject in SENSORS
            else "PLC1"
            if habit.subject in {"HMI1", "ENG1"}
            else "router"
        )
        self.queue += [
            (at, arp_frame(asks, self.hosts[peer], reply=False)),
            (at + self._gap(), arp_frame(self.hosts[peer], asks, reply=True)),
        ]

    def _do_ntp(self, habit: Habit, at: int) -> None:
        asks, router = self.hosts[habit.subject], self.hosts["router"]
        port = int(self.rng.integers(49152, 65536))
        answer = at + self._gap()
        request = b"\x23" + bytes(39) + _ntp_time(at)
        reply = (
            b"\x24\x02\x06\xe9" + bytes(8) + b"GPS\0" + _ntp_time(at) + _ntp_time(at) + _ntp_time(answer) * 2
        )
        self.queue += [
            (at, udp_frame(asks, router, (port, NTP_PORT), request)),
            (answer, udp_frame(router, asks, (NTP_PORT, port), reply)),
        ]

    def _do_dns(self, habit: Habit, at: int) -> None:
        asks, router = self.hosts[habit.subject], self.hosts["router"]
        port, ident = (int(x) for x in self.rng.integers(49152, 65536, size=2))
        question = b"\x04pool\x03ntp\x03org\x00\x00\x01\x00\x01"
        query = struct.pack(">HHHHHH", ident, 0x0100, 1, 0, 0, 0) + question
        answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x96\x00\x04" + router.ip
        reply = struct.pack(">HHHHHH", ident, 0x8180, 1, 1, 0, 0) + question + answer
        self.queue += [
            (at, udp_frame(asks, router, (port, DNS_PORT), query)),
            (at + 10 * self._gap(), udp_frame(router, asks, (DNS_PORT, port), reply)),
        ]

    def _do_session(self, habit: Habit, at: int) -> None:
        """Let the engineering station ping PLC1, read it a few times and hang up."""
        station, plc = self.hosts["ENG1"], self.hosts["PLC1"]
        habit.count += 1
        for i in range(2):
            payload = b"abcdefghijklmnopqrstuvwabcdefghi"  # what Windows' ping sends
            sent = at + i * S // 2
            self.queue += [
                (sent, icmp_echo(station, plc, False, 1, 2 * habit.count + i, payload)),
                (sent + self._gap(), icmp_echo(plc, station, True, 1, 2 * habit.count + i, payload)),
            ]
        opened = at + S
        channel = 100 + habit.count
        tcp = self._opcua_connect("ENG1", opened, channel)
        reads = int(self.rng.integers(2, 6))
        for i in range(reads):
            self._read(tcp, opened + (i + 1) * 200 * MS, channel, sequence=i + 2)
        closed = opened + (reads + 2) * 200 * MS
        gap = self._gap()
        self.queue += [
            (closed, tcp.segment(0, PSH | ACK, opcua_wire.close_channel(closed, channel, reads + 2))),
            (closed + gap, tcp.segment(0, FIN | ACK)),
            (closed + 2 * gap, tcp.segment(1, FIN | ACK)),
            (closed + 3 * gap, tcp.segment(0, ACK)),
        ]


def _part(block: Block, chosen: NDArray[np.bool_]) -> Block:
    """Keep the chosen frames of a block."""
    return Block(block.time_ns[chosen], block.rows[chosen])


def _ntp_time(time_ns: int) -> bytes:
    """NTP timestamp: seconds since 1900 and a binary fraction (RFC 5905)."""
    seconds, rest = divmod(time_ns, S)
    return struct.pack(">II", (seconds + 2_208_988_800) & 0xFFFFFFFF, (rest << 32) // S)


def attacker_mac(name: str) -> str:
    """MAC of an attacker by name.

    >>> attacker_mac("attacker0")
    'e4:5f:01:55:90:c1'
    """
    return next(mac for mac, known in ATTACKERS.items() if known == name)
