"""Floods: the 14 types that DataSense has as `dos` (one attacker) and as `ddos` (five at once).

Rates go geometrically from a packet per second or less to the median rate of the type's sessions in DataSense
(attacks.csv: packets / duration). On PLC1 of the bench the SYN flood keeps to 400-1500 packets per second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cellwatch.plc_sim.attacks import floods
from cellwatch.plc_sim.attacks.attack import BOTS, Attack, Running, S, Scene
from cellwatch.plc_sim.attacks.conversation import (
    CLIENT,
    SERVER,
    Conversation,
    Turn,
    Visits,
    client_ports,
)
from cellwatch.plc_sim.attacks.packets import (
    initial,
    stack_delay,
    tcp_block,
)
from cellwatch.plc_sim.attacks.victims import (
    EVERYWHERE,
    HTTP,
    MQTT,
    flood_effects,
    main_port,
    open_ports,
    with_port,
)
from cellwatch.plc_sim.frames import ACK, I64, PSH, Block, Host
from cellwatch.plc_sim.network.tcp import MS
from cellwatch.plc_sim.wire import mqtt


def _http_conversation(path: bytes, agent: bytes, size: int) -> Conversation:
    request = b"GET %b HTTP/1.1\r\nHost: 192.168.1.195\r\nUser-Agent: %b\r\nAccept: */*\r\n\r\n" % (
        path,
        agent,
    )
    page = b"<html><body>" + b"x" * size + b"</body></html>"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
    return Conversation([Turn(CLIENT, request), Turn(SERVER, answer + page, 2.0)])


_HTTP = tuple(
    _http_conversation(b"/?%d=%d" % (i * 7919, i * 104729), agent, size)
    for i, (agent, size) in enumerate(
        ((b"Mozilla/5.0 (X11; Linux x86_64)", 600), (b"curl/7.88.1", 600), (b"python-requests/2.28.1", 300))
    )
)


_CONNECTS = tuple(
    Conversation([Turn(CLIENT, mqtt.connect(b"flood%03d" % i)), Turn(SERVER, mqtt.CONNECTED)], hang_up="rst")
    for i in range(4)
)


Begin = Callable[[Scene], Running]
Most = Callable[[float], Begin]  # from the rate at size 1
Span = tuple[float, float]
Fire = Callable[[floods.Shot], list[Block]]


class Flood(Running):
    """A memoryless stream of packets, spread over the attackers."""

    def __init__(
        self,
        scene: Scene,
        fire: Fire,
        pps: tuple[float, float],
        weight: float = 1.0,
        bench_pps: tuple[float, float] | None = None,
    ) -> None:
        """`pps`: what is fired per second at sizes 0 and 1; `weight`: packets that one costs the victim."""
        super().__init__(scene)
        self.fire = fire
        self.pps = scene.between(*(bench_pps if bench_pps and scene.site.name == "bench" else pps))
        self.weight = weight
        self.port = main_port(self.target.name)

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Fire, and wear the victim down."""
        at = self.moments(self.pps, begin_ns, end_ns)
        attackers = self.scene.attackers
        who = self.rng.integers(len(attackers), size=len(at))
        for k, src in enumerate(attackers):
            mine = at if len(attackers) == 1 else at[who == k]
            if len(mine):
                shot = floods.Shot(self.rng, src, self.target, mine, self.sent, self.port, self.pps)
                self.blocks += self.fire(shot)
        self.sent += len(at)
        flood_effects(self.effects, self.target.name, self.pps * self.weight)


