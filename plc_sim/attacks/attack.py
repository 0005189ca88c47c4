"""What an attack is: its name, its victims, the frames it adds to a tick and what it does to the plant.

`Attack.start` gives a `Running`; `Running.tick` gives the frames of one stretch of time and the `Effects` on
network and process; `Running.end` says what is left to do when the attacker is done. Names and categories
are those of DataSense (CIC IIoT 2025, `label2` and `label3`) plus the category `ics`; `attack_id` is the
technique of MITRE ATT&CK for ICS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.plc_sim.faults import Disturbance
from cellwatch.plc_sim.frames import I64, Block, Host, Single, Traffic, arp_frame, part
from cellwatch.plc_sim.network.tcp import MS, Tcp

if TYPE_CHECKING:
    from cellwatch.plc_sim.network.network import Network
    from cellwatch.plc_sim.sites import Site

S = 1_000 * MS  # ns

BOTS = (
    "attacker1",
    "attacker2",
    "attacker3",
    "attacker4",
    "attacker5",
)  # commanded by attacker0 in DataSense


@dataclass(slots=True)
class Effects:
    """What an attack does in one tick."""

    delay_ms: dict[str, float] = field(default_factory=dict)  # device -> extra time of its answers
    loss: dict[str, float] = field(default_factory=dict)  # device -> share of its answers lost, 0..1
    relay: dict[frozenset[str], str] = field(default_factory=dict)  # pair of hosts -> attacker between them
    skipped: dict[str, float] = field(default_factory=dict)  # PLC -> share of its scans missed, 0..1
    disturbances: list[Disturbance] = field(default_factory=list)
    shown: dict[str, float] = field(
        default_factory=dict
    )  # tag -> value that clients see instead of the PLC's
    writes: list[tuple[str, str, float]] = field(default_factory=list)  # (device, tag, value), in this tick
    stopped: frozenset[str] = frozenset()  # PLCs whose program stands still


@dataclass(frozen=True, slots=True)
class Scene:
    """Who takes part in an attack."""

    network: Network
    rng: np.random.Generator
    attackers: tuple[Host, ...]
    target: Host
    size: float  # 0..1

    def between(self, low: float, high: float) -> float:
        """Return the value for this size, on a geometric scale from `low` (size 0) to `high` (size 1)."""
        return float(low * (high / low) ** self.size)

    @property
    def site(self) -> Site:
        """The site under attack."""
        return self.network.site

    def connect(self, client: Host, server: Host, port: int) -> Tcp:
        """Make a connection with numbers of the attack's own; benign life draws the same ones as ever."""
        seq = [int(x) for x in self.rng.integers(1 << 32, size=2)]
        return Tcp((client, server), (int(self.rng.integers(32768, 60999)), port), seq)


