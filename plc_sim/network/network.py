"""The network: an agenda of habits, a queue of frames, and `tick`, which gives the frames of a while.

A habit is a generator that yields when it wants to act next (ns) and sends frames when it is resumed. It
keeps its connections and counters in its local variables; all chance comes from the one seeded generator.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.plc_sim.frames import ETHER_IPV4, Block, Frames, Host, Single, Traffic, merge, part
from cellwatch.plc_sim.network import bench, factory
from cellwatch.plc_sim.network.activities import ACTIVITIES
from cellwatch.plc_sim.network.hosts import make_hosts, remote
from cellwatch.plc_sim.network.relay import relay_block, relay_single
from cellwatch.plc_sim.network.tcp import MS, Tcp
from cellwatch.plc_sim.tags import PLC_TAGS

if TYPE_CHECKING:
    from cellwatch.plc_sim.sites import Site

S = 1_000 * MS
Habit = Iterator[int]

_POOL = 4096  # random numbers drawn at once
_RETRY_NS = 300 * MS  # first retransmission of an unanswered request; doubles each time (RFC 6298)
_TRIES = 5


class Network:
    """All hosts of a site and their habits.

    Set before each `tick`: `values` (tag -> value shown on the wire), `delay_ms` and `loss` (device -> extra
    time before its answers; share 0..1 of its answers that are lost and asked for again), `relay` (pair of
    hosts -> attacker who relays what they say to each other).
    """

    def __init__(self, rng: np.random.Generator, start_ns: int, site: Site) -> None:
        """Start at `start_ns`; connections open within the first seconds."""
        self.rng = rng
        self.site = site
        self.hosts: dict[str, Host] = make_hosts(site)
        for each in self.hosts.values():
            each.ident = int(rng.integers(65536))
        self.tags = {  # what clients read of each PLC: measurements and controller outputs
            plc: [tag.name for tag in PLC_TAGS[plc] if tag.kind == "float" and not tag.name.endswith("_SP")]
            for plc in site.plcs
        }
        self.set_points = {
            plc: [tag.name for tag in PLC_TAGS[plc] if tag.name.endswith("_SP")] for plc in site.plcs
        }
        self.values: dict[str, float] = {}
        self.delay_ms: dict[str, float] = {}
        self.loss: dict[str, float] = {}
        self.relay: dict[frozenset[str], str] = {}
        self.restarts: dict[str, int] = {}  # device that restarts -> when it is up again (ns)
        self.listeners: list[Tcp] = []  # subscribers of the broker, who get what the sensors publish
        self.now_ns = start_ns
        self._numbers: list[float] = []
        self._queue: list[tuple[int, int, bytes]] = []
        self._blocks: list[Block] = []
        self._agenda: list[tuple[int, int, Habit]] = []
        self._count = 0  # breaks ties of time in the order of arrival
        for habit in (bench if site.name == "bench" else factory).habits(self, start_ns):
            self.begin(start_ns, habit)

    def tick(self, start_ns: int, end_ns: int, extra: Traffic | None = None) -> Frames:
        """Frames of [start_ns, end_ns) in order of time; `extra` are held back until due."""
        self.now_ns = start_ns
        if extra is not None:
            self.send(extra.singles)
            self._blocks += extra.blocks
        agenda, queue = self._agenda, self._queue
        while agenda and agenda[0][0] < end_ns:
            _, place, habit = agenda[0]
            due = next(habit, None)
            if due is None:
                heapq.heappop(agenda)
            else:
                heapq.heapreplace(agenda, (due, place, habit))
        ready: list[Single] = []
        while queue and queue[0][0] < end_ns:
            time, _, frame = heapq.heappop(queue)
            ready.append((time, frame))
        blocks: list[Block] = []
        if self._blocks:
            now = [(block, block.time_ns < end_ns) for block in self._blocks]
            blocks = [part(block, ready_now) for block, ready_now in now if ready_now.any()]
            self._blocks = [part(block, ~ready_now) for block, ready_now in now if not ready_now.all()]
        if self.relay:
            ready, blocks = self._relayed(ready, blocks, end_ns)
        return merge(ready, blocks)

    def connect(
        self,
        client: str | Host,
        server: str | Host,
        port: int,
        *,
        source: int | None = None,
        windows: tuple[int, int] | None = None,
        stamps: bool = False,
        mss: tuple[int, int] = (1460, 1460),
    ) -> Tcp:
        """Make a new connection with random sequence numbers and, unless given, a random client port."""
        a = self.hosts[client] if isinstance(client, str) else client
        b = self.hosts[server] if isinstance(server, str) else server
        seq = [int(self.uniform() * (1 << 32)), int(self.uniform() * (1 << 32))]
        ports = (source or self.port(), port)
        return Tcp((a, b), ports, seq, list(windows or ()), stamps, mss)

    def send(self, frames: Iterable[Single]) -> None:
        """Put frames on the wire at their times."""
        for time, frame in frames:
            self._count += 1
            heapq.heappush(self._queue, (time, self._count, frame))

    def send_blocks(self, blocks: Iterable[Block]) -> None:
        """Put many frames on the wire at their times."""
        self._blocks += blocks

    def begin(self, at_ns: int, habit: Habit) -> None:
        """Take up a habit; it acts first at `at_ns` or at the next tick."""
        self._count += 1
        heapq.heappush(self._agenda, (max(at_ns, self.now_ns), self._count, habit))

    def activity(self, name: str, at_ns: int) -> None:
        """Begin a piece of benign life that looks like an attack: one of `ACTIVITIES`."""
        if name not in ACTIVITIES:
            raise ValueError(f"no activity {name!r}; have {', '.join(sorted(ACTIVITIES))}")
        self.begin(at_ns, ACTIVITIES[name](self, max(at_ns, self.now_ns)))

    def exchange(
        self, tcp: Tcp, at: int, request: bytes, response: bytes, think_ns: int, ack_ns: int = 40 * MS
    ) -> int:
        """Send a request and its answer, with the server's delay and loss; returns when it came (ns).

        A lost answer is asked for again, at most `_TRIES` times; the last one comes through.
        """
        server = tcp.ends[1].name
        asked, last = at, tcp.say(at, 0, request)
        self.send(last)
        if self.loss:
            share, wait = self.loss.get(server, 0.0), _RETRY_NS
            for _ in range(_TRIES):
                if self.uniform() >= share:
                    break
                asked += wait
                wait *= 2
                self.send([(asked, last[-1][1])])
        answer = max(self.answer(tcp.ends[0].name, server, asked) + think_ns, last[-1][0] + MS // 10)
        out = tcp.say(answer, 1, response)
        self.send(out)
        self.send(tcp.ack(out[-1][0] + ack_ns, 0))
        return out[-1][0]

    def answer(self, client: str, server: str, at: int) -> int:
        """When `server` answers what `client` sent at `at`: the way there and back, and its delay (ns)."""
        gap = self.gap()
        if self.relay and frozenset((client, server)) in self.relay:
            gap += 2 * MS  # the relay takes up to 1 ms each way
        return at + gap + int(self.delay_ms.get(server, 0.0) * MS)

    def lost(self, server: str) -> bool:
        """Whether an answer of `server` without retransmission (UDP, ICMP, ARP) is lost."""
        return bool(self.loss) and self.uniform() < self.loss.get(server, 0.0)

    def uniform(self) -> float:
        """Draw from [0, 1)."""
        if not self._numbers:
            self._numbers = self.rng.random(_POOL).tolist()
        return self._numbers.pop()

    def between(self, low: float, high: float) -> float:
        """Draw from [low, high)."""
        return low + (high - low) * self.uniform()

    def wobble(self, period_s: float, jitter: float) -> int:
        """Period in ns with a share of jitter."""
        return int(period_s * (1.0 + jitter * (2.0 * self.uniform() - 1.0)) * S)

    def gap(self) -> int:
        """Draw a network and stack delay, 0.2-1 ms."""
        return int((0.2 + 0.8 * self.uniform()) * MS)

    def port(self) -> int:
        """Draw an ephemeral port (RFC 6335)."""
        return 49152 + int(self.uniform() * 16384)

    def remote(self, name: str, ip: str, ttl: int = 53, window: int = 501) -> Host:
        """Return the Internet server `name`, behind the router."""
        if name not in self.hosts:
            self.hosts[name] = remote(name, ip, self.hosts["router"], ttl, window)
        return self.hosts[name]

    def _relayed(
        self, singles: list[Single], blocks: list[Block], end_ns: int
    ) -> tuple[list[Single], list[Block]]:
        """Let the frames of relayed pairs take the way over their attacker."""
        ways: dict[bytes, Host] = {}  # destination and source MAC -> relaying attacker
        for pair, attacker in self.relay.items():
            a, b = (self.hosts[name].mac for name in sorted(pair))  # the order of a set is not fixed
            ways[a + b] = ways[b + a] = self.hosts[attacker]
        out: list[Single] = []
        for time, frame in singles:
            by = ways.get(frame[:12])
            if by is None or frame[12:14] != ETHER_IPV4:
                out.append((time, frame))
                continue
            taken, passed = relay_single(time, frame, by, int(self.between(0.1, 1.0) * MS))
            out.append(taken)
            if passed[0] < end_ns:
                out.append(passed)
            else:
                self.send([passed])
        moved: list[Block] = []
        for block in blocks:
            for one in relay_block(block, ways, self.rng):
                late = one.time_ns >= end_ns
                if late.any():
                    self._blocks.append(part(one, late))
                if not late.all():
                    moved.append(part(one, ~late))
        return out, moved
