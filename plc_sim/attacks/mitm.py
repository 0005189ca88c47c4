"""Man in the middle: the 3 types of DataSense. The target's other end is who it talks to most."""

from __future__ import annotations

import numpy as np

from cellwatch.plc_sim.attacks.attack import Attack, Running, Scene
from cellwatch.plc_sim.attacks.conversation import CLIENT
from cellwatch.plc_sim.attacks.packets import initial, masked, picked, syn_answers, tcp_block
from cellwatch.plc_sim.attacks.victims import EVERYWHERE, MQTT, flood_effects, main_port, open_ports, peer_of
from cellwatch.plc_sim.frames import SYN, Host, Single, arp_frame
from cellwatch.plc_sim.network import bench, telemetry
from cellwatch.plc_sim.network.hosts import ROLES
from cellwatch.plc_sim.network.tcp import MS
from cellwatch.plc_sim.tags import PLC_TAGS
from cellwatch.plc_sim.wire import mqtt

ANSWERS_PER_S = 2_000  # as under a flood


def poison(attacker: Host, a: Host, b: Host, at_ns: int) -> list[Single]:
    """Unasked ARP replies: to `a`, that `b` is at the attacker's MAC, and the other way round."""
    return [
        (at_ns, arp_frame(masked(attacker, ip=b.ip), a, reply=True)),
        (at_ns + MS, arp_frame(masked(attacker, ip=a.ip), b, reply=True)),
    ]


def heal(attacker: Host, a: Host, b: Host, at_ns: int) -> list[Single]:
    """Put the right addresses back, as arpspoof does when it ends: the attacker tells the truth."""
    frames: list[Single] = []
    for i in range(3):
        for to, of in ((a, b), (b, a)):
            frame = arp_frame(of, to, reply=True)
            frames.append((at_ns + i * 2 * MS, frame[:6] + attacker.mac + frame[12:]))
    return frames


class ArpSpoof(Running):
    """Both ends are poisoned again and again, and what they say goes over the attacker.

    From size 0.5 on the attacker shows the clients of a PLC one measured value that stands still.
    """

    def __init__(self, scene: Scene) -> None:
        """Poison every 30 s at size 0, twice a second at size 1."""
        super().__init__(scene)
        self.peer = scene.network.hosts[peer_of(self.target.name)]
        self.per_s = scene.between(1 / 30, 2.0)
        tags = PLC_TAGS.get(self.target.name, ()) if scene.size >= 0.5 else ()
        self.frozen = next((tag.name for tag in tags), None)
        self.kept: float | None = None

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Poison, relay, perhaps alter."""
        for at in self.beats(self.per_s, begin_ns, end_ns).tolist():
            self.singles += poison(self.attacker, self.target, self.peer, at)
        self.effects.relay[frozenset((self.target.name, self.peer.name))] = self.attacker.name
        if self.frozen is not None:
            if self.kept is None:
                self.kept = self.values.get(self.frozen)
            if self.kept is not None:
                self.effects.shown[self.frozen] = self.kept

    def close(self, at_ns: int) -> None:
        """Leave the caches as they were."""
        self.singles += heal(self.attacker, self.target, self.peer, at_ns)


class IpSpoof(Running):
    """SYNs in the name of the other end: the target answers the one that never asked."""

    def __init__(self, scene: Scene) -> None:
        """Rates up to the median of DataSense's sessions (attacks.csv: 39,063 packets per second)."""
        super().__init__(scene)
        self.peer = scene.network.hosts[peer_of(self.target.name)]
        self.port = main_port(self.target.name)
        self.per_s = scene.between(2, 39_000)

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Send, and let the two innocents sort it out."""
        at = self.moments(self.per_s, begin_ns, end_ns)
        n = len(at)
        sport = 1024 + (self.sent + np.arange(n)) % 64512
        self.sent += n
        src = masked(self.attacker, ip=self.peer.ip)
        asked = tcp_block(src, self.target, at, sport, self.port, SYN, initial(self.rng, n))
        heard = picked(asked, np.flatnonzero(self.rng.random(n) < ANSWERS_PER_S / self.per_s))
        is_open = np.full(len(heard.time_ns), self.port in open_ports(self.target.name))
        self.blocks += [asked, *syn_answers(self.rng, heard, is_open, self.target, self.peer)]
        flood_effects(self.effects, self.target.name, self.per_s)


class Impersonate(Running):
    """Messages in a sensor's name, from its own MAC and IP addresses, with values that lie."""

    def __init__(self, scene: Scene) -> None:
        """One message every 5 s at size 0, 50 a second at size 1 (attacks.csv: 111 packets per second)."""
        super().__init__(scene)
        self.per_s = scene.between(0.2, 50.0)
        clone = masked(self.target, ttl=64, window=64240)  # the attacker's own stack
        self.tcp = scene.connect(clone, scene.network.hosts["mqtt-broker"], MQTT)
        sensors = bench.SENSORS if scene.site.name == "bench" else telemetry.SENSORS
        self.says = sensors[self.target.name].segments[0][0]
        self.most = 2.0 * self.says.high + 1.0
        self.value = float(self.rng.uniform(0, self.most))

    def open(self, at_ns: int) -> None:
        """Connect under a name like the sensor's; no ARP request, it would show the attacker."""
        gap = MS // 2
        self.singles += self.tcp.handshake(at_ns, gap)
        begin = at_ns + 4 * gap
        client = self.target.name.encode() + b"-1"
        self.singles += self.tcp.exchange(
            begin, mqtt.connect(client), mqtt.CONNECTED, begin + gap, ack_ns=gap
        )

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Publish, from 10 ms after the onset on: a walk over twice the usual range."""
        begin_ns = max(begin_ns, self.onset_ns + 10 * MS)
        at = self.moments(self.per_s, begin_ns, end_ns) if begin_ns < end_ns else ()
        if len(at):
            step = 0.1 * self.most * float(self.rng.standard_normal())
            self.value = min(max(self.value + step, 0.0), self.most)
            pattern = self.says.pattern if "#" in self.says.pattern else "#"
            payload = pattern.replace("#", f"{self.value:.{self.says.digits}f}").encode()
            message = mqtt.publish(self.says.topic, payload)
            self.blocks += self.tcp.bulk(np.asarray(at), CLIENT, message)

    def close(self, at_ns: int) -> None:
        """Disconnect."""
        self.singles += self.tcp.say(at_ns, CLIENT, mqtt.DISCONNECT)
        self.singles += self.tcp.close(at_ns + MS, MS // 2)


_PAIRS = {
    site: tuple(name for name in names if ROLES[name] not in {"hmi", "engineering", "switch", "ap"})
    for site, names in EVERYWHERE.items()
}
_SENSORS = {
    site: tuple(name for name in names if ROLES[name] == "sensor") for site, names in EVERYWHERE.items()
}

ATTACKS = (
    Attack(
        "mitm", "arp-spoofing", "T0830", "two devices are made to talk over the attacker",
        _PAIRS, ArpSpoof, lambda target: (peer_of(target),),
    ),
    Attack(
        "mitm", "impersonation", "T0856", "someone publishes in a sensor's name",
        _SENSORS, Impersonate, lambda _target: ("mqtt-broker",),
    ),
    # Packets with a forged source alone: no technique of ATT&CK for ICS fits.
    Attack(
        "mitm", "ip-spoofing", None, "packets in the name of the device that the target talks to",
        _PAIRS, IpSpoof, lambda target: (peer_of(target),),
    ),
)  # fmt: skip
