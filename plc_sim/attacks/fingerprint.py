"""Which system a device runs (nmap -O), which services, and how they could be broken (--script vuln)."""

from __future__ import annotations

import struct

import numpy as np

from cellwatch.plc_sim.attacks.conversation import CLIENT, SERVER, Conversation, Turn, client_ports
from cellwatch.plc_sim.attacks.packets import (
    echo_answer,
    icmp_block,
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
from cellwatch.plc_sim.attacks.victims import HTTP, MODBUS, MQTT, OPCUA, RTSP, SSH, TELNET, flood_effects
from cellwatch.plc_sim.frames import ACK, FIN, PSH, RST, SYN, URG
from cellwatch.plc_sim.network.tcp import MS
from cellwatch.plc_sim.wire import http, mqtt, opcua, shell

# nmap's second generation OS detection (nmap.org/book/osdetect-methods.html): TCP options of the probes.
_WS10 = b"\x03\x03\x0a\x01\x02\x04\x05\xb4\x08\x0a\xff\xff\xff\xff\x00\x00\x00\x00\x04\x02"
_SEQ_OPTIONS = (
    _WS10,
    b"\x02\x04\x05\x78\x03\x03\x00\x04\x02\x08\x0a\xff\xff\xff\xff\x00\x00\x00\x00\x00",
    b"\x08\x0a\xff\xff\xff\xff\x00\x00\x00\x00\x01\x01\x03\x03\x05\x01\x02\x04\x02\x80",
    b"\x04\x02\x08\x0a\xff\xff\xff\xff\x00\x00\x00\x00\x03\x03\x0a\x00",
    b"\x02\x04\x02\x18\x04\x02\x08\x0a\xff\xff\xff\xff\x00\x00\x00\x00\x03\x03\x0a\x00",
    b"\x02\x04\x01\x09\x04\x02\x08\x0a\xff\xff\xff\xff\x00\x00\x00\x00",
)
_SEQ_WINDOWS = (1, 63, 4, 4, 16, 512)
_T_PROBES = (  # flags, window, to an open port
    (0, 128, True),  # T2
    (SYN | FIN | URG | PSH, 256, True),  # T3
    (ACK, 1024, True),  # T4
    (SYN, 31337, False),  # T5
    (ACK, 32768, False),  # T6
    (FIN | PSH | URG, 65535, False),  # T7
)
_CLOSED = 31  # TCP and UDP port that nobody uses


class OsScan(PortScan):
    """OS detection again and again: a few ports, then the probes SEQ, IE, ECN, T2-T7 and U1 of nmap -O."""

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Begin the rounds that are due; one takes about a second."""
        rounds = self.beats(self.per_s, begin_ns, end_ns)
        for at in rounds.tolist():
            self._round(at)
        self.sent += len(rounds)
        flood_effects(self.effects, self.target.name, 30 * self.per_s)

    def _round(self, at: int) -> None:
        rng, src, dst = self.rng, self.attacker, self.target
        dport = np.unique(np.append(self.open_ports, [_CLOSED, HTTP, SSH, RTSP]))
        self.scan(at + 2 * MS * np.arange(len(dport)), dport)
        at += 150 * MS
        open_port = int(self.open_ports[0]) if len(self.open_ports) else None
        sport = int(rng.integers(33000, 65000))
        if open_port is not None:
            for i, (options, window) in enumerate(zip(_SEQ_OPTIONS, _SEQ_WINDOWS, strict=True)):
                self._syn(at + 100 * MS * i, sport + i, open_port, SYN, window, options)
            self._syn(
                at + 625 * MS,
                sport + 6,
                open_port,
                SYN | 0xC0,
                3,
                b"\x03\x03\x0a\x01\x02\x04\x05\xb4\x04\x02\0\0",
            )
        for i, (tos, code, size) in enumerate(((0, 9, 120), (4, 0, 150))):  # IE1, IE2
            asked = icmp_block(
                src,
                dst,
                np.array([at + (600 + 25 * i) * MS]),
                8,
                code,
                struct.pack(">HH", sport, 295 + i) + bytes(size),
            )
            asked.rows[:, 15] = tos
            reply = echo_answer(asked, dst, src, stack_delay(rng, 1))
            self.blocks += [asked, reply]
        for i, (flags, window, to_open) in enumerate(_T_PROBES):
            if not to_open or open_port is not None:
                port = open_port if to_open and open_port is not None else _CLOSED
                self._syn(at + (650 + 25 * i) * MS, sport + 7 + i, port, flags, window, _WS10)
        u1 = udp_block(src, dst, np.array([at + 800 * MS]), sport, _CLOSED, b"C" * 300)
        u1.rows[:, 18:20] = (0x10, 0x42)  # the identification of U1
        self.blocks += [u1, unreachable(u1, dst, src, stack_delay(rng, 1))]

    def _syn(self, at: int, sport: int, dport: int, flags: int, window: int, options: bytes) -> None:
        """One TCP probe and the answer of an ordinary stack (RFC 9293, 3.10.7)."""
        rng, src = self.rng, masked(self.attacker, window=window)
        ack = initial(rng, 1) if flags & ACK else None
        asked = tcp_block(
            src, self.target, np.array([at]), sport, dport, flags, initial(rng, 1), ack, options=options
        )
        self.blocks.append(asked)
        if dport in self.open_ports:
            if flags & SYN and not flags & (FIN | ACK):
                self.blocks += syn_answers(rng, asked, np.ones(1, bool), self.target, self.attacker)
            elif flags & ACK:
                self.blocks.append(tcp_answer(asked, self.target, self.attacker, RST, stack_delay(rng, 1)))
        else:
            reset = RST if flags & ACK else RST | ACK
            self.blocks.append(tcp_answer(asked, self.target, self.attacker, reset, stack_delay(rng, 1)))


_NOT_FOUND = http.response(b"<html>404 Not Found</html>", "text/html", "404 Not Found")
_PATHS = (
    b"/",
    b"/.git/HEAD",
    b"/phpmyadmin/",
    b"/cgi-bin/test.cgi",
    b"/HNAP1",
    b"/nmaplowercheck1674",
    b"/robots.txt",
    b"/../../etc/passwd",
)


def _get(path: bytes) -> Conversation:
    agent = b"Mozilla/5.0 (compatible; Nmap Scripting Engine)"
    request = b"GET %b HTTP/1.1\r\nHost: target\r\nUser-Agent: %b\r\n\r\n" % (path, agent)
    return Conversation([Turn(CLIENT, request), Turn(SERVER, _NOT_FOUND, 2.0)])


# What each service is asked for (nmap -sV --script vuln), with an answer that fits.
_RTSP = b"OPTIONS rtsp://target/ RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: nmap\r\n\r\n"
_RTSP_ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS, DESCRIBE, SETUP\r\n\r\n"
_CHECKS: dict[int, tuple[Conversation, ...]] = {
    HTTP: tuple(_get(path) for path in _PATHS),
    SSH: (Conversation([Turn(SERVER, shell.SSH_SERVER, 5.0)], hang_up="rst"),),
    TELNET: (Conversation([Turn(SERVER, shell.telnet_options(False, 24, 32, 35, 39), 3.0)]),),
    RTSP: (Conversation([Turn(CLIENT, _RTSP), Turn(SERVER, _RTSP_ANSWER)]),),
    MQTT: (  # without a name, everything about the broker
        Conversation(
            [
                Turn(CLIENT, mqtt.connect(b"nmap", 30)),
                Turn(SERVER, mqtt.CONNECTED),
                Turn(CLIENT, mqtt.subscribe(1, b"$SYS/#")),
                Turn(SERVER, mqtt.subscribed(1)),
                Turn(CLIENT, mqtt.DISCONNECT),
            ]
        ),
    ),
    MODBUS: (  # Read Device Identification, function 43 / 14 (Modbus Application Protocol V1.1b3, 6.21)
        Conversation(
            [
                Turn(CLIENT, b"\x00\x01\x00\x00\x00\x05\x01\x2b\x0e\x01\x00"),
                Turn(SERVER, b"\x00\x01\x00\x00\x00\x0f\x01\x2b\x0e\x01\x01\x00\x00\x01\x00\x05MB401"),
            ]
        ),
    ),
    OPCUA: (
        Conversation(
            [Turn(CLIENT, opcua.hello(b"opc.tcp://target:4840/")), Turn(SERVER, opcua.acknowledge())]
        ),
    ),
}
_CHECKS[8000] = _CHECKS[9595] = _CHECKS[HTTP]


class VulnScan(PortScan):
    """Checks of every open service, between the probes of a SYN scan."""

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Three ports are probed for each check."""
        super().act(begin_ns, end_ns)
        known = [port for port in self.open_ports.tolist() if port in _CHECKS]
        if not known:
            return
        at = self.moments(self.per_s / 3.0, begin_ns, end_ns)
        which = self.rng.integers(len(known), size=len(at))
        for k in np.unique(which).tolist():
            checks, times = _CHECKS[known[k]], at[which == k]
            kind = self.rng.integers(len(checks), size=len(times))
            for j in np.unique(kind).tolist():
                begin = times[kind == j]
                sport = client_ports(int(self.rng.integers(28232)), len(begin))
                self.blocks += checks[j].stamp(
                    self.rng,
                    [self.attacker],
                    np.zeros(len(begin), np.int64),
                    self.target,
                    begin,
                    sport,
                    known[k],
                )
