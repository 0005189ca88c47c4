"""Attacks on the process itself, through the protocols of the plant; category `ics`, not one of DataSense's.

Who attacks is a rogue client in the network (the attacker) or, for the set-point change, by chance the
compromised engineering station. The PLCs' servers are asked without security, as the others ask them.
"""

from __future__ import annotations

import math

import numpy as np

from cellwatch.plc_sim.attacks.attack import Attack, Running, S, Scene
from cellwatch.plc_sim.attacks.conversation import stream
from cellwatch.plc_sim.attacks.mitm import heal, poison
from cellwatch.plc_sim.attacks.victims import MODBUS, flood_effects, peer_of
from cellwatch.plc_sim.faults import Disturbance, ReadingError
from cellwatch.plc_sim.frames import put16
from cellwatch.plc_sim.network.control import OpcUaClient
from cellwatch.plc_sim.network.tcp import MS
from cellwatch.plc_sim.tags import PLC_TAGS, TAG
from cellwatch.plc_sim.wire import modbus, opcua

CHANNEL = 900  # of the attacker's OPC UA sessions
# Transmitters whose zero can be shifted over the network, by PLC: each feeds a controller.
TRANSMITTERS = {
    "PLC1": ("LIT101", "TIT101"),
    "PLC2": ("LIT201", "LIT202", "TIT203", "PIT202"),
    "PLC3": ("FIT301",),
    "PLC4": ("PIT401",),
}


class Session(Running):
    """A client of a PLC: opens an OPC UA session at the onset and closes it at the end.

    Requests go through the network, so that the PLC's delays hold for them too.
    """

    def __init__(self, scene: Scene, client: str | None = None) -> None:
        """`client`: host that asks; default: the attacker."""
        super().__init__(scene)
        self.client = client or self.attacker.name
        self.tags = PLC_TAGS[self.target.name]
        self.set_points = [tag for tag in self.tags if tag.name.endswith("_SP")]
        self.lock = f"XS{self.target.name[-1]}02_LOCK"

    def open(self, at_ns: int) -> None:
        """Connect."""
        if self.client == self.attacker.name:
            super().open(at_ns)
        self.session, self.ready = OpcUaClient.open(
            self.scene.network, self.client, self.target.name, at_ns + MS, CHANNEL
        )

    def close(self, at_ns: int) -> None:
        """Hang up."""
        self.session.close(max(at_ns, self.ready))

    def write(self, at_ns: int, tag: str, value: float) -> None:
        """Write a set-point; a PLC whose set-points are locked refuses it."""
        locked = self.values.get(self.lock, 0.0) >= 0.5
        status = opcua.BAD_USER_ACCESS_DENIED if locked else opcua.GOOD
        self.ready = self.session.write(max(at_ns, self.ready), [(tag, value)], status)
        self.effects.writes.append((self.target.name, tag, value))


