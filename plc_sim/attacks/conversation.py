"""Whole TCP connections, written once as a list of turns and stamped many times over.

A `Conversation` knows every segment relative to the initial sequence numbers of both sides; `stamp` makes n
of them at once, one block for all segments of one length, each with its own ports, numbers and pace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellwatch.plc_sim.attacks.attack import Running, S, Scene
from cellwatch.plc_sim.attacks.packets import initial
from cellwatch.plc_sim.attacks.victims import flood_effects
from cellwatch.plc_sim.frames import (
    ACK,
    ACKNO,
    DPORT,
    FIN,
    I64,
    IDENT,
    MIN_FRAME,
    MSS_OPTION,
    PSH,
    RST,
    SEQ,
    SPORT,
    SYN,
    U8,
    Block,
    Host,
    put16,
    put32,
    stamp,
    tcp_frame,
)

CLIENT, SERVER = 0, 1
MSS = 1460
STACK_MS = 0.4  # typical time for a segment to be answered


@dataclass(frozen=True, slots=True)
class Turn:
    """One side says something, `after_ms` after what came before."""

    side: int
    payload: bytes
    after_ms: float = STACK_MS


@dataclass(frozen=True, slots=True)
class _Segment:
    side: int
    flags: int
    seq: int  # relative to the initial sequence number of the side
    ack: int  # relative to that of the other side
    payload: bytes
    after_ms: float


class Conversation:
    """One TCP connection: handshake, turns, hang-up; a turn is acknowledged, if only by its answer."""

    def __init__(self, turns: Iterable[Turn], hang_up: str = "fin") -> None:
        """`hang_up`: "fin" (client closes, RFC 9293), "rst" (client resets) or "no" (stays open)."""
        if hang_up not in ("fin", "rst", "no"):
            raise ValueError(f"hang_up is {hang_up!r}; allowed: fin, rst, no")
        self.segments: list[_Segment] = []
        self.next = [0, 0]  # relative sequence numbers
        self._add(CLIENT, SYN)
        self._add(SERVER, SYN | ACK)
        self._add(CLIENT, ACK)
        turns = list(turns)
        for i, turn in enumerate(turns):
            for first in range(0, len(turn.payload), MSS):
                piece = turn.payload[first : first + MSS]
                last = first + MSS >= len(turn.payload)
                self._add(turn.side, ACK | (PSH if last else 0), piece, turn.after_ms if first == 0 else 0.13)
            answered = i + 1 < len(turns) and turns[i + 1].side != turn.side and turns[i + 1].after_ms < 40
            if not answered:  # else the acknowledgement travels with the answer (RFC 1122, 4.2.3.2)
                self._add(1 - turn.side, ACK)
        if hang_up == "fin":
            self._add(CLIENT, FIN | ACK)
            self._add(SERVER, FIN | ACK)
            self._add(CLIENT, ACK)
        elif hang_up == "rst":
            self._add(CLIENT, RST | ACK)
        self._side = np.array([segment.side for segment in self.segments])
        self._seq = np.array([segment.seq for segment in self.segments])
        self._ack = np.array([segment.ack for segment in self.segments])
        self._acks = np.array([bool(segment.flags & ACK) for segment in self.segments])
        self._pauses_ns = 1e6 * np.array([0.0, *(segment.after_ms for segment in self.segments[1:])])
        self._made: dict[tuple[int, int, bytes, bytes], list[tuple[I64, U8]]] = {}

    def _add(self, side: int, flags: int, payload: bytes = b"", after_ms: float = STACK_MS) -> None:
        ack = self.next[1 - side] if flags & ACK else 0
        self.segments.append(_Segment(side, flags, self.next[side], ack, payload, after_ms))
        self.next[side] += len(payload) + bool(flags & (SYN | FIN))

    def stamp(
        self,
        rng: np.random.Generator,
        clients: Sequence[Host],
        who: I64,
        server: Host,
        at: I64,
        sport: I64,
        dport: int,
        isn: tuple[I64, I64] | None = None,
    ) -> list[Block]:
        """Frames of n connections of `clients[who]` (n,) that begin at `at` (n,) from the ports `sport` (n,).

        The clients have the same TTL and window. Every pause of every connection is its own, 0.5 to 1.5 times
        as written. `isn`: initial sequence numbers of client and server, (n,) each.
        """
        n = len(at)
        if n == 0:
            return []
        first = np.stack(isn or (initial(rng, n), initial(rng, n)))
        spread = rng.uniform(0.5, 1.5, size=(n, len(self.segments)))
        times = at[:, None] + np.cumsum(self._pauses_ns * spread, axis=1).astype(np.int64)
        ident = rng.integers(
            1 << 16, size=(2, n)
        )  # Linux begins each connection with an identification at random
        macs = np.array([list(client.mac) for client in clients], np.uint8)[who]
        ips = np.array([list(client.ip) for client in clients], np.uint8)[who]
        blocks = []
        for which, templates in self._groups(clients[0], server):
            rows = np.tile(templates, (n, 1)).reshape(n, *templates.shape)
            side = self._side[which]
            for mine, mac_at, ip_at, port_at, other_at in (
                (side == CLIENT, 6, 26, SPORT, DPORT),
                (side == SERVER, 0, 30, DPORT, SPORT),
            ):
                rows[:, mine, mac_at : mac_at + 6] = macs[:, None]
                rows[:, mine, ip_at : ip_at + 4] = ips[:, None]
                rows[:, mine, port_at] = (sport >> 8)[:, None]
                rows[:, mine, port_at + 1] = (sport & 0xFF)[:, None]
                rows[:, mine, other_at : other_at + 2] = (dport >> 8, dport & 0xFF)
            flat = rows.reshape(-1, rows.shape[2])
            put16(flat, IDENT, (ident[side].T + which).ravel())
            put32(flat, SEQ, (first[side].T + self._seq[which]).ravel())
            acks = self._acks[which]
            put32(flat, ACKNO, ((first[1 - side].T + self._ack[which]) * acks).ravel())
            blocks.append(Block(times[:, which].ravel(), flat))
        return blocks

    def _groups(self, client: Host, server: Host) -> list[tuple[I64, U8]]:
        """Segments of one length: their numbers and templates; kept for the next time."""
        key = (client.ttl, client.window, server.mac, server.ip)
        if key not in self._made:
            frames = []
            pair = (replace(client), replace(server))  # copies, whose identifications may be used up
            for segment in self.segments:
                ends = (pair[segment.side], pair[1 - segment.side])
                options = MSS_OPTION if segment.flags & SYN else b""
                frame = tcp_frame(*ends, (0, 0), 0, 0, segment.flags, segment.payload, options)
                frames.append(frame)
            lengths = np.array([len(frame) for frame in frames])
            made = []
            for which in (np.flatnonzero(lengths == length) for length in np.unique(lengths)):
                rows = b"".join(frames[i].ljust(MIN_FRAME, b"\0") for i in which)
                made.append((which, np.frombuffer(rows, np.uint8).reshape(len(which), -1)))
            self._made[key] = made
        return self._made[key]


class Visits(Running):
    """Connections of several kinds to one port of the target, at a steady pace, spread over the attackers."""

    def __init__(
        self,
        scene: Scene,
        choices: Sequence[Conversation],
        port: int,
        per_s: tuple[float, float],
        weight: float = 10.0,
    ) -> None:
        """`per_s`: connections per second at sizes 0 and 1; `weight`: packets that one costs the target."""
        super().__init__(scene)
        self.choices, self.port, self.weight = choices, port, weight
        self.per_s = scene.between(*per_s)

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Begin the connections that are due; the first one comes at the onset."""
        at = self.beats(self.per_s, begin_ns, end_ns)
        n = len(at)
        if n:
            at = at + self.rng.integers(int(0.5 * S / self.per_s), size=n) * (self.sent > 0)
            clients = self.scene.attackers
            who = self.rng.integers(len(clients), size=n)
            talk = self.choices[int(self.rng.integers(len(self.choices)))]
            sport = client_ports(self.sent, n)
            self.blocks += talk.stamp(self.rng, clients, who, self.target, at, sport, self.port)
            self.sent += n
        flood_effects(self.effects, self.target.name, self.weight * self.per_s)


def client_ports(first: int, n: int) -> I64:
    """Ephemeral ports of Linux (32768-60999), counting up, of connections `first`, `first` + 1, ..."""
    return 32768 + (first + np.arange(n)) % 28232


def stream(
    src: Host, dst: Host, ports: tuple[int, int], at: I64, seq: I64, ack: I64 | int, payload: bytes
) -> Block:
    """Segments with one payload on an open connection."""
    n = len(at)
    block = stamp(tcp_frame(src, dst, ports, 0, 0, ACK | PSH, payload), at)
    put16(block.rows, IDENT, src.next_ident(n) + np.arange(n))
    put32(block.rows, SEQ, seq)
    put32(block.rows, ACKNO, np.asarray(ack))
    return block
