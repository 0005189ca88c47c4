"""Attacks: what each one leaves on the wire, read by a parser of our own."""

from __future__ import annotations

import csv
import itertools
import os
import re
import shutil
import struct
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from cellwatch.plc_sim import pcap
from cellwatch.plc_sim.attacks import ATTACKS, Effects
from cellwatch.plc_sim.frames import Frames, concat
from cellwatch.plc_sim.network.hosts import HOSTS
from cellwatch.plc_sim.network.network import Network
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import tags_of

START = 1_700_000_000 * 10**9
TICK = 10**8
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

FLOODS = (
    "ack-frag-flood", "connect-flood", "http-flood", "icmp-flood", "icmp-frag-flood", "mqtt-publish-flood",
    "push-ack-flood", "rst-fin-flood", "slowloris", "syn-flood", "synonymousip-flood", "tcp-flood",
    "udp-flood", "udp-frag-flood",
)  # fmt: skip
DATASENSE = {
    "dos": FLOODS,
    "ddos": FLOODS,
    "recon": (
        "host-disc-arp-ping", "host-disc-tcp-ack-ping", "host-disc-tcp-syn-ping", "host-disc-tcp-syn-stealth",
        "host-disc-udp-ping", "os-scan", "ping-sweep", "port-scan", "vuln-scan",
    ),
    "web": ("backdoor-upload", "command-injection", "sql-injection", "sql-injection-blind", "xss"),
    "mitm": ("arp-spoofing", "impersonation", "ip-spoofing"),
    "malware": ("mirai-syn-flood", "mirai-udp-flood"),
    "bruteforce": ("dictionary-ssh", "dictionary-telnet"),
}  # fmt: skip
ICS = (
    "false-data-injection", "set-point-change", "replay", "rogue-client", "modbus-write-flood", "plc-stop",
)  # fmt: skip


class Packet(NamedTuple):
    time: int
    raw: bytes
    dst_mac: bytes
    src_mac: bytes
    ether: int
    src: bytes = b""
    dst: bytes = b""
    ident: int = 0
    fragment: int = 0  # flags and offset
    ttl: int = 0
    proto: int = 0
    body: bytes = b""  # of IP
    sport: int = 0
    dport: int = 0
    seq: int = 0
    ack: int = 0
    flags: int = 0
    payload: bytes = b""


def parse(frames):
    """Every frame as a Packet."""
    data, found = frames.data.tobytes(), []
    for time, (a, b) in zip(frames.time_ns.tolist(), itertools.pairwise(frames.offset.tolist()), strict=True):
        raw = data[a:b]
        ether = int.from_bytes(raw[12:14], "big")
        head = (time, raw, raw[:6], raw[6:12], ether)
        if ether != 0x0800:
            found.append(Packet(*head, body=raw[14:]))
            continue
        size, ident, fragment, ttl, proto = struct.unpack(">HHHBB", raw[16:24])
        start = 14 + 4 * (raw[14] & 15)
        body = raw[start : 14 + size]
        assert len(body) == size - (start - 14), "truncated"
        ip = (*head, raw[26:30], raw[30:34], ident, fragment, ttl, proto, body)
        if fragment & 0x1FFF or proto not in (6, 17):
            found.append(Packet(*ip))
        elif proto == 6:
            sport, dport, seq, ack, offset, flags = struct.unpack(">HHIIBB", body[:14])
            found.append(Packet(*ip, sport, dport, seq, ack, flags, body[offset >> 4 << 2 :]))
        else:
            sport, dport = struct.unpack(">HH", body[:4])
            found.append(Packet(*ip, sport, dport, payload=body[8:]))
    return found


