"""The protocols, judged by tshark: everything decodes, nothing is malformed, every checksum is right."""

from __future__ import annotations

import collections
import shutil
import subprocess

import numpy as np
import pytest

from cellwatch.plc_sim import frames as fr
from cellwatch.plc_sim import pcap
from cellwatch.plc_sim.network import Network, OpcUaClient, S
from cellwatch.plc_sim.network.activities import ACTIVITIES
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.wire import modbus, mqtt, opcua

START = 1_700_000_000 * S
TROUBLES = (
    "_ws.malformed", "tcp.analysis.lost_segment", "tcp.analysis.ack_lost_segment",
    "tcp.analysis.out_of_order", "tcp.analysis.retransmission",
)  # fmt: skip
CHECKSUMS = tuple(f"{p}.checksum.status" for p in ("ip", "tcp", "udp", "icmp", "icmpv6", "igmp"))


def tshark(frames, path, fields):
    """Rows of `fields` for all frames."""
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    path.write_bytes(pcap.HEADER + pcap.encode(frames))
    options = [x for p in ("ip", "tcp", "udp") for x in ("-o", f"{p}.check_checksum:TRUE")]
    command = ["tshark", "-r", str(path), *options, "-T", "fields", *(x for f in fields for x in ("-e", f))]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == len(frames)
    return rows


def run(net, seconds):
    edges = START + np.arange(round(seconds * 10) + 1) * S // 10
    return fr.concat([net.tick(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)])


def sound(rows):
    """No trouble in the first fields, good checksums in the rest (2: unknown, of quotes in ICMP)."""
    bad = [row for row in rows if any(row[: len(TROUBLES)])]
    assert not bad, bad[:5]
    for row in rows:
        cells = row[len(TROUBLES) : len(TROUBLES) + len(CHECKSUMS)]
        assert {part for cell in cells for part in cell.split(",")} <= (
            {"", "1", "2"} if cells[3] else {"", "1"}
        )


@pytest.mark.parametrize("site", ["bench", "factory"])
def test_tshark_knows_every_benign_frame(site, tmp_path):
    net = Network(np.random.default_rng(2), START, SITES[site])
    for i, name in enumerate(sorted(ACTIVITIES)):
        net.activity(name, START + (3 + 8 * i) * S)
    rows = tshark(run(net, 80.0), tmp_path / "a.pcap", (*TROUBLES, *CHECKSUMS, "frame.protocols"))
    sound(rows)
    seen = collections.Counter(layer for row in rows for layer in set(row[-1].split(":")))
    expected = {"arp", "ip", "tcp", "udp", "icmp", "opcua", "mqtt", "dns", "ntp", "http", "ssh", "dhcp"}
    if site == "factory":
        expected |= {
            "ipv6", "igmp", "modbus", "tls", "rtsp", "rtp", "telnet", "ssdp", "mdns", "dhcpv6", "lldp",
            "ieee1905", "nbns", "json",
        }  # fmt: skip
    assert expected <= set(seen), expected - set(seen)


def test_tshark_knows_what_attackers_say_too(tmp_path):
    net = Network(np.random.default_rng(2), START, SITES["factory"])
    session, at = OpcUaClient.open(net, "attacker0", "PLC2", START + S, 9)
    at = session.write(at, [("LIC201_SP", 79.0)], opcua.BAD_USER_ACCESS_DENIED)
    at = session.call(session.browse(at, "PLC2", ["LIC201_SP", "LIT201"]), "SafeState")
    tcp = session.tcp
    net.send(tcp.say(at, 1, opcua.fault(at, 9, 90, opcua.BAD_NODE_ID_UNKNOWN)))
    net.send(tcp.say(at + 1000, 1, opcua.error(0x80010000, b"bad")))
    bus = net.connect("attacker0", "MB401", 502)
    net.send(bus.handshake(START + S, 1000))
    for i, (request, response) in enumerate(
        (
            (modbus.write_one(1, 1, 5, 700), modbus.write_one(1, 1, 5, 700)),
            (modbus.write_many(2, 1, 0, [1, 2, 3]), modbus.wrote_many(2, 1, 0, 3)),
            (
                modbus.read_request(3, 1, 900, 2),
                modbus.refusal(3, 1, modbus.READ_HOLDING, modbus.ILLEGAL_ADDRESS),
            ),
            (
                modbus.read_request(4, 1, 0, 2, modbus.READ_INPUT),
                modbus.read_response(4, 1, [1, 2], modbus.READ_INPUT),
            ),
        )
    ):
        net.exchange(bus, START + 2 * S + i * S // 10, request, response, 1000)
    line = net.connect("attacker0", "mqtt-broker", 1883)
    net.send(line.handshake(START + S, 1000))
    hello = mqtt.connect(b"x", user=b"root", password=b"admin")
    net.exchange(line, START + 2 * S, hello, mqtt.CONNECTED, 1000)
    big = mqtt.publish(b"iiot/steam", b"9" * 300, qos=1, ident=7)
    net.exchange(line, START + 3 * S, big, mqtt.published(7), 1000)
    fields = (
        "opcua.servicenodeid.numeric", "opcua.Results", "modbus.func_code", "modbus.exception_code",
        "mqtt.username", "mqtt.len",
    )  # fmt: skip
    rows = tshark(run(net, 6.0), tmp_path / "b.pcap", (*TROUBLES, *CHECKSUMS, *fields))
    sound(rows)
    service, status, function, exception, user, size = (
        set(column) for column in list(zip(*rows, strict=True))[-6:]
    )
    assert {"673", "676", "712", "715", "527", "530", "397"} <= service
    assert f"{opcua.BAD_USER_ACCESS_DENIED:#010x}" in {part for cell in status for part in cell.split(",")}
    assert {"3", "4", "6", "16"} <= function
    assert "2" in exception
    assert "root" in user
    assert "314" in size
