"""Habits from simulated frames; each rule with what must break it, and the benign life that must not."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import fields, replace

import numpy as np
import pytest

from cellwatch.models.features.conversations import moved
from cellwatch.models.features.packets import parse
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.rules.habits import ENOUGH_WINDOWS, Habits, HabitsBuilder, Key, is_stranger
from cellwatch.models.rules.protocol import ProtocolRules
from cellwatch.models.types import Conversations, FeatureWindow, PacketBlock, Role
from cellwatch.plc_sim.frames import (
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
from cellwatch.plc_sim.network.tcp import MS, Tcp
from cellwatch.plc_sim.wire import modbus, opcua

S = 1_000_000_000
PLC, HMI, ENG, BAD = (host(f"h{i}", f"02:00:00:00:00:0{i}", f"192.168.1.{i}") for i in (1, 2, 3, 4))
ROUTER = host("r", "02:00:00:00:00:09", "192.168.1.254")
NAMES = {
    "02:00:00:00:00:01": "PLC1", "02:00:00:00:00:02": "HMI1", "02:00:00:00:00:03": "ENG1",
    "02:00:00:00:00:09": "router",
}  # fmt: skip
DEVICES = tuple(NAMES.values())
LEARN = 60


class Net:
    """Connections that last, and windows of what was said on them."""

    def __init__(self) -> None:
        self.tcp: dict[tuple, Tcp] = {}
        self.windows = TrafficWindows(1.0, NAMES)

    def ask(self, at: int, client, request: bytes, port: int = 502, server=PLC) -> list[Single]:
        """One request and an answer, the first with a handshake."""
        key = (client.name, server.name, port)
        out = []
        if key not in self.tcp:
            self.tcp[key] = Tcp((client, server), (50_000 + len(self.tcp), port), [1, 1])
            out = self.tcp[key].handshake(at, MS)
        return out + self.tcp[key].exchange(at + 5 * MS, request, request, at + 6 * MS, ack_ns=MS)

    def live(self, second: int, *extra: Single) -> list[Single]:
        """An ordinary second: the HMI polls and now and then writes, ENG1 looks in, names are resolved."""
        at = second * S
        out = self.ask(at, HMI, modbus.read_request(second & 0xFFFF, 1, 100, 10))
        if second % 3 == 0:
            out += self.ask(at + 100 * MS, HMI, modbus.write_one(second & 0xFFFF, 1, 105, second))
        if second % 7 == 0:
            out += self.ask(at + 200 * MS, ENG, modbus.read_request(second & 0xFFFF, 1, 100, 10))
        cloud = host("c", "02:00:00:00:00:09", f"52.0.{second % 250}.1")  # another address every time
        out += [(at + 300 * MS, udp_frame(HMI, cloud, (50_000 + second % 5000, 123), b"t" * 48))]
        out += [(at + 310 * MS, udp_frame(cloud, HMI, (123, 50_000 + second % 5000), b"t" * 48))]
        if second % 5 == 0:
            out += [
                (at + 400 * MS, arp_frame(HMI, PLC, reply=False)),
                (at + 401 * MS, arp_frame(PLC, HMI, reply=True)),
            ]
        return out + list(extra)

    def window(self, second: int, singles: Iterable[Single]) -> FeatureWindow:
        frames = merge(sorted(singles, key=lambda one: one[0]), [])
        length = np.diff(frames.offset).astype(np.uint32)
        self.windows.add(
            parse(PacketBlock(frames.data, frames.offset[:-1], length, length, frames.time_ns, 1))
        )
        batch = self.windows.close((second + 1) * S)[-1]
        names = tuple(dict.fromkeys([*DEVICES, *batch.devices]))
        at = np.array([names.index(name) for name in batch.devices], dtype=np.int64)
        return FeatureWindow(
            batch.window_id,
            batch.start_ns,
            batch.end_ns,
            batch.end_ns,
            "x",
            names,
            np.zeros((len(names), 0), np.float32),
            (),
            np.zeros(0, np.uint32),
            np.zeros((0, 0), np.float32),
            conversations=moved(batch.conversations, at),
        )


@pytest.fixture(scope="module")
def habits() -> dict[str, Habits]:
    net, builder = Net(), HabitsBuilder()
    for second in range(1, LEARN + 1):
        builder.add(net.window(second, net.live(second)))
    return builder.build()


def broken(
    habits, *extra_of: object, seconds: int = 1, start: int = LEARN + 1
) -> dict[tuple[str, str], float]:
    """(device, rule) -> points over some seconds; `extra_of(net, at)` makes frames beside ordinary ones."""
    net, rules = Net(), ProtocolRules(habits)
    for second in (start - 2, start - 1):  # the connections stand
        assert rules.judge(net.window(second, net.live(second))) == []
    points: dict[tuple[str, str], float] = {}
    for second in range(start, start + seconds):
        extra = [single for make in extra_of for single in make(net, second * S + 500 * MS)]
        window = net.window(second, net.live(second, *extra))
        for row, worth, violation in rules.judge(window):
            assert violation.device == window.devices[row]
            key = violation.device, violation.rule
            points[key] = max(points.get(key, 0.0), worth)
    return points


# ---------------------------------------------------------------- habits
def test_habits_hold_what_was_said(habits: dict[str, Habits]):
    plc = habits["PLC1"]
    assert plc.windows == LEARN
    assert plc.addresses == ("192.168.1.1",)
    read = plc.conversations[Key("HMI1", Role.SERVER, "mbtcp", "modbus:3", 502)]
    assert (read.windows, read.low, read.high, read.writes, read.silent) == (LEARN, 100, 109, 0, 0)
    assert read.period_s == pytest.approx(0.5)  # question and answer each second
    wrote = plc.conversations[Key("HMI1", Role.SERVER, "mbtcp", "modbus:6", 502)]
    assert (wrote.writes, wrote.low, wrote.high, wrote.silent) == (LEARN // 3, 105, 105, 2)
    seldom = plc.conversations[Key("ENG1", Role.SERVER, "mbtcp", "modbus:3", 502)]
    assert seldom.silent == 6
    time = habits["HMI1"].conversations[Key("public", Role.CLIENT, "ntp", "", 123)]
    assert (time.windows, time.peers) == (LEARN, 1)  # one address in each window, never the same


def test_silence_up_to_the_end_counts():
    net, builder = Net(), HabitsBuilder()
    for second in range(1, 41):
        alone = [(second * S, arp_frame(PLC, HMI, reply=True))]
        builder.add(net.window(second, net.live(second) if second <= 10 else alone))
    read = builder.build()["PLC1"].conversations[Key("HMI1", Role.SERVER, "mbtcp", "modbus:3", 502)]
    assert (read.windows, read.silent) == (10, 30)


def test_habits_survive_json(habits: dict[str, Habits]):
    for mine in habits.values():
        text = json.dumps(mine.to_dict())
        again = Habits.from_dict(json.loads(text))
        assert json.dumps(again.to_dict()) == text
        assert again.conversations.keys() == mine.conversations.keys()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda d: d.pop("windows"), "windows"),
        (lambda d: d.pop("addresses"), "addresses"),
        (lambda d: d["conversations"][1].pop("peer"), "conversation 2: .*peer"),
        (lambda d: d["conversations"][0].update(role="boss"), "conversation 1: .*BOSS"),
        (lambda d: d["conversations"][0].update(windows="many"), "conversation 1: .*many"),
        (lambda d: d["conversations"][0].update(registers=[1]), "conversation 1: "),
    ],
)
def test_a_damaged_habit_names_its_place(habits: dict[str, Habits], change, word: str):
    data = json.loads(json.dumps(habits["PLC1"].to_dict()))
    change(data)
    with pytest.raises(ValueError, match=word):
        Habits.from_dict(data)


def test_weight_grows_with_windows_and_falls_with_novelty(habits: dict[str, Habits]):
    plc = habits["PLC1"]
    everything = (lambda _key, _habit: True, lambda key: key)
    assert plc.weight(*everything) == 1.0
    few = replace(plc, windows=ENOUGH_WINDOWS // 3)
    assert few.weight(*everything) == pytest.approx(1 / 3)
    once = {key: replace(habit, windows=1) for key, habit in plc.conversations.items()}
    assert replace(plc, conversations=once).weight(*everything) < 0.5


def test_strangers_have_no_name():
    assert [is_stranger(n) for n in ("PLC1", "a:b", "02:00:00:00:00:01", "fe80::1", "10.0.0.1")] == [
        False, False, True, True, True,
    ]  # fmt: skip


# ---------------------------------------------------------------- rules
def test_ordinary_life_breaks_no_rule(habits: dict[str, Habits]):
    assert broken(habits, seconds=60) == {}


def test_new_writer_is_worth_a_block(habits: dict[str, Habits]):
    def write(net: Net, at: int) -> list[Single]:
        return net.ask(at, ENG, modbus.write_one(1, 1, 105, 1))

    points = broken(habits, write)
    assert points["PLC1", "new-writer"] == 6.0
    assert points["ENG1", "new-writer"] == 6.0
    assert ("HMI1", "new-writer") not in points


def test_a_stranger_that_writes_is_marked_itself(habits: dict[str, Habits]):
    points = broken(habits, lambda net, at: net.ask(at, BAD, modbus.write_one(1, 1, 105, 1)))
    assert points["PLC1", "new-writer"] == 6.0
    assert points["02:00:00:00:00:04", "new-writer"] == 6.0
    assert points["PLC1", "new-peer"] == 2.0


def test_register_outside_the_map(habits: dict[str, Habits]):
    outside = broken(habits, lambda net, at: net.ask(at, HMI, modbus.write_one(1, 1, 106, 1)))
    assert outside == {("PLC1", "register-outside-map"): 6.0, ("HMI1", "register-outside-map"): 6.0}
    assert broken(habits, lambda net, at: net.ask(at, HMI, modbus.write_one(1, 1, 105, 99))) == {}
    read = broken(habits, lambda net, at: net.ask(at, HMI, modbus.read_request(1, 1, 105, 6)))
    assert read == {("PLC1", "register-outside-map"): 3.0, ("HMI1", "register-outside-map"): 3.0}


def test_new_function_code_of_a_known_client(habits: dict[str, Habits]):
    points = broken(habits, lambda net, at: net.ask(at, HMI, modbus.read_request(1, 1, 100, 1, 4)))
    news = {("PLC1", "new-function-code"): 2.0, ("HMI1", "new-function-code"): 2.0}
    assert points == news
    # Who writes already is no new writer when it writes in another way, to where it wrote before.
    assert broken(habits, lambda net, at: net.ask(at, HMI, modbus.write_many(1, 1, 105, [1]))) == news


def test_a_new_function_code_does_not_lead_out_of_the_map(habits: dict[str, Habits]):
    def points(request: bytes, client=HMI) -> dict[tuple[str, str], float]:
        found = broken(habits, lambda net, at: net.ask(at, client, request))
        return {rule: worth for (device, rule), worth in found.items() if device == "PLC1"}

    new = {"new-function-code": 2.0}
    outside = {**new, "register-outside-map": 6.0}
    assert points(modbus.write_many(1, 1, 9999, [1])) == outside
    assert points(modbus.write_many(1, 1, 100, [1])) == outside  # it was only ever read
    coil = modbus.write_one(1, 1, 105, 1).replace(b"\x01\x06", b"\x01\x05", 1)
    assert points(coil) == outside  # another table
    both = struct.pack(">HHHBBHHHHBH", 1, 0, 13, 1, 23, 105, 1, 9999, 1, 2, 5)  # reads 105, writes 9999
    assert points(both) == outside
    assert points(modbus.read_request(1, 1, 105, 3, 1)) == new  # coils, read for the first time


def test_a_client_that_never_had_a_session(habits: dict[str, Habits]):
    hello = opcua.hello(b"opc.tcp://192.168.1.1:4840/")
    points = broken(habits, lambda net, at: net.ask(at, BAD, hello, 4840))
    assert points["PLC1", "new-opcua-session"] == 3.0


def test_a_service_that_the_cell_knows_counts_half(habits: dict[str, Habits]):
    unknown = broken(habits, lambda net, at: net.ask(at, HMI, b"x" * 20, 2222))
    assert unknown["PLC1", "new-service"] == 1.0
    known = broken(habits, lambda net, at: net.ask(at, HMI, b"\0\1\0\0\0\6\1\3\0\0\0\1", 502, ENG))
    assert known["ENG1", "new-peer"] == 0.5


def test_more_public_addresses_than_ever(habits: dict[str, Habits]):
    def flock(number: int):
        def frames(_net: Net, at: int) -> list[Single]:
            servers = [host("c", "02:00:00:00:00:09", f"53.0.0.{i}") for i in range(number)]
            return [(at + i * MS, udp_frame(HMI, s, (51_000, 123), b"t" * 48)) for i, s in enumerate(servers)]

        return frames

    assert broken(habits, flock(3)) == {}
    assert broken(habits, flock(30)).keys() == {("HMI1", "new-peer")}


def test_scans_of_ports_and_of_hosts(habits: dict[str, Habits]):
    def ports(_net: Net, at: int) -> list[Single]:
        out = []
        for i, port in enumerate(range(20, 40)):
            out += [(at + i * MS, tcp_frame(BAD, PLC, (45_000, port), 1, 0, SYN))]
            out += [(at + i * MS + 1000, tcp_frame(PLC, BAD, (port, 45_000), 0, 2, RST))]
        return out

    def hosts(_net: Net, at: int) -> list[Single]:
        others = [host("o", f"02:00:00:00:01:{i:02x}", f"192.168.1.{100 + i}") for i in range(12)]
        return [(at + i * MS, icmp_echo(ENG, o, False, 1, i, b"")) for i, o in enumerate(others)]

    assert broken(habits, ports)["PLC1", "scan"] == 3.0
    assert broken(habits, hosts)["ENG1", "scan"] == 3.0


def test_an_address_in_other_hands(habits: dict[str, Habits]):
    liar = host("x", "02:00:00:00:00:04", "192.168.1.1")
    points = broken(habits, lambda _net, at: [(at, arp_frame(liar, HMI, reply=True))])
    marked = {device for device, rule in points if rule == "arp-identity-change"}
    assert marked == {"HMI1", "PLC1", "02:00:00:00:00:04"}  # who hears it, whose it is, who says it
    assert points["PLC1", "arp-identity-change"] == 6.0
    ours = broken(habits, lambda _net, at: [(at, arp_frame(PLC, HMI, reply=True))])
    assert ours == {}
    forged = broken(habits, lambda _net, at: [(at, udp_frame(liar, HMI, (502, 50_000), b"x"))])
    assert forged["PLC1", "arp-identity-change"] == 6.0


def test_a_steady_conversation_that_ends(habits: dict[str, Habits]):
    net, rules = Net(), ProtocolRules(habits)
    rules.judge(net.window(99, net.live(99)))
    news = []
    for second in range(100, 112):
        rest = [s for s in net.live(second) if PLC.mac not in (s[1][:6], s[1][6:12])]  # the PLC is gone
        news.append(
            {v.device for _, _, v in rules.judge(net.window(second, rest)) if v.rule == "period-lost"}
        )
    assert news[0] == set()
    assert news[-1] == {"PLC1", "HMI1"}
    assert rules.judge(net.window(112, net.live(112))) == []
    # Where rows of a device found no room, what is missing may be among them; not on the others.
    for second in range(113, 125):
        rest = [(second * S, arp_frame(HMI, group("255.255.255.255"), reply=False))]
        window = net.window(second, rest)
        spoken = window.conversations
        row = np.flatnonzero(spoken.device == DEVICES.index("HMI1"))[:1]
        pick = np.concatenate([np.repeat(row, Conversations.MOST), np.arange(len(spoken.device))])
        pick = pick[np.argsort(spoken.device[pick], kind="stable")]
        columns = {f.name: getattr(spoken, f.name) for f in fields(spoken)}
        columns = {k: v[pick] if len(np.shape(v)) and "claim" not in k and k != "names" else v
                   for k, v in columns.items()}  # fmt: skip
        flooded = replace(window, conversations=Conversations(**{**columns, "more": 1}))
        lost = {v.device for _, _, v in rules.judge(flooded) if v.rule == "period-lost"}
        assert "HMI1" not in lost
    assert "PLC1" in lost
    # A gap in the windows is no silence of a device.
    net, rules = Net(), ProtocolRules(habits)
    rules.judge(net.window(99, net.live(99)))
    rest = [(150 * S, arp_frame(HMI, group("255.255.255.255"), reply=False))]
    assert not [v for _, _, v in rules.judge(net.window(150, rest)) if v.rule == "period-lost"]


def test_a_silence_is_told_on_by_rules_that_take_over(habits: dict[str, Habits]):
    net, rules = Net(), ProtocolRules(habits)
    rules.judge(net.window(99, net.live(99)))
    rest = [(second * S, arp_frame(HMI, group("255.255.255.255"), reply=False)) for second in range(100, 112)]
    found = [rules.judge(net.window(second, [one])) for second, one in enumerate(rest[:-1], 100)][-1]
    assert {v.rule for _, _, v in found} == {"period-lost"}
    other = ProtocolRules(habits)
    other.take_over(rules)
    last = net.window(111, rest[-1:])
    assert other.judge(last) == rules.judge(last) != []


def test_nothing_learned_or_nobody_watching(habits: dict[str, Habits]):
    net = Net()
    window = net.window(1, net.live(1, *net.ask(S, BAD, modbus.write_one(1, 1, 1, 1))))
    assert ProtocolRules({}).judge(window) == []
    assert ProtocolRules(habits).judge(replace(window, conversations=None)) == []
    builder = HabitsBuilder()
    builder.add(replace(window, conversations=None))
    assert builder.build() == {}


def test_with_little_learned_a_first_sight_weighs_less():
    net, builder = Net(), HabitsBuilder()
    for second in range(1, ENOUGH_WINDOWS // 3 + 1):
        builder.add(net.window(second, net.live(second)))
    points = broken(
        builder.build(), lambda net, at: net.ask(at, ENG, modbus.write_one(1, 1, 105, 1)), start=22
    )
    assert points["PLC1", "new-writer"] == pytest.approx(6.0 / 3)