@dataclass
class Play:
    """One attack, driven by itself."""

    frames: Frames
    effects: list[Effects]
    last: Effects
    hosts: dict
    attackers: tuple[str, ...]
    target: str

    @cached_property
    def packets(self):
        return parse(self.frames)

    def count(self, names, place):
        """Frames with the MAC of one of these hosts at byte `place`; not parsed, for there may be many."""
        at = self.frames.offset[:-1, None] + place + np.arange(6)
        macs = self.frames.data[at]
        return sum(int((macs == np.frombuffer(self.of(n).mac, np.uint8)).all(axis=1).sum()) for n in names)

    def of(self, name):
        return self.hosts[name]

    def sent(self):
        """What the attackers sent, by MAC."""
        macs = {self.hosts[name].mac for name in self.attackers}
        return [p for p in self.packets if p.src_mac in macs]

    def tcp(self, port):
        return [p for p in self.packets if p.proto == 6 and port in (p.sport, p.dport) and p.payload]

    def text(self):
        return b"\n".join(p.payload for p in self.packets)


def play(name, site="factory", size=0.5, seconds=4.0, seed=3, target=None):
    """Drive network and attack; the values stand in the middle of their ranges."""
    place = SITES[site]
    network = Network(np.random.default_rng(seed), START, place)
    values = {t.name: (t.low + t.high) / 2 if t.kind == "float" else 0.0 for t in tags_of(place)}
    network.values = dict(values)
    attack, rng = ATTACKS[name], np.random.default_rng(seed + 1)
    target = target or prefer(name, attack.targets[site])
    attackers = attack.cast(rng)
    running = attack.start(network, rng, attackers, target, size)
    frames, effects = [], []
    end = START + round(seconds * 1e9)
    for now in range(START, end, TICK):
        traffic, effect = running.tick(now, now + TICK, values)
        times = [time for time, _ in traffic.singles] + [
            t for b in traffic.blocks for t in b.time_ns.tolist()
        ]
        assert all(START <= time < now + TICK for time in times)
        network.relay, network.delay_ms, network.loss = effect.relay, effect.delay_ms, effect.loss
        frames.append(network.tick(now, now + TICK, traffic))
        effects.append(effect)
    traffic, last = running.end(end, values)
    network.relay = {}
    frames.append(network.tick(end, end + 10**9, traffic))
    whole = concat(frames)
    return Play(whole, effects, last, network.hosts, attackers, target)


def prefer(name, targets):
    """A target with many services; PLC1 where what it says to HMI1 is at stake."""
    names = ("edge1", "PLC1", "mqtt-broker") if name != "mitm/arp-spoofing" else ("PLC1",)
    return next((each for each in names if each in targets), targets[0])


@pytest.fixture(scope="module")
def played():
    """An attack of medium size on the factory, played once."""
    known: dict[str, Play] = {}

    def get(name):
        if name not in known:
            seed = list(ATTACKS).index(name)  # its own: in one capture, fragments of two must not meet
            known[name] = play(name, seconds=LONGER.get(name.split("/")[1], 4.0), seed=seed)
        return known[name]

    return get


def ones_sum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def datagrams(packets):
    """Reassembled fragments: (protocol, body) of every whole datagram."""
    parts: dict = {}
    for p in packets:
        if p.ether == 0x0800 and p.fragment & 0x3FFF:
            parts.setdefault((p.src, p.dst, p.ident, p.proto), {})[p.fragment & 0x1FFF] = p
    for (src, dst, _, proto), pieces in parts.items():
        body = b""
        for offset in sorted(pieces):
            assert offset * 8 == len(body), "hole or overlap"
            body += pieces[offset].body
        if not pieces[max(pieces)].fragment & 0x2000:
            yield src, dst, proto, body


# --- the catalogue


def test_all_types_are_there():
    named = {f"{category}/{kind}" for category, kinds in DATASENSE.items() for kind in kinds}
    assert len(named) == 49
    assert set(ATTACKS) == named | {f"ics/{kind}" for kind in ICS}
    for name, attack in ATTACKS.items():
        assert attack.name == name
        assert attack.attack_id is None or re.fullmatch(r"T08\d\d", attack.attack_id)
        assert attack.about
        for site, targets in attack.targets.items():
            assert targets
            assert set(targets) <= set(SITES[site].hosts)
        assert "factory" in attack.targets
    assert {"dos/syn-flood", "recon/port-scan"} <= {
        n for n, a in ATTACKS.items() if "PLC1" in a.targets.get("bench", ())
    }