class PublishFlood(Running):
    """PUBLISH packets on open MQTT sessions, one an attacker; the broker has no time for the sensors."""

    def __init__(self, scene: Scene, pps: tuple[float, float]) -> None:
        """`pps`: messages per second at sizes 0 and 1."""
        super().__init__(scene)
        self.pps = scene.between(*pps)
        self.sessions = [scene.connect(one, self.target, MQTT) for one in scene.attackers]
        self.message = mqtt.publish(b"iiot/flood", b'{"id":"flood","data":"%b"}' % (b"0" * 60))

    def open(self, at_ns: int) -> None:
        """Open the sessions."""
        super().open(at_ns)
        for i, tcp_ in enumerate(self.sessions):
            self.singles += tcp_.handshake(at_ns + MS, MS // 2)
            connect_at = at_ns + 3 * MS
            self.singles += tcp_.exchange(
                connect_at, mqtt.connect(b"flood%03d" % i), mqtt.CONNECTED, connect_at + MS, ack_ns=MS
            )

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Publish, from 10 ms after the onset on."""
        begin_ns = max(begin_ns, self.onset_ns + 10 * MS)
        if begin_ns < end_ns:
            for tcp_ in self.sessions:
                at = self.moments(self.pps / len(self.sessions), begin_ns, end_ns)
                if len(at):
                    self.blocks += tcp_.bulk(at, CLIENT, self.message)
        flood_effects(self.effects, self.target.name, 2.0 * self.pps)


_SLOW_HEAD = b"GET /?%d HTTP/1.1\r\nHost: %b\r\nUser-Agent: Mozilla/5.0\r\nAccept-language: en-US,en\r\n"
_SLOW_LINE = b"X-a: %04d\r\n"


class Slowloris(Running):
    """Connections to the web server whose request never ends, kept alive by a header line now and then."""

    def __init__(self, scene: Scene, connections: tuple[float, float]) -> None:
        """`connections` of all attackers at sizes 0 and 1."""
        super().__init__(scene)
        self.wanted = max(len(scene.attackers), round(scene.between(*connections)))
        port = main_port(self.target.name)
        self.port = port if port in open_ports(self.target.name) else HTTP
        head = _SLOW_HEAD % (self.rng.integers(1000, 9999), b"%d.%d.%d.%d" % tuple(self.target.ip))
        self.opening = Conversation([Turn(CLIENT, head)], hang_up="no")
        self.line = _SLOW_LINE % self.rng.integers(1000, 9999)
        self.client = np.zeros(0, np.int64)  # which attacker has each connection
        self.sport = np.zeros(0, np.int64)
        self.isn = np.zeros((2, 0), np.int64)
        self.lines = np.zeros(0, np.int64)  # header lines sent
        self.due = np.zeros(0, np.int64)  # ns, the next line

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Open connections within the first 5 s, then keep all of them alive."""
        at = self.beats(self.wanted / 5.0, begin_ns, min(end_ns, self.onset_ns + 5 * S))
        n = len(at)
        isn = (initial(self.rng, n), initial(self.rng, n))
        sport = client_ports(self.sent, n)
        client = (self.sent + np.arange(n)) % len(self.scene.attackers)
        self.sent += n
        self.blocks += self.opening.stamp(
            self.rng, self.scene.attackers, client, self.target, at, sport, self.port, isn
        )
        self.client = np.concatenate([self.client, client])
        self.sport = np.concatenate([self.sport, sport])
        self.isn = np.concatenate([self.isn, np.stack(isn)], axis=1)
        self.lines = np.concatenate([self.lines, np.zeros(n, np.int64)])
        self.due = np.concatenate([self.due, at + self.rng.integers(4 * S, 8 * S, size=n)])
        for k, src in enumerate(self.scene.attackers):
            self._keep_alive(np.flatnonzero((self.due < end_ns) & (self.client == k)), src)
        # each connection holds a worker of the server
        flood_effects(self.effects, self.target.name, 20.0 * len(self.due))

    def _keep_alive(self, which: I64, src: Host) -> None:
        if not len(which):
            return
        at, size = self.due[which], len(self.line)
        seq = self.isn[0][which] + self.opening.next[CLIENT] + size * self.lines[which]
        ack = self.isn[1][which] + self.opening.next[SERVER]
        sport, dst = self.sport[which], self.target
        self.blocks += [
            tcp_block(src, dst, at, sport, self.port, PSH | ACK, seq, ack, self.line),
            tcp_block(dst, src, at + stack_delay(self.rng, len(at)), self.port, sport, ACK, ack, seq + size),
        ]
        self.lines[which] += 1
        self.due[which] = at + self.rng.integers(4 * S, 8 * S, size=len(which))


_BROKER: Mapping[str, tuple[str, ...]] = dict.fromkeys(EVERYWHERE, ("mqtt-broker",))
_WEB = with_port(HTTP)


def _flood(fire: Fire, least: float, weight: float = 1.0, bench: Span | None = None) -> Most:
    return lambda most: lambda scene: Flood(scene, fire, (least, most), weight, bench)


def _visits(choices: Sequence[Conversation], port: int) -> Most:
    return lambda most: lambda scene: Visits(scene, choices, port, (0.2, most))


def _publish(most: float) -> Begin:
    return lambda scene: PublishFlood(scene, (1.0, most))


def _slowloris(most: float) -> Begin:
    return lambda scene: Slowloris(scene, (5.0, most))


# type: how it runs; its rate at size 1 with one attacker and with five; targets; about. The rates are
# medians of attacks.csv, divided by the packets of one connection or datagram where one takes several.
_TYPES: dict[str, tuple[Most, float, float, Mapping[str, tuple[str, ...]], str]] = {
    "ack-frag-flood": (
        _flood(floods.ack_fragments, 0.1, weight=2), 5_800, 5_000, EVERYWHERE,
        "fragmented ACK segments that the target must reassemble",
    ),
    "connect-flood": (_visits(_CONNECTS, MQTT), 1_200, 3_500, _BROKER, "MQTT sessions opened and dropped"),
    "http-flood": (_visits(_HTTP, HTTP), 110, 360, _WEB, "requests for the front page"),
    "icmp-flood": (_flood(floods.icmp, 1), 23_900, 75_200, EVERYWHERE, "echo requests"),
    "icmp-frag-flood": (
        _flood(floods.icmp_fragments, 0.1, weight=2), 5_800, 5_000, EVERYWHERE, "fragmented echo requests",
    ),
    "mqtt-publish-flood": (
        _publish, 950, 29_000, _BROKER, "messages to the broker on a topic nobody asked for",
    ),
    "push-ack-flood": (
        _flood(floods.push_ack, 1), 25_700, 91_700, EVERYWHERE,
        "data segments of connections that do not exist",
    ),
    "rst-fin-flood": (
        _flood(floods.rst_fin, 1, weight=0.5), 39_500, 126_400, EVERYWHERE,
        "resets of connections that do not exist",
    ),
    "slowloris": (
        _slowloris, 300, 650, _WEB, "requests that never end hold the web server's workers",
    ),
    "syn-flood": (
        _flood(floods.syn, 1, bench=(400, 1_500)), 25_900, 86_100, EVERYWHERE, "half-open connections",
    ),
    "synonymousip-flood": (
        _flood(floods.synonymous_ip, 1), 47_900, 91_500, EVERYWHERE,
        "SYNs that carry the target's own address as their source",
    ),
    "tcp-flood": (_flood(floods.tcp, 1), 25_400, 88_900, EVERYWHERE, "segments without any flag"),
    "udp-flood": (_flood(floods.udp, 1), 81_000, 126_200, EVERYWHERE, "datagrams to a closed port"),
    "udp-frag-flood": (
        _flood(floods.udp_fragments, 0.1, weight=2), 5_700, 5_000, EVERYWHERE, "fragmented datagrams",
    ),
}  # fmt: skip

ATTACKS = (
    *(
        Attack("dos", kind, "T0814", about, targets, run(one))
        for kind, (run, one, _, targets, about) in _TYPES.items()
    ),
    *(
        Attack("ddos", kind, "T0814", f"{about}, from five hosts", targets, run(five), sources=BOTS)
        for kind, (run, _, five, targets, about) in _TYPES.items()
    ),
)
