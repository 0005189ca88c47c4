"""The network: who speaks, in which order, over which connections; delay, loss, relay; benign life."""

from __future__ import annotations

import collections
import itertools
import struct

import numpy as np
import pytest

from cellwatch.plc_sim import frames as fr
from cellwatch.plc_sim.network import ATTACKERS, DEVICES, Network, S, devices_of
from cellwatch.plc_sim.network.activities import ACTIVITIES
from cellwatch.plc_sim.sites import SITES

START = 1_700_000_000 * S
MAC = {name: mac for mac, name in (DEVICES | ATTACKERS).items()}


def network(site="bench", seed=1):
    return Network(np.random.default_rng(seed), START, SITES[site])


def run(net, seconds, begin=0.0, step=0.1):
    """Frames of some seconds, tick by tick."""
    ticks = round(seconds / step)
    edges = [START + round((begin + i * step) * S) for i in range(ticks + 1)]
    parts = []
    for a, b in itertools.pairwise(edges):
        frames = net.tick(a, b)
        assert not len(frames) or (a <= frames.time_ns[0] and frames.time_ns[-1] < b)
        assert (np.diff(frames.time_ns) >= 0).all()
        parts.append(frames)
    return fr.concat(parts)


def each(frames):
    data, offset = frames.data.tobytes(), frames.offset
    return [
        (t, data[a:b]) for t, (a, b) in zip(frames.time_ns.tolist(), itertools.pairwise(offset), strict=True)
    ]


def tcp_of(frames):
    """(time, source MAC, destination MAC, addresses, ports, seq, ack, flags, payload) of TCP segments."""
    for time, frame in each(frames):
        if frame[12:14] == fr.ETHER_IPV4 and frame[23] == fr.TCP:
            ports, seq, ack = struct.unpack(">HH", frame[34:38]), *struct.unpack(">II", frame[38:46])
            payload = frame[34 + (frame[46] >> 4) * 4 :]
            yield (
                time,
                frame[6:12].hex(":"),
                frame[:6].hex(":"),
                frame[26:34],
                ports,
                seq,
                ack,
                frame[47],
                payload,
            )


@pytest.fixture(scope="module")
def factory():
    """Three minutes of the factory, with all activities."""
    net = network("factory")
    for i, name in enumerate(sorted(ACTIVITIES)):
        net.activity(name, START + (5 + 20 * i) * S)
    return run(net, 180.0)


@pytest.mark.parametrize("site", ["bench", "factory"])
def test_the_same_seed_gives_the_same_bytes(site):
    def data(seed, step=0.1):
        net = network(site, seed)
        net.activity("firmware_update", START + 3 * S)
        frames = run(net, 20.0, step=step)
        return frames.data.tobytes(), frames.time_ns.tobytes()

    assert data(7) == data(7)
    assert data(7) != data(8)


def test_everybody_of_the_site_speaks_and_nobody_else():
    for site in SITES.values():
        frames = run(network(site.name), 130.0)
        sources = {frame[6:12].hex(":") for _, frame in each(frames)}
        idle = set(ATTACKERS) if site.name == "factory" else set()
        assert sources == set(devices_of(site)) | idle
    assert len(devices_of(SITES["factory"])) == 45


def test_addresses_belong_together(factory):
    owners = collections.defaultdict(set)
    for _, frame in each(factory):
        if frame[12:14] == fr.ETHER_IPV4:
            owners[frame[26:30]].add(frame[6:12].hex(":"))
    assert max(len(macs) for macs in owners.values()) == 1
    behind_router = {ip for ip, macs in owners.items() if ip[:3] != bytes([192, 168, 1]) and any(ip)}
    assert len(behind_router) > 20
    assert {mac for ip in behind_router for mac in owners[ip]} == {MAC["router"]}


def test_tcp_numbers_follow_the_payload_on_every_connection(factory):
    expected: dict[tuple, int] = {}
    checked = collections.Counter()
    for _, source, _, ips, ports, seq, ack, flags, payload in tcp_of(factory):
        key, back = (ips, ports), (ips[4:] + ips[:4], ports[::-1])
        if flags & fr.SYN:
            expected.pop(key, None)
        if key in expected:
            assert seq == expected[key], (source, ports, flags)
            checked[ports[1]] += 1
        if back in expected and flags & fr.ACK and not flags & fr.RST:
            assert (expected[back] - ack) % (1 << 32) < 1 << 20  # never more than was sent
        expected[key] = (seq + len(payload) + bool(flags & (fr.SYN | fr.FIN))) % (1 << 32)
    assert {1883, 4840, 502, 22, 443, 9200} <= set(checked)


def test_bench_polls_publishes_and_asks():
    ports = collections.Counter()
    for _, frame in each(run(network(), 60.0)):
        if frame[12:14] == fr.ETHER_IPV4 and frame[23] in {fr.TCP, fr.UDP}:
            ports.update(set(struct.unpack(">HH", frame[34:38])) & {4840, 1883, 53, 123})
    assert set(ports) == {4840, 1883, 53, 123}
    assert 300 < ports[4840] < 600  # two polls a second of three packets, and some sessions
    assert 400 < ports[1883] < 700  # four messages a second


