"""Reconnaissance: the 9 types of DataSense, as nmap does them.

A scan of DataSense has one device in focus; here every second probe goes to it and the others to the rest of
the subnet, dead addresses included. Rates go from one probe in five seconds (nmap -T1 and slower) to those
of the fastest sessions (attacks.csv: 4,400 packets per second with answers).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cellwatch.plc_sim.attacks.attack import Attack, Running, S, Scene
from cellwatch.plc_sim.attacks.fingerprint import OsScan, VulnScan
from cellwatch.plc_sim.attacks.packets import (
    echo_answer,
    echo_block,
    initial,
    masked,
    stack_delay,
    syn_answers,
    tcp_answer,
    tcp_block,
    udp_block,
    unreachable,
)
from cellwatch.plc_sim.attacks.portscan import PortScan
from cellwatch.plc_sim.attacks.victims import (
    EVERYWHERE,
    HTTP,
    HTTPS,
    MODBUS,
    MQTT,
    OPCUA,
    RTSP,
    SSH,
    TELNET,
    flood_effects,
    open_ports,
)
from cellwatch.plc_sim.frames import (
    ACK,
    BROADCAST,
    I64,
    MSS_OPTION,
    RST,
    SYN,
    Block,
    Host,
    arp_frame,
    stamp,
)
from cellwatch.plc_sim.network.hosts import ROLES

FOCUS = 0.5  # share of the probes that go to the target
DEAD = 12  # addresses of the subnet that nobody has, in the sweep
AT_ONCE = 4  # other hosts that are probed side by side
UDP_PORT = 40125  # nmap -PU

Probe = Callable[["Sweep", Host, I64], list[Block]]


class Sweep(Running):
    """Probes for hosts of the subnet, at a steady pace with jitter; dead addresses only see ARP requests."""

    def __init__(self, scene: Scene, probe: Probe, per_s: tuple[float, float]) -> None:
        """`per_s`: probes per second at sizes 0 and 1."""
        super().__init__(scene)
        self.probe = probe
        self.per_s = scene.between(*per_s)
        hosts = scene.network.hosts
        inside = [hosts[name] for name in scene.site.hosts if ROLES[name] != "cloud"]
        used = {host.ip[3] for host in hosts.values()}
        free = [last for last in range(2, 254) if last not in used]
        dead = self.rng.choice(free, size=DEAD, replace=False).tolist()
        nobody = [
            masked(self.attacker, mac=BROADCAST, ip=self.attacker.ip[:3] + bytes([last])) for last in dead
        ]
        self.alive = [host for host in inside if host is not self.target]
        self.others = [*self.alive, *nobody]

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Probe whoever is next."""
        at = self.beats(self.per_s, begin_ns, end_ns)
        at = at + self.rng.integers(int(0.2 * S / self.per_s), size=len(at))
        self.sent += len(at)
        few = self.rng.integers(len(self.others), size=AT_ONCE)
        whom = few[self.rng.integers(AT_ONCE, size=len(at))]
        whom[self.rng.random(len(at)) < FOCUS] = -1
        for k in np.unique(whom).tolist():
            host = self.target if k < 0 else self.others[k]
            if k < len(self.alive):
                self.blocks += self.probe(self, host, at[whom == k])
            else:
                self.blocks.append(_who_has(self.attacker, host, at[whom == k]))
        flood_effects(self.effects, self.target.name, FOCUS * self.per_s)


def _who_has(src: Host, dst: Host, at: I64) -> Block:
    return stamp(arp_frame(src, dst, reply=False), at)


def arp_ping(run: Sweep, host: Host, at: I64) -> list[Block]:
    """ARP request and reply (nmap -PR)."""
    reply = stamp(arp_frame(host, run.attacker, reply=True), at + stack_delay(run.rng, len(at)))
    return [_who_has(run.attacker, host, at), reply]