def test_types_are_those_of_the_sessions():
    root = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
    sessions = root / "datasense" / "attacks.csv"
    if not sessions.is_file():
        pytest.skip(f"{sessions} is absent")
    with sessions.open() as file:
        kinds = {
            f"{row['category']}/{re.sub(r'-port-[0-9]+$', '', row['attack_name'])}"
            for row in csv.DictReader(file)
            if row["category"] != "benign"
        }
    assert kinds == {name for name in ATTACKS if not name.startswith("ics/")}


def test_who_is_hit_and_who_attacks():
    factory, rng = SITES["factory"], np.random.default_rng(0)
    for attack in ATTACKS.values():
        for site, targets in attack.targets.items():
            for target in targets:
                victims = attack.victims(target, SITES[site])
                assert victims[0] == target
                assert len(set(victims)) == len(victims)
                assert set(victims) <= set(SITES[site].hosts)
        assert set(attack.cast(rng)) <= set(HOSTS)
    assert ATTACKS["mitm/arp-spoofing"].victims("gas-sensor", factory) == ("gas-sensor", "mqtt-broker")
    assert ATTACKS["malware/mirai-syn-flood"].victims("ap", factory) == ("ap", "edge1", "mqtt-broker")
    assert len(ATTACKS["ddos/udp-flood"].cast(rng)) == 5
    assert len(ATTACKS["dos/udp-flood"].cast(rng)) == 1


def test_wrong_sizes_and_hosts_are_refused():
    network = Network(np.random.default_rng(0), START, SITES["bench"])
    attack, rng = ATTACKS["dos/syn-flood"], np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"size is 1\.5"):
        attack.start(network, rng, ("attacker0",), "PLC1", 1.5)
    with pytest.raises(KeyError):
        attack.start(network, rng, ("attacker0",), "PLC9", 0.5)


# --- the mark of each type


def is_from_attackers(play):
    macs = {play.of(name).mac for name in play.attackers}
    target = play.of(play.target)
    return [p for p in play.packets if p.src_mac in macs and p.dst_mac == target.mac]


def stray(flags):
    """Segments with exactly these flags on connections that were never opened."""

    def found(play):
        hits = [p for p in is_from_attackers(play) if p.proto == 6 and p.flags == flags]
        return len(hits) > 100 and len({(p.sport, p.seq) for p in hits}) > 100

    return found


def fragments(proto):
    def found(play):
        whole = [body for src, _, kind, body in datagrams(play.packets) if kind == proto and len(body) > 1480]
        return len(whole) > 50

    return found


def http_requests(play):
    asked = [p for p in is_from_attackers(play) if p.payload.startswith(b"GET /")]
    answers = [p for p in play.packets if p.payload.startswith(b"HTTP/1.1 200")]
    return len(asked) > 10 and len(answers) >= len(asked) - 5


def echo_flood(play):
    asked = [p for p in is_from_attackers(play) if p.proto == 1 and p.body[0] == 8]
    replies = [
        p for p in play.packets if p.proto == 1 and p.body[0] == 0 and p.src == play.of(play.target).ip
    ]
    return len(asked) > 200 and len(replies) > 100


def udp_flood(play):
    asked = [p for p in is_from_attackers(play) if p.proto == 17]
    complaints = [p for p in unreachable(play) if p.src == play.of(play.target).ip]
    quoted = {p.body[8 + 20 : 8 + 24] for p in complaints}
    return len(asked) > 500 and len(complaints) > 5 and quoted <= {p.body[:4] for p in asked}


