"""Who spoke with whom: against a slow plain reference over real captures, and case by case."""

from __future__ import annotations

import os
from collections import defaultdict
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest

from cellwatch.models.features.conversations import MOST_CLAIMS, moved
from cellwatch.models.features.packets import PROTOCOLS, Packets, address, mac, parse
from cellwatch.models.features.protocols.application import TCP_TABLE, UDP_TABLE
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.types import Conversations, PacketBlock, Role, TrafficBatch
from cellwatch.nodes.drivers.capture import read_all
from cellwatch.plc_sim.frames import (
    ACK,
    RST,
    SYN,
    Single,
    arp_frame,
    group,
    host,
    icmp_echo,
    merge,
    tcp_frame,
    udp_frame,
)
from cellwatch.plc_sim.network.control import OPCUA_PORT
from cellwatch.plc_sim.network.tcp import MS, Tcp
from cellwatch.plc_sim.wire import modbus, opcua

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[4] / "shared" / "data"))
S = 1_000_000_000
PLC, HMI, BAD = (host(f"h{i}", f"02:00:00:00:00:0{i}", f"192.168.1.{i}") for i in (1, 2, 3))
CLOUD = host("cloud", "02:00:00:00:00:09", "52.1.2.3")
NAMES = {"02:00:00:00:00:01": "PLC1", "02:00:00:00:00:02": "HMI1", "02:00:00:00:00:09": "router"}


def packets(singles: list[Single]) -> Packets:
    frames = merge(singles, [])
    length = np.diff(frames.offset).astype(np.uint32)
    return parse(PacketBlock(frames.data, frames.offset[:-1], length, length, frames.time_ns, 1))


def watch(*singles: Single, window_s: float = 1.0) -> TrafficBatch:
    windows = TrafficWindows(window_s, NAMES)
    windows.add(packets(list(singles)))
    (batch,) = windows.close(None)
    return batch


def rows(batch: TrafficBatch, device: str) -> dict[tuple, dict[str, int]]:
    """(peer, role, protocol, service, port) -> counts of a device."""
    c = batch.conversations
    assert c is not None
    out = {}
    for i in np.flatnonzero(c.device == batch.devices.index(device)).tolist():
        key = (
            c.names[c.peer[i]], Role(c.role[i]), c.names[c.protocol[i]], c.names[c.service[i]],
            int(c.port[i]),
        )  # fmt: skip
        assert key not in out
        names = ("packets", "writes", "refused", "peers", "low", "high")
        out[key] = {name: int(getattr(c, name)[i]) for name in names}
    return out


def claims(batch: TrafficBatch) -> set[tuple[str, str, str]]:
    c = batch.conversations
    return {
        (batch.devices[d], c.names[ip], c.names[owner])
        for d, ip, owner in zip(c.claim_device, c.claim_ip, c.claim_owner, strict=True)
    }


def poll(client=HMI, *asked: bytes, port: int = 502, at: int = S) -> list[Single]:
    tcp = Tcp((client, PLC), (50_000, port), [1000, 2000])
    out = tcp.handshake(at, MS)
    for i, request in enumerate(asked):
        out += tcp.exchange(at + (10 + 10 * i) * MS, request, request, at + (12 + 10 * i) * MS, ack_ns=MS)
    return out


# ---------------------------------------------------------------- against a plain reference
def plain(p: Packets) -> dict[tuple, list]:
    """The definition of a row of packets, one packet after the other: packets and set of addresses."""
    texts = {address(int(hi), int(lo)) for hi, lo in zip(p.src_hi, p.src_lo, strict=True)}
    texts |= {address(int(hi), int(lo)) for hi, lo in zip(p.dst_hi, p.dst_lo, strict=True)}
    public = {text: ip_address(text).is_global for text in texts}
    out: dict[tuple, list] = defaultdict(lambda: [0, set()])
    for i in range(len(p)):
        ends = [
            (int(p.src_mac[i]), address(int(p.src_hi[i]), int(p.src_lo[i])), int(p.src_port[i])),
            (int(p.dst_mac[i]), address(int(p.dst_hi[i]), int(p.dst_lo[i])), int(p.dst_port[i])),
        ]
        table = TCP_TABLE if p.l4[i] == 6 else UDP_TABLE
        sport, dport = ends[0][2], ends[1][2]
        known = table[sport] > 0, table[dport] > 0
        port, roles = 0, (Role.PEER, Role.PEER)
        if sport or dport:
            server = None
            if sport == dport:
                port = sport if known[0] or sport < 32768 else 0
            elif known[0] != known[1]:
                server = 0 if known[0] else 1
            elif any(known) or min(sport, dport) < 32768:
                server = 0 if sport < dport else 1
            if server is not None:
                port = (sport, dport)[server]
                if port >= 32768 and not any(known):
                    port = 0
                roles = (Role.SERVER, Role.CLIENT) if server == 0 else (Role.CLIENT, Role.SERVER)
        name = PROTOCOLS[p.app[i]]
        if name in {"tcp", "udp", "data", "json"}:
            name = PROTOCOLS[table[port]] if table[port] else ("tcp" if p.l4[i] == 6 else "udp")
        if ends[0][0] == ends[1][0]:
            continue
        for side in range(2):
            me, other = ends[side], ends[1 - side]
            if me[0] >> 40 & 1:
                continue
            peer = "public" if public[other[1]] else mac(other[0])
            if other[0] >> 40 & 1:
                peer = "group"
            row = out[mac(me[0]), peer, roles[side], name, port]
            row[0] += 1
            row[1].add(other[1])
    return out