def _tcp_probe(run: Sweep, host: Host, at: I64, dport: I64 | int, flags: int) -> Block:
    n = len(at)
    sport = run.rng.integers(33000, 65000, size=n)
    ack = initial(run.rng, n) if flags & ACK else None
    options = MSS_OPTION if flags & SYN else b""
    src = masked(run.attacker, window=1024)  # nmap's
    return tcp_block(src, host, at, sport, dport, flags, initial(run.rng, n), ack, options=options)


def ack_ping(run: Sweep, host: Host, at: I64) -> list[Block]:
    """ACK to port 80, answered by RST whether or not it is open (nmap -PA)."""
    asked = _tcp_probe(run, host, at, HTTP, ACK)
    return [asked, tcp_answer(asked, host, run.attacker, RST, stack_delay(run.rng, len(at)))]


def syn_ping(run: Sweep, host: Host, at: I64) -> list[Block]:
    """SYN to port 443 (nmap -PS443)."""
    asked = _tcp_probe(run, host, at, HTTPS, SYN)
    is_open = np.full(len(at), HTTPS in open_ports(host.name))
    return [asked, *syn_answers(run.rng, asked, is_open, host, run.attacker)]


_TOP_PORTS = np.array(
    [SSH, TELNET, HTTP, HTTPS, RTSP, MQTT, MODBUS, OPCUA, 21, 25, 53, 110, 139, 445, 3389, 8080]
)


def syn_stealth(run: Sweep, host: Host, at: I64) -> list[Block]:
    """Half-open probes of the usual ports (nmap -sS)."""
    dport = _TOP_PORTS[run.rng.integers(len(_TOP_PORTS), size=len(at))]
    asked = _tcp_probe(run, host, at, dport, SYN)
    return [asked, *syn_answers(run.rng, asked, np.isin(dport, open_ports(host.name)), host, run.attacker)]


def udp_ping(run: Sweep, host: Host, at: I64) -> list[Block]:
    """Empty datagram to a port that nobody uses (nmap -PU)."""
    asked = udp_block(run.attacker, host, at, run.rng.integers(33000, 65000, size=len(at)), UDP_PORT, b"")
    return [asked, unreachable(asked, host, run.attacker, stack_delay(run.rng, len(at)))]


def echo_ping(run: Sweep, host: Host, at: I64) -> list[Block]:
    """Echo request without data (nmap -PE)."""
    asked = echo_block(run.attacker, host, at, np.zeros(len(at), np.int64), b"", run.attacker.ident)
    return [asked, echo_answer(asked, host, run.attacker, stack_delay(run.rng, len(at)))]


_DISCOVERY, _INFORMATION = "T0846", "T0888"  # Remote System (Information) Discovery


def _sweep(kind: str, probe: Probe, fastest: float, about: str) -> Attack:
    return Attack(
        "recon", kind, _DISCOVERY, about, EVERYWHERE, lambda scene: Sweep(scene, probe, (0.2, fastest))
    )


ATTACKS = (
    _sweep("host-disc-arp-ping", arp_ping, 2_200, "who answers ARP requests"),
    _sweep("host-disc-tcp-ack-ping", ack_ping, 2_200, "who resets an ACK to port 80"),
    _sweep("host-disc-tcp-syn-ping", syn_ping, 2_200, "who answers a SYN to port 443"),
    _sweep("host-disc-tcp-syn-stealth", syn_stealth, 2_200, "who answers half-open probes"),
    _sweep("host-disc-udp-ping", udp_ping, 2_200, "who complains about a datagram to a closed port"),
    Attack(
        "recon", "os-scan", _INFORMATION, "which operating system the target runs", EVERYWHERE,
        lambda scene: OsScan(scene, (0.04, 15)),
    ),
    _sweep("ping-sweep", echo_ping, 35, "who answers echo requests"),
    Attack(
        "recon", "port-scan", _DISCOVERY, "which ports are open", EVERYWHERE,
        lambda scene: PortScan(scene, (0.2, 2_200), bench_per_s=(120, 400)),
    ),
    Attack(
        "recon", "vuln-scan", _INFORMATION, "which services run and how they could be broken", EVERYWHERE,
        lambda scene: VulnScan(scene, (0.2, 300)),
    ),
)  # fmt: skip
