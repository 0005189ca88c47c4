"""One TCP connection, told from both ends."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from cellwatch.plc_sim.frames import (
    ACK,
    ACKNO,
    FIN,
    I64,
    IDENT,
    MSS_OPTION,
    PSH,
    RST,
    SEQ,
    SYN,
    Block,
    Host,
    Single,
    put16,
    put32,
    stamp,
    tcp_frame,
)

MSS = 1448  # bytes of payload a segment, room for the timestamps option
MS = 1_000_000  # ns


@dataclass(slots=True)
class Tcp:
    """Sequence numbers and windows of both sides; index 0 is the client, 1 the server.

    Segments are sent in the order in which they are made: a time before that of the last segment is moved
    behind it. With `stamps` each carries the timestamps option (RFC 7323).
    """

    ends: tuple[Host, Host]
    ports: tuple[int, int]
    seq: list[int]
    windows: list[int] = field(default_factory=list)  # as sent; default: those of the hosts
    stamps: bool = False
    mss: tuple[int, int] = (1460, 1460)
    clock_ns: int = 0  # of the last segment

    def __post_init__(self) -> None:
        if not self.windows:
            self.windows = [end.window for end in self.ends]

    def segment(self, side: int, flags: int, payload: bytes = b"", options: bytes = b"") -> bytes:
        """Return the next segment of `side`; SYN and FIN count one."""
        other = 1 - side
        ports = self.ports if side == 0 else (self.ports[1], self.ports[0])
        ack = self.seq[other] if flags & ACK else 0
        if self.stamps:
            options += b"\x01\x01\x08\x0a" + struct.pack(">II", self.clock_ns // MS & 0xFFFFFFFF, 1)
        frame = tcp_frame(
            self.ends[side],
            self.ends[other],
            ports,
            self.seq[side],
            ack,
            flags,
            payload,
            options,
            self.windows[side],
        )
        self.seq[side] = (self.seq[side] + len(payload) + bool(flags & (SYN | FIN))) & 0xFFFFFFFF
        return frame

    def at(self, time: int, side: int, flags: int, payload: bytes = b"", options: bytes = b"") -> Single:
        """Send the next segment of `side` at `time`, or right behind the last one."""
        self.clock_ns = max(time, self.clock_ns + MS // 50)
        return self.clock_ns, self.segment(side, flags, payload, options)

    def handshake(self, at: int, gap: int) -> list[Single]:
        """SYN, SYN-ACK, ACK, each `gap` ns after the other."""
        options = [MSS_OPTION[:2] + struct.pack(">H", mss) for mss in self.mss]
        return [
            self.at(at, 0, SYN, options=options[0]),
            self.at(at + gap, 1, SYN | ACK, options=options[1]),
            self.at(at + 2 * gap, 0, ACK),
        ]

    def say(self, at: int, side: int, payload: bytes, gap: int = MS // 50) -> list[Single]:
        """Send `payload` in segments `gap` ns apart, the last one with PSH."""
        size = min(self.mss[1 - side], MSS if self.stamps else 1460)
        cuts = range(0, max(len(payload), 1), size)
        last = cuts[-1]
        return [
            self.at(at + i * gap, side, ACK | (PSH if cut == last else 0), payload[cut : cut + size])
            for i, cut in enumerate(cuts)
        ]

    def ack(self, at: int, side: int) -> list[Single]:
        """Bare acknowledgement."""
        return [self.at(at, side, ACK)]

    def exchange(
        self, at: int, request: bytes, response: bytes, answer: int, ack_ns: int = 40 * MS
    ) -> list[Single]:
        """Request at `at`, response at `answer`, the client's ACK `ack_ns` later (RFC 1122, 4.2.3.2)."""
        out = self.say(at, 0, request)
        out += self.say(max(answer, out[-1][0] + MS // 10), 1, response)
        return out + self.ack(out[-1][0] + ack_ns, 0)

    def close(self, at: int, gap: int, side: int = 0) -> list[Single]:
        """FIN of `side`, FIN of the other, ACK."""
        return [
            self.at(at, side, FIN | ACK),
            self.at(at + gap, 1 - side, FIN | ACK),
            self.at(at + 2 * gap, side, ACK),
        ]

    def reset(self, at: int, side: int) -> list[Single]:
        """RST of `side`: the end of the connection."""
        return [self.at(at, side, RST | ACK)]

    def bulk(self, at: I64, side: int, payload: bytes) -> list[Block]:
        """Send copies of `payload` (at most the MSS) at times `at` (n,), acknowledged every second one."""
        n, size = len(at), len(payload)
        other = 1 - side
        first, acked = self.seq[side], self.seq[other]
        data = stamp(self.segment(side, ACK, payload), at)
        put16(data.rows, IDENT, self.ends[side].next_ident(n) + np.arange(n))
        put32(data.rows, SEQ, first + size * np.arange(n))
        self.seq[side] = (first + n * size) & 0xFFFFFFFF
        self.clock_ns = int(at[-1]) + MS // 5
        seen = np.arange(1, n, 2) if n > 1 else np.zeros(1, np.int64)
        back = stamp(self.segment(other, ACK), at[seen] + MS // 5)
        put16(back.rows, IDENT, self.ends[other].next_ident(len(seen)) + np.arange(len(seen)))
        put32(back.rows, SEQ, np.full(len(seen), acked))
        put32(back.rows, ACKNO, first + size * (seen + 1))
        return [data, back]