def unreachable(play):
    """ICMP port unreachable for an attacker."""
    macs = {play.of(name).mac for name in play.attackers}
    return [p for p in play.packets if p.proto == 1 and p.body[:2] == b"\x03\x03" and p.dst_mac in macs]


def mqtt_publishes(play):
    hits = [p for p in is_from_attackers(play) if p.payload[:1] == b"\x30"]
    return len(hits) > 50 and all(p.payload[1] == len(p.payload) - 2 for p in hits)


def mqtt_connects(play):
    connects = [p for p in is_from_attackers(play) if p.payload[:1] == b"\x10" and b"MQTT" in p.payload]
    return len(connects) > 30 and len({p.sport for p in connects}) > 30


def slow_headers(play):
    asked = [p for p in is_from_attackers(play) if p.dport == 80 and p.payload]
    heads = [p for p in asked if p.payload.startswith(b"GET /")]
    drips = [p for p in asked if p.payload.startswith(b"X-a: ")]
    return len(heads) > 10 and len(drips) > 5 and not any(b"\r\n\r\n" in p.payload for p in asked)


def land(play):
    ip = play.of(play.target).ip
    return sum(p.src == p.dst == ip and p.flags == SYN for p in is_from_attackers(play)) > 200


def half_open(play):
    asked = [p for p in is_from_attackers(play) if p.proto == 6 and p.flags == SYN]
    accepted = [p for p in play.packets if p.flags == SYN | ACK and p.src == play.of(play.target).ip]
    return len(asked) > 200 and len(accepted) > 20


def arp_requests(play):
    asked = [p for p in play.sent() if p.ether == 0x0806 and p.body[7] == 1]
    return len({p.body[24:28] for p in asked}) > 10


def probes(flags, answer):
    def found(play):
        asked = [p for p in play.sent() if p.proto == 6 and p.flags == flags]
        back = {(p.dport, p.sport) for p in play.packets if p.proto == 6 and p.flags in answer}
        hit = [p for p in asked if (p.sport, p.dport) in back]
        return len({p.dst for p in asked}) > 10 and len(hit) > 0.9 * len(asked)

    return found


def udp_pings(play):
    asked = [p for p in play.sent() if p.proto == 17 and p.dport == 40125 and not p.payload]
    return len({p.dst for p in asked}) > 5 and len(unreachable(play)) > 0.9 * len(asked)


def echo_sweep(play):
    return len({p.dst for p in play.sent() if p.proto == 1 and p.body[0] == 8}) > 3


def os_probes(play):
    syns = [p for p in play.sent() if p.proto == 6 and p.flags == SYN]
    odd = {p.flags for p in play.sent() if p.proto == 6}
    u1 = [p for p in play.sent() if p.proto == 17 and p.payload == b"C" * 300]
    echoes = {p.body[1] for p in play.sent() if p.proto == 1 and p.body[0] == 8}
    return len(syns) > 6 and {0, SYN | FIN | PSH | 32, FIN | PSH | 32} <= odd and u1 and 9 in echoes


def many_ports(play):
    hits = [p for p in is_from_attackers(play) if p.flags == SYN]
    refused = [p for p in play.packets if p.flags == RST | ACK and p.src == play.of(play.target).ip]
    return len({p.dport for p in hits}) > 20 and len(refused) > 20


def checks(play):
    text = play.text()
    return many_ports(play) and b"Nmap Scripting Engine" in text and b"SSH-2.0-" in text


def says(*needles):
    def found(play):
        text = play.text()
        return all(needle in text for needle in needles) and b"HTTP/1.1 " in text

    return found


def lies(play, peer):
    """ARP replies of the attacker that claim the peer's address."""
    return [
        p
        for p in play.sent()
        if p.ether == 0x0806
        and p.body[7] == 2
        and p.body[8:14] == p.src_mac
        and p.body[14:18] == play.of(peer).ip
    ]


