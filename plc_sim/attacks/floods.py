"""Flood packets: what one attacker fires in one tick and what the victim answers, without a connection."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from cellwatch.plc_sim.attacks.packets import (
    echo_answer,
    echo_block,
    fragmented,
    initial,
    masked,
    picked,
    stack_delay,
    syn_answers,
    tcp_answer,
    tcp_block,
    udp_block,
    unreachable,
)
from cellwatch.plc_sim.attacks.victims import open_ports
from cellwatch.plc_sim.frames import ACK, FIN, I64, ICMP, PSH, RST, SYN, TCP, UDP, Block, Host

ANSWERS_PER_S = 2_000  # RST and echo replies of a small device at most
UNREACHABLE_PER_S = 6  # Linux: icmp_ratelimit, icmp_msgs_burst
BACKLOG_SHARE = 0.2  # of the SYNs finds room in the small listen queue and is answered
_LARGE = 2_920  # payload of a fragmented datagram: two full fragments


@dataclass(frozen=True, slots=True)
class Shot:
    """What one attacker fires in one tick."""

    rng: np.random.Generator
    src: Host
    dst: Host
    at: I64  # (n,)
    first: int  # packets or sessions fired before
    port: int
    pps: float  # of all attackers together

    @property
    def n(self) -> int:
        """Packets."""
        return len(self.at)

    @property
    def sport(self) -> I64:
        """Source ports counting up, as hping3 does."""
        return 49152 + (self.first + np.arange(self.n)) % 16384

    @property
    def is_open(self) -> bool:
        """The port answers."""
        return self.port in open_ports(self.dst.name)

    def some(self, per_s: float) -> I64:
        """Draw which packets get an answer, when there are at most `per_s` a second."""
        return np.flatnonzero(self.rng.random(self.n) < per_s / self.pps)

    def resets(self, asked: Block, flags: int = RST) -> Block:
        """What the victim says to segments that belong to nothing."""
        chosen = picked(asked, self.some(ANSWERS_PER_S))
        return tcp_answer(chosen, self.dst, self.src, flags, stack_delay(self.rng, len(chosen.time_ns)))


def _segments(shot: Shot, flags: int, payload: bytes = b"", src: Host | None = None) -> Block:
    ack = initial(shot.rng, shot.n) if flags & ACK else None
    return tcp_block(
        src or shot.src,
        shot.dst,
        shot.at,
        shot.sport,
        shot.port,
        flags,
        initial(shot.rng, shot.n),
        ack,
        payload,
    )


def syn(shot: Shot) -> list[Block]:
    """SYNs; a part finds room in the listen queue, the rest is dropped; a closed port refuses."""
    asked = _segments(shot, SYN)
    if not shot.is_open:
        return [asked, shot.resets(asked, RST | ACK)]
    share = min(BACKLOG_SHARE, ANSWERS_PER_S / shot.pps)
    chosen = picked(asked, np.flatnonzero(shot.rng.random(shot.n) < share))
    yes = np.ones(len(chosen.time_ns), bool)
    return [asked, *syn_answers(shot.rng, chosen, yes, shot.dst, shot.src)]


def tcp(shot: Shot) -> list[Block]:
    """Segments without a flag (hping3's default); only a closed port answers (RFC 9293, 3.10.7)."""
    asked = _segments(shot, 0)
    return [asked] if shot.is_open else [asked, shot.resets(asked, RST | ACK)]


def push_ack(shot: Shot) -> list[Block]:
    """PSH-ACK with data on connections that do not exist."""
    asked = _segments(shot, PSH | ACK, b"X" * 64)
    return [asked, shot.resets(asked)]


def rst_fin(shot: Shot) -> list[Block]:
    """RST-FIN: a reset is never answered."""
    return [_segments(shot, RST | FIN)]


def synonymous_ip(shot: Shot) -> list[Block]:
    """SYNs whose source address is the victim's own (LAND, CVE-1999-0016); nobody gets an answer."""
    return [_segments(shot, SYN, src=masked(shot.src, ip=shot.dst.ip))]


def udp(shot: Shot) -> list[Block]:
    """Datagrams to a closed port; the victim complains now and then."""
    asked = udp_block(shot.src, shot.dst, shot.at, shot.sport, shot.port, b"")
    chosen = picked(asked, shot.some(UNREACHABLE_PER_S))
    return [asked, unreachable(chosen, shot.dst, shot.src, stack_delay(shot.rng, len(chosen.time_ns)))]


def icmp(shot: Shot) -> list[Block]:
    """Echo requests as hping3 -1 sends them, and replies."""
    asked = echo_block(shot.src, shot.dst, shot.at, shot.first + np.arange(shot.n), b"X" * 32)
    chosen = picked(asked, shot.some(ANSWERS_PER_S))
    return [asked, echo_answer(chosen, shot.dst, shot.src, stack_delay(shot.rng, len(chosen.time_ns)))]


def ack_fragments(shot: Shot) -> list[Block]:
    """ACK segments in two full fragments each."""
    rng, n = shot.rng, shot.n
    seq, ack = initial(rng, n), initial(rng, n)
    fields = {0: shot.sport, 2: np.full(n, shot.port), 4: seq >> 16, 6: seq, 8: ack >> 16, 10: ack}
    header = bytes(12) + bytes([5 << 4, ACK]) + struct.pack(">HHH", shot.src.window, 0, 0)
    first, *rest = fragmented(shot.src, shot.dst, shot.at, TCP, header + b"X" * (_LARGE - 20), fields)
    return [first, *rest, shot.resets(first)]


def udp_fragments(shot: Shot) -> list[Block]:
    """UDP datagrams in two full fragments each."""
    fields = {0: shot.sport, 2: np.full(shot.n, shot.port)}
    header = struct.pack(">HHHH", 0, 0, _LARGE, 0)
    return fragmented(shot.src, shot.dst, shot.at, UDP, header + b"X" * (_LARGE - 8), fields)


def icmp_fragments(shot: Shot) -> list[Block]:
    """Echo requests in two full fragments each, and replies alike."""
    request, reply = (struct.pack(">BBHHH", kind, 0, 0, 0, 0) + b"X" * (_LARGE - 8) for kind in (8, 0))
    seq = shot.first + np.arange(shot.n)
    asked = fragmented(shot.src, shot.dst, shot.at, ICMP, request, {6: seq})
    some = shot.some(ANSWERS_PER_S)
    back = asked[-1].time_ns[some] + stack_delay(shot.rng, len(some))
    return [*asked, *fragmented(shot.dst, shot.src, back, ICMP, reply, {6: seq[some]})]