class FalseData(Session):
    """The zero of a transmitter is shifted little by little: the PLC reads a value that is not so.

    The final shift is 1 % (size 0) to 15 % (size 1) of the range, reached in 60 to 5 s; a write every 2 s
    while it grows, then only a look as often.
    """

    def __init__(self, scene: Scene) -> None:
        """Draw transmitter and direction."""
        super().__init__(scene)
        choices = TRANSMITTERS[self.target.name]
        self.tag = choices[int(self.rng.integers(len(choices)))]
        spec = TAG[self.tag]
        share = scene.between(0.01, 0.15) * (1 if self.rng.random() < 0.5 else -1)
        self.shift = share * (spec.high - spec.low)
        self.ramp_s = scene.between(60.0, 5.0)
        self.now = 0.0

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Shift, look, and leave the error in the reading."""
        for at in self.beats(0.5, begin_ns, end_ns).tolist():
            wanted = self.shift * min((at - self.onset_ns) * 1e-9 / self.ramp_s, 1.0)
            begin = max(at, self.ready)
            if wanted != self.now:
                self.now = wanted
                self.ready = self.session.write(begin, [(f"{self.tag}.ZeroPointAdjustment", wanted)])
            else:
                self.ready = self.session.read(begin, [self.tag])
        if self.now:
            error = ReadingError("bias", self.now)
            self.effects.disturbances.append(Disturbance(readings={self.tag: error}))

    def close(self, at_ns: int) -> None:
        """Put the zero back and hang up."""
        self.ready = self.session.write(max(at_ns, self.ready), [(f"{self.tag}.ZeroPointAdjustment", 0.0)])
        super().close(at_ns)


class SetPointChange(Session):
    """A set-point creeps away in small writes, every 2 s.

    It ends 1 % (size 0) to 30 % (size 1) of its range away, after 120 to 8 s. By chance the engineering
    station is the one that writes. In the end the old value is put back.
    """

    def __init__(self, scene: Scene) -> None:
        """Draw client, set-point and direction."""
        station = "ENG1" if "ENG1" in scene.site.hosts and scene.rng.random() < 0.5 else None
        super().__init__(scene, station)
        self.spec = self.set_points[int(self.rng.integers(len(self.set_points)))]
        self.change = scene.between(0.01, 0.30) * (self.spec.high - self.spec.low)
        self.ramp_s = scene.between(120.0, 8.0)
        self.before: float | None = None
        self.now = math.nan

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Write the next step."""
        if self.before is None:
            self.before = self.now = self.values[self.spec.name]
            room = (self.spec.high - self.before, self.before - self.spec.low)
            self.change = min(self.change, room[0]) if room[0] >= room[1] else -min(self.change, room[1])
        for at in self.beats(0.5, begin_ns, end_ns).tolist():
            wanted = self.before + self.change * min((at - self.onset_ns) * 1e-9 / self.ramp_s, 1.0)
            if wanted != self.now:
                self.now = wanted
                self.write(at, self.spec.name, wanted)
            else:
                self.ready = self.session.read(max(at, self.ready), [self.spec.name])

    def close(self, at_ns: int) -> None:
        """Put the set-point back and hang up."""
        if self.before is not None:
            self.write(at_ns, self.spec.name, self.before)
        super().close(at_ns)


class Replay(Running):
    """The attacker between HMI and PLC listens for 8 s, then shows these 8 s again and again.

    At size 0 two measured values are replayed, at size 0.5 and more all tags. Under this cover a set-point is
    moved once, by 2 % to 25 % of its range; it is moved back in the end.
    """

    LISTEN_NS = 8 * S

    def __init__(self, scene: Scene) -> None:
        """Poison every 20 s at size 0, once a second at size 1."""
        super().__init__(scene)
        self.peer = scene.network.hosts[peer_of(self.target.name)]
        self.per_s = scene.between(1 / 20, 1.0)
        tags = PLC_TAGS[self.target.name]
        self.tags = [tag.name for tag in (tags if scene.size >= 0.5 else tags[:2])]
        points = [tag for tag in tags if tag.name.endswith("_SP")]
        self.spec = points[int(self.rng.integers(len(points)))]
        self.change = scene.between(0.02, 0.25) * (self.spec.high - self.spec.low)
        self.before: float | None = None
        self.heard: list[tuple[int, list[float]]] = []

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Listen, then show what was heard."""
        for at in self.beats(self.per_s, begin_ns, end_ns).tolist():
            self.singles += poison(self.attacker, self.target, self.peer, at)
        self.effects.relay[frozenset((self.target.name, self.peer.name))] = self.attacker.name
        elapsed = begin_ns - self.onset_ns
        if elapsed < self.LISTEN_NS or not self.heard:
            self.heard.append((elapsed, [self.values[name] for name in self.tags]))
            return
        if self.before is None:
            self.before = self.values[self.spec.name]
            up = self.spec.high - self.before >= self.change
            self._write(begin_ns, self.before + (self.change if up else -self.change))
        phase = elapsed % self.LISTEN_NS
        then = max((item for item in self.heard if item[0] <= phase), default=self.heard[0])
        self.effects.shown.update(zip(self.tags, then[1], strict=True))

    def close(self, at_ns: int) -> None:
        """Undo everything."""
        if self.before is not None:
            self._write(at_ns, self.before)
        self.singles += heal(self.attacker, self.target, self.peer, at_ns)

    def _write(self, at_ns: int, value: float) -> None:
        net = self.scene.network
        session, ready = OpcUaClient.open(net, self.attacker.name, self.target.name, at_ns, CHANNEL)
        ready = session.write(ready, [(self.spec.name, value)])
        session.close(ready)
        self.effects.writes.append((self.target.name, self.spec.name, value))


class RogueClient(Session):
    """A client that nobody knows: browses, reads all tags and, one request in ten, writes a set-point.

    One request every 5 s (size 0) to 30 a second (size 1); the set-point jumps by 0.5 % to 10 % of its range.
    """

    def __init__(self, scene: Scene) -> None:
        """Draw the set-point."""
        super().__init__(scene)
        self.per_s = scene.between(0.2, 30.0)
        self.spec = self.set_points[int(self.rng.integers(len(self.set_points)))]
        self.jump = scene.between(0.005, 0.10) * (self.spec.high - self.spec.low)
        self.before = math.nan

    def open(self, at_ns: int) -> None:
        """Connect and look around."""
        super().open(at_ns)
        names = [tag.name for tag in self.tags]
        self.ready = self.session.browse(self.ready, "", [self.target.name])
        self.ready = self.session.browse(self.ready, self.target.name, names)
        self.before = self.values[self.spec.name]

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Read, and now and then write; a slow server slows the client down."""
        for at in self.beats(self.per_s, begin_ns, end_ns).tolist():
            if self.ready > end_ns:
                break
            self.sent += 1
            if self.sent % 10 == 5:
                sign = 1 if self.rng.random() < 0.5 else -1
                wanted = float(np.clip(self.before + sign * self.jump, self.spec.low, self.spec.high))
                self.write(at, self.spec.name, wanted)
            else:
                self.ready = self.session.read(max(at, self.ready), [tag.name for tag in self.tags])

    def close(self, at_ns: int) -> None:
        """Put the set-point back and hang up."""
        self.write(at_ns, self.spec.name, self.before)
        super().close(at_ns)