def poisoned(play):
    ends = {play.of("HMI1").ip, play.of("PLC1").ip}
    relayed = [p for p in play.sent() if p.proto == 6 and {p.src, p.dst} == ends]
    healed = [p for p in play.sent() if p.ether == 0x0806 and p.body[8:14] == play.of("HMI1").mac]
    return len(lies(play, "HMI1")) > 1 and len(healed) == 3 and len(relayed) > 10


def impersonated(play):
    sensor = play.of(play.target)
    mine = [p for p in play.packets if p.src_mac == sensor.mac and p.ttl == 64 and p.payload[:1] == b"\x30"]
    return len(mine) > 5 and all(p.src == sensor.ip for p in mine)


def forged(play):
    peer = play.of("mqtt-broker")
    asked = [p for p in is_from_attackers(play) if p.src == peer.ip and p.flags == SYN]
    back = [
        p
        for p in play.packets
        if p.src == play.of(play.target).ip and p.dst_mac == peer.mac and p.flags & SYN
    ]
    return len(asked) > 500 and len(back) > 100


def mirai(flood):
    def found(play):
        text = play.text()
        bots = {play.of("mqtt-broker").mac} | ({play.of("edge1").mac} - {play.of(play.target).mac})
        scans = [p for p in play.sent() if p.flags == SYN and p.seq == int.from_bytes(p.dst, "big")]
        hits = [
            p for p in play.packets if p.src_mac in bots and p.dst == play.of(play.target).ip and flood(p)
        ]
        return b"/bin/busybox MIRAI" in text and b"\x7fELF" in text and len(scans) > 10 and len(hits) > 20

    return found


def ssh_tries(play):
    versions = [p for p in is_from_attackers(play) if p.payload.startswith(b"SSH-2.0-")]
    exchanges = [p for p in play.tcp(22) if len(p.payload) > 6 and p.payload[5] == 0x14]
    return versions and len(exchanges) >= 2 * len(versions) - 2


def telnet_tries(play):
    return play.text().count(b"Login incorrect") >= 2


def opcua_calls(service, least):
    """Requests of a service (node id of its encoding) from the attacker or a compromised station."""

    def found(play):
        return (
            sum(p.payload[24:28] == b"\x01\x00" + struct.pack("<H", service) for p in play.tcp(4840)) >= least
        )

    return found


def replayed(play):
    return len(lies(play, "HMI1")) > 1 and opcua_calls(673, 2)(play)  # moves a set-point, and back


def register_writes(play):
    asked = [p for p in is_from_attackers(play) if p.dport == 502 and p.payload[7:8] == b"\x06"]
    back = [p for p in play.packets if p.sport == 502 and p.payload[7:8] == b"\x06"]
    values = {p.payload[10:12] for p in asked}
    return len(asked) > 100 and len(back) == len(asked) and len(values) > 50


