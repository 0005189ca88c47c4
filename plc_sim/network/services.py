"""What every host does to live on a network: neighbours, time, names, echo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellwatch.plc_sim.frames import Host, Single, arp_frame, icmp_echo, icmp_unreachable, udp_frame
from cellwatch.plc_sim.network.tcp import MS
from cellwatch.plc_sim.wire import names

if TYPE_CHECKING:
    from cellwatch.plc_sim.network.network import Habit, Network

S = 1_000 * MS
DNS_PORT, NTP_PORT, NETBIOS_PORT = 53, 123, 137


def arp(
    net: Network, asks: str, asked: str, period_s: float, jitter: float, at: int, broadcast: bool = True
) -> Habit:
    """Ask for the MAC of a neighbour again and again."""
    a, b = net.hosts[asks], net.hosts[asked]
    while True:
        yield at
        net.send([(at, arp_frame(a, b, reply=False, broadcast=broadcast))])
        if not net.lost(asked):
            net.send([(net.answer(asks, asked, at), arp_frame(b, a, reply=True))])
        at += net.wobble(period_s, jitter)


def ask_time(net: Network, client: str, server: Host, at: int, port: int | None = None) -> None:
    """One NTP exchange."""
    host, port = net.hosts[client], port or net.port()
    answer = net.answer(client, server.name, at)
    net.send([(at, udp_frame(host, server, (port, NTP_PORT), names.ntp_request(at)))])
    if not net.lost(server.name):
        net.send([(answer, udp_frame(server, host, (NTP_PORT, port), names.ntp_reply(at, answer)))])


def ntp(net: Network, client: str, server: Host, period_s: float, jitter: float, at: int) -> Habit:
    """Ask for the time."""
    while True:
        yield at
        ask_time(net, client, server, at)
        at += net.wobble(period_s, jitter)


def ask_name(net: Network, client: str, server: Host, name: bytes, address: bytes, at: int) -> int:
    """One DNS exchange; returns when the answer came."""
    host, port, ident = net.hosts[client], net.port(), int(net.uniform() * 65536)
    answer = net.answer(client, server.name, at) + 9 * net.gap()
    net.send([(at, udp_frame(host, server, (port, DNS_PORT), names.query(ident, name)))])
    if not net.lost(server.name):
        reply = names.reply(ident, name, address)
        net.send([(answer, udp_frame(server, host, (DNS_PORT, port), reply))])
    return answer


def dns(
    net: Network, client: str, server: Host, name: bytes, period_s: float, jitter: float, at: int
) -> Habit:
    """Ask for a name."""
    while True:
        yield at
        ask_name(net, client, server, name, server.ip, at)
        at += net.wobble(period_s, jitter)


def ping(net: Network, a: str, b: str, seq: int, at: int) -> list[Single]:
    """Echo request and reply with what Windows' ping sends."""
    one, other = net.hosts[a], net.hosts[b]
    payload = b"abcdefghijklmnopqrstuvwabcdefghi"
    out = [(at, icmp_echo(one, other, False, 1, seq, payload))]
    if not net.lost(b):
        out.append((net.answer(a, b, at), icmp_echo(other, one, True, 1, seq, payload)))
    return out


def netbios(net: Network, asks: str, asked: str, period_s: float, at: int) -> Habit:
    """Ask a host for its NetBIOS names, twice; it has none: port unreachable. Linux quotes all of it."""
    a, b = net.hosts[asks], net.hosts[asked]
    while True:
        yield at
        for i in range(2):
            query = udp_frame(a, b, (net.port(), NETBIOS_PORT), names.netbios_status(0))
            sent = at + i * 3 * S // 2
            net.send([(sent, query)])
            if not net.lost(asked):
                answer = icmp_unreachable(b, a, query, whole=b.ttl == 64)
                net.send([(net.answer(asks, asked, sent), answer)])
        at += int(period_s * S)
