"""Conversations of people and tools: SSH, Telnet, HTTP, RTSP, a look at a port, an echo.

Each puts its frames on the wire, beginning at `at`, and returns when it is done (ns).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellwatch.plc_sim.frames import (
    ACK,
    IDENT,
    RST,
    SYN,
    Host,
    put16,
    put32,
    stamp,
    udp_frame,
)
from cellwatch.plc_sim.network.tcp import MS, Tcp
from cellwatch.plc_sim.wire import http, rtsp, shell

if TYPE_CHECKING:
    from cellwatch.plc_sim.network.network import Network

S = 1_000 * MS
SSH_PORT, TELNET_PORT, HTTP_PORT, RTSP_PORT = 22, 23, 80, 554
OPEN_PORTS = {  # of the roles, beside what is in use anyway
    "plc": (4840,), "modbus": (502,), "mqtt-broker": (22, 1883), "edge": (22,), "router": (53, 80, 443, 1900),
    "switch": (23, 80), "ap": (22, 80), "camera": (80, 554), "smart-plug": (6668,), "sensor": (), "hmi":
    (3389,), "engineering": (3389,), "attacker": (22,), "cloud": (443, 9200),
}  # fmt: skip


def ssh_login(net: Network, client: str, server: str, at: int) -> tuple[Tcp, int]:
    """Connect, exchange keys and log in; what follows is sealed."""
    tcp = net.connect(client, server, SSH_PORT, stamps=True)
    gap = net.gap()
    net.send(tcp.handshake(at, gap))
    at = net.exchange(tcp, at + 3 * gap, shell.SSH_CLIENT, shell.SSH_SERVER, 5 * MS, MS)
    cookie = net.rng.bytes(32)
    at = net.exchange(
        tcp, at + 2 * MS, shell.ssh_kexinit(cookie[:16]), shell.ssh_kexinit(cookie[16:]), MS, MS
    )
    reply = shell.ssh_key_exchange(31, cookie) + shell.ssh_new_keys()
    at = net.exchange(tcp, at + 2 * MS, shell.ssh_key_exchange(30, cookie), reply, 8 * MS, MS)
    net.send(tcp.say(at + 2 * MS, 0, shell.ssh_new_keys()))
    at += 4 * MS
    for asked, answered in ((44, 44), (60, 76), (148, 28), (112, 500)):  # service, methods, password, shell
        at = net.exchange(tcp, at, net.rng.bytes(asked), net.rng.bytes(answered), 10 * MS, MS) + 3 * MS
    return tcp, at


def ssh_type(net: Network, tcp: Tcp, keys: int, at: int) -> int:
    """Type some keys, each echoed, and hang up."""
    for _ in range(keys):
        at = net.exchange(tcp, at, net.rng.bytes(36), net.rng.bytes(36), MS, 5 * MS) + net.wobble(0.25, 0.8)
    net.send(tcp.close(at, net.gap()))
    return at


def telnet(net: Network, client: str, server: str, lines: tuple[str, ...], at: int) -> int:
    """Log in, type commands in the clear, hang up."""
    tcp = net.connect(client, server, TELNET_PORT)
    gap = net.gap()
    net.send(tcp.handshake(at, gap))
    offer, asks = shell.telnet_options(True, 31, 32), shell.telnet_options(False, 1, 3)
    at = net.exchange(tcp, at + 3 * gap, offer, asks, 2 * MS, MS) + 5 * MS
    for line in lines:
        at = net.exchange(tcp, at, shell.telnet_line(line), shell.telnet_line("# "), 5 * MS) + net.wobble(
            0.6, 0.5
        )
    net.send(tcp.close(at, gap))
    return at


def http_get(
    net: Network, client: str, server: str, path: str, size: int, at: int, port: int = HTTP_PORT
) -> int:
    """One page of `size` bytes over its own connection."""
    tcp = net.connect(client, server, port)
    gap = net.gap()
    net.send(tcp.handshake(at, gap))
    page = http.response(b"<html>" + b" " * size + b"</html>", "text/html")
    at = net.exchange(tcp, at + 3 * gap, http.request("GET", server, path), page, 5 * MS, MS)
    net.send(tcp.close(at + 2 * MS, gap))
    return at + 2 * MS + 3 * gap


def look_at_port(net: Network, client: str, server: str, role: str, port: int, at: int) -> int:
    """SYN; an open port answers and is reset, a closed one refuses."""
    tcp = net.connect(client, server, port)
    answer = net.answer(client, server, at)
    net.send([tcp.at(at, 0, SYN)])
    if port in OPEN_PORTS[role]:
        net.send([tcp.at(answer, 1, SYN | ACK), tcp.at(answer + net.gap(), 0, RST)])
    else:
        net.send([tcp.at(answer, 1, RST | ACK)])
    return answer


def transfer(net: Network, tcp: Tcp, side: int, kilobytes: float, per_s: float, at: int) -> int:
    """Send a file in full segments, `per_s` a second on average."""
    payload = net.rng.bytes(1400)
    n = max(int(kilobytes * 1000 / len(payload)), 1)
    sent = at + np.cumsum(1 + (net.rng.exponential(1.0 / per_s, n) * S).astype(np.int64))
    net.send_blocks(tcp.bulk(sent, side, payload))
    return int(sent[-1]) + MS


def watch(net: Network, client: str, camera: str, seconds: float, at: int) -> int:
    """Ask a camera for its picture by RTSP and get it by RTP: 25 frames a second of 4 packets each."""
    tcp = net.connect(client, camera, RTSP_PORT)
    a, b = tcp.ends
    url = f"rtsp://{'.'.join(map(str, b.ip))}/live"
    port = 50000 + 2 * int(net.uniform() * 1000)
    transport = f"Transport: RTP/AVP;unicast;client_port={port}-{port + 1}"
    served = f"{transport};server_port=6970-6971"
    gap = net.gap()
    net.send(tcp.handshake(at, gap))
    at += 3 * gap
    for i, (method, where, asked, told, body) in enumerate(
        (
            ("OPTIONS", url, (), ("Public: DESCRIBE, SETUP, PLAY, TEARDOWN",), ""),
            ("DESCRIBE", url, ("Accept: application/sdp",), (), rtsp.description("192.168.1.57")),
            ("SETUP", f"{url}/track1", (transport,), (served, "Session: 1"), ""),
            ("PLAY", url, ("Session: 1", "Range: npt=0-"), ("Session: 1",), ""),
        ),
        start=1,
    ):
        request = rtsp.request(method, where, i, *asked)
        at = net.exchange(tcp, at, request, rtsp.response(i, *told, body=body), 5 * MS, MS) + 3 * MS
    end = _stream(net, b, a, (6970, port), seconds, at)
    net.exchange(
        tcp, end, rtsp.request("TEARDOWN", url, 5, "Session: 1"), rtsp.response(5, "Session: 1"), 5 * MS, MS
    )
    net.send(tcp.close(end + 20 * MS, gap))
    return end + S


_RTP_AT = 42  # byte of the RTP header in an Ethernet + IPv4 + UDP frame


def _stream(net: Network, src: Host, dst: Host, ports: tuple[int, int], seconds: float, at: int) -> int:
    """Send RTP packets: three full ones and a rest, with the marker, for each picture."""
    pictures = max(int(seconds * 25), 1)
    times = at + (np.arange(pictures) * S // 25).astype(np.int64)
    for k, size in enumerate((1400, 1400, 1400, 600)):
        unit = bytes([0x7C, (0x80 if k == 0 else 0x40 if k == 3 else 0) | 1]) + net.rng.bytes(size)  # FU-A
        block = stamp(
            udp_frame(src, dst, ports, rtsp.rtp(0, 0, 0x57, unit, marker=k == 3), df=True),
            times + k * MS // 4,
        )
        number = np.arange(pictures)
        put16(block.rows, IDENT, src.next_ident(pictures) + number)
        put16(block.rows, _RTP_AT + 2, 4 * number + k)
        put32(block.rows, _RTP_AT + 4, 3600 * number)
        net.send_blocks([block])
    return int(times[-1]) + 40 * MS