@pytest.mark.parametrize("number", range(3))
def test_rows_of_packets_are_those_of_the_definition(number: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Conversations, "MOST", 10_000)
    # Beside real traffic, everything at random: every byte of a header takes part.
    rng = np.random.default_rng(number)
    local = ("10.0.0.1", "10.0.0.2", "172.16.9.9", "192.168.7.7", "100.64.3.3", "169.254.1.1")
    addresses = (*local, "172.40.1.1", "8.8.8.8")
    ends = [host(str(i), f"02:00:00:00:01:{i:02x}", ip) for i, ip in enumerate(addresses)]
    ends += [group("239.1.1.1"), group("255.255.255.255")]
    ports = (53, 80, 102, 502, 1883, 2222, 4840, 5353, 9595, 20_000, 32_767, 32_768, 40_000, 50_000, 65_535)
    singles = []
    for i in range(3000):
        a, b = (ends[k] for k in rng.choice(len(ends) - 2, 2, replace=False))
        b = ends[-1 - int(rng.integers(2))] if rng.random() < 0.1 else b
        pair = (int(rng.choice(ports)), int(rng.choice(ports)))
        kind = rng.random()
        if kind < 0.4:
            frame = udp_frame(a, b, pair, bytes(int(rng.integers(0, 30))))
        elif kind < 0.8:
            frame = tcp_frame(a, b, pair, i, i, ACK, bytes(int(rng.integers(0, 30))))
        elif kind < 0.9:
            frame = icmp_echo(a, b, reply=False, ident=1, seq=i, payload=b"x")
        else:
            frame = arp_frame(a, b, reply=False)
        singles.append((S + i * 100_000, frame))
    p = packets(singles)
    windows = TrafficWindows(1.0)
    for part in np.array_split(np.arange(len(singles)), 3):  # what lies between two calls is no matter
        windows.add(packets([singles[i] for i in part.tolist()]))
    (batch,) = windows.close(None)
    expected = plain(p)
    by_device: dict[str, dict] = defaultdict(dict)
    for (device, *key), (count, addresses) in expected.items():
        by_device[device][tuple(key)] = (count, len(addresses))
    assert set(by_device) == set(batch.devices)
    for device, wanted in by_device.items():
        found = {
            (k[0], k[1], k[2], k[4]): (v["packets"], v["peers"])
            for k, v in rows(batch, device).items()
            if not k[3]
        }
        assert found == wanted
    assert batch.conversations.more == 0


@pytest.mark.parametrize(
    "name",
    ["pcaps/modbus/iti__modbus_test.pcap", "lemay_modbus/moving_two_files_modbus_6RTU.pcap"],
)
def test_every_packet_of_a_capture_is_in_a_row(name: str):
    if not (DATA / name).is_file():
        pytest.skip(f"no {name} under {DATA}")
    windows = TrafficWindows(10.0)
    for block in read_all(DATA / name):
        windows.add(parse(block))
    for batch in windows.close(None):
        c = batch.conversations
        packets_all = batch.values[:, batch.columns.index("network_packets_all_count")]
        said = np.bincount(c.device[c.service == 0], c.packets[c.service == 0], len(batch.devices))
        assert c.more == 0
        assert said.tolist() == packets_all.tolist()
        # Messages are counted on both sides, and only where packets are.
        messages = batch.values[:, batch.columns.index("industrial_messages_count")]
        told = np.bincount(c.device[c.service > 0], c.packets[c.service > 0], len(batch.devices))
        assert told.tolist() == messages.tolist()