class ModbusWriteFlood(Running):
    """Write Single Register again and again, with values at random, on one connection.

    One write every 2 s within 5 % of the range around the old value (size 0) to 1500 a second over all of it
    (size 1), on the register of the pressure set-point.
    """

    TAG = "PIC401_SP"  # in 0.1 kPa
    REGISTER = [tag.name for tag in PLC_TAGS["PLC4"]].index("PIC401_SP")
    FACTOR = 10.0

    def __init__(self, scene: Scene) -> None:
        """One connection, one register."""
        super().__init__(scene)
        self.per_s = scene.between(0.5, 1500.0)
        self.spec = TAG[self.TAG]
        self.tcp = scene.connect(self.attacker, self.target, MODBUS)
        self.before = math.nan

    def open(self, at_ns: int) -> None:
        """Connect."""
        super().open(at_ns)
        self.singles += self.tcp.handshake(at_ns + MS, MS // 2)
        self.before = self.values[self.TAG]

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Write, from 10 ms after the onset on; the device takes the values as they come."""
        begin_ns = max(begin_ns, self.onset_ns + 10 * MS)
        at = self.beats(self.per_s, begin_ns, end_ns) if begin_ns < end_ns else np.zeros(0, np.int64)
        n = len(at)
        flood_effects(self.effects, self.target.name, 3.0 * self.per_s)
        if n == 0:
            return
        spread = self.scene.between(0.05, 1.0) * (self.spec.high - self.spec.low)
        wanted = np.clip(self.before + spread * self.rng.uniform(-1, 1, n), self.spec.low, self.spec.high)
        values = np.rint(wanted * self.FACTOR).astype(np.int64)
        adu = modbus.write_one(0, 1, self.REGISTER, 0)
        steps = len(adu) * np.arange(n)
        client, server = self.tcp.seq
        gap = int(min(0.4 * S / self.per_s, MS))
        jitter = self.rng.integers(gap // 2, size=n)
        ports, back = self.tcp.ports, self.tcp.ports[::-1]
        asked = stream(self.attacker, self.target, ports, at + jitter, client + steps, server + steps, adu)
        answer = stream(
            self.target,
            self.attacker,
            back,
            at + jitter + gap,
            server + steps,
            client + steps + len(adu),
            adu,
        )
        for block in (asked, answer):
            put16(block.rows, 54, self.sent + np.arange(n))  # transaction
            put16(block.rows, 54 + 10, values)
        self.blocks += [asked, answer]
        self.tcp.seq[:] = [client + n * len(adu), server + n * len(adu)]
        self.sent += n
        self.effects.writes.append(("PLC4", self.TAG, float(values[-1]) / self.FACTOR))

    def close(self, at_ns: int) -> None:
        """Write the old value and hang up."""
        request = modbus.write_one(self.sent, 1, self.REGISTER, round(self.before * self.FACTOR))
        self.singles += self.tcp.exchange(at_ns, request, request, at_ns + MS, ack_ns=MS)
        self.singles += self.tcp.close(at_ns + 4 * MS, MS // 2)
        self.effects.writes.append(("PLC4", self.TAG, self.before))


class PlcStop(Session):
    """The program of a PLC is stopped by a method call.

    For half a second in 20 s (size 0) to all the time (size 1).
    """

    ROUND_NS = 20 * S

    def __init__(self, scene: Scene) -> None:
        """How long a stop lasts follows from the size."""
        super().__init__(scene)
        self.stop_ns = int(scene.between(0.5, 20.0) * S)
        self.is_stopped = False

    def act(self, begin_ns: int, _end_ns: int) -> None:
        """Stop and start as the clock says; the first stop comes a second after the onset."""
        elapsed = begin_ns - self.onset_ns - S
        wanted = elapsed >= 0 and elapsed % self.ROUND_NS < self.stop_ns
        if wanted != self.is_stopped:
            self._call("Stop" if wanted else "Start", begin_ns)
        if self.is_stopped:
            self.effects.stopped = frozenset((self.target.name,))

    def close(self, at_ns: int) -> None:
        """Let the program run again."""
        if self.is_stopped:
            self._call("Start", at_ns)
        super().close(at_ns)

    def _call(self, method: str, at_ns: int) -> None:
        self.ready = self.session.call(max(at_ns, self.ready), method)
        self.is_stopped = method == "Stop"


_PLCS = {"bench": ("PLC1",), "factory": ("PLC1", "PLC2", "PLC3", "PLC4")}
# Until the process has settled again; the tanks of unit 200 and the bearing of unit 300 take longest.
_SETTLED = {
    "PLC1": (20.0, 0.0), "PLC2": (140.0, 0.0), "PLC3": (150.0, 0.0), "PLC4": (30.0, 0.0),
    "MB401": (30.0, 0.0),
}  # fmt: skip
_RESTARTED = _SETTLED | {"PLC2": (140.0, 4.5), "PLC3": (180.0, 4.2), "PLC4": (30.0, 0.75)}

ATTACKS = (
    Attack(
        "ics", "false-data-injection", "T0856", "a PLC reads a value that is not so",
        _PLCS, FalseData, recovery=_SETTLED,
    ),
    Attack(
        "ics", "set-point-change", "T0836", "a set-point creeps away",
        _PLCS, SetPointChange, recovery=_SETTLED,
    ),
    Attack(
        "ics", "replay", "T0832", "clients see old values while the process moves on",
        _PLCS, Replay, lambda target: (peer_of(target),), recovery=_SETTLED,
    ),
    Attack(
        "ics", "rogue-client", "T0848", "an unknown OPC UA client browses, reads and writes",
        _PLCS, RogueClient, recovery=_SETTLED,
    ),
    Attack(
        "ics", "modbus-write-flood", "T0806", "the compressor's set-point register is written at random",
        {"factory": ("MB401",)}, ModbusWriteFlood, lambda _target: ("PLC4",), recovery=_SETTLED,
    ),
    Attack(
        "ics", "plc-stop", "T0858", "the program of a PLC is stopped",
        _PLCS, PlcStop, recovery=_RESTARTED,
    ),
)  # fmt: skip