class Running:
    """An attack under way. A subclass says in `act` what begins in a stretch of time.

    `act` adds frames to `self.blocks` and `self.singles`, also ones due later, and sets `self.effects`.
    """

    def __init__(self, scene: Scene) -> None:
        """Nothing is sent before the first tick."""
        self.scene = scene
        self.rng = scene.rng
        self.target = scene.target
        self.attacker = scene.attackers[0]
        self.values: Mapping[str, float] = {}
        self.effects = Effects()
        self.blocks: list[Block] = []
        self.singles: list[Single] = []
        self.onset_ns = -1
        self.sent = 0  # what `act` counts: packets, tries, sessions

    def tick(self, begin_ns: int, end_ns: int, values: Mapping[str, float]) -> tuple[Traffic, Effects]:
        """Frames of [begin_ns, end_ns) and the effects in it; `values` are those of the tags now."""
        self.values, self.effects = values, Effects()
        if self.onset_ns < 0:
            self.onset_ns = begin_ns
            self.open(begin_ns)
        self.act(begin_ns, end_ns)
        return self._due(end_ns), self.effects

    def end(self, at_ns: int, values: Mapping[str, float]) -> tuple[Traffic, Effects]:
        """Last frames and effects of the attack, once, when it is over: clean up, hang up."""
        self.values, self.effects = values, Effects()
        self.blocks, self.singles = [], []
        self.close(at_ns)
        return Traffic(self.blocks, self.singles), self.effects

    def open(self, at_ns: int) -> None:
        """Begin: each attacker asks for the target's MAC address."""
        for attacker in self.scene.attackers:
            self.singles += [
                (at_ns, arp_frame(attacker, self.target, reply=False)),
                (at_ns + MS // 2, arp_frame(self.target, attacker, reply=True)),
            ]

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Do what falls into [begin_ns, end_ns)."""
        raise NotImplementedError

    def close(self, at_ns: int) -> None:
        """Clean up; by default the attacker just falls silent."""

    def moments(self, per_s: float, begin_ns: int, end_ns: int) -> I64:
        """Draw the times of independent events at `per_s` in [begin_ns, end_ns), sorted."""
        n = int(self.rng.poisson(per_s * (end_ns - begin_ns) * 1e-9))
        return np.sort(self.rng.integers(begin_ns, end_ns, size=n))

    def beats(self, per_s: float, begin_ns: int, end_ns: int) -> I64:
        """Times of a steady beat at `per_s` from the onset that fall in [begin_ns, end_ns)."""
        period = S / per_s
        first = math.ceil((begin_ns - self.onset_ns) / period)
        last = math.ceil((end_ns - self.onset_ns) / period)
        return self.onset_ns + (np.arange(first, last) * period).astype(np.int64)

    def _due(self, end_ns: int) -> Traffic:
        """Frames before `end_ns`; the others wait."""
        later: list[Block] = []
        now: list[Block] = []
        for block in self.blocks:
            due = block.time_ns < end_ns
            now.append(part(block, due))
            if not due.all():
                later.append(part(block, ~due))
        self.blocks = _gathered(later)
        singles = [item for item in self.singles if item[0] < end_ns]
        self.singles = [item for item in self.singles if item[0] >= end_ns]
        return Traffic(_gathered(now), singles)


def _gathered(blocks: list[Block]) -> list[Block]:
    """Blocks of frames of one length made one: what is done for each block is then done less often."""
    alike: dict[tuple[int, bytes], list[Block]] = {}
    for block in blocks:
        if len(block.time_ns):
            head = block.rows[0, 12:18].tobytes()  # EtherType and, in IPv4, the total length
            alike.setdefault((block.rows.shape[1], head), []).append(block)
    return [
        some[0]
        if len(some) == 1
        else Block(np.concatenate([b.time_ns for b in some]), np.concatenate([b.rows for b in some]))
        for some in alike.values()
    ]


def _alone(_target: str) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Attack:
    """One type of attack."""

    category: str  # "dos", "ddos", "recon", "web", "mitm", "malware", "bruteforce", "ics"
    type: str  # "syn-flood", ...
    attack_id: str | None  # technique of ATT&CK for ICS, None where none fits
    about: str
    targets: Mapping[str, tuple[str, ...]]  # site -> devices that it can hit
    run: Callable[[Scene], Running]
    peers: Callable[[str], tuple[str, ...]] = _alone  # other devices that suffer with the target
    sources: tuple[str, ...] = ()  # attackers that it always needs; () = any one
    # The label goes on after the end, as the process still suffers: target -> seconds at least, and share of
    # the duration at size 1.
    recovery: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Category and type: "dos/syn-flood"."""
        return f"{self.category}/{self.type}"

    def victims(self, target: str, site: Site) -> tuple[str, ...]:
        """Devices of the site that this attack on `target` is seen on: the target first."""
        return (target, *(name for name in self.peers(target) if name in site.hosts))

    def recovers_in(self, target: str, duration_s: float, size: float) -> float:
        """Seconds from the attack's end to the end of the label."""
        least_s, share = self.recovery.get(target, (0.0, 0.0))
        return max(least_s, share * size * duration_s)

    def cast(self, rng: np.random.Generator) -> tuple[str, ...]:
        """Draw who attacks: names of attackers."""
        return self.sources or (f"attacker{int(rng.integers(3))}",)

    def start(
        self, network: Network, rng: np.random.Generator, attackers: tuple[str, ...], target: str, size: float
    ) -> Running:
        """Begin the attack on a device with an intensity of 0 (close to benign life) to 1 (severe).

        Raises KeyError for a host that the network does not have and ValueError for a size outside 0..1.
        """
        if not 0.0 <= size <= 1.0:
            raise ValueError(f"size is {size:g}; allowed: 0..1")
        hosts = network.hosts
        return self.run(Scene(network, rng, tuple(hosts[name] for name in attackers), hosts[target], size))