# ---------------------------------------------------------------- case by case
def test_modbus_services_have_registers_writes_and_exceptions():
    batch = watch(
        *poll(HMI, modbus.read_request(1, 1, 100, 4), modbus.write_many(2, 1, 110, [1, 2, 3])),
        *poll(BAD, modbus.write_one(1, 1, 7, 5), at=S + 300 * MS),
    )
    plc = rows(batch, "PLC1")
    server = Role.SERVER
    assert plc["HMI1", server, "mbtcp", "modbus:3", 502] == {
        "packets": 2, "writes": 0, "refused": 0, "peers": 1, "low": 100, "high": 103,
    }  # fmt: skip
    wrote = plc["HMI1", server, "mbtcp", "modbus:16", 502]
    assert (wrote["writes"], wrote["low"], wrote["high"]) == (1, 110, 112)
    stranger = "02:00:00:00:00:03"
    assert plc[stranger, server, "mbtcp", "modbus:6", 502]["writes"] == 1
    assert rows(batch, "HMI1")["PLC1", Role.CLIENT, "mbtcp", "modbus:16", 502] == wrote
    # What writes comes first: it is never the one that finds no room.
    c = batch.conversations
    mine = c.writes[c.device == batch.devices.index("PLC1")]
    assert mine.tolist() == sorted(mine.tolist(), reverse=True)
    tcp = Tcp((HMI, PLC), (50_000, 502), [1, 1])
    asked, refusal = modbus.read_request(1, 1, 0, 1), modbus.refusal(1, 1, 3, 2)
    batch = watch(*tcp.handshake(S, MS), *tcp.exchange(S + 9 * MS, asked, refusal, S + 12 * MS))
    assert rows(batch, "HMI1")["PLC1", Role.CLIENT, "mbtcp", "modbus:3", 502]["refused"] == 1


READ, ANSWER = opcua.read_request(S, 1, 6, [b"a"]), opcua.read_response(S, 1, 6, [1.0])


def _node(type_id: int) -> bytes:
    """Four-byte NodeId (OPC UA Part 6, 5.2.2.9)."""
    return b"\x01\x00" + type_id.to_bytes(2, "little")


def test_opcua_answers_go_by_the_name_of_their_request():
    tcp = Tcp((HMI, PLC), (50_000, OPCUA_PORT), [1, 1])
    said = tcp.handshake(S, MS)
    said += tcp.exchange(S + 9 * MS, opcua.hello(b"opc.tcp://x"), opcua.acknowledge(), S + 10 * MS)
    for i, (ask, answer) in enumerate([
        (opcua.open_channel_request(S), opcua.open_channel_response(S, 1)),
        (opcua.create_session_request(S, 1, 2, b"u", b"n"), opcua.create_session_response(S, 1, 2)),
        (opcua.read_request(S, 1, 3, [b"a"]), opcua.read_response(S, 1, 3, [1.0])),
        (opcua.write_request(S, 1, 4, [(b"a", 1.0)]), opcua.write_response(S, 1, 4, [0x801F0000])),
        (opcua.call_request(S, 1, 5, b"o", b"m"), opcua.fault(S, 1, 5, 0x80740000)),
        (READ.replace(_node(631), _node(12208)), ANSWER.replace(_node(634), _node(12209))),
    ]):  # fmt: skip
        said += tcp.exchange(S + (50 + 50 * i) * MS, ask, answer, S + (52 + 50 * i) * MS, ack_ns=MS)
    found = {key[3]: row for key, row in rows(watch(*said), "PLC1").items() if key[3]}
    assert {name: row["packets"] for name, row in found.items()} == {
        "opcua:Hello": 1, "opcua:Acknowledge": 1, "opcua:OpenSecureChannel": 2, "opcua:CreateSession": 2,
        "opcua:Read": 2, "opcua:Write": 2, "opcua:Call": 1, "opcua:ServiceFault": 1,
        "opcua:FindServersOnNetwork": 2,
    }  # fmt: skip
    assert {name for name, row in found.items() if row["writes"]} == {"opcua:Write", "opcua:Call"}
    assert found["opcua:ServiceFault"]["refused"] == 1


def test_a_lasting_connection_looks_the_same_in_every_window():
    tcp = Tcp((HMI, BAD), (3473, 8886), [1, 1])  # both ports unknown: the lower one serves
    frames = tcp.handshake(S, MS)
    for i in range(3):
        frames += tcp.exchange(S * (1 + i) + 500 * MS, b"ask", b"tell", S * (1 + i) + 501 * MS)
    windows = TrafficWindows(1.0, NAMES)
    windows.add(packets(frames))
    keys = {tuple(rows(batch, "HMI1")) for batch in windows.close(None)}
    assert len(keys) == 1