MARKS = {
    "ack-frag-flood": fragments(6), "connect-flood": mqtt_connects, "http-flood": http_requests,
    "icmp-flood": echo_flood, "icmp-frag-flood": fragments(1), "mqtt-publish-flood": mqtt_publishes,
    "push-ack-flood": stray(PSH | ACK), "rst-fin-flood": stray(RST | FIN), "slowloris": slow_headers,
    "syn-flood": half_open, "synonymousip-flood": land, "tcp-flood": stray(0), "udp-flood": udp_flood,
    "udp-frag-flood": fragments(17),
    "host-disc-arp-ping": arp_requests, "host-disc-tcp-ack-ping": probes(ACK, {RST}),
    "host-disc-tcp-syn-ping": probes(SYN, {SYN | ACK, RST | ACK}),
    "host-disc-tcp-syn-stealth": probes(SYN, {SYN | ACK, RST | ACK}), "host-disc-udp-ping": udp_pings,
    "os-scan": os_probes, "ping-sweep": echo_sweep, "port-scan": many_ports, "vuln-scan": checks,
    "backdoor-upload": says(b"multipart/form-data", b"<?php", b".php", b"www-data"),
    "command-injection": says(b"POST /vulnerabilities/exec/", b"127.0.0.1%"),
    "sql-injection": says(b"sqlmap", b"?id=1%27"), "sql-injection-blind": says(b"sqli_blind", b"SUBSTRING"),
    "xss": says(b"%3Cs", b"vulnerabilities/xss_r"),
    "arp-spoofing": poisoned, "impersonation": impersonated, "ip-spoofing": forged,
    "mirai-syn-flood": mirai(lambda p: p.flags == SYN and p.proto == 6),
    "mirai-udp-flood": mirai(lambda p: p.proto == 17 and len(p.payload) == 512),
    "dictionary-ssh": ssh_tries, "dictionary-telnet": telnet_tries,
    "false-data-injection": opcua_calls(673, 3), "set-point-change": opcua_calls(673, 3), "replay": replayed,
    "rogue-client": opcua_calls(527, 2), "modbus-write-flood": register_writes,
    "plc-stop": opcua_calls(712, 1),
}  # fmt: skip
# Seconds that show the mark of what is slow or comes in phases; 4 s for all others.
LONGER = {
    "dictionary-ssh": 9.0, "dictionary-telnet": 9.0, "backdoor-upload": 12.0, "command-injection": 6.0,
    "sql-injection": 6.0, "slowloris": 9.0, "mirai-syn-flood": 8.0, "mirai-udp-flood": 8.0, "replay": 9.0,
    "arp-spoofing": 6.0, "false-data-injection": 8.0, "set-point-change": 8.0, "impersonation": 6.0,
    "host-disc-udp-ping": 6.0, "ping-sweep": 6.0,
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_its_mark_is_on_the_wire(name, played):
    kind = name.split("/")[1]
    play = played(name)
    assert MARKS[kind](play)
    other = played("recon/ping-sweep" if kind != "ping-sweep" else "mitm/impersonation")
    assert not MARKS[kind](replace(other, target=play.target)), "the mark is on any traffic"


def test_five_attackers_share_a_flood(played):
    play = played("ddos/syn-flood")
    share = Counter(p.src_mac for p in play.sent() if p.flags == SYN)
    assert len(share) == 5
    assert min(share.values()) > 0.5 * max(share.values())


# --- correct frames


@pytest.mark.parametrize("name", ATTACKS)
def test_frames_are_well_made(name, played):
    packets = played(name).packets
    times = [p.time for p in packets]
    assert times == sorted(times)
    for p in packets[:: max(1, len(packets) // 500)]:
        if p.ether != 0x0800:
            continue
        assert len(p.raw) <= 1514
        assert ones_sum(p.raw[14 : 14 + 4 * (p.raw[14] & 15)]) == 0xFFFF
        if not p.fragment & 0x3FFF and p.proto in (1, 6, 17):
            pseudo = b"" if p.proto == 1 else p.src + p.dst + struct.pack(">HH", p.proto, len(p.body))
            assert ones_sum(pseudo + p.body) == 0xFFFF


@pytest.mark.parametrize("kind", ["ack-frag-flood", "icmp-frag-flood", "udp-frag-flood"])
def test_fragments_come_together_with_a_right_checksum(kind, played):
    n = 0
    for src, dst, proto, body in datagrams(played(f"dos/{kind}").packets):
        pseudo = b"" if proto == 1 else src + dst + struct.pack(">HH", proto, len(body))
        assert ones_sum(pseudo + body) == 0xFFFF
        n += 1
    assert n > 50


@pytest.mark.parametrize("name", ["web/sql-injection", "bruteforce/dictionary-telnet", "dos/http-flood"])
def test_connections_are_whole(name, played):
    """Sequence and acknowledgement numbers of every connection that both sides closed."""
    flows: dict = {}
    for p in played(name).packets:
        if p.proto == 6 and {80, 23} & {p.sport, p.dport}:
            ends = ((p.src, p.sport), (p.dst, p.dport))
            flows.setdefault(frozenset(ends), []).append(p)
    whole = [
        flow for flow in flows.values() if flow[0].flags == SYN and sum(p.flags & FIN for p in flow) == 2
    ]
    assert len(whole) > 1
    for flow in whole:
        due: dict = {}
        for p in flow:
            if p.src in due:
                assert p.seq == due[p.src]
            if p.dst in due and p.flags & ACK:
                assert p.ack == due[p.dst]
            due[p.src] = (p.seq + len(p.payload) + bool(p.flags & (SYN | FIN))) % 2**32


def head(frames, n):
    """The first n frames."""
    n = min(n, len(frames))
    return Frames(frames.data[: frames.offset[n]], frames.offset[: n + 1], frames.time_ns[:n])


def test_tshark_reads_all_attacks(played, tmp_path):
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    file = tmp_path / "all.pcap"
    plays = [played(name) for name in ATTACKS]
    heads = [head(play.frames, 1500) for play in plays]
    file.write_bytes(pcap.HEADER + b"".join(pcap.encode(frames) for frames in heads))
    checks = [f"{p}.checksum.status" for p in ("ip", "tcp", "udp", "icmp")]
    options = [x for p in ("ip", "tcp", "udp") for x in ("-o", f"{p}.check_checksum:TRUE")]
    fields = [x for f in ("_ws.col.Protocol", "_ws.malformed", *checks) for x in ("-e", f)]
    command = ["tshark", "-n", "-r", str(file), *options, "-T", "fields", *fields]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == sum(len(frames) for frames in heads)
    assert {row[1] for row in rows} == {""}, "malformed"
    status = {cell for row in rows for field in row[2:] for cell in field.split(",")}
    assert status <= {"", "1", "2"}, "0 is a bad checksum, 2 one of a datagram quoted in part"
    assert {"HTTP", "MQTT", "SSHv2", "TELNET", "OpcUa", "Modbus/TCP", "ARP", "ICMP"} <= {
        row[0] for row in rows
    }


# --- seed and size


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_same_bytes(name):
    first, again = (play(name, seconds=2.0) for _ in range(2))
    assert first.frames.data.tobytes() == again.frames.data.tobytes()
    assert first.frames.time_ns.tolist() == again.frames.time_ns.tolist()


def test_another_seed_gives_other_bytes(played):
    for name in ("dos/syn-flood", "web/xss", "mitm/arp-spoofing"):
        assert played(name).frames.data.tobytes() != play(name, seed=11).frames.data.tobytes()


BY_EFFECT = {"ics/false-data-injection", "ics/set-point-change", "ics/plc-stop"}


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - BY_EFFECT))
def test_low_intensity_sends_clearly_less(name):
    seconds = 7.0 if name.startswith(("malware", "mitm", "ics/replay")) else 1.0 if "dos/" in name else 2.0
    low, high = (play(name, size=size, seconds=seconds) for size in (0.0, 1.0))

    def marked(play):
        if name.startswith("malware"):  # the bots' flood; the scan is always the same
            return play.count([play.target], 0)
        if name == "mitm/impersonation":
            return play.count([play.target], 6)
        if name in ("mitm/arp-spoofing", "ics/replay"):  # what is relayed is always the same
            return len(lies(play, "HMI1"))
        return play.count(play.attackers, 6)

    assert 2 * marked(low) < marked(high)
    if name.split("/")[0] in ("dos", "ddos", "recon"):
        assert marked(low) < 40 * seconds, "close to benign life"


def test_on_the_bench_two_attacks_keep_their_rates():
    for name, mild, severe in (("dos/syn-flood", 400, 1500), ("recon/port-scan", 120, 400)):
        for size, rate in ((0.0, mild), (1.0, severe)):
            syns = [p for p in play(name, "bench", size, 4.0).sent() if p.flags == SYN]
            assert 0.9 * rate < len(syns) / 4.0 < 1.1 * rate
