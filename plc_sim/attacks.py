"""Network attacks: the frames that each one adds to a tick.

Names and categories are those of DataSense (`label2`, `label3`); `attack_id` is the ATT&CK for ICS technique.
An attack has an `intensity` between 0 (mild, still clearly above benign traffic) and 1 (severe).
Frames of a tick are copies of a template with patched fields: no loop over packets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cellwatch.plc_sim.frames import (
    ACK,
    I64,
    MSS_OPTION,
    RST,
    SYN,
    Block,
    Host,
    arp_frame,
    put16,
    put32,
    stamp,
    tcp_frame,
)
from cellwatch.plc_sim.network import MS, OPCUA_PORT

SEQ, ACKNO, SPORT, DPORT, IDENT = 38, 42, 34, 36, 18  # byte offsets in an Ethernet + IPv4 + TCP frame


class Maker(Protocol):
    """Frames of one tick of an attack."""

    def __call__(
        self, rng: np.random.Generator, attacker: Host, target: Host, at: I64, first: int
    ) -> list[Block]:
        """Blocks for attack packets sent at times `at` (n,); `first` packets were sent before."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One type of attack."""

    category: str
    attack_id: str
    mild_pps: float  # packets per second of the attacker
    severe_pps: float
    delay_ms: float  # what it adds to the target's answers
    make: Maker
    about: str

    def rate(self, intensity: float) -> float:
        """Packets per second for an intensity of 0..1."""
        return self.mild_pps + intensity * (self.severe_pps - self.mild_pps)


def _syn(
    rng: np.random.Generator, attacker: Host, target: Host, at: I64, sport: I64, dport: I64, opt: bytes
) -> Block:
    """SYN segments with random sequence numbers."""
    n = len(at)
    block = stamp(tcp_frame(attacker, target, (0, 0), 0, 0, SYN, options=opt), at)
    put16(block.rows, IDENT, attacker.next_ident(n) + np.arange(n))
    put16(block.rows, SPORT, sport)
    put16(block.rows, DPORT, dport)
    put32(block.rows, SEQ, rng.integers(1 << 32, size=n))
    return block


def _answer(syn: Block, pick: I64, src: Host, dst: Host, flags: int, delay: I64, seq: I64) -> Block:
    """Answers of `src` to the picked SYN segments."""
    n = len(pick)
    options = MSS_OPTION if flags & SYN else b""
    block = stamp(tcp_frame(src, dst, (0, 0), 0, 0, flags, options=options), syn.time_ns[pick] + delay)
    asked = syn.rows[pick]
    put16(block.rows, IDENT, src.next_ident(n) + np.arange(n))
    block.rows[:, SPORT : SPORT + 2] = asked[:, DPORT : DPORT + 2]
    block.rows[:, DPORT : DPORT + 2] = asked[:, SPORT : SPORT + 2]
    put32(block.rows, SEQ, seq)
    put32(block.rows, ACKNO, _get32(asked, SEQ) + 1)
    return block


def _get32(rows: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], at: int) -> I64:
    part = rows[:, at : at + 4].astype(np.int64)
    return part[:, 0] << 24 | part[:, 1] << 16 | part[:, 2] << 8 | part[:, 3]


def _reset(answer: Block, src: Host, dst: Host, delay: I64) -> Block:
    """RST of a host that got a SYN-ACK it did not ask its stack for."""
    n = len(answer.time_ns)
    block = stamp(tcp_frame(src, dst, (0, 0), 0, 0, RST), answer.time_ns + delay)
    put16(block.rows, IDENT, src.next_ident(n) + np.arange(n))
    block.rows[:, SPORT : SPORT + 2] = answer.rows[:, DPORT : DPORT + 2]
    block.rows[:, DPORT : DPORT + 2] = answer.rows[:, SPORT : SPORT + 2]
    block.rows[:, SEQ : SEQ + 4] = answer.rows[:, ACKNO : ACKNO + 4]
    return block


BACKLOG_SHARE = 0.2  # of the SYNs finds room in the small listen queue of the PLC and is answered


def syn_flood(rng: np.random.Generator, attacker: Host, target: Host, at: I64, first: int) -> list[Block]:
    """SYN flood on the OPC UA port, source ports counting up as hping3 does."""
    n = len(at)
    sport = 1024 + (first + np.arange(n)) % 64512
    syn = _syn(rng, attacker, target, at, sport, np.full(n, OPCUA_PORT), b"")
    pick = np.flatnonzero(rng.random(n) < BACKLOG_SHARE)
    delay = rng.integers(MS // 5, MS, size=(2, len(pick)))
    accept = _answer(syn, pick, target, attacker, SYN | ACK, delay[0], rng.integers(1 << 32, size=len(pick)))
    return [syn, accept, _reset(accept, attacker, target, delay[1])]


def port_scan(rng: np.random.Generator, attacker: Host, target: Host, at: I64, first: int) -> list[Block]:
    """SYN scan as nmap -sS does it: closed ports answer RST, the OPC UA port SYN-ACK."""
    n = len(at)
    step = (first + np.arange(n)) * 2654435761 % 8191  # a fixed shuffle of the ports 1..8191
    syn = _syn(rng, attacker, target, at, np.full(n, 40000 + attacker.ident % 20000), step + 1, MSS_OPTION)
    is_open = step + 1 == OPCUA_PORT
    closed, opened = np.flatnonzero(~is_open), np.flatnonzero(is_open)
    delay = rng.integers(MS // 5, MS, size=n)
    refuse = _answer(syn, closed, target, attacker, RST | ACK, delay[closed], np.zeros(len(closed), np.int64))
    accept = _answer(
        syn, opened, target, attacker, SYN | ACK, delay[opened], rng.integers(1 << 32, size=len(opened))
    )
    return [syn, refuse, accept, _reset(accept, attacker, target, delay[opened])]


def first_contact(attacker: Host, target: Host, at: int) -> list[tuple[int, bytes]]:
    """ARP before the first packet."""
    return [
        (at, arp_frame(attacker, target, reply=False)),
        (at + MS // 2, arp_frame(target, attacker, reply=True)),
    ]


ATTACKS: dict[str, Attack] = {
    "dos/syn-flood": Attack("dos", "T0814", 400, 1500, 60.0, syn_flood, "half-open connections to the PLC"),
    "recon/port-scan": Attack("recon", "T0846", 120, 400, 0.0, port_scan, "which ports of the PLC are open"),
}