def test_refused_connections_are_counted_and_a_reset_in_the_midst_is_none():
    frames = []
    for i, port in enumerate((22, 23, 80)):
        frames += [
            (S + i * MS, tcp_frame(BAD, PLC, (45_000, port), 1, 0, SYN)),
            (S + i * MS + 1000, tcp_frame(PLC, BAD, (port, 45_000), 0, 2, RST | ACK)),
        ]
    tcp = Tcp((HMI, PLC), (50_000, 502), [1, 1])
    frames += tcp.handshake(S, MS) + tcp.exchange(S + 9 * MS, b"x" * 12, b"y" * 12, S + 10 * MS, MS)
    frames += tcp.reset(S + 20 * MS, 1)
    plc = rows(watch(*sorted(frames, key=lambda f: f[0])), "PLC1")
    assert [key[4] for key, row in plc.items() if row["refused"]] == [22, 23, 80]
    assert sum(row["refused"] for row in plc.values()) == 3


def test_public_addresses_and_groups_are_one_peer_each_with_their_number():
    servers = [host("s", "02:00:00:00:00:09", f"52.1.2.{i}") for i in range(5)]
    many = [(S + i * MS, udp_frame(PLC, s, (50_000 + i, 53), b"q" * 20)) for i, s in enumerate(servers)]
    many += [(S + 900 * MS, udp_frame(PLC, group("239.255.255.250"), (50_001, 1900), b"M"))]
    plc = rows(watch(*many), "PLC1")
    assert plc["public", Role.CLIENT, "dns", "", 53]["peers"] == 5
    assert plc["group", Role.CLIENT, "ssdp", "", 1900]["packets"] == 1


def test_claims_tell_who_uses_which_local_address():
    liar = host("x", "02:00:00:00:00:03", "192.168.1.1")  # the PLC's address in other hands
    batch = watch(
        (S, arp_frame(PLC, HMI, reply=True)),
        (S + MS, arp_frame(liar, HMI, reply=True)),
        (
            S + 2 * MS,
            arp_frame(host("p", "02:00:00:00:00:03", "0.0.0.0"), HMI, reply=False),
        ),  # probe, RFC 5227
        (S + 3 * MS, udp_frame(CLOUD, HMI, (443, 50_000), b"x")),
        (S + 4 * MS, udp_frame(host("x", "02:00:00:00:00:03", "192.168.1.2"), PLC, (502, 50_000), b"x")),
    )
    assert claims(batch) == {
        ("HMI1", "192.168.1.1", "PLC1"),
        ("HMI1", "192.168.1.1", "02:00:00:00:00:03"),
        ("PLC1", "192.168.1.2", "02:00:00:00:00:03"),
    }


def test_a_window_is_bounded_and_writes_stay():
    forged = [host("f", "02:00:00:00:00:03", f"10.{i >> 8}.{i & 255}.1") for i in range(5000)]
    flood = [
        (2 * S + i * 1000, tcp_frame(source, PLC, (45_000, 1 + i), 1, 0, SYN))
        for i, source in enumerate(forged)
    ]
    windows = TrafficWindows(10.0, NAMES)
    told = (7 * S, arp_frame(host("x", "02:00:00:00:00:03", "192.168.1.2"), PLC, reply=True))
    windows.add(packets([*poll(BAD, modbus.write_one(1, 1, 7, 5)), *flood, told]))
    (batch,) = windows.close(None)
    c = batch.conversations
    mine = c.device == batch.devices.index("PLC1")
    assert mine.sum() == Conversations.MOST
    assert (c.claim_device == batch.devices.index("PLC1")).sum() == MOST_CLAIMS
    assert c.more > 5000
    assert ("PLC1", "192.168.1.2", "02:00:00:00:00:03") in claims(batch)  # ARP's come before all others
    assert rows(batch, "PLC1")["02:00:00:00:00:03", Role.SERVER, "mbtcp", "modbus:6", 502]["writes"] == 1


def test_nobody_spoke_and_devices_that_have_no_row():
    windows = TrafficWindows(1.0, NAMES)
    windows.add(packets(poll(HMI, modbus.read_request(1, 1, 0, 1))))
    windows.close(2 * S)
    (empty,) = windows.close(3 * S)
    assert len(empty.conversations.device) == 0
    batch = watch(*poll(HMI, modbus.read_request(1, 1, 0, 1)), (S, arp_frame(BAD, PLC, reply=True)))
    c = batch.conversations
    place = np.array([{"HMI1": 5, "PLC1": 2}.get(name, -1) for name in batch.devices])
    there = moved(c, place)
    assert set(there.device.tolist()) == {2, 5}
    assert there.device.tolist() == sorted(there.device.tolist())
    gone = batch.devices.index("02:00:00:00:00:03")
    assert there.more == (c.device == gone).sum() + (c.claim_device == gone).sum() > 0
    kept = {
        (there.names[p], n) for p, n, d in zip(there.peer, there.packets, there.device, strict=True) if d == 5
    }
    assert kept == {(c.names[p], n) for p, n, d in zip(c.peer, c.packets, c.device, strict=True)
                    if batch.devices[d] == "HMI1"}  # fmt: skip
    assert isinstance(there, Conversations)
