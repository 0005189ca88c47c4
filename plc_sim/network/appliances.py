"""Cameras, plugs and network gear: keep-alives to clouds, beacons, uploads, streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.plc_sim.frames import ETHER_LLDP, Host, Single, arp_frame, udp_frame
from cellwatch.plc_sim.network.services import ask_name
from cellwatch.plc_sim.network.tcp import MS, Tcp
from cellwatch.plc_sim.wire import http, tls
from cellwatch.plc_sim.wire.discovery import lldp

if TYPE_CHECKING:
    from cellwatch.plc_sim.network.network import Habit, Network

S = 1_000 * MS
MAX_RECORD = 1440  # bytes of TLS payload in one segment


def sealed(net: Network, size: int) -> bytes:
    """TLS record with a total of `size` bytes."""
    return tls.data(net.rng.bytes(size - tls.RECORD))


def opaque(net: Network, size: int) -> bytes:
    """Bytes of a protocol nobody knows; the first one keeps dissectors from guessing RTP or STUN."""
    return b"\x33" + net.rng.bytes(size - 1)


def keep_alive(
    net: Network,
    tcp: Tcp,
    sizes: tuple[int, int],
    period_s: float,
    jitter: float,
    at: int,
    *,
    make: Callable[[Network, int], bytes] = sealed,
    rounds: tuple[int, int] = (1, 2),
    ack: bool = False,
) -> Habit:
    """Say `sizes[0]` bytes to the other end, hear `sizes[1]`, on a connection that is there already.

    A size of 0: only an acknowledgement comes. With `ack` the server acknowledges before it answers. Each
    time `rounds` (low, high) of them follow each other in a second.
    """
    while True:
        yield at
        for _ in range(int(net.between(*rounds))):
            answer = net.answer(tcp.ends[0].name, tcp.ends[1].name, at) + int(net.between(20, 90) * MS)
            net.send(tcp.say(at, 0, make(net, sizes[0])))
            if sizes[1] == 0:
                net.send(tcp.ack(answer, 1))
            else:
                if ack:
                    net.send(tcp.ack(answer, 1))
                net.send(tcp.say(answer, 1, make(net, sizes[1])))
                net.send(tcp.ack(answer + net.gap(), 0))
            at += S
        at += net.wobble(period_s, jitter) - S


def probe(net: Network, tcp: Tcp, period_s: float, jitter: float, at: int) -> Habit:
    """TCP keep-alive: a bare segment and its acknowledgement (RFC 9293, 3.8.4)."""
    while True:
        yield at
        net.send(tcp.ack(at, 0))
        net.send(tcp.ack(at + int(net.between(20, 90) * MS), 1))
        at += net.wobble(period_s, jitter)


def notice(net: Network, tcp: Tcp, side: int, size: int, period_s: float, jitter: float, at: int) -> Habit:
    """One end says something, the other acknowledges."""
    while True:
        yield at
        net.send(tcp.say(at, side, sealed(net, size)))
        net.send(tcp.ack(at + int(net.between(20, 90) * MS), 1 - side))
        at += net.wobble(period_s, jitter)


def beacon(net: Network, period_s: float, jitter: float, at: int, *make: Callable[[], bytes]) -> Habit:
    """Send frames that nobody answers, a millisecond apart."""
    while True:
        yield at
        net.send([(at + i * MS, one()) for i, one in enumerate(make)])
        at += net.wobble(period_s, jitter)


def datagram(net: Network, src: str, to: Host, ports: tuple[int, int], size: int) -> Callable[[], bytes]:
    """Maker of a UDP datagram with `size` opaque bytes, the same each time."""
    payload = opaque(net, size)
    return lambda: udp_frame(net.hosts[src], to, ports, payload)


def lldp_frame(net: Network, name: str, size: int) -> Callable[[], bytes]:
    """Maker of an LLDP frame of `size` bytes."""
    host = net.hosts[name]
    frame = b"\x01\x80\xc2\x00\x00\x0e" + host.mac + ETHER_LLDP
    frame += lldp(host.mac, name.encode(), size - len(frame))
    return lambda: frame


def punch(
    net: Network, src: str, servers: list[Host], ports: tuple[int, int], sizes: tuple[int, int],
    period_s: float, at: int,
) -> Habit:  # fmt: skip
    """Keep a way open through the NAT: a datagram to each server, and its answer (RFC 5389, 10)."""
    host = net.hosts[src]
    while True:
        yield at
        for server in servers:
            asked, answer = opaque(net, sizes[0]), opaque(net, sizes[1])
            net.send([(at, udp_frame(host, server, ports, asked, df=True))])
            back = at + int(net.between(30, 200) * MS)
            net.send([(back, udp_frame(server, host, (ports[1], ports[0]), answer, df=True))])
        at += net.wobble(period_s, 0.05)


def sweep(net: Network, names: list[str], period_s: float, jitter: float, at: int) -> Habit:
    """Let the router ask every neighbour it knows, one after the other, without broadcast."""
    router = net.hosts["router"]
    hosts = [net.hosts[name] for name in names]
    twice = [
        name.startswith("plug-") and host.mac[0] == 0xD4 for name, host in zip(names, hosts, strict=True)
    ]
    while True:
        yield at
        out: list[Single] = []
        for host, again in zip(hosts, twice, strict=True):
            sent = at + int(net.uniform() * S)
            out.append((sent, arp_frame(router, host, reply=False, broadcast=False)))
            if not net.lost(host.name):
                reply = arp_frame(host, router, reply=True)
                out += [(net.answer("router", host.name, sent), reply)] * (2 if again else 1)
        net.send(out)
        at += net.wobble(period_s, jitter)


def tls_open(net: Network, tcp: Tcp, name: bytes, at: int) -> int:
    """TLS handshake on a new connection; returns when it is up."""
    gap = 30 * net.gap()
    net.send(tcp.handshake(at, gap))
    random = net.rng.bytes(32)
    hello = tls.server_hello(random, tls.certificate(name, net.rng.bytes(256)))
    at = net.exchange(tcp, at + 3 * gap, tls.client_hello(random, name), hello, gap, MS)
    return net.exchange(tcp, at + 2 * MS, tls.client_finished(random), tls.server_finished(random), gap, MS)


def upload(
    net: Network,
    client: str,
    server: Host,
    name: bytes,
    kilobytes: tuple[float, float],
    period_s: float,
    at: int,
    *,
    port: int = 443,
    windows: tuple[int, int] = (58, 4000),
    mss: tuple[int, int] = (1460, 1440),
) -> Habit:
    """Send a clip or a firmware report to the cloud now and then: name, connection, bulk, end."""
    resolver = net.remote("8.8.8.8", "8.8.8.8", 118)
    while True:
        yield at
        ready = ask_name(net, client, resolver, name, server.ip, at) + MS
        tcp = net.connect(client, server, port, windows=windows, mss=mss)
        low, high = kilobytes
        size = int(1000 * low * (high / low) ** net.uniform())
        if port == 443:
            ready = tls_open(net, tcp, name, ready) + MS
            record = sealed(net, MAX_RECORD)
        else:
            net.send(tcp.handshake(ready, 40 * MS))
            ready += 130 * MS
            head = http.request(
                "POST", name.decode(), "/upload", opaque(net, 400), "application/octet-stream"
            )
            net.send(tcp.say(ready, 0, head))
            record = opaque(net, MAX_RECORD)
        n = max(size // MAX_RECORD, 1)
        sent = ready + MS + np.cumsum(net.rng.integers(MS // 2, 25 * MS, size=n))
        net.send_blocks(tcp.bulk(sent, 0, record))
        done = int(sent[-1]) + 60 * MS
        yield done
        answer = sealed(net, 200) if port == 443 else http.response(b"ok", "text/plain")
        net.send(tcp.say(done, 1, answer))
        net.send(tcp.close(done + MS, 30 * MS))
        at += net.wobble(period_s, 0.6)