def answers(frames, server):
    """Time from request to answer of the HMI's reads (ns), and how often each request was sent."""
    asked, took, times = {}, [], collections.Counter()
    for time, source, to, _, ports, seq, _, _, payload in tcp_of(frames):
        if payload[:4] == b"MSGF" and {source, to} == {MAC["HMI1"], MAC[server]}:
            number = (struct.unpack("<I", payload[16:20])[0], ports[0] + ports[1])
            if source == MAC["HMI1"]:
                times[seq] += 1
                asked.setdefault(number, time)
            else:
                took.append(time - asked.pop(number))
    return np.array(took), times


def test_a_delay_slows_the_answers_of_its_device_only():
    net = network("factory")
    run(net, 2.0)
    net.delay_ms = {"PLC2": 80.0}
    frames = run(net, 10.0, begin=2.0)
    slow, usual = (np.median(answers(frames, plc)[0]) for plc in ("PLC2", "PLC3"))
    assert slow - usual == pytest.approx(0.08 * S, rel=0.1)


def test_lost_answers_are_asked_for_again():
    net = network()
    run(net, 2.0)
    assert max(answers(run(net, 10.0, begin=2.0), "PLC1")[1].values()) == 1
    net.loss = {"PLC1": 0.5}
    took, times = answers(run(net, 30.0, begin=12.0), "PLC1")
    again = np.array(list(times.values())) > 1
    assert 0.25 < again.mean() < 0.75
    assert took.max() > 0.25 * S


@pytest.mark.parametrize("pair", [("HMI1", "PLC1"), ("ENG1", "mqtt-broker")])
def test_a_relayed_pair_talks_through_the_attacker(pair):
    net = network()
    run(net, 2.0)
    net.relay = {frozenset(pair): "attacker1"}
    if "ENG1" in pair:
        net.activity("backup", START + 3 * S)  # blocks of frames, not only single ones
    frames = run(net, 30.0, begin=2.0)
    a, b, evil = (MAC[name] for name in (*pair, "attacker1"))
    taken, passed = {}, 0
    for time, frame in each(frames):
        to, source = frame[:6].hex(":"), frame[6:12].hex(":")
        if frame[12:14] != fr.ETHER_IPV4:
            continue
        assert {to, source} != {a, b}
        told = (frame[18:20], frame[26:])  # IPv4 identification, addresses and what follows
        if to == evil:
            assert source in {a, b}
            taken[told] = (time, frame[22])
        elif source == evil:
            sent, ttl = taken.pop(told)
            assert 0.1e6 <= time - sent <= 1e6
            assert frame[22] == ttl - 1
            assert to in {a, b}
            passed += 1
    assert passed > 150
    assert len(taken) <= 2  # on their way at the end


def test_values_are_shown_on_the_wire():
    net = network("factory")
    net.values = {"LIT101": 12.345678, "PIT401": 654.3, "LIT201": 50.0}
    payloads = [payload for *_, payload in tcp_of(run(net, 5.0))]
    assert any(struct.pack("<d", 12.345678) in payload for payload in payloads)
    registers = [p for p in payloads if len(p) > 9 and p[2:4] == b"\0\0" and p[7] == 3 and len(p) == 9 + p[8]]
    assert registers
    assert all(p[9:11] == struct.pack(">H", 6543) for p in registers)
    assert any(payload.endswith(b"iiot/water" + b"512") for payload in payloads)  # 50 % of 10 bit


def test_an_unknown_activity_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="backup, firmware_update, shift_change, technician_scan"):
        network().activity("coffee", START)


def segments(site, activity=None):
    """TCP segments of 70 s with or without an activity."""
    net = network(site, 5)
    if activity is not None:
        net.activity(activity, START + 5 * S)
    return list(tcp_of(run(net, 70.0, step=0.5)))


@pytest.mark.parametrize("site", ["bench", "factory"])
def test_activities_look_like_attacks(site):
    def asks(segments, who):  # destinations and ports of SYNs
        return collections.Counter(
            (to, p[1]) for _, s, to, _, p, _, _, f, _ in segments if s == MAC[who] and f == fr.SYN
        )

    def volume(segments, *names):  # bytes on connections of ENG1 with these
        macs = {MAC[name] for name in names}
        return sum(len(x[-1]) for x in segments if {x[1], x[2]} & macs and MAC["ENG1"] in {x[1], x[2]})

    quiet = segments(site)
    scan = segments(site, "technician_scan")
    assert len(asks(scan, "ENG1")) > len(asks(quiet, "ENG1")) + 50
    copy = segments(site, "backup")
    assert volume(copy, "mqtt-broker") > 1_000_000 > volume(quiet, "mqtt-broker")
    shift = segments(site, "shift_change")
    assert asks(shift, "HMI1").total() > asks(quiet, "HMI1").total() + 15
    assert any(
        payload[24:28] == b"\x01\x00\xa1\x02" for *_, payload in shift if payload[:4] == b"MSGF"
    )  # write
    update = segments(site, "firmware_update")
    sensors = [name for name in devices_of(SITES[site]).values() if "sensor" in name or "plug" in name]
    assert volume(update, *sensors) > 300_000 > volume(quiet, *sensors)
